package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// A job that is committed while its own process has a place for it begins at once: it was never in its lane, and nobody
// claimed it.
func TestAJobIsBornInHand(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		got := make(chan Claimed, 1)
		end := make(chan struct{})
		q.Handle("g", Group{Concurrency: 1, Ahead: 4}, func(_ context.Context, c *Claimed) Verdict { got <- *c; <-end; return Done([]byte("n")) })
		start(t, q)
		eventually(t, "it runs", func() bool { return !q.LastTurn().IsZero() })
		expires := time.Now().Add(time.Hour)
		id := q.NewID("j", 1)
		res := commit(t, q, Change{Shard: 1, Once: "once", Jobs: []Job{{ID: id, Lane: "g:a", Body: []byte("b"), Note: []byte("first"), Keep: time.Hour,
			Expires: expires, Tags: []string{"t"}}}})
		if res.Err != nil {
			t.Fatal(res.Err)
		}
		c := <-got
		if c.Now.IsZero() || c.Created != c.Now {
			t.Errorf("created %v, now %v", c.Created, c.Now)
		}
		c.Created, c.Now = time.Time{}, time.Time{}
		if diff := cmp.Diff(Claimed{ID: id, Lane: "g:a", Body: []byte("b"), Note: []byte("first"), State: "leased"}, c); diff != "" {
			t.Error(diff)
		}
		if r := get(t, q, id); r.State != "leased" {
			t.Errorf("%+v", r)
		}
		if n := rdb.Exists(t.Context(), Prefix(1)+"q:g:a").Val(); n != 0 || q.Tally().Claimed != 0 {
			t.Errorf("%d lanes, %d claimed", n, q.Tally().Claimed)
		}
		if ttl := rdb.PTTL(t.Context(), Prefix(1)+"j:"+id).Val(); ttl <= 0 {
			t.Errorf("lives for %v", ttl)
		}
		close(end)
		eventually(t, "it ends", func() bool { return get(t, q, id).State == "ended" })
		if r := get(t, q, id); string(r.Note) != "n" || r.Version != 1 || r.Reclaims != 0 {
			t.Errorf("%+v", r)
		}
		if n := rdb.HLen(t.Context(), Prefix(1)+"h").Val(); n != 0 {
			t.Errorf("%d still in hand", n)
		}
	})
}

// What is not to begin now is not born in hand: with a serial, later, parked, only when something is parked, behind others, of
// a group without a place, of a paused lane, of a change that does not happen.
func TestWhoIsNotBornInHand(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Extensions: []Extension{{Name: "no", Lua: `return function() return false, 'no' end`}}})
		var ran sync.Map
		busy, end := make(chan struct{}, 1), make(chan struct{})
		q.Handle("g", Group{Concurrency: 8}, func(_ context.Context, c *Claimed) Verdict { ran.Store(c.ID, true); return Done(nil) })
		q.Handle("one", Group{Concurrency: 1}, func(context.Context, *Claimed) Verdict { busy <- struct{}{}; <-end; return Done(nil) })
		start(t, q)
		eventually(t, "it runs", func() bool { return !q.LastTurn().IsZero() })
		t.Cleanup(func() { close(end) })
		if err := q.Pause(t.Context(), "g:paused", time.Hour); err != nil {
			t.Fatal(err)
		}
		put(t, q, Job{Lane: "one"})
		<-busy
		born := func(j Job, c Change) bool {
			it := newItem(1)
			defer it.put()
			j.ID = q.NewID("j", 1)
			c.Shard, c.Jobs = 1, []Job{j}
			if err := it.encode(q, &c, nil, nil); err != nil {
				t.Fatal(err)
			}
			defer q.unborn(it)
			return len(it.born) > 0
		}
		if !born(Job{Lane: "g:a"}, Change{}) {
			t.Error("not even a plain one")
		}
		for name, j := range map[string]Job{
			"serial": {Lane: "g:a", Serial: "s"}, "later": {Lane: "g:a", After: time.Hour}, "due": {Lane: "g:a", Due: time.Now()},
			"parked": {Lane: "g:a", Park: "p"}, "if parked": {Lane: "g:a", Parked: []string{"p"}}, "no slot": {Lane: "one"}, "nobody's": {Lane: "other"},
		} {
			if born(j, Change{}) {
				t.Errorf("%s is", name)
			}
		}
		paused := put(t, q, Job{Lane: "g:paused", Keep: time.Hour})[0]
		if r := get(t, q, paused); r.State != "ready" {
			t.Errorf("of a paused lane: %+v", r)
		}
		id := q.NewID("j", 1)
		if res := commit(t, q, Change{Shard: 1, Jobs: []Job{{ID: id, Lane: "g:a"}}, Operations: []Operation{{Extension: "no"}}}); !res.Refused {
			t.Errorf("%+v", res)
		}
		if _, ok := ran.Load(id); ok {
			t.Error("a refused one ran")
		}
		q.sched.mu.Lock()
		defer q.sched.mu.Unlock()
		if g := q.sched.group("g"); g.held != 0 || g.running != 0 {
			t.Errorf("%d places are taken, %d slots", g.held, g.running)
		}
	})
}

// Conditional jobs are put when something is parked under one of their names, and only then.
func TestAJobForWhatIsParked(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		q.Handle("g", Group{}, never)
		follow := func() error {
			id := q.NewID("j", 1)
			commit(t, q, Change{Shard: 1, Jobs: []Job{{ID: id, Lane: "g", Parked: []string{"a", "b"}, Replies: true, Body: []byte("x")}, {ID: q.NewID("j", 1), Lane: "other", Body: []byte("y")}}})
			_, err := q.Get(t.Context(), id)
			return err
		}
		if err := follow(); !errors.Is(err, ErrNotFound) {
			t.Errorf("nothing is parked: %v", err)
		}
		put(t, q, Job{Lane: "g", Park: "b"})
		if err := follow(); err != nil {
			t.Errorf("b is: %v", err)
		}
		if jobs := claimed(t, q); len(jobs) != 1 || string(jobs[0].Body) != "x" {
			t.Errorf("%v", jobs)
		}
	})
}

// The answer to a commit gets lost for good: its job may be in our hand, and comes back to its lane to be done once.
func TestTheAnswerToABirthGetsLost(t *testing.T) {
	s := ownServer(t)
	w := newWire(t, s.addr())
	rdb := redis.NewClient(&redis.Options{Addr: w.Addr().String(), MaxRetries: -1})
	defer rdb.Close()
	q := open(t, rdb, Options{OnError: ignore})
	var handled bag
	q.Handle("g", Group{Concurrency: 4, Ahead: 8}, func(_ context.Context, c *Claimed) Verdict { handled.add(string(c.Body)); return Done(nil) })
	start(t, q)
	for i := range 20 {
		j := Job{ID: q.NewID("j", 1), Lane: "g", Body: fmt.Appendf(nil, "%d", i)}
		c := Change{Shard: 1, Once: fmt.Sprint(i), Jobs: []Job{j}}
		w.lose(1)
		err := q.Commit(t.Context(), c).Err
		for errors.Is(err, ErrUnavailable) {
			w.lose(0)
			err = q.Commit(t.Context(), c).Err
		}
		if err != nil && err != ErrTaken {
			t.Fatal(err)
		}
	}
	eventually(t, "all are handled", func() bool { return handled.sum.Load() >= 20 })
	eventually(t, "none stays in hand", func() bool { return rdb.HLen(t.Context(), Prefix(1)+"h").Val() == 0 })
	handled.eachOnce(t, 20)
}

// A call that arrives after a later one of its caller does nothing: what it would have made is given back already.
func TestALateCallIsRefused(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{OnError: ignore})
		put(t, q, Job{Lane: "g"}, Job{Lane: "g"})
		c := &q.sites[0].committers[1]
		it := newItem(1)
		id := q.NewID("j", 1)
		if err := it.encode(q, &Change{Shard: 1, Jobs: []Job{{ID: id, Lane: "g"}}}, nil, nil); err != nil {
			t.Fatal(err)
		}
		c.calls -= 2
		if text, err := q.sites[0].carry(c, []*item{it}, false); err == nil {
			t.Errorf("%q", text)
		}
		if _, err := q.Get(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
	})
}

// Jobs ahead of a slot begin one after the other, in order, never more at once than there are slots; other lanes do not wait.
func TestAhead(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		var atOnce, most, done atomic.Int64
		hold, other := make(chan struct{}), make(chan struct{}, 1)
		q.Handle("g", Group{Concurrency: 3, PerLane: 2, Ahead: 40}, func(_ context.Context, c *Claimed) Verdict {
			if c.Lane == "g:b" {
				other <- struct{}{}
				return Done(nil)
			}
			n := atOnce.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-hold
			atOnce.Add(-1)
			done.Add(1)
			return Done(nil)
		})
		put(t, q, several(100, Job{Lane: "g:a"})...)
		start(t, q)
		eventually(t, "two begin", func() bool { return atOnce.Load() == 2 })
		eventually(t, "more wait for them", func() bool {
			q.sched.mu.Lock()
			defer q.sched.mu.Unlock()
			return q.sched.group("g").held == 18
		})
		put(t, q, Job{Lane: "g:b"})
		<-other
		close(hold)
		eventually(t, "all are done", func() bool { return done.Load() == 100 && q.Tally().Finished == 101 })
		if most.Load() != 2 {
			t.Errorf("%d at once", most.Load())
		}
		if n := q.Tally().Calls; n > 40 {
			t.Errorf("%d calls for their verdicts", n)
		}
	})
}

// When the process must go, and when a lane is to rest, what no handler has seen goes back as it stood.
func TestWhatIsAheadGoesBack(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Grace: 5 * time.Second})
		begun := make(chan struct{}, 100)
		hold := make(chan struct{})
		q.Handle("g", Group{Concurrency: 2, PerLane: 1, Ahead: 20}, func(ctx context.Context, c *Claimed) Verdict {
			begun <- struct{}{}
			<-hold
			return Done(nil)
		})
		a := put(t, q, several(10, Job{Lane: "g:a", Keep: time.Hour})...)
		b := put(t, q, several(10, Job{Lane: "g:b", Keep: time.Hour})...)
		stop := start(t, q)
		<-begun
		<-begun
		eventually(t, "all are in hand", func() bool { return get(t, q, a[9]).State == "leased" && get(t, q, b[9]).State == "leased" })
		if err := q.Pause(t.Context(), "g:a", time.Hour); err != nil {
			t.Fatal(err)
		}
		eventually(t, "those of the lane that rests are back", func() bool { return get(t, q, a[9]).State == "ready" })
		if get(t, q, b[9]).State != "leased" {
			t.Error("the other lane's too")
		}
		time.AfterFunc(50*time.Millisecond, func() { close(hold) })
		stop()
		for _, id := range append(a[1:], b[1:]...) {
			if r := get(t, q, id); r.State != "ready" || r.Version != 0 || r.Reclaims != 0 {
				t.Errorf("%s %+v", id, r)
			}
		}
		for _, id := range []string{a[0], b[0]} {
			if r := get(t, q, id); r.State != "ended" {
				t.Errorf("%+v", r)
			}
		}
	})
}

// A process that dies with jobs born in hand, begun or ahead, leaves all of them to others.
func TestWhoDiesWithJobsBornInHand(t *testing.T) {
	c := clock(t)
	q, other := open(t, c.rdb, Options{Lease: time.Minute, OnError: ignore}), open(t, c.rdb, Options{Lease: time.Minute})
	hold := make(chan struct{})
	defer close(hold)
	q.Handle("g", Group{Concurrency: 1, Ahead: 10}, func(context.Context, *Claimed) Verdict { <-hold; return Verdict{} })
	other.Handle("g", Group{Concurrency: 20}, never)
	q.sched.frozen.Store(true)
	q.sched.open(t.Context())
	want := put(t, q, several(5, Job{Lane: "g", Keep: time.Hour})...)
	if r := get(t, q, want[4]); r.State != "leased" {
		t.Fatalf("%+v", r)
	}
	if got := claimed(t, other); len(got) != 0 {
		t.Fatalf("%v", ids(got))
	}
	c.pass(2 * time.Minute)
	got := claimed(t, other)
	if len(got) != 5 || got[0].Reclaims != 1 {
		t.Errorf("%v", ids(got))
	}
}

// A body that several jobs share is kept once, for as long as any of them may need it.
func TestASharedBody(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		q.Handle("g", Group{}, never)
		all := &Shared{Name: "evt", Data: []byte("payload")}
		var want []string
		var jobs []Job
		for i := range 3 {
			jobs = append(jobs, Job{ID: q.NewID("j", 1), Lane: "g", Body: fmt.Appendf(nil, "%d:", i), Shared: all, Keep: time.Hour, Idle: time.Hour, Tags: []string{"t"}})
			want = append(want, fmt.Sprintf("%d:payload", i))
		}
		commit(t, q, Change{Shard: 1, Jobs: jobs})
		ttl := func() time.Duration { return rdb.PTTL(t.Context(), Prefix(1)+"b:evt").Val() }
		if d := ttl(); d <= 59*time.Minute || d > time.Hour {
			t.Errorf("it lives for %v", d)
		}
		got := claimed(t, q)
		var bodies []string
		for _, j := range got {
			bodies = append(bodies, string(j.Body))
		}
		if diff := cmp.Diff(want, bodies); diff != "" {
			t.Error(diff)
		}
		judge(t, q, got[0], Done(nil))
		if r := get(t, q, got[0].ID); string(r.Body) != "0:payload" {
			t.Errorf("%s", r.Body)
		}
		if d := ttl(); d > time.Hour {
			t.Errorf("it lives for %v after an end", d)
		}
		judge(t, q, got[1], Retry(2*time.Hour, nil, "r"))
		if d := ttl(); d < 2*time.Hour {
			t.Errorf("it lives for %v, shorter than a retry", d)
		}
		judge(t, q, got[2], Bury("b", nil))
		if d := ttl(); d < 30*24*time.Hour-time.Minute {
			t.Errorf("it lives for %v, shorter than a buried job", d)
		}
		recs, _, err := q.List(t.Context(), "t", 1, "", 10)
		if err != nil || len(recs) != 3 || string(recs[2].Body) != "0:payload" {
			t.Errorf("%v %v", recs, err)
		}
	})
}
