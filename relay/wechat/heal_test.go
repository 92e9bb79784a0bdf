package wechat

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func send(t *testing.T, c *Client) error {
	t.Helper()
	_, err := c.Send(t.Context(), "shop", ChannelSubscribe, json.RawMessage(`{"touser":"o1","template_id":"T"}`))
	return err
}

// A token dies under a hundred sends of four replicas: every one of them gets through, for one fetch.
func TestDeadTokenHealsOnce(t *testing.T) {
	for _, replaced := range []bool{true, false} {
		t.Run(fmt.Sprintf("platform knows=%v", replaced), func(t *testing.T) {
			eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
				f := newFake()
				base := serveFake(t, f)
				var heard alerts
				var clients []*Client
				for range 4 {
					clients = append(clients, newTestClient(t, rdb, base, func(o *Options) { o.OnAlert = heard.add }))
				}
				old := mustToken(t, clients[0])
				for _, c := range clients {
					mustToken(t, c)
				}
				f.kill(old.Value, replaced)
				var wg sync.WaitGroup
				for i := range 100 {
					wg.Go(func() {
						if err := send(t, clients[i%4]); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				forced := 1 // the plain call answers the dead value again
				if replaced {
					forced = 0
				}
				if plain, force := f.count(pathStable)-1-f.count("force"), f.count("force"); plain != 1 || force != forced {
					t.Errorf("%d plain and %d forced refreshes, want 1 and %d", plain, force, forced)
				}
				all := heard.all()
				var changed *TokenChanged
				if len(all) != 1 || !errors.As(all[0], &changed) {
					t.Fatalf("alerts: %v", all)
				}
				if changed.Code != 40001 || changed.RID != "6aac005a-01bfdbee-79769285" || changed.Today != 1 || changed.Left < 7000*time.Second {
					t.Errorf("heard %+v", changed)
				}
			})
		})
	}
}

// A late report of an older token must not end the newer one.
func TestReportIsByValue(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		c := newTestClient(t, rdb, serveFake(t, f))
		first := mustToken(t, c)
		f.kill(first.Value, true)
		if err := c.ReportBad(t.Context(), "shop", first.Value, 40001, Reporter{By: "orders"}); err != nil {
			t.Fatal(err)
		}
		second := mustToken(t, c)
		if second.Value == first.Value {
			t.Fatal("the bad token is served again")
		}
		for _, value := range []string{first.Value, "no token of ours"} {
			if err := c.ReportBad(t.Context(), "shop", value, 42001, Reporter{By: "orders"}); err != nil {
				t.Fatal(err)
			}
		}
		if third := mustToken(t, c); third.Value != second.Value || f.count(pathStable) != 2 {
			t.Errorf("an old report replaced the token (%d fetches)", f.count(pathStable))
		}
		if err := c.ReportBad(t.Context(), "shop", second.Value, 45009, Reporter{By: "orders"}); !errors.Is(err, ErrNotTokenCode) {
			t.Errorf("45009 speaks against a token: %v", err)
		}
		if err := c.ReportBad(t.Context(), "nobody", second.Value, 40001, Reporter{By: "orders"}); !errors.Is(err, ErrUnknownApp) {
			t.Errorf("unknown app: %v", err)
		}
	})
}

// A replica that never failed itself adopts what another healed, within its next look or its first failure.
func TestOtherReplicaAdopts(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		base := serveFake(t, f)
		a, b := newTestClient(t, rdb, base), newTestClient(t, rdb, base)
		old := mustToken(t, a)
		mustToken(t, b)
		f.kill(old.Value, true)
		if err := send(t, a); err != nil {
			t.Fatal(err)
		}
		if err := send(t, b); err != nil {
			t.Fatal(err)
		}
		if f.count(pathStable) != 2 || mustToken(t, a).Value != mustToken(t, b).Value {
			t.Errorf("%d fetches", f.count(pathStable))
		}
	})
}

// WeChat refuses every token it gives: no storm, the caller gets WeChat's words, force_refresh stays within its quota.
func TestNothingHelps(t *testing.T) {
	for _, source := range []string{SourceStable, SourceClassic} {
		t.Run(source, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.f.tamper = func(rw http.ResponseWriter, r *http.Request, _ []byte) bool {
					if r.URL.Path == sendPaths[ChannelSubscribe] {
						refuseWith(rw, 40001, "invalid credential rid: 6aac005a-01bfdbee-79769285")
						return true
					}
					return false
				}
				clients := []*Client{
					w.replica(func(o *Options) { o.Apps[0].Token.Kind = source }),
					w.replica(func(o *Options) { o.Apps[0].Token.Kind = source }),
				}
				for range 2 * 3600 / 10 {
					time.Sleep(10 * time.Second)
					for _, c := range clients {
						var api *APIError
						if err := send(t, c); !errors.As(err, &api) || api.Code != 40001 || api.RID == "" {
							t.Fatalf("got %v", err)
						}
					}
				}
				if n := w.f.count("force"); source == SourceStable && n != 20 {
					t.Errorf("%d forced refreshes", n)
				}
				if n := w.f.count(pathStable); n > 2*3600/30+100 {
					t.Errorf("%d stable_token calls in two hours", n)
				}
				if n := w.f.count(pathClassic); n > 60 { // of 2,000 a day
					t.Errorf("%d classic fetches in two hours", n)
				}
			})
		})
	}
}

// force_refresh is spaced by 30 s even when each time another token dies.
func TestForceIsSpaced(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.replica()
		for i := range 5 {
			tok := mustToken(t, c)
			w.f.kill(tok.Value, false)
			err := send(t, c)
			if i == 0 && err != nil {
				t.Fatal(err)
			}
			if i > 0 && err == nil {
				t.Fatal("a second forced refresh within 30 s")
			}
			if n := w.f.count(sendPaths[ChannelSubscribe]); n != i+2 { // repeated the first time only: the value did not change after that
				t.Fatalf("%d sends by round %d", n, i)
			}
			time.Sleep(2 * time.Second)
		}
		if n := w.f.count("force"); n != 1 {
			t.Errorf("%d forced refreshes within 10 s", n)
		}
		time.Sleep(31 * time.Second)
		if err := send(t, c); err != nil {
			t.Errorf("after the spacing: %v", err)
		}
	})
}

// Redis away and the token dead: this process heals alone, once per value and 30 s, and tells Redis when it is back.
func TestHealWithoutRedis(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		c := w.replica()
		dead := mustToken(t, c)
		w.m.SetError("LOADING")
		w.f.kill(dead.Value, true)
		if err := send(t, c); err != nil {
			t.Fatal(err)
		}
		healed := mustToken(t, c)
		w.m.SetError("")
		time.Sleep(time.Minute)
		mustToken(t, c)
		c.renewals.wait()
		if a, b := mustToken(t, c), mustToken(t, w.replica()); a.Value != healed.Value || b.Value != healed.Value {
			t.Error("Redis handed the dead token out again")
		}
		if n := w.f.count(pathStable); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
	})
	inWorld(t, func(t *testing.T, w *world) {
		c := w.replica()
		tok := mustToken(t, c)
		w.m.SetError("LOADING")
		w.f.kill(tok.Value, false) // the plain call answers the same value: without Redis nobody may force
		for range 10 {
			if err := send(t, c); err == nil {
				t.Fatal("sent with a dead token")
			}
		}
		if n := w.f.count(pathStable); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
		w.m.SetError("")
		time.Sleep(time.Minute)
		mustToken(t, c)
		c.renewals.wait()
		if err := send(t, c); err != nil || w.f.count("force") != 1 {
			t.Errorf("with Redis back: %v, %d forced", err, w.f.count("force"))
		}
	})
}

// A replica reported the token and died before it fetched another: who looks next drops its own copy and heals.
func TestReporterDies(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.replica(), w.replica()
		dead := mustToken(t, a)
		mustToken(t, b)
		w.f.kill(dead.Value, false)
		k, _ := a.keeper("shop")
		if r, err := k.runReport(t.Context(), digestOf(dead.Value), TokenChange{Cause: ChangeReported}); err != nil || r.state != "healing" {
			t.Fatalf("%+v %v", r, err)
		}
		time.Sleep(viewAge)
		mustToken(t, b) // starts a look
		b.renewals.wait()
		if tok := mustToken(t, b); tok.Value == dead.Value || w.f.count("force") != 1 {
			t.Errorf("the dead token is served on, %d forced", w.f.count("force"))
		}
	})
}

// A renewal that read the token before it was reported must not bring it back.
func TestOlderViewIsNotAdopted(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		c := newTestClient(t, rdb, serveFake(t, f))
		tok := mustToken(t, c)
		c.renewals.wait()
		k, _ := c.keeper("shop")
		epoch := k.epochNow()
		view, err := k.runLease(t.Context(), "reader", "")
		if err != nil || view.state != "fresh" {
			t.Fatalf("%+v %v", view, err)
		}
		if err := c.ReportBad(t.Context(), "shop", tok.Value, 40001, Reporter{By: "orders"}); err != nil {
			t.Fatal(err)
		}
		if k.useShared(tok, view, epoch) {
			t.Error("adopted")
		}
		if _, held := c.Held("shop"); held {
			t.Error("the reported token is held")
		}
	})
}

// The repeat after healing happens once; a second refusal goes to the caller.
func TestRepeatOnce(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		f.tamper = func(rw http.ResponseWriter, r *http.Request, _ []byte) bool {
			if r.URL.Path != sendPaths[ChannelSubscribe] {
				return false
			}
			f.kill(r.URL.Query().Get("access_token"), true)
			refuseWith(rw, 42001, "access_token expired rid: 6aac005a-01bfdbee-79769285")
			return true
		}
		c := newTestClient(t, rdb, serveFake(t, f))
		var api *APIError
		if err := send(t, c); !errors.As(err, &api) || api.Code != 42001 {
			t.Fatal(err)
		}
		if n := f.count(sendPaths[ChannelSubscribe]); n != 2 {
			t.Errorf("%d sends", n)
		}
	})
}

// When healing finds the token endpoint shut, the send did not reach anybody and says why.
func TestHealFindsConfigError(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		c := newTestClient(t, rdb, serveFake(t, f))
		tok := mustToken(t, c)
		f.kill(tok.Value, true)
		f.with(func(f *fake) { f.refuse = &APIError{Code: 40001, Msg: "AppSecret error"} })
		err := send(t, c)
		var api *APIError
		if !errors.Is(err, ErrNotLeft) || errors.Is(err, ErrNoAnswer) || !errors.As(err, &api) || api.Reaction() != ReactionConfig {
			t.Fatalf("got %v", err)
		}
	})
}
