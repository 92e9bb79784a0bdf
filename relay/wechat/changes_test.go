package wechat

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// What happened to a token stands in its log, newest first, with who found it bad, and never the token.
func TestChangesAreKept(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		var mu sync.Mutex
		var heard []TokenChange // in no order: a report and its refresh are two goroutines'
		c := newTestClient(t, rdb, serveFake(t, f), func(o *Options) {
			o.OnChange = func(_ string, change TokenChange) {
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, change)
			}
		})
		first := mustToken(t, c)
		f.kill(first.Value, true)
		if err := c.ReportBad(t.Context(), "shop", first.Value, 40001, Reporter{By: "orders", From: "203.0.113.7"}); err != nil {
			t.Fatal(err)
		}
		second := mustToken(t, c)
		f.kill(second.Value, false) // the platform hands it out again
		if err := send(t, c); err != nil {
			t.Fatal(err)
		}
		third := mustToken(t, c)
		c.renewals.wait()
		state, err := c.TokenState(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		if state.Fingerprint != Fingerprint(third.Value) || state.Source != SourceStable || state.HealedToday != 2 || state.ForcedToday != 1 || state.Refusal != nil {
			t.Errorf("%+v", state)
		}
		want := []struct{ cause, token, by, from string }{
			{ChangeForced, third.Value, "", ""}, {ChangeReported, second.Value, "gateway", ""},
			{ChangeHealed, second.Value, "", ""}, {ChangeReported, first.Value, "orders", "203.0.113.7"}, {ChangeFirst, first.Value, "", ""},
		}
		if len(state.Changes) != len(want) || len(heard) != len(want) {
			t.Fatalf("%+v, heard %+v", state.Changes, heard)
		}
		for i, w := range want {
			got := state.Changes[i]
			if got.Cause != w.cause || got.Fingerprint != Fingerprint(w.token) || got.By != w.by || got.From != w.from || time.Since(got.At) > time.Minute {
				t.Errorf("%d: %+v, want %+v", i, got, w)
			}
			if got.Cause == ChangeReported && (got.Errcode != 40001 || got.Left < 7000*time.Second) {
				t.Errorf("%d: %+v", i, got)
			}
			if !slices.ContainsFunc(heard, func(was TokenChange) bool { return was.Cause == w.cause && was.Fingerprint == got.Fingerprint }) {
				t.Errorf("%d: not heard of %+v", i, got)
			}
		}
		raw, err := rdb.LRange(t.Context(), "wx:{t:"+testAppID+"}:log", 0, -1).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{first.Value, second.Value, third.Value, testSecret} {
			if strings.Contains(strings.Join(raw, "\n"), value) {
				t.Error("the log shows a secret")
			}
		}
		if ttl := rdb.TTL(t.Context(), "wx:{t:"+testAppID+"}:log").Val(); ttl <= 0 {
			t.Errorf("the log lives %s", ttl)
		}
	})
}

// A refusal of the token endpoint is noted once, and the log keeps the latest 20.
func TestChangesAreBounded(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		c := newTestClient(t, rdb, serveFake(t, f))
		f.with(func(f *fake) {
			f.refuse = &APIError{Code: 40164, Msg: "invalid ip 203.0.113.9 ipv6 ::ffff:203.0.113.9, not in whitelist rid: 1-2-3"}
		})
		for range 3 {
			_, _ = c.Token(t.Context(), "shop")
			if err := rdb.HDel(t.Context(), "wx:{t:"+testAppID+"}", "bu").Err(); err != nil { // the pause is over
				t.Fatal(err)
			}
			k, _ := c.keeper("shop")
			k.mu.Lock()
			k.until = time.Time{}
			k.mu.Unlock()
		}
		state, err := c.TokenState(t.Context(), "shop")
		if err != nil || len(state.Changes) != 1 || state.Changes[0].Errcode != 40164 || state.Changes[0].RID != "1-2-3" {
			t.Fatalf("%+v %v", state.Changes, err)
		}
		if state.Refusal == nil || state.Refusal.IP() != "203.0.113.9" || state.Fingerprint != "" {
			t.Errorf("%+v", state)
		}
		f.with(func(f *fake) { f.refuse = nil })
		k, _ := c.keeper("shop")
		for n := range 30 {
			tok := newToken("token-"+string(rune('a'+n)), 7200)
			if _, err := k.runStore(t.Context(), "o", int64(n+1), tok, digestOf(tok.Value), ChangeRenewed); err != nil {
				t.Fatal(err)
			}
		}
		if state, err = c.TokenState(t.Context(), "shop"); err != nil || len(state.Changes) != changesKept {
			t.Errorf("%d changes, %v", len(state.Changes), err)
		}
	})
}
