package queue

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Redis that answers but does not take writes: a replica after a failover, one without memory.
func TestRedisTakesNoWrites(t *testing.T) {
	s := ownServer(t)
	rdb := redis.NewClient(&redis.Options{Addr: s.addr()})
	t.Cleanup(func() { rdb.Close() })
	do := func(args ...any) {
		t.Helper()
		if err := rdb.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var handled atomic.Int64
	q := open(t, rdb, Options{OnError: ignore})
	q.Handle("g", Group{}, func(context.Context, *Claimed) Verdict { handled.Add(1); return Done(nil) })
	put(t, q, several(100, Job{Lane: "g", Serial: "s", Body: make([]byte, 1000)})...)
	refused := func(word string) {
		t.Helper()
		err := q.Commit(t.Context(), Change{Shard: 1, Once: "o", Jobs: []Job{{ID: q.NewID("j", 1), Lane: "g"}}}).Err
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), word) {
			t.Errorf("commit to a Redis that says %s: %v", word, err)
		}
	}

	do("REPLICAOF", "127.0.0.1", freePort(t))
	refused("READONLY")
	do("REPLICAOF", "NO", "ONE")

	do("CONFIG", "SET", "maxmemory", "1mb")
	refused("OOM")
	start(t, q)
	eventually(t, "a full Redis is drained", func() bool { return handled.Load() == 100 })
	refused("OOM")
	do("CONFIG", "SET", "maxmemory", "0")
	commit(t, q, Change{Shard: 1, Once: "o", Jobs: []Job{{ID: q.NewID("j", 1), Lane: "g"}}})
	eventually(t, "all is well", func() bool { return handled.Load() == 101 })

	do("REPLICAOF", "127.0.0.1", freePort(t))
	last, since := q.LastTurn(), time.Now()
	eventually(t, "the last turn stands still, for readyz to see", func() bool {
		if now := q.LastTurn(); !now.Equal(last) {
			last, since = now, time.Now()
		}
		return time.Since(since) > 2*time.Second
	})
	do("REPLICAOF", "NO", "ONE")
	commit(t, q, Change{Shard: 1, Jobs: []Job{{ID: q.NewID("j", 1), Lane: "g"}}})
	eventually(t, "all is well again", func() bool { return handled.Load() == 102 })
}

// What may wait for a Redis that does not answer has a bound.
func TestTooManyChangesWait(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{})
	for i := range q.sites[0].committers {
		q.sites[0].committers[i].bytes = maxPending
	}
	if err := q.Commit(t.Context(), Change{Shard: 1}).Err; !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	for i := range q.sites[0].committers {
		q.sites[0].committers[i].bytes = 0
	}
	commit(t, q, Change{Shard: 1})
}

// A caller whose time is up while its change waits behind another: it never happens. One whose change is on its way is told
// that nobody knows.
func TestTheCallersTimeIsUp(t *testing.T) {
	s := ownServer(t)
	rdb := redis.NewClient(&redis.Options{Addr: s.addr()})
	t.Cleanup(func() { rdb.Close() })
	q := open(t, rdb, Options{OnError: ignore})
	if err := rdb.Do(t.Context(), "CLIENT", "PAUSE", 500, "ALL").Err(); err != nil {
		t.Fatal(err)
	}
	first, second := q.NewID("j", 1), q.NewID("j", 1)
	try := func(id string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		return q.Commit(ctx, Change{Shard: 1, Jobs: []Job{{ID: id, Lane: "g"}}}).Err
	}
	if err := try(first); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("the one on its way: %v", err)
	}
	if err := try(second); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnavailable) {
		t.Errorf("the one that waits: %v", err)
	}
	commit(t, q, Change{Shard: 1})
	if get(t, q, first).State != "ready" {
		t.Error("the first did not happen")
	}
	if _, err := q.Get(t.Context(), second); err != ErrNotFound {
		t.Errorf("the second: %v", err)
	}
}
