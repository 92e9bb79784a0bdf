package testredis

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Two at the same time do not see each other's keys.
func TestEachHasItsOwn(t *testing.T) {
	Each(t, func(t *testing.T, one redis.UniversalClient) {
		one.Set(t.Context(), "k", "one", 0)
		Each(t, func(t *testing.T, two redis.UniversalClient) {
			if n := two.DBSize(t.Context()).Val(); n != 0 {
				t.Errorf("%d keys are there", n)
			}
			two.Set(t.Context(), "k", "two", 0)
			if got := one.Get(t.Context(), "k").Val(); got != "one" {
				t.Errorf("%q", got)
			}
		})
	})
}

func TestPass(t *testing.T) {
	c, rdb := InProcess(t)
	rdb.Set(t.Context(), "k", "v", time.Minute)
	before := rdb.Time(t.Context()).Val()
	c.Pass(time.Hour)
	if n := rdb.Exists(t.Context(), "k").Val(); n != 0 {
		t.Error("it has not expired")
	}
	if got := rdb.Time(t.Context()).Val().Sub(before); got != time.Hour {
		t.Errorf("%v went by", got)
	}
}
