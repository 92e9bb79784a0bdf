package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// died is a process' connection to Redis: the process dies with the nth command, before or after Redis did it.
type died struct {
	mu    sync.Mutex
	left  int  // commands until then; 0 = none ever
	after bool // Redis did the last one
	dead  bool
}

var errDied = errors.New("the process died")

func (d *died) DialHook(next redis.DialHook) redis.DialHook { return next }
func (d *died) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (d *died) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		d.mu.Lock()
		d.left--
		last, dead := d.left == 0, d.left < 0
		d.dead = d.dead || last
		d.mu.Unlock()
		if !last && !dead {
			return next(ctx, cmd)
		}
		if last && d.after {
			_ = next(ctx, cmd)
		}
		cmd.SetErr(errDied)
		return errDied
	}
}

// village is what several processes of the gateway share: Redis, WeChat, one partner.
type village struct {
	t     *testing.T
	redis *miniredis.Miniredis
	wx    *httptest.Server
	hook  *httptest.Server
	codes map[string]bool // codes that WeChat has exchanged

	mu    sync.Mutex
	heard map[string][]string // event type -> webhook ids, each once
}

func newVillage(t *testing.T) *village {
	v := &village{t: t, redis: miniredis.RunT(t), heard: map[string][]string{}, codes: map[string]bool{}}
	once := func(code, answer string) string {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.codes[code] {
			return `{"errcode":40163,"errmsg":"code been used"}`
		}
		v.codes[code] = true
		return answer
	}
	v.wx = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		switch {
		case strings.HasSuffix(req.URL.Path, "jscode2session"):
			fmt.Fprint(rw, once(req.URL.Query().Get("js_code"), `{"openid":"oUser0000000000000000000001","session_key":"a2V5a2V5a2V5a2V5a2V5aw=="}`))
		case strings.HasSuffix(req.URL.Path, "getuserphonenumber"):
			fmt.Fprint(rw, once(string(body), `{"errcode":0,"phone_info":{"phoneNumber":"13900000001","purePhoneNumber":"13900000001","countryCode":"86"}}`))
		case strings.HasSuffix(req.URL.Path, "token"):
			fmt.Fprint(rw, `{"access_token":"tok","expires_in":7200}`)
		default:
			fmt.Fprint(rw, `{"errcode":0,"data":[]}`)
		}
	}))
	v.hook = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		var event struct{ Type string }
		_ = json.NewDecoder(req.Body).Decode(&event)
		v.mu.Lock()
		defer v.mu.Unlock()
		if id := req.Header.Get("Webhook-Id"); !slices.Contains(v.heard[event.Type], id) {
			v.heard[event.Type] = append(v.heard[event.Type], id)
		}
	}))
	t.Cleanup(v.wx.Close)
	t.Cleanup(v.hook.Close)
	return v
}

// process starts a gateway; one that is given how it dies has no workers.
func (v *village) process(d *died) *Relay {
	v.t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: v.redis.Addr(), MaxRetries: -1, DisableIdentity: true})
	q, err := queue.Open(v.t.Context(), rdb, queue.Options{Shards: 2, Extensions: Extensions(), Lease: time.Second})
	if err != nil {
		v.t.Fatal(err)
	}
	wc, err := wechat.New(rdb, wechat.Options{BaseURL: v.wx.URL, Timeout: 2 * time.Second, Apps: []wechat.App{{Name: "shop", AppID: "wx1", Secret: "s"}}})
	if err != nil {
		v.t.Fatal(err)
	}
	if _, err := wc.Token(v.t.Context(), "shop"); err != nil {
		v.t.Fatal(err)
	}
	secret, err := webhook.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=")
	if err != nil {
		v.t.Fatal(err)
	}
	r := New(Dependencies{Queue: q, Ledger: ledger.New(rdb, q.PrefixOf), WeChat: wc, Bindings: binding.New(rdb, binding.Sealer{}), Health: webhook.NewHealth(rdb),
		Sender: webhook.NewSender(webhook.SenderOptions{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})},
		Rules{Apps: map[string]App{"shop": {Name: "shop", AppID: "wx1", Kind: "miniprogram"}},
			Partners: map[string]Partner{"orders": {Name: "orders", Apps: []string{"shop"}, Endpoints: []webhook.Endpoint{
				{Partner: "orders", ID: "main", URL: v.hook.URL, Events: []string{"user.*"}, Secrets: []webhook.Secret{secret}}}}}})
	if d != nil {
		rdb.AddHook(d)
		v.t.Cleanup(func() { rdb.Close() })
		return r
	}
	r.Register()
	ctx, cancel := context.WithCancel(v.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = q.Run(ctx) }()
	v.t.Cleanup(func() { cancel(); <-done; rdb.Close() })
	return r
}

// hears waits for so many events of a type and no more.
func (v *village) hears(typ string, n int) {
	v.t.Helper()
	limit := time.After(10 * time.Second)
	for tick := time.Tick(2 * time.Millisecond); ; {
		v.mu.Lock()
		got := len(v.heard[typ])
		v.mu.Unlock()
		if got == n {
			return
		}
		select {
		case <-limit:
			v.t.Fatalf("%d %s, want %d", got, typ, n)
		case <-tick:
		}
	}
}

// A process dies between any two commands of a request, and the client comes again with the same request, or never: whatever
// is done in the end, the partner hears of it once.
func TestNoEventIsLostBetweenTwoChanges(t *testing.T) {
	ctx := context.Background()
	type journey struct {
		before func(r *Relay) (again func(r *Relay) error) // what must be there, and the request
		event  string
		undone func(r *Relay) bool // the request has no effect
	}
	bound := func(r *Relay) bool {
		_, err := r.bindings.ByUser(ctx, "orders", "shop", "u-1")
		return err == nil
	}
	request := func(f func(r *Relay) error) func(*Relay) func(*Relay) error {
		return func(*Relay) func(*Relay) error { return f }
	}
	journeys := map[string]journey{
		"put": {request(func(r *Relay) error { _, err := r.PutBinding(ctx, "orders", "shop", "u-1", someone); return err }), EventUserBound,
			func(r *Relay) bool { return !bound(r) }},
		"ticket": {func(r *Relay) func(*Relay) error {
			ticket, err := r.NewTicket(ctx, "orders", "shop", "u-1")
			if err != nil {
				t.Fatal(err)
			}
			return func(r *Relay) error { _, err := r.Bind(ctx, "shop", someone, ticket.Ticket); return err }
		}, EventUserBound, func(r *Relay) bool { return !bound(r) }},
		"delete": {func(r *Relay) func(*Relay) error {
			if err := r.bindings.Bind(ctx, "orders", "shop", "u-1", someone, binding.NewSerial()); err != nil {
				t.Fatal(err)
			}
			return func(r *Relay) error {
				_, err := r.DeleteBinding(ctx, "orders", "shop", "u-1")
				if errors.Is(err, ErrNotFound) { // it is done
					err = nil
				}
				return err
			}
		}, EventUserUnbound, bound},
		"login": {request(func(r *Relay) error {
			a, err := r.Login(ctx, "shop", "0123456789abcdef0123456789abcdef")
			if err == nil && !a.IsNew {
				t.Error("not new")
			}
			return err
		}), EventUserLoggedIn, nil},
		"phone": {func(r *Relay) func(*Relay) error {
			if err := r.bindings.Bind(ctx, "orders", "shop", "u-1", someone, binding.NewSerial()); err != nil {
				t.Fatal(err)
			}
			return func(r *Relay) error { _, err := r.Phone(ctx, "shop", someone, "0123456789abcdef"); return err }
		}, EventUserPhone, nil},
	}
	for name, j := range journeys {
		for _, repeats := range []bool{true, false} {
			if j.undone == nil && !repeats { // the code is spent, and nothing was promised
				continue
			}
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/again %t/answered %t", name, repeats, after), func(t *testing.T) {
					t.Parallel()
					for n, failed := 1, true; failed; n++ {
						v := newVillage(t)
						again := j.before(v.process(&died{left: 1 << 30}))
						d := &died{left: n, after: after}
						failed = again(v.process(d)) != nil || d.dead
						if failed {
							v.redis.FastForward(21 * time.Second) // a claim of the dead lapses
						}
						if failed && !repeats {
							v.redis.SetTime(time.Now().Add(time.Minute)) // what is put off comes due
						}
						sound := v.process(nil)
						if !failed && n == 1 {
							t.Fatal("no command of it fails")
						}
						if failed && repeats {
							v.mu.Lock()
							used := len(v.codes) > 0
							v.mu.Unlock()
							err := again(sound)
							if used && errors.Is(err, ErrCodeInvalid) { // WeChat gave it to the dead one, who wrote nothing down
								continue
							}
							if err != nil {
								t.Fatalf("died with command %d: again: %v", n, err)
							}
						}
						if repeats || !failed || !j.undone(sound) {
							v.hears(j.event, 1)
							continue
						}
					}
				})
			}
		}
	}
}

// The same trick with a refused write in place of a death: the lane of the deliveries is not what it should be for a while.
func TestEventsOutliveALaneThatTakesNone(t *testing.T) {
	ctx := context.Background()
	v := newVillage(t)
	r := v.process(nil)
	shard := r.q.Shard("shop", someone)
	lane := queue.Prefix(shard) + "q:deliver:orders/main"
	if err := r.q.Pause(ctx, "deliver:orders/main", time.Hour); err != nil { // or the delivery would begin without its lane
		t.Fatal(err)
	}
	if err := v.redis.Set(lane, "a string"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.PutBinding(ctx, "orders", "shop", "u-1", someone); err != nil {
		t.Fatal(err)
	}
	b := &bindingJob{Partner: "orders", App: "shop", User: "u-1", OpenID: someone}
	if was, err := r.bindings.Find(ctx, "orders", "shop", "u-1"); err != nil {
		t.Fatal(err)
	} else {
		b.Serial = was.Serial
	}
	id, _ := b.id(r)
	for limit := time.After(10 * time.Second); ; { // until a worker has tried
		if job, err := r.q.Get(ctx, id); err != nil {
			t.Fatal(err)
		} else if job.State == "later" {
			break
		}
		select {
		case <-limit:
			t.Fatal("nobody tried")
		case <-time.After(time.Millisecond):
		}
	}
	v.redis.Del(lane)
	if err := r.q.Resume(ctx, "deliver:orders/main"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.PutBinding(ctx, "orders", "shop", "u-1", someone); err != nil {
		t.Fatal(err)
	}
	v.hears(EventUserBound, 1)
}
