package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Every list takes limit and cursor, and blames them by name.
func TestListsTakeLimitAndCursor(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, _ := w.login("ann")
		for _, path := range []string{"/messages?", "/deliveries?", "/subscriptions?app=shop&openid=" + openid + "&"} {
			for _, good := range []string{"", "limit=1", "limit=100"} {
				var page struct {
					Items []json.RawMessage `json:"items"`
				}
				got := w.ask("GET", path+good, "").got(200, "")
				if got.into(&page); page.Items == nil || !strings.Contains(got.Body.String(), `"next_cursor":`) {
					t.Errorf("%s%s: %s", path, good, got.Body)
				}
			}
			for _, bad := range []string{"limit=0", "limit=101", "limit=-1", "limit=x", "limit=1e1", "limit=99999999999999999999"} {
				if f := w.ask("GET", path+bad, "").got(422, InvalidRequest).fields(); f != "limit" {
					t.Errorf("%s%s blames %q", path, bad, f)
				}
			}
			for _, bad := range []string{"cursor=nonsense!", "cursor=%00", "cursor=" + strings.Repeat("A", 4097), "cursor=msg_1,msg_2", "cursor=.%2F.."} {
				if f := w.ask("GET", path+bad, "").got(422, InvalidRequest).fields(); f != "cursor" {
					t.Errorf("%s%s blames %q", path, bad, f)
				}
			}
			if f := w.ask("GET", path+"limit=x&curser=1&cursor=a&cursor=b", "").got(422, InvalidRequest).fields(); f != "curser cursor limit" {
				t.Errorf("%s blames %q", path, f)
			}
		}
	})
}

func TestPagedShowsEachItemOnce(t *testing.T) {
	for n := range 12 {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("t%02d", n-i))
		}
		want := slices.Sorted(slices.Values(all))
		for limit := 1; limit <= 5; limit++ {
			var seen []string
			for cursor := ""; ; {
				page, err := paged(all, func(s string) string { return s }, cursor, limit)
				if err != nil || len(page.Items) > limit {
					t.Fatalf("%v %v", page, err)
				}
				if seen = append(seen, page.Items...); page.Next == nil {
					break
				}
				cursor = *page.Next
			}
			if !slices.Equal(seen, want) {
				t.Errorf("%d items by %d: %s, want %s", n, limit, seen, want)
			}
		}
	}
}
