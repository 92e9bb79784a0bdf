package queue

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

const (
	sweepEvery   = time.Second            // how soon other replicas' work, lapsed leases and expired parking are noticed
	pauseLeft    = 2 * time.Millisecond   // between claims while work waits for slots
	pauseEmpty   = 5 * time.Millisecond   // between claims that took all there was: under load they gather, an idle queue does not wait
	patience     = 100 * time.Millisecond // one silent cluster node does not keep the others waiting
	backoffFirst = 100 * time.Millisecond // between tries while Redis fails, doubling up to
	backoffMost  = 5 * time.Second
)

// ErrRunning is what a second Run answers.
var ErrRunning = errors.New("queue: already running")

// Run claims jobs and hands them to their handlers until ctx ends. Then it claims no more, gives back what no handler has
// seen, waits for the handlers (their context ends when nine tenths of Options.Grace are over), and returns nil. Whatever
// Redis does, it goes on.
func (q *Queue) Run(ctx context.Context) error {
	q.owed.Do(func() { q.Handle(consequenceGroup, Group{}, consequence) })
	if !q.sched.frozen.CompareAndSwap(false, true) {
		return ErrRunning
	}
	hctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	q.sched.open(hctx)
	l := &loop{q: q, ctx: ctx, answers: make(chan answer, len(q.sites)), claiming: true}
	if len(q.sites) == 1 { // the sites of a cluster are asked one after the other: too slow for verdicts
		q.sites[0].verdicts.open = true
		defer q.sites[0].verdicts.shut(q.sites[0])
	}
	for ctx.Err() == nil {
		l.round()
		l.sleep(ctx.Done())
	}
	l.claiming, l.deadline = false, time.Now().Add(q.o.Grace)
	q.sched.shut()
	q.giveBack(q.sched.flush(nil))
	hurry := time.AfterFunc(q.o.Grace*9/10, stop)
	defer hurry.Stop()
	defer close(q.gone)
	for time.Now().Before(l.deadline) {
		l.round() // leases are renewed to the end; a claim whose answer is open is asked for, and given back
		var empty <-chan struct{}
		if l.settled() {
			empty = q.sched.empty()
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
	request *request
	brought answered
	err     error
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
		w := q.sched.request(s, now, sweep, l.claiming, l.number)
		if w == nil {
			continue
		}
		s.out = true
		go func() {
			t, err := q.ask(context.Background(), w)
			if len(w.verdicts) > 0 {
				q.answer(&s.verdicts, w.verdicts, t.committed, err)
			}
			l.answers <- answer{w, t, err}
		}()
		l.await(s)
	}
	q.sched.doubt(now)
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

// accept takes an answer in.
func (l *loop) accept(a answer) {
	q, s := l.q, a.request.site
	s.out = false
	if a.err != nil {
		s.retryAt = time.Now().Add(backoff(s.fails))
		s.fails++
		q.sched.again(a.request)
		q.o.OnError(a.err)
		return
	}
	s.fails, s.retryAt = 0, time.Time{}
	s.claims++
	s.unsure = nil
	q.lastTurn.Store(time.Now().UnixNano())
	q.tally.claimed.Add(uint64(len(a.brought.jobs)))
	l.left = l.left || slices.ContainsFunc(a.brought.left, func(f leftover) bool { return f.due.IsZero() && f.lane == "" })
	l.full = l.full || len(a.brought.jobs) >= maxClaim
	for _, j := range a.brought.jobs {
		g := q.sched.bySession(sessionOf(j.token))
		if g == nil {
			continue
		}
		if q.sched.take(g, j, a.request.at) {
			q.start(j)
		} else {
			q.giveBack([]*job{j})
		}
	}
	q.sched.learn(a.request, &a.brought)
}

// sleep waits until there is something to do: a nudge, a time, a late answer; under load not at once.
func (l *loop) sleep(stop <-chan struct{}) {
	at := l.q.sched.sleepUntil(time.Now(), l.sweepAt, l.q.sites, l.claiming)
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
		case <-l.q.sched.wake:
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
		return l.lastAt.Add(pauseLeft)
	}
	return l.lastAt.Add(pauseEmpty)
}

func (l *loop) settled() bool {
	for _, s := range l.q.sites {
		if s.out || len(s.unsure) > 0 && s.fails < 3 {
			return false
		}
	}
	return true
}

// backoff is how long to wait after the nth failure in a row.
func backoff(n int) time.Duration {
	return min(backoffFirst<<min(n, 10), backoffMost)
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
