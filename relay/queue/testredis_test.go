package queue

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/testredis"
)

var eachRedis = testredis.Each

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
