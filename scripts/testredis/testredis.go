// Package testredis gives tests their Redis: one in process, always, and a real one where the environment names it. The
// product does not link it.
package testredis

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// Variable names the environment's redis-server, as a redis:// or unix:// URL. Its databases 1 and higher are emptied by
// tests, database 0 tells which are taken.
const Variable = "WXRELAY_TEST_REDIS"

// Each runs f on an in-process Redis, and again on an empty database of the real one when there is one.
func Each(t *testing.T, f func(t *testing.T, rdb redis.UniversalClient)) {
	t.Helper()
	t.Run("in-process", func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
		t.Cleanup(func() { _ = rdb.Close() })
		f(t, rdb)
	})
	if os.Getenv(Variable) != "" {
		t.Run("redis-server", func(t *testing.T) { f(t, Real(t)) })
	}
}

// Real is a client of an empty database on the real Redis. Without one the test is skipped.
func Real(t testing.TB) redis.UniversalClient {
	t.Helper()
	rdb := redis.NewClient(options(t))
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// URL is Real for who dials by itself.
func URL(t testing.TB) string {
	t.Helper()
	o := options(t)
	if o.Network == "unix" {
		return "unix://" + o.Addr + "?db=" + strconv.Itoa(o.DB)
	}
	return "redis://" + o.Addr + "/" + strconv.Itoa(o.DB)
}

// taken is how long a database stays taken when the process that took it was killed.
const taken = 15 * time.Minute

// options takes a database until the test ends, so that neither tests nor processes beside it meet, and empties it.
func options(t testing.TB) *redis.Options {
	t.Helper()
	raw := os.Getenv(Variable)
	if raw == "" {
		t.Skip("NOT RUN: " + Variable + " is not set")
	}
	o, err := redis.ParseURL(raw)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background() // the test's own is over when the database is given back
	o.DB = 0
	list := redis.NewClient(o)
	t.Cleanup(func() { _ = list.Close() })
	all, err := list.ConfigGet(ctx, "databases").Result()
	if err != nil {
		t.Fatal(err)
	}
	last, err := strconv.Atoi(all["databases"])
	if err != nil || last < 2 {
		t.Fatalf("%s has %q databases, and needs two or more", Variable, all["databases"])
	}
	for n := 1; ; n = n%(last-1) + 1 {
		key := "testredis:" + strconv.Itoa(n)
		got, err := list.SetNX(ctx, key, t.Name(), taken).Result()
		if err != nil {
			t.Fatal(err)
		}
		if !got {
			continue
		}
		mine := *o
		mine.DB = n
		rdb := redis.NewClient(&mine)
		if err := rdb.FlushDB(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		_ = rdb.Close()
		t.Cleanup(func() { _ = list.Del(ctx, key).Err() })
		return &mine
	}
}

// Clocked is an in-process Redis whose clock stands still until it is told to go.
type Clocked struct {
	*miniredis.Miniredis
	Now time.Time
}

// InProcess is an in-process Redis, and a client of it.
func InProcess(t testing.TB) (*Clocked, redis.UniversalClient) {
	t.Helper()
	c := &Clocked{miniredis.RunT(t), time.Unix(1_700_000_000, 0)}
	c.SetTime(c.Now)
	rdb := redis.NewClient(&redis.Options{Addr: c.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return c, rdb
}

// Pass lets d go by: for scripts that ask for the time and for keys that expire.
func (c *Clocked) Pass(d time.Duration) {
	c.Now = c.Now.Add(d)
	c.SetTime(c.Now)
	c.FastForward(d)
}
