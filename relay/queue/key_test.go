package queue

import (
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
