package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	sweepEvery = time.Second            // how soon other replicas' work, lapsed leases and expired parking are noticed
	breath     = 2 * time.Millisecond   // between claims while work waits for slots
	deepBreath = 5 * time.Millisecond   // between claims that took all there was: under load they gather, an idle queue does not wait
	patience   = 100 * time.Millisecond // one silent cluster node does not keep the others waiting
	firstRung  = 100 * time.Millisecond // of the ladder climbed while Redis fails
	lastRung   = 5 * time.Second
)

// ErrRunning is what a second Run answers.
var ErrRunning = errors.New("queue: already running")

// Run claims jobs and hands them to their handlers until ctx ends. Then it claims no more, gives back what no handler has
// seen, waits for the handlers (their context ends when nine tenths of Options.Grace are over), and returns nil. Whatever
// Redis does, it goes on.
func (q *Queue) Run(ctx context.Context) error {
	if !q.hands.frozen.CompareAndSwap(false, true) {
		return ErrRunning
	}
	hctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	l := &loop{q: q, ctx: ctx, handlers: hctx, answers: make(chan answer, len(q.sites)), claiming: true}
	if len(q.sites) == 1 { // the sites of a cluster are asked one after the other: too slow for verdicts
		q.sites[0].verdicts.open = true
		defer q.sites[0].verdicts.shut(q.sites[0])
	}
	for ctx.Err() == nil {
		l.round()
		l.sleep(ctx.Done())
	}
	l.claiming, l.deadline = false, time.Now().Add(q.o.Grace)
	hurry := time.AfterFunc(q.o.Grace*9/10, stop)
	defer hurry.Stop()
	defer close(q.gone)
	for time.Now().Before(l.deadline) {
		l.round() // leases are renewed to the end; a claim whose answer is open is asked for, and given back
		var empty <-chan struct{}
		if l.settled() {
			empty = q.hands.empty()
			select {
			case <-empty:
				return nil
			default:
			}
		}
		l.sleep(empty)
	}
	return nil // what is left in hand comes back to somebody when its lease lapses
}

// loop is the one goroutine that claims.
type loop struct {
	q        *Queue
	ctx      context.Context // Run's
	handlers context.Context
	answers  chan answer
	claiming bool
	number   int
	sweepAt  time.Time
	lastAt   time.Time
	deadline time.Time // of shutting down
	full     bool      // the last round took all it may: go on at once
	left     bool      // it left something for want of slots
}

type answer struct {
	wish *wish
	turn turned
	err  error
}

// round asks every site that has something to be asked, one after the other, so that the slots one left free are offered
// to the next.
func (l *loop) round() {
	q, now := l.q, time.Now()
	sweep := !now.Before(l.sweepAt)
	if sweep {
		l.sweepAt = now.Add(sweepEvery)
	}
	l.lastAt, l.full, l.left = now, false, false
	l.number++
	for i := range q.sites {
		s := q.sites[(i+l.number)%len(q.sites)]
		if s.out || now.Before(s.retryAt) {
			continue
		}
		w := q.hands.wish(s, now, sweep, l.claiming, l.number)
		if w == nil {
			continue
		}
		s.out = true
		go func() {
			t, err := q.turn(context.Background(), w)
			q.answer(w.verdicts, t.committed, err)
			l.answers <- answer{w, t, err}
		}()
		l.await(s)
	}
	q.hands.doubt(now)
}

// await waits for a site's answer, not for ever.
func (l *loop) await(s *site) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for s.out {
		select {
		case a := <-l.answers:
			l.accept(a)
		case <-timer.C:
			return
		}
	}
}

// accept takes a turn's answer in.
func (l *loop) accept(a answer) {
	q, s := l.q, a.wish.site
	s.out = false
	if a.err != nil {
		s.retryAt = time.Now().Add(rung(s.fails))
		s.fails++
		q.hands.again(a.wish)
		q.o.OnError(a.err)
		return
	}
	s.fails, s.retryAt = 0, time.Time{}
	s.turns++
	s.unsure = nil
	q.lastTurn.Store(time.Now().UnixNano())
	q.hands.learn(a.wish, &a.turn)
	q.tally.claimed.Add(uint64(len(a.turn.jobs)))
	l.left = l.left || slices.ContainsFunc(a.turn.left, func(f leftover) bool { return f.why != 'd' })
	l.full = l.full || len(a.turn.jobs) >= maxClaim
	for _, j := range a.turn.jobs {
		g := q.hands.bySession(sessionOf(j.token))
		if g == nil {
			continue
		}
		ctx, free := q.hands.take(l.handlers, g, j, a.wish.at)
		q.crew.give(task{ctx, g, j, free && l.claiming && l.ctx.Err() == nil})
	}
}

// sleep waits until there is something to do: a nudge, a time, a late answer. While under load, a breath.
func (l *loop) sleep(stop <-chan struct{}) {
	at := l.q.hands.sleepUntil(time.Now(), l.sweepAt, l.q.sites, l.claiming)
	if !l.claiming && l.deadline.Before(at) {
		at = l.deadline
	}
	next := l.next()
	if at.Before(next) {
		at = next
	}
	d := time.Until(at)
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-l.q.hands.wake:
			if pause := time.Until(next); pause > 0 {
				timer.Reset(pause)
				continue
			}
			return
		case a := <-l.answers:
			l.accept(a)
			return
		case <-timer.C:
			return
		case <-stop:
			return
		}
	}
}

// next is when the next round may begin (DECISIONS.md 12).
func (l *loop) next() time.Time {
	switch {
	case l.full:
		return l.lastAt
	case l.left:
		return l.lastAt.Add(breath)
	}
	return l.lastAt.Add(deepBreath)
}

func (l *loop) settled() bool {
	for _, s := range l.q.sites {
		if s.out || len(s.unsure) > 0 && s.fails < 3 {
			return false
		}
	}
	return true
}

// rung is how long to wait after the nth failure in a row.
func rung(n int) time.Duration {
	return min(firstRung<<min(n, 10), lastRung)
}

// task is one job's way through its handler; unless started, it goes back.
type task struct {
	ctx     context.Context
	group   *group
	job     *job
	started bool
}

func (q *Queue) work(t task) {
	v := GiveBack()
	if t.started {
		v = q.handle(t.ctx, t.group, t.job)
	}
	q.finish(t.job, &v)
	q.release(t.job)
}

// release frees the slot of a job, whose worker will want another one then.
func (q *Queue) release(j *job) {
	if q.hands.release(j) {
		q.crew.expect()
	}
}

// crew is the goroutines that work. One that is done takes the next task, because a new one would grow its stack anew through
// the handler, the HTTP client and the commit: a tenth of what a send costs.
type crew struct {
	work func(task)
	next chan task

	mu   sync.Mutex
	idle int // workers that wait for a task, or will at once, beyond the tasks in next
}

const (
	crewPatience = 10 * time.Second // how long one stands by
	crewMost     = 4096             // that stand by
)

// expect is told of each worker that is done, before the worker itself knows.
func (c *crew) expect() {
	c.mu.Lock()
	c.idle++
	c.mu.Unlock()
}

// leave takes one of the idle off the count.
func (c *crew) leave() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle <= 0 || len(c.next) == cap(c.next) {
		return false
	}
	c.idle--
	return true
}

func (c *crew) give(t task) {
	if c.leave() {
		c.next <- t
	} else {
		go c.stand(t)
	}
}

func (c *crew) stand(t task) {
	timer := time.NewTimer(crewPatience)
	defer timer.Stop()
	for {
		c.work(t)
		timer.Reset(crewPatience)
		select {
		case t = <-c.next:
		case <-timer.C:
			if c.leave() {
				return
			}
			t = <-c.next // a task was given to one who waits
		}
	}
}

// handle calls the handler. After a panic nobody knows what was done: the job comes back as from a lapsed lease.
func (q *Queue) handle(ctx context.Context, g *group, j *job) (v Verdict) {
	defer func() {
		if p := recover(); p != nil {
			q.tally.panics.Add(1)
			q.o.OnError(fmt.Errorf("queue: handler of %s panicked on %s: %v\n%s", g.name, j.ID, p, debug.Stack()))
			v = Verdict{kind: lapse, after: rung(j.Reclaims)}
		}
	}()
	c := j.Claimed
	v = g.handler(ctx, &c)
	if v.kind == "" {
		v.kind = giveBack
	}
	return v
}

// finish commits a verdict, again and again while Redis is away: until it is done, or the lease lapsed and it is not ours to
// say any more.
func (q *Queue) finish(j *job, v *Verdict) {
	with := Change{}
	if v.with != nil {
		with = *v.with
	}
	with.Shard = j.shard
	for n := 0; ; n++ {
		it := newItem(j.shard)
		if err := it.encode(q, &with, j, v); err != nil { // the handler asked for something impossible
			it.put()
			q.o.OnError(fmt.Errorf("queue: verdict on %s: %w", j.ID, err))
			v, with = &Verdict{kind: bury, reason: "verdict: " + err.Error()}, Change{Shard: j.shard}
			continue
		}
		res, code := q.submit(context.Background(), it)
		switch {
		case code == 'K':
			q.tally.finished.Add(1)
			return
		case code == 'W':
			q.tally.finished.Add(1)
			q.o.OnError(fmt.Errorf("queue: finished %s, but: %w: %v", j.ID, ErrExtension, res.Replies))
			return
		case code == 'A':
			return
		case code == 'S':
			q.tally.stale.Add(1)
			return
		case code == 'E':
			q.o.OnError(fmt.Errorf("queue: verdict on %s: %w", j.ID, res.Err))
			if n == 2 { // its consequences cannot be had
				with = Change{Shard: j.shard}
			}
		}
		timer := time.NewTimer(rung(n))
		select {
		case <-timer.C:
		case <-q.gone:
			timer.Stop()
			return
		}
	}
}

// LastTurn is when the claim loop last heard from Redis; zero before the first time.
func (q *Queue) LastTurn() time.Time {
	if n := q.lastTurn.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// Tally counts since Open what happened in this process.
type Tally struct {
	Calls    uint64 // commit scripts
	Changes  uint64 // that travelled in them
	Claimed  uint64
	Finished uint64
	Stale    uint64 // verdicts that came after the lease had lapsed, and were dropped
	Panics   uint64 // of handlers
}

type tally struct{ calls, changes, claimed, finished, stale, panics atomic.Uint64 }

// Tally counts since Open what happened in this process.
func (q *Queue) Tally() Tally {
	t := &q.tally
	return Tally{t.calls.Load(), t.changes.Load(), t.claimed.Load(), t.finished.Load(), t.stale.Load(), t.panics.Load()}
}
