package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// While the app's list is not known, what has the form of a template id makes subscriptions, so many of a user; a user's reports
// cannot fill Redis.
func TestReportsWithoutATemplateListAreBounded(t *testing.T) {
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	t.Cleanup(func() { rdb.Close() })
	q, err := queue.Open(t.Context(), rdb, queue.Options{Extensions: Extensions()})
	if err != nil {
		t.Fatal(err)
	}
	rules := Rules{Apps: map[string]App{"shop": {Name: "shop", Counts: map[string]Counting{"device-1": {Kind: ledger.Device}},
		Templates: map[string]Alias{"order": {TemplateID: "aliased"}}}}}
	r := New(Dependencies{Queue: q, Ledger: ledger.New(rdb, q.PrefixOf)}, rules)
	r.templates = wechat.NewTemplateCache(func(context.Context, string) ([]wechat.Template, error) { return nil, errors.New("away") })
	lines := func() int {
		all, err := r.SubscriptionsOf(t.Context(), "shop", someone)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	report := func(members map[string]string) {
		t.Helper()
		body, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Report(t.Context(), "shop", someone, body, ""); err != nil {
			t.Fatal(err)
		}
	}
	report(map[string]string{"SYS_MSG_TYPE_INTERACTIVE": "accept", "mainSwitch": "accept", "a": "reject", "T": "accept",
		"SYS_MSG_TYPE_" + fmt.Sprintf("%030d", 1): "accept"})
	if n := lines(); n != 0 {
		t.Errorf("%d subscriptions of names that are no templates", n)
	}
	report(map[string]string{"device-1": "accept", "aliased": "accept"})
	for n := range 10 {
		some := map[string]string{}
		for i := range maxTemplatesPerReport {
			some[fmt.Sprintf("T%042d", n*maxTemplatesPerReport+i)] = "accept"
		}
		report(some)
	}
	if n := lines(); n != maxSubscriptions {
		t.Errorf("%d subscriptions, want %d", n, maxSubscriptions)
	}
	report(map[string]string{fmt.Sprintf("T%042d", 1): "reject", "device-1": "accept"}) // those that are there move on
	all, _ := r.SubscriptionsOf(t.Context(), "shop", someone)
	for _, l := range all {
		if l.TemplateID == fmt.Sprintf("T%042d", 1) && l.Status != "rejected" {
			t.Errorf("%+v", l)
		}
	}
}
