package queue

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// The one whose turn it is may be taken out of its lane (ended, put off) before anybody claims it: the next gets the turn,
// and nobody waits for ever.
func TestTheTurnOfASerialIsPassedOn(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		for name, to := range map[string]To{"ended": End, "later": Later} {
			q := open(t, rdb, Options{})
			q.Handle("g", Group{Concurrency: 8}, never)
			lane := "g:" + name
			all := put(t, q, several(4, Job{Lane: lane, Serial: name})...)
			first := claimed(t, q)
			if diff := cmp.Diff(all[:1], ids(first)); diff != "" {
				t.Fatal(diff)
			}
			judge(t, q, first[0], Done(nil))
			commit(t, q, Change{Shard: 1, Edit: &Edit{ID: all[1], Version: -1, To: to, After: time.Hour}})
			second := claimed(t, q)
			if diff := cmp.Diff(all[2:3], ids(second)); diff != "" {
				t.Fatalf("%s: %s", name, diff)
			}
			judge(t, q, second[0], Done(nil))
			if diff := cmp.Diff(all[3:], ids(claimed(t, q))); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	})
}

// A job that holds its serial keeps it through its retries: the next goes when it has ended, is buried, parked, given back or
// taken away, and not before. Others are not affected.
func TestASerialIsHeldThroughRetries(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		ends := map[string]func(q *Queue, j *job){
			"done":   func(q *Queue, j *job) { judge(t, q, j, Done(nil)) },
			"buried": func(q *Queue, j *job) { judge(t, q, j, Bury("bad", nil)) },
			"parked": func(q *Queue, j *job) { judge(t, q, j, ParkAgain("bay", time.Time{}, nil)) },
			"ended": func(q *Queue, j *job) {
				judge(t, q, j, Retry(time.Hour, nil, ""))
				commit(t, q, Change{Shard: 1, Edit: &Edit{ID: j.ID, Version: -1, To: End}})
			},
		}
		for name, end := range ends {
			q := open(t, rdb, Options{})
			q.Handle("g", Group{Concurrency: 8}, never)
			lane := "g:" + name
			all := put(t, q, several(3, Job{Lane: lane, Serial: name, Holds: true})...)
			for _, v := range []Verdict{Retry(0, nil, "again"), Snooze(0, nil)} {
				got := claimed(t, q)
				if diff := cmp.Diff(all[:1], ids(got)); diff != "" {
					t.Fatalf("%s: %s", name, diff)
				}
				judge(t, q, got[0], v)
			}
			first := claimed(t, q)
			judge(t, q, first[0], Retry(time.Hour, nil, "later"))
			if got := claimed(t, q); len(got) != 0 {
				t.Fatalf("%s: %v passed one that waits for its retry", name, ids(got))
			}
			other := put(t, q, Job{Lane: lane, Serial: name + " of another", Holds: true})
			if diff := cmp.Diff(other, ids(claimed(t, q))); diff != "" {
				t.Fatalf("%s: %s", name, diff)
			}
			commit(t, q, Change{Shard: 1, Edit: &Edit{ID: all[0], Version: -1, To: Later}})
			again := claimed(t, q)
			if len(again) == 0 || again[0].ID != all[0] && again[0].ID != all[1] { // an edit gives the serial up: either may go first
				t.Fatalf("%s: %v", name, ids(again))
			}
			end(q, again[0])
			next := claimed(t, q)
			if len(next) != 1 || next[0].ID == again[0].ID {
				t.Fatalf("%s: the next is not free: %v", name, ids(next))
			}
			judge(t, q, next[0], Done(nil))
			if last := claimed(t, q); len(last) != 1 {
				t.Fatalf("%s: the last is not free: %v", name, ids(last))
			}
		}
	})
}

// A verdict and the claim of what it frees travel together: a lane with one slot costs one call for each job.
func TestVerdictsTravelWithTheNextClaim(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		const n = 30
		q := open(t, rdb, Options{})
		var did atomic.Int64
		q.Handle("g", Group{Concurrency: 1}, func(context.Context, *Claimed) Verdict {
			if did.Add(1) == 1 {
				return Done(nil).With(Change{Jobs: []Job{{ID: q.NewID("job", 1), Lane: "g"}}})
			}
			return Done(nil)
		})
		put(t, q, several(n-1, Job{Lane: "g"})...)
		before := q.Tally().Calls
		stop := start(t, q)
		eventually(t, "all are done", func() bool { return q.Tally().Finished == n })
		stop()
		if q.apart {
			return // the sites of a cluster are asked one after the other
		}
		s := q.sites[0]
		if calls := q.Tally().Calls - before; calls != n || s.verdicts.calls != n {
			t.Errorf("%d calls carried verdicts, %d of them with a claim; want %d", calls, s.verdicts.calls, n)
		}
		if s.claims > n+n/2 {
			t.Errorf("%d turns for %d jobs", s.claims, n)
		}
	})
}

// What waits for the next turn when Run ends is committed all the same.
func TestVerdictsAreNotLeftWhenRunEnds(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		q.Handle("g", Group{}, never)
		all := put(t, q, several(3, Job{Lane: "g", Keep: time.Hour})...)
		s := q.siteOf[1]
		s.verdicts.open = true
		jobs := claimed(t, q)
		var done atomic.Int64
		for _, j := range jobs {
			v := Done(nil)
			go func() {
				q.finish(j, &v)
				done.Add(1)
			}()
		}
		eventually(t, "they wait", func() bool { return s.verdicts.held() == 3 })
		s.verdicts.shut(s)
		eventually(t, "they are done", func() bool { return done.Load() == 3 })
		for _, id := range all {
			if r := get(t, q, id); r.State != "ended" {
				t.Errorf("%+v", r)
			}
		}
	})
}

// Slots that are counted on and do not become free after all are not taken twice: what was claimed for them goes back.
func TestAVerdictThatFailsFreesNothing(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{OnError: ignore, Extensions: []Extension{{Name: "no", Lua: `return function() error('no') end`}}})
		var inHand, most, failed atomic.Int64
		q.Handle("g", Group{Concurrency: 2}, func(_ context.Context, c *Claimed) Verdict {
			if n := inHand.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer inHand.Add(-1)
			if failed.Add(1) <= 2 { // an edit of what is not there fails whole, and again
				return Done(nil).With(Change{Edit: &Edit{ID: q.NewID("job", 1), Version: -1, To: End}})
			}
			return Done(nil)
		})
		put(t, q, several(8, Job{Lane: "g"})...)
		start(t, q)
		eventually(t, "all are done", func() bool { return q.Tally().Finished >= 8 })
		if most.Load() > 2 {
			t.Errorf("%d in hand, of two slots", most.Load())
		}
	})
}
