package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// world is a bubble with its own clock: an in-process Redis, a fake WeChat, and as many replicas as asked for.
type world struct {
	t     *testing.T
	f     *fake
	m     *miniredis.Miniredis
	wire  func(*Client) *Client
	alert alerts
}

func inWorld(t *testing.T, run func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		f := newFake()
		w := &world{t: t, f: f, m: m, wire: bubble(t, f)}
		t.Cleanup(m.Close)
		run(t, w)
	})
}

func (w *world) replica(change ...func(*Options)) *Client {
	change = append([]func(*Options){func(o *Options) { o.OnAlert = w.alert.add }}, change...)
	return w.wire(newTestClient(w.t, miniClient(w.t, w.m), "http://wechat.test", change...))
}

// runs starts Run of each client and ends it with the test.
func (w *world) runs(clients ...*Client) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() { c.Run(ctx) })
	}
	w.t.Cleanup(func() { cancel(); wg.Wait() })
}

func classic(o *Options) { o.Apps[0].Token.Kind = SourceClassic }

// callers never wait for a refresh while the old token works, on the refreshing replica or on any other.
func TestSlowRefreshNobodyWaits(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.replica(), w.replica()
		old := mustToken(t, a)
		mustToken(t, b)
		w.f.with(func(f *fake) { f.gate = make(chan struct{}) })
		time.Sleep(7200*time.Second - 200*time.Second) // due on every replica; no test waits for it, the clock is the bubble's
		start := time.Now()
		for range 100 {
			for _, c := range []*Client{a, b, w.replica()} {
				if tok := mustToken(t, c); tok.Value != old.Value {
					t.Fatal("another token while the refresh is still out")
				}
			}
		}
		if waited := time.Since(start); waited > 0 {
			t.Fatalf("callers waited %v", waited)
		}
		synctest.Wait()
		if n := w.f.count(pathStable); n != 2 {
			t.Fatalf("%d requests out, want the first and one refresh", n)
		}
		close(w.f.gate)
		a.renewals.wait()
		b.renewals.wait()
		time.Sleep(time.Minute)
		mustToken(t, a)
		mustToken(t, b)
		a.renewals.wait()
		b.renewals.wait()
		if x, y := mustToken(t, a), mustToken(t, b); x.Value == old.Value || x.Value != y.Value {
			t.Fatal("the replicas do not serve the new token")
		}
		if n := w.f.count(pathStable); n != 2 {
			t.Fatalf("%d fetches for one refresh", n)
		}
	})
}

// Run keeps a working token on every replica for half a day, with one fetch per life, and no caller asking.
func TestRunRenewsAhead(t *testing.T) {
	for _, source := range []string{SourceStable, SourceClassic} {
		t.Run(source, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				var clients []*Client
				for range 3 {
					clients = append(clients, w.replica(func(o *Options) { o.Apps[0].Token.Kind = source }))
				}
				w.runs(clients...)
				for range 12 * 60 {
					time.Sleep(time.Minute)
					synctest.Wait()
					for i, c := range clients {
						tok, ok := c.Held("shop")
						if !ok {
							t.Fatalf("replica %d holds no token", i)
						}
						w.f.mu.Lock()
						until, valid := w.f.valid[tok.Value]
						w.f.mu.Unlock()
						if !valid || time.Now().After(until) {
							t.Fatalf("replica %d holds a dead token", i)
						}
					}
				}
				n := w.f.count(pathStable) + w.f.count(pathClassic)
				if n < 6 || n > 7 { // 12 h of tokens renewed 4.5 or 10 minutes before their 2 h end
					t.Fatalf("%d fetches in half a day", n)
				}
				if a := w.alert.all(); len(a) > 0 {
					t.Fatalf("alerts: %v", a)
				}
			})
		})
	}
}

// stable_token may answer a remainder of seconds: it is cached for a minute at least, and never turns into a storm.
func TestTinyRemainder(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.f.life = 3 * time.Second
		c := w.replica()
		w.runs(c)
		tok := mustToken(t, c)
		if left := time.Until(tok.ExpiresAt); left < time.Minute {
			t.Errorf("kept for %v", left)
		}
		if other := mustToken(t, w.replica()); time.Until(other.ExpiresAt) < time.Minute || w.f.count(pathStable) != 1 {
			t.Errorf("shared for %v, %d fetches", time.Until(other.ExpiresAt), w.f.count(pathStable))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := w.f.count(pathStable); n > 3600/5+1 {
			t.Errorf("%d fetches in an hour", n)
		}
		w.f.with(func(f *fake) { f.life = 345 * time.Second })
		before := w.f.count(pathStable)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := w.f.count(pathStable) - before; n > 20 {
			t.Errorf("%d fetches in an hour of 345 s tokens", n)
		}
	})
}

func TestRedisAway(t *testing.T) {
	t.Run("the held token is served", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			c := w.replica(classic)
			tok := mustToken(t, c)
			w.m.SetError("LOADING")
			for range 60 {
				time.Sleep(time.Minute)
				if got := mustToken(t, c); got.Value != tok.Value {
					t.Fatal("another token")
				}
			}
			synctest.Wait()
			if n := w.f.count(pathClassic); n != 1 {
				t.Fatalf("%d fetches", n)
			}
		})
	})
	t.Run("stable is renewed without Redis", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.m.SetError("LOADING")
			c := w.replica()
			w.runs(c)
			mustToken(t, c)
			time.Sleep(5 * time.Hour)
			synctest.Wait()
			if _, err := c.Send(t.Context(), "shop", ChannelSubscribe, json.RawMessage(`{}`)); err != nil {
				t.Fatal(err)
			}
			if n := w.f.count(pathStable); n > 5 {
				t.Fatalf("%d fetches in 5 h", n)
			}
			w.m.SetError("")
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			before := w.f.count(pathStable)
			mustToken(t, w.replica()) // what was fetched alone is shared once Redis is back
			if n := w.f.count(pathStable) - before; n != 0 {
				t.Errorf("the next replica fetched %d times", n)
			}
		})
	})
	t.Run("classic is not: it would kill the other replicas' tokens", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.m.SetError("LOADING")
			_, err := w.replica(classic).Token(t.Context(), "shop")
			var e *TokenError
			if !errors.As(err, &e) || !errors.Is(err, ErrNotLeft) || e.RetryAfter <= 0 || !strings.Contains(err.Error(), "Redis is away") {
				t.Fatalf("got %v", err)
			}
			if n := w.f.count(pathClassic); n != 0 {
				t.Fatalf("%d fetches", n)
			}
		})
	})
	t.Run("a token that cannot be written is served", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.f.gate, w.f.arrived = make(chan struct{}), make(chan string, 1)
			c := w.replica(classic)
			got := make(chan Token)
			go func() { got <- mustToken(t, c) }()
			<-w.f.arrived
			w.m.SetError("LOADING")
			close(w.f.gate)
			if tok := <-got; tok.Value == "" {
				t.Fatal("no token")
			}
		})
	})
}

// A config error is asked about ever more rarely, by one replica for all, alerted once, with its cure, and ends by itself.
func TestConfigErrorBacksOff(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.f.refuse = &APIError{Code: 40164, Msg: "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist rid: 6aac005a-01bfdbee-79769285"}
		var clients []*Client
		for range 4 {
			clients = append(clients, w.replica())
		}
		w.runs(clients...)
		for range 10 * 60 { // ten minutes of callers that ask every second
			time.Sleep(time.Second)
			for _, c := range clients {
				_, err := c.Token(t.Context(), "shop")
				var api *APIError
				var e *TokenError
				if !errors.As(err, &api) || api.Code != 40164 || api.IP() != "203.0.113.7" || !errors.As(err, &e) || e.RetryAfter <= 0 {
					t.Fatalf("got %v", err)
				}
				if !strings.Contains(err.Error(), "allow-list") {
					t.Fatalf("no cure in %q", err)
				}
			}
		}
		if n := w.f.count(pathStable); n > 8 {
			t.Errorf("%d requests in ten minutes", n)
		}
		heard := w.alert.all()
		var config *ConfigError
		if len(heard) != 1 || !errors.As(heard[0], &config) || !strings.Contains(config.Error(), "[203.0.113.7]") || config.API.RID == "" {
			t.Fatalf("alerts: %v", heard)
		}
		if zh := config.API.CureZH(); !strings.Contains(zh, "白名单") || !strings.Contains(zh, "203.0.113.7") {
			t.Errorf("cure: %s", zh)
		}
		w.f.with(func(f *fake) { f.refuse = nil })
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		for _, c := range clients {
			mustToken(t, c)
		}
		// The same cause, later, is news again.
		w.f.with(func(f *fake) { f.refuse = &APIError{Code: 40164, Msg: "invalid ip 203.0.113.8"} })
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if n := len(w.alert.all()); n != 2 {
			t.Errorf("%d alerts, want 2", n)
		}
	})
}

// A refusal recorded under one AppSecret does not hold up a replica that has the right one already.
func TestNewSecretDoesNotWait(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.replica(func(o *Options) { o.Apps[0].Secret = "an-old-secret-an-old-secret-32ch" })
		var api *APIError
		if _, err := c.Token(t.Context(), "shop"); !errors.As(err, &api) || api.Reaction() != ReactionConfig {
			t.Fatalf("got %v", err)
		}
		if err := c.SetApps([]App{testApp()}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		mustToken(t, c)
		if time.Since(start) > 0 {
			t.Errorf("waited %v", time.Since(start))
		}
	})
}

// A busy WeChat is asked again within the same renewal; a persistent failure is alerted once.
func TestTransientFailure(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var n atomic.Int32
		w.f.tamper = func(rw http.ResponseWriter, r *http.Request, _ []byte) bool {
			if r.URL.Path == pathStable && n.Add(1) <= 2 {
				refuseWith(rw, -1, "system error")
				return true
			}
			return false
		}
		c := w.replica()
		mustToken(t, c)
		if n.Load() != 3 {
			t.Errorf("%d requests", n.Load())
		}
	})
	inWorld(t, func(t *testing.T, w *world) {
		w.f.tamper = func(rw http.ResponseWriter, _ *http.Request, _ []byte) bool { rw.WriteHeader(502); return true }
		c := w.replica()
		w.runs(c)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		_, err := c.Token(t.Context(), "shop")
		if !errors.Is(err, ErrNotLeft) || errors.Is(err, ErrNoAnswer) {
			t.Errorf("a call that got no token did not leave: %v", err)
		}
		heard := w.alert.all()
		var trouble *TokenTrouble
		if len(heard) != 1 || !errors.As(heard[0], &trouble) {
			t.Errorf("alerts: %v", heard)
		}
		if n := w.f.count(pathStable); n > 3*(10*60/15+10) {
			t.Errorf("%d requests in ten minutes", n)
		}
	})
}
