package wechat

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// One grant for all who ask within its life, another near its end, and a new generation when it is revoked.
func TestGrants(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		a, b := newTestClient(t, rdb, "http://unused.invalid"), newTestClient(t, rdb, "http://unused.invalid")
		ctx := t.Context()
		if n, err := a.GrantGeneration(ctx, "shop", "orders"); n != 0 || err != nil {
			t.Errorf("before any: %d %v", n, err)
		}
		first, err := a.Grant(ctx, "shop", "orders", false)
		if err != nil || first.Generation != 1 || first.Left != GrantLife {
			t.Fatalf("%+v %v", first, err)
		}
		again, err := b.Grant(ctx, "shop", "orders", false)
		if err != nil || again.Generation != 1 || !again.IssuedAt.Equal(first.IssuedAt) || again.Left > GrantLife {
			t.Errorf("%+v, then %+v %v", first, again, err)
		}
		if other, err := b.Grant(ctx, "shop", "stock", true); err != nil || other.Generation != 2 {
			t.Errorf("another holder, revoked before its first: %+v %v", other, err)
		}
		old := first.IssuedAt.Add(-GrantLife + grantRotation - time.Second)
		if err := rdb.HSet(ctx, "wx:{t:"+testAppID+"}:g", "orders", fmt.Sprintf("1 %d", old.UnixMilli())).Err(); err != nil {
			t.Fatal(err)
		}
		if next, err := a.Grant(ctx, "shop", "orders", false); err != nil || next.Generation != 1 || !next.IssuedAt.After(old) || next.Left != GrantLife {
			t.Errorf("near its end: %+v %v", next, err)
		}
		if revoked, err := a.Grant(ctx, "shop", "orders", true); err != nil || revoked.Generation != 2 {
			t.Errorf("%+v %v", revoked, err)
		}
		if n, err := b.GrantGeneration(ctx, "shop", "orders"); n != 2 || err != nil {
			t.Errorf("%d %v", n, err)
		}
		if ttl := rdb.TTL(ctx, "wx:{t:"+testAppID+"}:g").Val(); ttl < GrantLife {
			t.Errorf("kept for %s", ttl)
		}
		if _, err := a.Grant(ctx, "nobody", "orders", false); !errors.Is(err, ErrUnknownApp) {
			t.Error(err)
		}
	})
}

// Calls are counted by holder, path and Beijing's day, over all replicas, in a hash that has a bound and an end.
func TestCallsAreCounted(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		c := newTestClient(t, rdb, "http://unused.invalid")
		ctx, key := t.Context(), "wx:{t:"+testAppID+"}:q:orders"
		for want := range int64(3) {
			n, reset, err := c.CountCall(ctx, "shop", "orders", "/wxa/x")
			if err != nil || n != want+1 || reset <= 0 || reset > 24*time.Hour {
				t.Fatal(n, reset, err)
			}
			midnight := time.Now().Add(reset).In(time.FixedZone("Beijing", 8*3600))
			if off := midnight.Sub(midnight.Truncate(time.Minute)); midnight.Hour() != 0 && midnight.Add(time.Minute).Hour() != 0 {
				t.Errorf("the day ends at %s (%s)", midnight, off)
			}
		}
		if n, _, err := c.CountCall(ctx, "shop", "stock", "/wxa/x"); n != 1 || err != nil {
			t.Errorf("another holder: %d %v", n, err)
		}
		if err := rdb.HSet(ctx, key, "/wxa/x", "1 99").Err(); err != nil { // of another day
			t.Fatal(err)
		}
		if n, _, err := c.CountCall(ctx, "shop", "orders", "/wxa/x"); n != 1 || err != nil {
			t.Errorf("a new day: %d %v", n, err)
		}
		for n := range 1100 {
			if _, _, err := c.CountCall(ctx, "shop", "orders", fmt.Sprint("/wxa/made/up/", n)); err != nil {
				t.Fatal(err)
			}
		}
		if n := rdb.HLen(ctx, key).Val(); n > 1000 {
			t.Errorf("%d paths are kept", n)
		}
		if ttl := rdb.TTL(ctx, key).Val(); ttl <= 0 {
			t.Errorf("kept for %s", ttl)
		}
	})
}

// An API's limit is asked for beside the call that needs it first, once an hour, and a refusal is not asked again at once.
func TestDailyLimits(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		f.answer[pathQuota] = func(w http.ResponseWriter, r *http.Request) {
			reply(w, `{"errcode":0,"errmsg":"ok","quota":{"daily_limit":"1000","used":3,"remain":997}}`)
		}
		c := newTestClient(t, rdb, serveFake(t, f))
		var known Limits
		if n, ok := c.DailyLimit(t.Context(), "shop", "/wxa/x", &known); ok {
			t.Errorf("known before it was asked for: %d", n)
		}
		deadline := time.After(10 * time.Second)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			if n, ok := c.DailyLimit(t.Context(), "shop", "/wxa/x", &known); ok {
				if n != 1000 {
					t.Errorf("%d a day", n)
				}
				break
			}
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatal("never known")
			}
		}
		if n := f.count(pathQuota); n != 1 {
			t.Errorf("asked %d times", n)
		}
		f.with(func(f *fake) {
			f.answer[pathQuota] = func(w http.ResponseWriter, _ *http.Request) { refuseWith(w, 76021, "cgi_path not found") }
		})
		if _, err := c.Quota(t.Context(), "shop", "/wxa/y"); codeOf(err) != 76021 || strings.Contains(err.Error(), "access_token=T") {
			t.Error(err)
		}
	})
}
