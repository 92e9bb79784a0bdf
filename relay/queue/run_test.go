package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/slow"
)

// bag counts what was handled, by body.
type bag struct {
	mu  sync.Mutex
	n   map[string]int
	sum atomic.Int64
}

func (b *bag) add(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n == nil {
		b.n = map[string]int{}
	}
	b.n[s]++
	b.sum.Add(1)
}

// eachOnce checks that exactly these were handled, each once.
func (b *bag) eachOnce(t *testing.T, want int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.n) != want {
		t.Errorf("%d different jobs were handled, want %d", len(b.n), want)
	}
	for s, n := range b.n {
		if n != 1 {
			t.Errorf("%s was handled %d times", s, n)
		}
	}
}

// produce puts n jobs from each of 20 goroutines, each until it is certain that it was put. Some come late, some in line.
func produce(t *testing.T, q *Queue, n int) *sync.WaitGroup {
	var wg sync.WaitGroup
	for p := range 20 {
		wg.Go(func() {
			for i := range n {
				shard := (p*7 + i) % q.Shards()
				j := Job{ID: q.NewID("job", shard), Lane: fmt.Sprintf("g:%d", p%3), Body: fmt.Appendf(nil, "%d/%d", p, i), Keep: time.Hour}
				switch i % 5 {
				case 1:
					j.After = time.Duration(i%17) * time.Millisecond
				case 2:
					j.Serial = fmt.Sprint("s", p%4)
				}
				tick := time.NewTicker(20 * time.Millisecond)
				for {
					err := q.Commit(context.Background(), Change{Shard: shard, Jobs: []Job{j}}).Err
					if err == nil || errors.Is(err, ErrExists) {
						break
					}
					if !errors.Is(err, ErrUnavailable) {
						t.Errorf("commit: %v", err)
						break
					}
					<-tick.C
				}
				tick.Stop()
			}
		})
	}
	return &wg
}

func ignore(error) {}

// 20 producers, two processes of 10 workers each, 4,000 jobs: each is handled exactly once, whatever is done to the script
// cache meanwhile.
func TestMultiset(t *testing.T) {
	for _, perShard := range []bool{false, true} {
		t.Run(fmt.Sprintf("per-shard=%v", perShard), func(t *testing.T) {
			eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
				var b bag
				var qs []*Queue
				for range 2 {
					q := open(t, rdb, Options{PerShard: perShard})
					q.Handle("g", Group{Concurrency: 10, PerLane: 5}, func(_ context.Context, c *Claimed) Verdict {
						switch {
						case c.Attempts == 0 && c.Body[len(c.Body)-1] == '3':
							return Retry(time.Millisecond, []byte("again"), "odd")
						case c.Attempts == 0 && len(c.Note) == 0 && c.Body[len(c.Body)-1] == '4':
							return Snooze(0, []byte("snoozed"))
						}
						b.add(string(c.Body))
						return Done(nil)
					})
					start(t, q)
					qs = append(qs, q)
				}
				n := 200
				if perShard {
					n = 50
				}
				all := int64(20 * n)
				produced := produce(t, qs[0], n)
				for b.sum.Load() < all-100 {
					rdb.ScriptFlush(t.Context())
					before := b.sum.Load()
					eventually(t, "more is handled", func() bool { return b.sum.Load() >= min(before+200, all-100) })
				}
				produced.Wait()
				eventually(t, "all is handled", func() bool { return b.sum.Load() >= all })
				b.eachOnce(t, int(all))
				eventually(t, "nothing is left in hand", func() bool {
					d, err := qs[1].Depths(t.Context())
					return err == nil && len(d) == 0
				})
				if s := qs[0].Tally().Stale + qs[1].Tally().Stale; s != 0 {
					t.Errorf("%d stale verdicts", s)
				}
			})
		})
	}
}

// Redis goes away in the middle and comes back: nothing is lost, nothing is done twice, nobody has to be restarted.
func TestRedisGoesAway(t *testing.T) {
	outage := func(t *testing.T, rdb redis.UniversalClient, away, back func()) {
		var b bag
		q := open(t, rdb, Options{OnError: ignore})
		q.Handle("g", Group{Concurrency: 20}, func(_ context.Context, c *Claimed) Verdict {
			if c.Reclaims > 0 {
				t.Errorf("%s was reclaimed", c.Body)
			}
			b.add(string(c.Body))
			return Done(nil)
		})
		start(t, q)
		produced := produce(t, q, 100)
		eventually(t, "a part is handled", func() bool { return b.sum.Load() > 300 })
		away()
		eventually(t, "commits fail", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return q.Commit(ctx, Change{}).Err != nil
		})
		if last := q.LastTurn(); time.Since(last) > 20*time.Second {
			t.Errorf("last turn %v", last)
		}
		back()
		produced.Wait()
		eventually(t, "all is handled", func() bool { return b.sum.Load() >= 2000 })
		b.eachOnce(t, 2000)
	}
	t.Run("in-process", func(t *testing.T) {
		m := miniredis.RunT(t)
		rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
		t.Cleanup(func() { rdb.Close() })
		outage(t, rdb, m.Close, func() {
			if err := m.Restart(); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("redis-server", func(t *testing.T) {
		s := ownServer(t)
		rdb := redis.NewClient(&redis.Options{Addr: s.addr()})
		t.Cleanup(func() { rdb.Close() })
		outage(t, rdb, s.kill, s.start)
	})
}

// A process that dies with jobs in hand: another one gets them, and knows.
func TestAWorkerIsKilled(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		dead := open(t, rdb, Options{Lease: 300 * time.Millisecond})
		dead.Handle("g", Group{Concurrency: 5}, never)
		want := put(t, dead, several(8, Job{Lane: "g"})...)
		if n := len(claimed(t, dead)); n != 5 { // and never a word again
			t.Fatalf("%d in hand", n)
		}
		q := open(t, rdb, Options{})
		var mu sync.Mutex
		reclaims := map[string]int{}
		q.Handle("g", Group{}, func(_ context.Context, c *Claimed) Verdict {
			mu.Lock()
			defer mu.Unlock()
			reclaims[c.ID] = c.Reclaims
			return Done(nil)
		})
		start(t, q)
		eventually(t, "all are handled", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(reclaims) == 8
		})
		counts := make([]int, 8)
		for i, id := range want {
			counts[i] = reclaims[id]
		}
		if diff := cmp.Diff([]int{1, 1, 1, 1, 1, 0, 0, 0}, counts); diff != "" {
			t.Error(diff)
		}
	})
}

// A short lease is renewed by the loop itself while a handler takes its time.
func TestTheLoopRenewsLeases(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q, other := open(t, rdb, Options{Lease: 300 * time.Millisecond}), open(t, rdb, Options{})
		turns := make(chan struct{})
		q.Handle("g", Group{}, func(ctx context.Context, c *Claimed) Verdict {
			<-turns
			return Done(nil)
		})
		other.Handle("g", Group{}, func(context.Context, *Claimed) Verdict { t.Error("taken"); return GiveBack() })
		id := put(t, q, Job{Lane: "g", Keep: time.Hour})[0]
		start(t, q)
		eventually(t, "in hand", func() bool { return get(t, q, id).State == "leased" })
		start(t, other)
		deadline := time.After(900 * time.Millisecond) // three leases
		<-deadline
		close(turns)
		eventually(t, "done", func() bool { return get(t, q, id).State == "ended" })
		if n := q.Tally().Stale; n > 0 {
			t.Error("the lease was lost")
		}
	})
}

// Redis is away for longer than a lease: handlers hear that what they hold may be another's by now.
func TestHandlersHearOfALeaseInDoubt(t *testing.T) {
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { rdb.Close() })
	q := open(t, rdb, Options{Lease: 300 * time.Millisecond, Grace: time.Second, OnError: ignore})
	begun, cause := make(chan struct{}), make(chan error, 1)
	q.Handle("g", Group{}, func(ctx context.Context, c *Claimed) Verdict {
		close(begun)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return Done(nil)
	})
	put(t, q, Job{Lane: "g"})
	start(t, q)
	<-begun
	m.Close()
	if err := <-cause; err != ErrLeaseLost {
		t.Errorf("cause %v", err)
	}
}

func TestShutdown(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Grace: 600 * time.Millisecond})
		begun, gone := make(chan string, 10), make(chan struct{})
		q.Handle("g", Group{Concurrency: 2}, func(ctx context.Context, c *Claimed) Verdict {
			begun <- c.ID
			if string(c.Body) == "slow" {
				<-ctx.Done() // until the process must go
				return Snooze(time.Hour, []byte("cut"))
			}
			<-gone
			return Done(nil)
		})
		jobs := put(t, q, Job{Lane: "g", Body: []byte("slow"), Keep: time.Hour}, Job{Lane: "g", Body: []byte("fast"), Keep: time.Hour}, Job{Lane: "g"})
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error)
		go func() { stopped <- q.Run(ctx) }()
		<-begun
		<-begun
		cancel()
		close(gone)
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		got := map[string]string{}
		for _, id := range jobs {
			got[id] = get(t, q, id).State
		}
		if diff := cmp.Diff(map[string]string{jobs[0]: "later", jobs[1]: "ended", jobs[2]: "ready"}, got); diff != "" {
			t.Error(diff)
		}
		if err := q.Run(t.Context()); err != ErrRunning {
			t.Errorf("a second Run: %v", err)
		}
	})
}

func TestAHandlerPanics(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		var told atomic.Int64
		q := open(t, rdb, Options{OnError: func(error) { told.Add(1) }})
		got := make(chan Claimed, 1)
		q.Handle("g", Group{}, func(_ context.Context, c *Claimed) Verdict {
			if c.Reclaims == 0 {
				panic("ouch")
			}
			got <- *c
			return Done(nil)
		})
		start(t, q)
		put(t, q, Job{Lane: "g"})
		if c := <-got; c.Reclaims != 1 || c.Attempts != 0 {
			t.Errorf("%+v", c)
		}
		if told.Load() != 1 || q.Tally().Panics != 1 {
			t.Errorf("told %d times", told.Load())
		}
	})
}

// A job of this process is taken up at once, a delayed one when it is due, and not at the next second's sweep.
func TestNobodyWaitsForTheSweep(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		got := make(chan time.Duration, 1)
		q.Handle("g", Group{}, func(_ context.Context, c *Claimed) Verdict {
			if string(c.Body) == "retry" && c.Attempts == 0 {
				return Retry(30*time.Millisecond, nil, "")
			}
			got <- c.Now.Sub(c.Created)
			return Done(nil)
		})
		start(t, q)
		eventually(t, "it turns", func() bool { return !q.LastTurn().IsZero() })
		var waits []time.Duration
		for _, j := range slices.Repeat([]Job{{Lane: "g"}, {Lane: "g", After: 30 * time.Millisecond}, {Lane: "g", Due: time.Now().Add(200 * time.Millisecond)},
			{Lane: "g", Body: []byte("retry")}}, 3) {
			put(t, q, j)
			waits = append(waits, <-got)
		}
		slices.Sort(waits)
		if waits[len(waits)/2] > 300*time.Millisecond || waits[0] > 100*time.Millisecond {
			t.Errorf("waits %v", waits)
		}
	})
}

// Work of another replica is found within a second or so, and a queue with nothing to do asks once a second.
func TestIdle(t *testing.T) {
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { rdb.Close() })
	q, other := open(t, rdb, Options{}), open(t, rdb, Options{})
	got := make(chan time.Duration, 1)
	q.Handle("g", Group{}, func(_ context.Context, c *Claimed) Verdict { got <- c.Now.Sub(c.Created); return Done(nil) })
	start(t, q)
	put(t, other, Job{Lane: "g"})
	if wait := <-got; wait > 2*time.Second {
		t.Errorf("found after %v", wait)
	}
	seen := map[time.Time]bool{}
	begin := time.Now()
	eventually(t, "four turns", func() bool { seen[q.LastTurn()] = true; return len(seen) == 4 })
	if d := time.Since(begin); d < 1900*time.Millisecond {
		t.Errorf("four turns of an idle queue in %v", d)
	}
}

// The answer to a commit gets lost on the way: the client asks again, and hears what happened the first time.
func TestTheAnswerToACommitGetsLost(t *testing.T) {
	m := miniredis.RunT(t)
	w := newWire(t, m.Addr())
	rdb := redis.NewClient(&redis.Options{Addr: w.Addr().String()})
	t.Cleanup(func() { rdb.Close() })
	q := open(t, rdb, Options{Extensions: []Extension{till}})
	for i := range 10 {
		w.lose(i % 3)
		id := q.NewID("j", 1)
		res := q.Commit(t.Context(), Change{Shard: 1, Once: id, Operations: []Operation{{"till", []string{"give"}}}, Jobs: []Job{{ID: id, Lane: "g"}}})
		if res.Err != nil || !slices.Equal(res.Replies, []string{fmt.Sprint("coins ", i+1)}) {
			t.Errorf("%+v", res)
		}
	}
}

// A lane whose slots are held hides nobody's work, on whatever shard, also not what another process put.
func TestAFullLaneHidesNobody(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q, other := open(t, rdb, Options{}), open(t, rdb, Options{})
		held := make(chan struct{})
		var stuck, live atomic.Int64
		q.Handle("g", Group{Concurrency: 8, PerLane: 1}, func(_ context.Context, c *Claimed) Verdict {
			if c.Lane == "g:dead" {
				stuck.Add(1)
				<-held
			} else {
				live.Add(1)
			}
			return Done(nil)
		})
		start(t, q)
		t.Cleanup(func() { close(held) })
		for shard := range 16 {
			commit(t, q, Change{Shard: shard, Jobs: []Job{{ID: q.NewID("j", shard), Lane: "g:dead"}, {ID: q.NewID("j", shard), Lane: "g:dead"}}})
		}
		eventually(t, "the lane is full", func() bool { return stuck.Load() == 1 })
		began := time.Now()
		for shard := range 16 {
			commit(t, other, Change{Shard: shard, Jobs: []Job{{ID: q.NewID("j", shard), Lane: "g:live"}}})
		}
		eventually(t, "the others are worked on", func() bool { return live.Load() == 16 })
		slow.Within(t, began, 6*sweepEvery) // every sweep looks everywhere
	})
}
