package queue

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A worker that dies with a job in hand: the lease lapses, the next one is told, and the dead one's word counts no more.
func TestLeaseLapses(t *testing.T) {
	c := clock(t)
	dead, other := open(t, c.rdb, Options{Lease: time.Minute}), open(t, c.rdb, Options{Lease: time.Minute})
	dead.Handle("g", Group{}, never)
	other.Handle("g", Group{}, never)
	id := put(t, dead, Job{Lane: "g", Serial: "s", Keep: time.Hour, Note: []byte("old")})[0]
	next := put(t, dead, Job{Lane: "g", Serial: "s"})[0]
	late := claimed(t, dead)[0]
	for range 5 {
		c.pass(11 * time.Second)
		if got := claimed(t, other); len(got) > 0 {
			t.Fatal("taken from a living worker")
		}
	}
	c.pass(5 * time.Second)
	got := claimed(t, other)
	if diff := cmp.Diff([]string{next}, ids(got)); diff != "" { // the serial moves on; who died goes to its end
		t.Fatal(diff)
	}
	judge(t, other, got[0], Done(nil))
	got = claimed(t, other)
	if len(got) != 1 || got[0].ID != id || got[0].Reclaims != 1 || got[0].Attempts != 0 || string(got[0].Note) != "old" {
		t.Fatalf("%+v", got)
	}

	judge(t, dead, late, Done([]byte("late")).With(Change{Jobs: []Job{{ID: dead.NewID("x", 1), Lane: "g"}}}))
	if n := dead.Tally().Stale; n != 1 {
		t.Errorf("%d stale verdicts", n)
	}
	if r := get(t, other, id); r.State != "leased" || string(r.Note) != "old" || r.Reclaims != 1 {
		t.Errorf("%+v", r)
	}
	if got := claimed(t, other); len(got) > 0 {
		t.Error("the consequences of a late verdict happened")
	}
	judge(t, other, got[0], Done([]byte("mine")))
	if r := get(t, other, id); r.State != "ended" || string(r.Note) != "mine" {
		t.Errorf("%+v", r)
	}
}

func TestLeasesAreRenewed(t *testing.T) {
	c := clock(t)
	q, other := open(t, c.rdb, Options{Lease: time.Minute}), open(t, c.rdb, Options{Lease: time.Minute})
	q.Handle("g", Group{}, never)
	other.Handle("g", Group{}, never)
	put(t, q, Job{Lane: "g"})
	j := claimed(t, q)[0]
	g := q.sched.group("g")
	for range 10 {
		c.pass(50 * time.Second)
		g.beatAt[1] = time.Time{} // it is time
		claimed(t, q)
		if got := claimed(t, other); len(got) > 0 {
			t.Fatal("lapsed although it was renewed")
		}
	}
	if !g.beatAt[1].After(time.Now()) {
		t.Error("the renewal was not noted")
	}
	judge(t, q, j, Done(nil))
	if q.Tally().Stale != 0 {
		t.Error("stale")
	}
}

// Whoever slept through its lease is told, and cannot get it back by waking up.
func TestALostLeaseEndsTheHandlersContext(t *testing.T) {
	c := clock(t)
	q, other := open(t, c.rdb, Options{Lease: time.Minute}), open(t, c.rdb, Options{Lease: time.Minute})
	q.Handle("g", Group{}, never)
	other.Handle("g", Group{}, never)
	put(t, q, Job{Lane: "g"})
	j := claimed(t, q)[0]
	ctx := j.group.leases[j.shard].ctx
	c.pass(2 * time.Minute)
	if got := claimed(t, other); len(got) != 1 || got[0].Reclaims != 1 {
		t.Fatalf("%v", got)
	}
	q.sched.group("g").beatAt[1] = time.Time{}
	claimed(t, q)
	if !errors.Is(context.Cause(ctx), ErrLeaseLost) {
		t.Errorf("cause %v", context.Cause(ctx))
	}
}

// The same without any word from Redis: a lease that could not be renewed for its whole length is lost.
func TestALeaseInDoubt(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{Lease: time.Minute})
	q.Handle("g", Group{}, never)
	put(t, q, Job{Lane: "g"})
	j := claimed(t, q)[0]
	ctx := j.group.leases[j.shard].ctx
	q.sched.doubt(time.Now().Add(59 * time.Second))
	if ctx.Err() != nil {
		t.Fatal("too soon")
	}
	q.sched.doubt(time.Now().Add(61 * time.Second))
	if !errors.Is(context.Cause(ctx), ErrLeaseLost) {
		t.Errorf("cause %v", context.Cause(ctx))
	}
	put(t, q, Job{Lane: "g"})
	next := claimed(t, q)[0]
	if ctx := next.group.leases[next.shard].ctx; next.shard != j.shard || ctx.Err() != nil {
		t.Errorf("who is claimed after that is told of it too: shard %d, %v", next.shard, context.Cause(ctx))
	}
}

// A claim whose answer got lost is asked again: the same jobs, and nobody has died.
func TestALostAnswerIsAskedAgain(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{Lease: time.Minute})
	q.Handle("g", Group{Concurrency: 3}, never)
	want := put(t, q, several(5, Job{Lane: "g", Body: []byte("b")})...)
	s := q.sites[0]
	lost := q.sched.request(s, time.Now(), true, true, 0)
	if _, err := q.ask(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	q.sched.again(lost)     // as the loop does when no answer came
	c.pass(5 * time.Minute) // Redis was away, longer than the lease
	got := claimed(t, q)
	if diff := cmp.Diff(want[:3], ids(got)); diff != "" {
		t.Fatal(diff)
	}
	for _, j := range got {
		if j.Reclaims != 0 || string(j.Body) != "b" {
			t.Errorf("%+v", j.Claimed)
		}
		judge(t, q, j, Done(nil))
	}
	if diff := cmp.Diff(want[3:], ids(claimed(t, q))); diff != "" {
		t.Error(diff)
	}
}

// ...unless somebody noticed the silence first.
func TestALostAnswerThatLapsed(t *testing.T) {
	c := clock(t)
	q, other := open(t, c.rdb, Options{Lease: time.Minute}), open(t, c.rdb, Options{Lease: time.Minute})
	q.Handle("g", Group{}, never)
	other.Handle("g", Group{}, never)
	want := put(t, q, Job{Lane: "g"})
	lost := q.sched.request(q.sites[0], time.Now(), true, true, 0)
	if _, err := q.ask(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	c.pass(2 * time.Minute)
	got := claimed(t, other)
	if diff := cmp.Diff(want, ids(got)); diff != "" || got[0].Reclaims != 1 {
		t.Fatal(diff)
	}
	if got := claimed(t, q); len(got) > 0 {
		t.Error("in two hands")
	}
}

// An answer that comes late may bring more than there is room for: the rest goes back where it stood, untouched.
func TestNoRoomForALateAnswer(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{})
	begun, end := make(chan string, 3), make(chan struct{})
	q.Handle("g", Group{Concurrency: 1}, func(_ context.Context, c *Claimed) Verdict { begun <- c.ID; <-end; return Done(nil) })
	want := put(t, q, several(2, Job{Lane: "g", Keep: time.Hour})...)
	w := q.sched.request(q.sites[0], time.Now(), true, true, 0)
	w.groups[0].places, w.groups[0].lanes = 2, map[string]int{"g": 2} // so many were free when it was asked
	tr, err := q.ask(t.Context(), w)
	if err != nil || len(tr.jobs) != 2 {
		t.Fatal(tr, err)
	}
	q.sched.open(t.Context())
	l := &loop{q: q, ctx: t.Context(), claiming: true}
	l.accept(answer{request: w, brought: tr})
	if id := <-begun; id != want[0] {
		t.Errorf("begun %s", id)
	}
	eventually(t, "the other is given back", func() bool { return get(t, q, want[1]).State == "ready" })
	if r := get(t, q, want[1]); r.Reclaims != 0 || r.Version != 0 {
		t.Errorf("%+v", r)
	}
	close(end)
	<-q.sched.empty()
}

// A turn that failed is asked again under its number even when there is no slot left, or what it claimed would stay in a
// hand that does not know of it.
func TestAFailedTurnIsAskedAgain(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{OnError: ignore})
	q.Handle("g", Group{Concurrency: 1}, never)
	want := put(t, q, several(2, Job{Lane: "g", Keep: time.Hour})...)
	g, s := q.sched.group("g"), q.sites[0]
	q.sched.open(t.Context())
	l := &loop{q: q, ctx: t.Context(), claiming: true}
	lost := q.sched.request(s, time.Now(), true, true, 0)
	if _, err := q.ask(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	s.out = true
	l.accept(answer{request: lost, err: errors.New("cut")})
	if s.fails != 1 || !s.retryAt.After(time.Now()) || s.out || g.dirty == 0 {
		t.Errorf("after a failure: %+v, dirty %b", s.claimer, g.dirty)
	}
	other := &job{Claimed: Claimed{ID: "other", Lane: "g"}}
	q.sched.take(g, other, time.Now())
	for _, claiming := range []bool{false, true} { // shutting down, too
		again := q.sched.request(s, time.Now(), false, claiming, 1)
		if again == nil {
			t.Fatal("not asked again")
		}
		if !claiming {
			continue
		}
		tr, err := q.ask(t.Context(), again)
		if err != nil || len(tr.jobs) != 1 || tr.jobs[0].ID != want[0] {
			t.Fatal(tr, err)
		}
		l.accept(answer{request: again, brought: tr})
	}
	eventually(t, "it is given back", func() bool { return get(t, q, want[0]).State == "ready" })
	if s.fails != 0 || s.claims != 1 || len(s.unsure) != 0 {
		t.Errorf("after a success: %+v", s.claimer)
	}
	q.sched.release(other)
	<-q.sched.empty() // Redis knows of the job's return before the worker has left its slot
	if diff := cmp.Diff(want[:1], ids(claimed(t, q))); diff != "" {
		t.Error(diff)
	}
}
