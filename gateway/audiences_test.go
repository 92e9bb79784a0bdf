package gateway

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

type audienceAnswer struct {
	Name, App  string
	TemplateID *string `json:"template_id"`
	Total      int
	Items      []string
	NextCursor *string `json:"next_cursor"`
}

// An audience is put, patched, read page by page, listed and deleted; another partner's is not there.
func TestAudiences(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		path := "/audiences/" + url.PathEscape("到货提醒")
		var got audienceAnswer
		w.ask("PUT", path, `{"app":"shop","template_id":"`+tOrder+`","users":["u3","u1","u2","u1"]}`).got(200, "").into(&got)
		if got.Name != "到货提醒" || got.App != "shop" || got.Total != 3 || got.TemplateID == nil || *got.TemplateID != tOrder {
			t.Fatalf("%+v", got)
		}
		w.ask("PATCH", path, `{"add":["u4","u5"],"remove":["u1","u5"]}`).got(200, "").into(&got)
		if got.Total != 3 {
			t.Errorf("%d members after the patch, want u2 u3 u4", got.Total)
		}
		var seen []string
		for cursor := ""; ; {
			page := audienceAnswer{}
			w.ask("GET", path+"?limit=2&cursor="+cursor, "").got(200, "").into(&page)
			seen = append(seen, page.Items...)
			if page.NextCursor == nil {
				break
			}
			cursor = *page.NextCursor
		}
		if diff := cmp.Diff([]string{"u2", "u3", "u4"}, seen); diff != "" {
			t.Error(diff)
		}
		w.ask("GET", path+"?cursor=!", "").got(422, InvalidRequest)
		w.ask("PUT", "/audiences/empty", `{"app":"shop","openids":[]}`).got(200, "")
		var all struct{ Items []audienceAnswer }
		w.ask("GET", "/audiences", "").got(200, "").into(&all)
		if len(all.Items) != 2 || all.Items[0].Name != "empty" || all.Items[0].Total != 0 {
			t.Errorf("%+v", all)
		}
		turned := asking{partner: "turned"}
		w.as(turned, "GET", path, "").got(404, NotFound)
		w.as(turned, "PATCH", path, `{"add":["u9"]}`).got(404, NotFound)
		w.as(asking{partner: "poor"}, "GET", path, "").got(403, NotAllowed)
		w.ask("DELETE", path, "").got(200, "")
		for _, method := range []string{"GET", "DELETE"} {
			w.ask(method, path, "").got(404, NotFound)
		}
		w.ask("PATCH", path, `{}`).got(404, NotFound)
	})
}

// Every fault of an audience is named before anything is kept.
func TestAudiencesThatCannotBe(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		w.ask("PUT", "/audiences/people", `{"app":"shop","openids":["oA"]}`).got(200, "")
		for _, bad := range []struct{ method, path, body, fields string }{
			{"PUT", "/audiences/a", `{"app":"shop"}`, "users"},
			{"PUT", "/audiences/a", `{"app":"shop","users":["u"],"openids":["o"]}`, "users"},
			{"PUT", "/audiences/a", `{"users":["u"]}`, "app"},
			{"PUT", "/audiences/a", `{"app":"shop","users":["u","","\u0007"],"template_id":"?"}`, "users[1] users[2] template_id"},
			{"PUT", "/audiences/a", `{"app":"shop","users":["\ud800"]}`, "users[0]"},
			{"PUT", "/audiences/a", `{"app":"shop","openids":["not one"]}`, "openids[0]"},
			{"PUT", "/audiences/a%2Fb", `{"app":"shop","users":["u"]}`, "name"},
			{"PUT", "/audiences/a%20b", `{"app":"shop","users":["u"]}`, "name"},
			{"PUT", "/audiences/" + strings.Repeat("a", 129), `{"app":"shop","users":["u"]}`, "name"},
			{"PUT", "/audiences/%FF", `{"app":"shop","users":["u"]}`, "name"},
			{"PATCH", "/audiences/people", `{"add":["no openid"]}`, "add[0]"},
		} {
			a := w.ask(bad.method, bad.path, bad.body).got(422, InvalidRequest)
			if !strings.HasPrefix(a.fields(), bad.fields) {
				t.Errorf("%s %s: %s, want %s", bad.path, bad.body, a.fields(), bad.fields)
			}
		}
		w.ask("PUT", "/audiences/a", `{"app":"other","users":["u"]}`).got(403, NotAllowed)
		w.ask("GET", "/audiences/a", "").got(404, NotFound)
	})
}

// As many members as may be fit in one body, and one more does not.
func TestALargeAudience(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		w.gate.SetLimits(Limits{})
		w.gate.unprovenBytes.limit = 64 << 20
		var b strings.Builder
		for i := range 100_000 {
			fmt.Fprintf(&b, `"u%d",`, i)
		}
		all := strings.TrimSuffix(b.String(), ",")
		var got audienceAnswer
		w.ask("PUT", "/audiences/all", `{"app":"shop","users":[`+all+`]}`).got(200, "").into(&got)
		if got.Total != 100_000 {
			t.Errorf("%d members", got.Total)
		}
		w.ask("PATCH", "/audiences/all", `{"add":["one-more"]}`).got(422, InvalidRequest)
		w.ask("PUT", "/audiences/all", `{"app":"shop","users":[`+all+`,"u"]}`).got(422, InvalidRequest)
		w.ask("PATCH", "/audiences/all", `{"remove":[`+all+`],"add":["u-new"]}`).got(200, "").into(&got)
		if got.Total != 1 {
			t.Errorf("%d members left", got.Total)
		}
	})
}
