package wechat

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A thousand reports of one token, by partners on 16 replicas at once, are one refresh.
func TestAThousandReportsAreOneRefresh(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		base := serveFake(t, f)
		var clients []*Client
		for range 16 {
			clients = append(clients, newTestClient(t, rdb, base))
		}
		dead := mustToken(t, clients[0])
		f.kill(dead.Value, true)
		var wg sync.WaitGroup
		for n := range 1000 {
			wg.Go(func() {
				c := clients[n%len(clients)]
				if err := c.ReportBad(t.Context(), "shop", dead.Value, 40001, Reporter{By: fmt.Sprint("p", n%7)}); err != nil {
					t.Error(err)
				}
				if tok, err := c.Token(t.Context(), "shop"); err != nil || tok.Value == dead.Value {
					t.Errorf("%v", err)
				}
			})
		}
		wg.Wait()
		if n := f.count(pathStable); n != 2 {
			t.Errorf("%d fetches, want the first and one more", n)
		}
		state, err := clients[0].TokenState(t.Context(), "shop")
		if err != nil || state.HealedToday != 1 || len(state.Changes) != 3 {
			t.Errorf("%+v %v", state, err)
		}
	})
}

// A replica that dies with the lease in hand costs its lease, not the token: the next one fetches when it has lapsed.
func TestTheLeaseholderDies(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.replica(), w.replica()
		k, _ := a.keeper("shop")
		if r, err := k.runLease(t.Context(), "killed", ""); err != nil || r.state != "yours" {
			t.Fatalf("%+v %v", r, err)
		}
		began := time.Now()
		mustToken(t, b)
		if took := time.Since(began); took < k.lease()-time.Second || took > k.lease()+5*time.Second || w.f.count(pathStable) != 1 {
			t.Errorf("waited %v of a lease of %v, %d fetches", took, k.lease(), w.f.count(pathStable))
		}
	})
}

// In each second of a token's last ten minutes it is served at once, by every source, and replaced in time: no caller sees an
// ended one, and a classic source fetches once.
func TestTheLastTenMinutes(t *testing.T) {
	for _, source := range []string{SourceStable, SourceClassic} {
		t.Run(source, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				c := w.replica(func(o *Options) { o.Apps[0].Token.Kind = source })
				w.runs(c)
				first := mustToken(t, c)
				time.Sleep(time.Until(first.ExpiresAt) - 10*time.Minute)
				for range 601 {
					began := time.Now()
					tok := mustToken(t, c)
					if waited := time.Since(began); waited > 0 {
						t.Fatalf("%v before its end: waited %v", first.ExpiresAt.Sub(began), waited)
					}
					if !time.Now().Before(tok.ExpiresAt) {
						t.Fatal("an ended token is served")
					}
					w.f.mu.Lock()
					_, valid := w.f.valid[tok.Value]
					w.f.mu.Unlock()
					if !valid {
						t.Fatal("a token that WeChat does not know is served")
					}
					time.Sleep(time.Second)
				}
				if n := w.f.count(pathClassic) + w.f.count(pathStable); n != 2 {
					t.Errorf("%d fetches, want 2", n)
				}
			})
		})
	}
}
