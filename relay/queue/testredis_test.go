package queue

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// eachRedis runs a test on the in-process Redis, and again on the one WXRELAY_TEST_REDIS names.
func eachRedis(t *testing.T, f func(t *testing.T, rdb redis.UniversalClient)) {
	t.Helper()
	t.Run("in-process", func(t *testing.T) {
		m := miniredis.RunT(t)
		rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
		t.Cleanup(func() { rdb.Close() })
		f(t, rdb)
	})
	t.Run("redis-server", func(t *testing.T) {
		url := os.Getenv("WXRELAY_TEST_REDIS")
		if url == "" {
			t.Skip("WXRELAY_TEST_REDIS is not set")
		}
		o, err := redis.ParseURL(url)
		if err != nil {
			t.Fatal(err)
		}
		o.DB = 1
		rdb := redis.NewClient(o)
		t.Cleanup(func() { rdb.Close() })
		if err := rdb.FlushDB(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		f(t, rdb)
	})
}

// open opens a queue that fails the test with whatever its loops survive, unless o says otherwise.
func open(t *testing.T, rdb redis.UniversalClient, o Options) *Queue {
	t.Helper()
	if o.OnError == nil {
		o.OnError = func(err error) { t.Errorf("OnError: %v", err) }
	}
	q, err := Open(t.Context(), rdb, o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// start runs a queue until the test is over, or stop is called; both wait for it.
func start(t *testing.T, q *Queue) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func commit(t *testing.T, q *Queue, c Change) Result {
	t.Helper()
	res := q.Commit(t.Context(), c)
	if res.Err != nil {
		t.Fatalf("Commit: %v", res.Err)
	}
	return res
}

func get(t *testing.T, q *Queue, id string) Record {
	t.Helper()
	r, err := q.Get(t.Context(), id)
	if err != nil {
		t.Fatalf("Get(%s): %v", id, err)
	}
	return r
}

// eventually asks again and again, as fast as Redis answers, until ok or 20 seconds are over.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		<-tick.C
	}
}
