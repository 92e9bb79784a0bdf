package gateway

import (
	"crypto/sha256"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// One and the same 401: who it is, whether the secret is right, and whether it is late cannot be told from the answer.
func TestOneUnauthorizedForAll(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		body, now := order("oAnn0000000000000000000000", ""), time.Now().Unix()
		none, target := []string(nil), "POST /v1/partners/orders/messages\n"+body
		cases := map[string]asking{
			"unknown partner":               {partner: "nobody"},
			"wrong secret":                  {secret: foreign},
			"the other partner's second":    {secret: secret2},
			"six minutes late":              {at: now - 360},
			"six minutes early":             {at: now + 360},
			"no id":                         {header: http.Header{"Webhook-Id": none}},
			"no timestamp":                  {header: http.Header{"Webhook-Timestamp": none}},
			"no signature":                  {header: http.Header{"Webhook-Signature": none}},
			"another id":                    {header: http.Header{"Webhook-Id": {"req-other"}}},
			"another timestamp":             {header: http.Header{"Webhook-Timestamp": {"1700000000"}}},
			"another scheme":                {header: http.Header{"Webhook-Signature": {"v1a,AAAA"}}},
			"two signatures in two lines":   {header: http.Header{"Webhook-Signature": {"v1,AAAA", "v1,BBBB"}}},
			"signed as other routes are":    {payload: &target},
			"signed over another body":      {payload: ptr(body + " ")},
			"nothing right, partner unseen": {partner: "nobody", secret: foreign, at: 1},
		}
		var first string
		var header http.Header
		for name, a := range cases {
			if a.header == nil {
				a.header = http.Header{}
			}
			a.header["X-Request-Id"] = []string{"same"}
			got := w.as(a, "POST", "/messages", body).got(401, Unauthorized)
			if first == "" {
				first, header = got.Body.String(), got.Header()
			}
			if diff := cmp.Diff(first, got.Body.String()); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			if diff := cmp.Diff(header, got.Header()); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		want := `{"type":"/problems/unauthorized","title":"The signature proves nothing","status":401,"code":"unauthorized",` +
			`"detail":"the partner, the signature or the timestamp is not right","request_id":"same"}`
		if first != want {
			t.Errorf("the 401 is now\n%s\nwas\n%s", first, want)
		}
		if len(w.faults) > 0 {
			t.Errorf("the operator is told of strangers: %v", w.faults)
		}
	})
}

func ptr[T any](v T) *T { return &v }

func TestBothSecretsAndTheClocksEdgeAreTaken(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w, now := newWorld(t, rdb), time.Now().Unix()
		w.as(asking{partner: "turned", secret: secret1}, "GET", "/messages", "").got(200, "")
		w.as(asking{partner: "turned", secret: secret2}, "GET", "/messages", "").got(200, "")
		w.as(asking{at: now - 290}, "GET", "/messages", "").got(200, "")
		w.as(asking{at: now + 290}, "GET", "/messages", "").got(200, "")
		id, at := "req-several", now
		both := sign(foreign, id, at, "GET /v1/partners/orders/messages\n") + " v2,zzz " + sign(secret1, id, at, "GET /v1/partners/orders/messages\n")
		w.as(asking{id: id, at: at, header: http.Header{"Webhook-Signature": {both}}}, "GET", "/messages", "").got(200, "")
	})
}

// A signature is good for one route only, query and escapes included as they were sent.
func TestTheTargetIsPartOfTheSignature(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		prefix := "/v1/partners/orders"
		w.ask("GET", "/messages?app=shop&state=queued", "").got(200, "")
		w.ask("GET", "/bindings/shop/u%2F42", "").got(404, NotFound)
		for name, signed := range map[string]string{
			"another query":   "GET " + prefix + "/messages?app=shop\n",
			"no query":        "GET " + prefix + "/messages\n",
			"another method":  "DELETE " + prefix + "/messages?state=queued\n",
			"another partner": "GET /v1/partners/turned/messages?state=queued\n",
			"without the LF":  "GET " + prefix + "/messages?state=queued",
			"the body alone":  "",
		} {
			t.Run(name, func(t *testing.T) {
				w.as(asking{payload: &signed}, "GET", "/messages?state=queued", "").got(401, Unauthorized)
			})
		}
	})
}

func TestRightsAndApps(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, _ := w.login("ann")
		for _, r := range w.gate.partnerRoutes() {
			path := strings.NewReplacer(":app", "shop", ":user", "u1", ":id", "msg_1").Replace(r.path)
			body := ""
			if r.method == "POST" || r.method == "PUT" {
				body = "{}"
			}
			w.as(asking{partner: "poor"}, r.method, path, body).got(403, NotAllowed)
		}
		foreign := strings.Replace(order(openid, ""), `"app":"shop"`, `"app":"other"`, 1)
		w.ask("POST", "/messages", foreign).got(403, NotAllowed)
		w.ask("GET", "/bindings/other/u1", "").got(403, NotAllowed)
		w.ask("GET", "/apps/other/access_token", "").got(403, NotAllowed)
		w.ask("GET", "/apps/nowhere/access_token", "").got(403, NotAllowed)
		w.ask("GET", "/messages?app=other", "").got(403, NotAllowed)
		w.ask("GET", "/subscriptions?app=other&openid="+openid, "").got(403, NotAllowed)
	})
}

func TestAPartnersRate(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		for range 20 { // strangers do not use up a partner's allowance
			w.as(asking{partner: "slow", secret: foreign}, "GET", "/messages", "").got(401, Unauthorized)
		}
		w.as(asking{partner: "slow"}, "GET", "/messages", "").got(200, "")
		w.as(asking{partner: "slow"}, "GET", "/messages", "").got(200, "")
		after := w.as(asking{partner: "slow"}, "GET", "/messages", "").got(429, RateLimited).Header().Get("Retry-After")
		if after != "100" && after != "99" {
			t.Errorf("Retry-After %q at one in 100 s", after)
		}
		w.ask("GET", "/messages", "").got(200, "")
	})
}

func TestIdempotency(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, session := w.login("ann")
		w.accept(session)
		w.accept(session)
		body := order(openid, "")
		first := w.as(asking{id: "A-1"}, "POST", "/messages", body).got(202, "")
		if first.Header().Get("Idempotent-Replayed") != "" {
			t.Error("the first answer says it is a repetition")
		}
		again := w.as(asking{id: "A-1"}, "POST", "/messages", body).got(202, "")
		if again.Header().Get("Idempotent-Replayed") != "true" {
			t.Error("a repetition does not say so")
		}
		if diff := cmp.Diff(first.Body.String(), again.Body.String()); diff != "" {
			t.Error(diff)
		}
		w.as(asking{id: "A-1"}, "POST", "/messages", body+" ").got(409, IDReused)
		w.as(asking{id: "A-1"}, "POST", "/messages/batch", `{"messages":[]}`).got(409, IDReused)
		w.as(asking{id: "A-1"}, "DELETE", "/messages/x", "").got(409, IDReused)
		w.as(asking{id: "A-1"}, "GET", "/messages", "").got(200, "") // reading needs no memory
		w.as(asking{id: "A-1", partner: "turned"}, "POST", "/messages", body).got(202, "")

		// An error is not remembered: the same request may come again under its id, and does better.
		bob, bobs := w.login("bob")
		w.as(asking{id: "A-2"}, "POST", "/messages", order(bob, "")).got(409, NoCredit)
		w.accept(bobs)
		w.as(asking{id: "A-2"}, "POST", "/messages", order(bob, "")).got(202, "")
		// Nor is a malformed one kept from being mended.
		w.as(asking{id: "A-3"}, "POST", "/messages", `{`).got(400, Malformed)
		w.accept(bobs)
		w.as(asking{id: "A-3"}, "POST", "/messages", order(bob, "")).got(202, "")
	})
}

// A repeated request gets the answer it got, whatever has become of the message, the user or the credit since.
func TestTheFirstAnswerStands(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		ann, session := w.login("ann")
		bob, _ := w.login("bob")
		w.accept(session)
		w.ask("PUT", "/bindings/shop/u1", `{"openid":"`+ann+`"}`).got(200, "")
		body := strings.Replace(order("x", `,"metadata": { "a" : "<&>" }`), `"openid":"x"`, `"user":"u1"`, 1)
		first := w.as(asking{id: "A-1"}, "POST", "/messages", body).got(202, "")
		repeat := func(when string) {
			t.Helper()
			again := w.as(asking{id: "A-1"}, "POST", "/messages", body).got(202, "")
			if diff := cmp.Diff(first.Body.String(), again.Body.String()); diff != "" || again.Header().Get("Idempotent-Replayed") != "true" {
				t.Errorf("%s: %s %v", when, diff, again.Header())
			}
		}
		repeat("at once")
		var m struct{ ID string }
		first.into(&m)
		w.ask("DELETE", "/messages/"+m.ID, "").got(200, "")
		repeat("it is cancelled")
		w.ask("DELETE", "/bindings/shop/u1", "").got(200, "")
		repeat("its user is not bound any more")
		w.ask("PUT", "/bindings/shop/u1", `{"openid":"`+bob+`"}`).got(200, "")
		repeat("its user is another")
		w.as(asking{id: "A-1"}, "POST", "/messages", body+" ").got(409, IDReused)

		// Nobody remembers an id for longer than a day: then it is another request's, and another message.
		for _, k := range rdb.Keys(t.Context(), "wx:{in:*").Val() {
			rdb.Del(t.Context(), k)
		}
		w.accept(session)
		var other struct{ ID string }
		w.as(asking{id: "A-1"}, "POST", "/messages", order(ann, "")).got(202, "").into(&other)
		if other.ID == m.ID {
			t.Error("a new request got an old message")
		}
	})
}

// A batch whose own answer was lost is asked again: what was accepted stays so, also when it would not be accepted
// today.
func TestABatchAgainKeepsWhatWasAccepted(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		ann, session := w.login("ann")
		bob, _ := w.login("bob")
		w.accept(session)
		name := func(rules relay.Rules, aliases map[string]relay.Alias) {
			rules.Apps = maps.Clone(rules.Apps)
			app := rules.Apps["shop"]
			app.Templates = aliases
			rules.Apps["shop"] = app
			w.relay.SetRules(rules)
		}
		name(w.rules, map[string]relay.Alias{"bought": {TemplateID: tOrder}})
		item := func(openid string) string {
			return strings.Replace(order(openid, `,"template":"bought"`), `"template_id":"`+tOrder+`",`, "", 1)
		}
		body := `{"messages":[` + item(ann) + "," + item(bob) + "," + item(ann) + `]}`
		type results struct {
			Results []struct {
				Status  int
				Message struct{ ID, State string }
				Problem struct{ Code Code }
			}
		}
		var first, again results
		w.as(asking{id: "B-1"}, "POST", "/messages/batch", body).got(200, "").into(&first)
		if r := first.Results; len(r) != 3 || r[0].Status != 202 || r[1].Status != 409 || r[2].Status != 409 {
			t.Fatalf("%+v", r)
		}
		for _, k := range rdb.Keys(t.Context(), "wx:{in:*").Val() {
			rdb.Del(t.Context(), k)
		}
		name(w.rules, nil) // nobody knows the alias any more
		w.as(asking{id: "B-1"}, "POST", "/messages/batch", body).got(200, "").into(&again)
		if diff := cmp.Diff(first.Results[0], again.Results[0]); diff != "" {
			t.Error(diff)
		}
		for _, r := range again.Results[1:] {
			if r.Status != 422 || r.Problem.Code != InvalidMessage {
				t.Errorf("%+v", r)
			}
		}
	})
}

func TestInProgress(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		body := order("oAnn0000000000000000000000", "")
		payload := webhook.TargetPayload("POST", "/v1/partners/orders/messages", []byte(body))
		visit, err := webhook.NewIdempotencyStore(rdb).Begin(t.Context(), "orders", "A-1", sum(payload)) // another process has it in hand
		if err != nil {
			t.Fatal(err)
		}
		if w.as(asking{id: "A-1"}, "POST", "/messages", body).got(409, InProgress).Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		w.as(asking{id: "A-1"}, "POST", "/messages", body+" ").got(409, IDReused)
		if err := visit.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.as(asking{id: "A-1"}, "POST", "/messages", body).got(409, NoCredit)
	})
}

// Many at once under one id are one message, whatever each of them hears.
func TestOneIDAtOnceIsOneMessage(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, session := w.login("ann")
		w.accept(session)
		body, ids := order(openid, ""), make([]string, 16)
		var wg sync.WaitGroup
		for i := range ids {
			wg.Go(func() {
				got := w.as(asking{id: "A-1"}, "POST", "/messages", body)
				switch got.Code {
				case 202:
					var m struct{ ID string }
					got.into(&m)
					ids[i] = m.ID
				case 409:
					if c := got.problem().Code; c != InProgress {
						t.Errorf("409 %s", c)
					}
				default:
					t.Errorf("%d %s", got.Code, got.Body)
				}
			})
		}
		wg.Wait()
		slices.Sort(ids)
		ids = slices.DeleteFunc(slices.Compact(ids), func(id string) bool { return id == "" })
		var list struct{ Items []json.RawMessage }
		w.ask("GET", "/messages", "").got(200, "").into(&list)
		if len(ids) != 1 || len(list.Items) != 1 {
			t.Errorf("callers heard of %q, %d messages are listed", ids, len(list.Items))
		}
	})
}

func TestRedisAwayIs503(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, session := w.login("ann")
		if err := rdb.Close(); err != nil {
			t.Fatal(err)
		}
		w.ask("POST", "/messages", order(openid, "")).got(503, Unavailable)
		w.ask("GET", "/messages", "").got(503, Unavailable)
		w.ask("GET", "/subscriptions?app=shop&openid="+openid, "").got(503, Unavailable)
		w.ask("GET", "/bindings/shop/u1", "").got(503, Unavailable)
		w.mp("GET", "/shop/subscriptions", session, "").got(503, Unavailable)
		w.mp("POST", "/shop/login", "", `{"code":"`+w.sim.Login(openid)+`"}`).got(503, Unavailable)
		if len(w.faults) != 6 {
			t.Errorf("the operator heard %q", w.faults)
		}
		w.as(asking{secret: foreign}, "GET", "/messages", "").got(401, Unauthorized) // proof needs no Redis
	})
}

func sum(b []byte) [32]byte { return sha256.Sum256(b) }
