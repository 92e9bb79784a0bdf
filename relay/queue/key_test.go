package queue

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A key of another room's is taken with the change or not at all, on both ways of travelling.
func TestCommitTakesAKey(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		for _, perShard := range []bool{false, true} {
			rdb.FlushDB(t.Context())
			q := open(t, rdb, Options{Extensions: []Extension{till}, PerShard: perShard})
			const name = "wx:{in:x}:v"
			holds := func() string { return rdb.Get(t.Context(), name).Val() }
			ask := func(value, over, id, verb string, refused ...Job) Result {
				return q.Commit(t.Context(), Change{Shard: 3, Key: &Key{Name: name, Value: value, Over: over, For: time.Hour},
					Operations: []Operation{{"till", []string{verb}}}, Jobs: []Job{{ID: id, Lane: "a"}}, Refused: refused})
			}
			first, second, third := q.IDFor("msg", 3, "1"), q.IDFor("msg", 3, "2"), q.IDFor("msg", 3, "3")

			if res := ask("one", "", first, "pay"); !res.Refused || holds() != "" {
				t.Errorf("perShard %v: refused, and the key holds %q: %+v", perShard, holds(), res)
			}
			if res := ask("one", "", first, "pay", Job{ID: first, Lane: "a"}); !res.Refused || res.Err != nil || holds() != "one" {
				t.Errorf("perShard %v: the other way was taken, and the key holds %q: %+v", perShard, holds(), res)
			}
			if ttl := rdb.PTTL(t.Context(), name).Val(); ttl <= 59*time.Minute || ttl > time.Hour {
				t.Errorf("the key is kept for %v", ttl)
			}
			if res := ask("two", "", second, "give"); res.Err != ErrTaken || res.Held != "one" || coins(t, rdb, 3) != 0 {
				t.Errorf("perShard %v: %+v, %d coins", perShard, res, coins(t, rdb, 3))
			}
			if res := ask("one", "", first, "give"); res.Err != ErrExists || holds() != "one" {
				t.Errorf("perShard %v: the same again: %+v", perShard, res)
			}
			if res := ask("two", "other", second, "give"); res.Err != ErrTaken || res.Held != "one" {
				t.Errorf("perShard %v: over what it does not hold: %+v", perShard, res)
			}
			if res := ask("two", "one", second, "give"); res.Err != nil || holds() != "two" || coins(t, rdb, 3) != 1 {
				t.Errorf("perShard %v: taken over: %+v, holds %q", perShard, res, holds())
			}
			if res := ask("two", "", third, "give"); res.Err != nil { // taken, and we died before the change: it happens now
				t.Errorf("perShard %v: the key alone was taken: %+v", perShard, res)
			}
			if res := ask("two", "", third, "break"); !errors.Is(res.Err, ErrExists) || holds() != "two" {
				t.Errorf("perShard %v: %+v, holds %q", perShard, res, holds())
			}
			if res := ask("three", "two", q.NewID("msg", 3), "break"); !errors.Is(res.Err, ErrExtension) || holds() != "" {
				t.Errorf("perShard %v: an extension failed: %+v, holds %q", perShard, res, holds())
			}
		}
	})
}

// A job that is known beyond its end cannot be put again, and leaves nothing else behind.
func TestKnownBeyondItsEnd(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		id := q.IDFor("psh", 2, "push")
		put := func() error {
			return q.Commit(t.Context(), Change{Shard: 2, Jobs: []Job{{ID: id, Lane: "g", Body: []byte("b"), Known: time.Hour}}}).Err
		}
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if err := put(); err != ErrExists {
			t.Errorf("while it waits: %v", err)
		}
		q.Handle("g", Group{}, func(context.Context, *Claimed) Verdict { return Done([]byte("note")) })
		start(t, q)
		eventually(t, "the job ends", func() bool { return q.Tally().Finished == 1 })
		if err := put(); err != ErrExists {
			t.Errorf("after its end: %v", err)
		}
		if _, err := q.Get(t.Context(), id); err != ErrNotFound {
			t.Errorf("it is still there: %v", err)
		}
		if ttl := rdb.PTTL(t.Context(), Prefix(2)+"o:"+id).Val(); ttl <= 59*time.Minute || ttl > time.Hour {
			t.Errorf("known for %v", ttl)
		}
		edited := q.IDFor("psh", 2, "another")
		commit(t, q, Change{Shard: 2, Jobs: []Job{{ID: edited, Lane: "nobody", Known: time.Hour}}})
		commit(t, q, Change{Shard: 2, Edit: &Edit{ID: edited, Version: -1, To: End}})
		if err := q.Commit(t.Context(), Change{Shard: 2, Jobs: []Job{{ID: edited, Lane: "nobody", Known: time.Hour}}}).Err; err != ErrExists {
			t.Errorf("ended by an edit: %v", err)
		}
		if err := q.Commit(t.Context(), Change{Shard: 2, Jobs: []Job{{ID: q.NewID("j", 2), Lane: "g", Known: time.Hour, Keep: time.Hour}}}).Err; !errors.Is(err, ErrID) {
			t.Errorf("kept and known: %v", err)
		}
	})
}
