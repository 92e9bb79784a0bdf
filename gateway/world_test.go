package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/relay/wechat"
	"github.com/wxrelay/wxrelay/scripts/openapi"
	"github.com/wxrelay/wxrelay/scripts/testredis"
)

var eachRedis = testredis.Each

const (
	tOrder  = "TorderTorderTorderTorderTorderTorderTorder0" // one-time: thing1, amount2
	tOther  = "TotherTotherTotherTotherTotherTotherTother0" // one-time: thing1
	secret1 = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
	secret2 = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	foreign = "whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="
)

// world is the mouth over the real rooms: a simulated WeChat behind it, callers in front of it, no workers.
type world struct {
	t     *testing.T
	rdb   redis.UniversalClient
	sim   *wechatsim.Sim
	relay *relay.Relay
	gate  *Handler
	rooms relay.Dependencies
	rules relay.Rules
	ids   atomic.Int64

	mu     sync.Mutex
	faults []string
}

func secret(t *testing.T, s string) webhook.Secret {
	t.Helper()
	out, err := webhook.ParseSecret(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// asItIs stands for encryption where no key is set.
func asItIs(b, _ []byte) ([]byte, error) { return b, nil }

func newWorld(t *testing.T, rdb redis.UniversalClient) *world {
	t.Helper()
	sim := wechatsim.New(wechatsim.Options{Seed: 3, Calm: true, Apps: []wechatsim.App{{Name: "shop", Pages: []string{"pages/order"},
		Templates: []wechatsim.Template{{ID: tOrder, Title: "Order", Type: 2, Content: "item:{{thing1.DATA}}\nprice:{{amount2.DATA}}\n"},
			{ID: tOther, Title: "Other", Type: 2, Content: "item:{{thing1.DATA}}\n"}}}}})
	t.Cleanup(sim.Close)
	wx := httptest.NewServer(sim)
	t.Cleanup(wx.Close)
	q, err := queue.Open(t.Context(), rdb, queue.Options{Extensions: relay.Extensions()})
	if err != nil {
		t.Fatal(err)
	}
	app := sim.App("shop")
	wc, err := wechat.New(rdb, wechat.Options{BaseURL: wx.URL, Timeout: 2 * time.Second, Apps: []wechat.App{{Name: "shop", AppID: app.AppID, Secret: app.Secret}}})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{"messages": true, "subscriptions": true, "bindings": true, "tokens": true, "endpoints": true}
	one, two := []webhook.Secret{secret(t, secret1)}, []webhook.Secret{secret(t, secret2), secret(t, secret1)}
	w := &world{t: t, rdb: rdb, sim: sim, rules: relay.Rules{
		Apps: map[string]relay.App{"shop": {Name: "shop", AppID: app.AppID, Kind: "miniprogram"}, "other": {Name: "other", AppID: "wxffffffffffffffff", Kind: "miniprogram"}},
		Partners: map[string]relay.Partner{
			"orders": {Name: "orders", Secrets: one, Apps: []string{"shop"}, Allow: all, Endpoints: []webhook.Endpoint{{Partner: "orders", ID: "main", URL: "https://orders.example.com/hook", Events: []string{"message.*"}, Secrets: one}}},
			"poor":   {Name: "poor", Secrets: one, Apps: []string{"shop"}},
			"turned": {Name: "turned", Secrets: two, Apps: []string{"shop"}, Allow: all},
			"slow":   {Name: "slow", Secrets: one, Apps: []string{"shop"}, Allow: all, PerSecond: 0.01, Burst: 2},
		}, BatchLimit: 5}}
	w.rooms = relay.Dependencies{Queue: q, Ledger: ledger.New(rdb, q.PrefixOf), WeChat: wc, Bindings: binding.New(rdb, binding.Sealer{}), Registry: webhook.NewRegistry(rdb, webhook.Sealer{Seal: asItIs, Unseal: asItIs}),
		Sender: webhook.NewSender(webhook.SenderOptions{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}), Health: webhook.NewHealth(rdb)}
	w.relay = relay.New(w.rooms, w.rules)
	door, err := callback.NewHandler([]callback.App{{Name: "shop", AppID: app.AppID, Mode: "secure", Key: callback.Key{Token: app.Token, EncodingAESKey: app.EncodingAESKey}}},
		w.relay.Accept, callback.HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.gate = Public(Options{Relay: w.relay, Callback: door, Answers: webhook.NewIdempotencyStore(rdb), Version: "test",
		Limits: Limits{Body: 8 << 10, ProxyBody: 64 << 10, MPPerIP: Rate{1000, 1000}, MPPerOpenID: Rate{1000, 1000}},
		Fault: func(_, route string, err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.faults = append(w.faults, route+": "+err.Error())
		}})
	return w
}

// answer is what came back.
type answer struct {
	*httptest.ResponseRecorder
	t *testing.T
}

// got checks status and, for errors, code and form.
func (a answer) got(status int, code Code) answer {
	a.t.Helper()
	if a.Code != status {
		a.t.Fatalf("%d %s, want %d %s", a.Code, a.Body, status, code)
	}
	if a.Header().Get("X-Request-Id") == "" {
		a.t.Error("no X-Request-Id")
	}
	if status < 400 {
		return a
	}
	p := a.problem()
	if p.Code != code || p.Status != status || p.Type != "/problems/"+string(code) || p.Title == "" || p.Detail == "" || p.RequestID != a.Header().Get("X-Request-Id") ||
		a.Header().Get("Content-Type") != "application/problem+json" {
		a.t.Fatalf("want %s: %s", code, a.Body)
	}
	if (status == 429 || status == 503) != (a.Header().Get("Retry-After") != "") && code != InProgress {
		a.t.Errorf("Retry-After %q with %d", a.Header().Get("Retry-After"), status)
	}
	return a
}

func (a answer) problem() Problem {
	a.t.Helper()
	var p Problem
	a.into(&p)
	return p
}

func (a answer) into(v any) {
	a.t.Helper()
	if err := json.Unmarshal(a.Body.Bytes(), v); err != nil {
		a.t.Fatalf("%v: %s", err, a.Body)
	}
}

// fields are the faults a problem lists.
func (a answer) fields() string {
	var names []string
	for _, f := range a.problem().Errors {
		names = append(names, f.Field)
	}
	return strings.Join(names, " ")
}

// sign is Standard Webhooks in the test's own words.
func sign(secret, id string, at int64, payload string) string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		panic(err)
	}
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "%s.%d.%s", id, at, payload)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// asking is one request of a partner and how it may differ from a right one.
type asking struct {
	partner, secret, id string
	at                  int64
	header              http.Header // put over the right ones
	payload             *string     // signed instead of the right one
}

// as asks as a partner.
func (w *world) as(a asking, method, path, body string) answer {
	w.t.Helper()
	if a.partner == "" {
		a.partner = "orders"
	}
	if a.secret == "" {
		a.secret = secret1
	}
	if a.id == "" {
		a.id = "req-" + strconv.FormatInt(w.ids.Add(1), 10)
	}
	if a.at == 0 {
		a.at = time.Now().Unix()
	}
	target := "/v1/partners/" + a.partner + path
	payload := method + " " + target + "\n" + body
	if method == "POST" && (path == "/messages" || path == "/messages/batch") {
		payload = body
	}
	if a.payload != nil {
		payload = *a.payload
	}
	var in io.Reader = http.NoBody
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, in)
	r.Header.Set("webhook-id", a.id)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(a.at, 10))
	r.Header.Set("webhook-signature", sign(a.secret, a.id, a.at, payload))
	for k, v := range a.header {
		if r.Header[k] = v; v == nil {
			delete(r.Header, k)
		}
	}
	return w.do(r)
}

// ask asks rightly, as the partner orders.
func (w *world) ask(method, path, body string) answer {
	w.t.Helper()
	return w.as(asking{}, method, path, body)
}

// mp asks as a mini-program.
func (w *world) mp(method, path, session, body string) answer {
	w.t.Helper()
	r := httptest.NewRequest(method, "/mp"+path, strings.NewReader(body))
	if session != "" {
		r.Header.Set("Authorization", "Bearer "+session)
	}
	return w.do(r)
}

func (w *world) do(r *http.Request) answer {
	rec := httptest.NewRecorder()
	openapi.Described(w.t).Handler(w.gate, func(fault string) { w.t.Error(fault) }).ServeHTTP(rec, r)
	return answer{rec, w.t}
}

// login is a person with a session.
func (w *world) login(person string) (openid, session string) {
	w.t.Helper()
	openid = w.sim.User("shop", person)
	var got struct{ Session, OpenID string }
	w.mp("POST", "/shop/login", "", `{"code":"`+w.sim.Login(openid)+`"}`).got(200, "").into(&got)
	if got.OpenID != openid || got.Session == "" {
		w.t.Fatalf("login answered %+v", got)
	}
	return openid, got.Session
}

// accept is a person's tap, as the client reports it.
func (w *world) accept(session string) {
	w.t.Helper()
	w.mp("POST", "/shop/subscriptions", session, `{"errMsg":"requestSubscribeMessage:ok","`+tOrder+`":"accept"}`).got(200, "")
}

func order(openid, extra string) string {
	return `{"app":"shop","to":{"openid":"` + openid + `"},"channel":"subscribe","template_id":"` + tOrder + `","page":"pages/order?id=1","data":{"thing1":{"value":"apples"},"amount2":"¥100"}` + extra + `}`
}

// cut is a queue whose Redis went away after it was opened.
func (w *world) cut() *queue.Queue {
	w.t.Helper()
	m := miniredis.RunT(w.t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), MaxRetries: -1})
	w.t.Cleanup(func() { _ = rdb.Close() })
	q, err := queue.Open(w.t.Context(), rdb, queue.Options{Extensions: relay.Extensions()})
	if err != nil {
		w.t.Fatal(err)
	}
	m.Close()
	return q
}

// without is the journeys over another queue.
func (w *world) without(q *queue.Queue) *relay.Relay {
	rooms := w.rooms
	rooms.Queue = q
	return relay.New(rooms, w.rules)
}

func appAt(url string) func(*wechatsim.App) {
	return func(a *wechatsim.App) { a.CallbackURL = url }
}
