package queue

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// task is one job's way through its handler.
type task struct {
	ctx context.Context
	job *job
}

// start has a job in hand begin, or wait for its slot.
func (q *Queue) start(j *job) {
	ctx, begin, ok := q.sched.start(j)
	switch {
	case begin:
		q.pool.give(task{ctx, j})
	case !ok:
		q.giveBack([]*job{j})
	}
}

// giveBack returns jobs that no handler has seen.
func (q *Queue) giveBack(jobs []*job) {
	for _, j := range jobs {
		v := GiveBack()
		s := q.siteOf[j.shard]
		q.sayLater(&s.committers[j.shard%len(s.committers)], j, &v)
	}
}

// work handles a job, and those ahead that it makes a slot for.
func (q *Queue) work(t task) {
	for t.job != nil {
		j := t.job
		v := q.handle(t.ctx, j.group, j)
		if j.group.conf.Ahead == 0 {
			q.finish(j, &v)
			q.sched.release(j)
			return
		}
		t.job, t.ctx = q.sched.done(j)
		s := q.siteOf[j.shard]
		q.sayLater(&s.committers[j.shard%len(s.committers)], j, &v)
	}
}

// pool is the goroutines that work. One that is done takes the next task, because a new one would grow its stack anew through
// the handler, the HTTP client and the commit: a tenth of what a send costs.
type pool struct {
	work func(task)
	next chan task
}

// poolPatience is how long a worker stands by.
const poolPatience = 10 * time.Second

func (p *pool) give(t task) {
	select {
	case p.next <- t:
	default:
		go p.stand(t)
	}
}

func (p *pool) stand(t task) {
	timer := time.NewTimer(poolPatience)
	defer timer.Stop()
	for {
		p.work(t)
		timer.Reset(poolPatience)
		select {
		case t = <-p.next:
		case <-timer.C:
			return
		}
	}
}

// handle calls the handler. After a panic nobody knows what was done: the job comes back as from a lapsed lease.
func (q *Queue) handle(ctx context.Context, g *group, j *job) (v Verdict) {
	defer func() {
		if p := recover(); p != nil {
			q.tally.panics.Add(1)
			q.o.OnError(fmt.Errorf("queue: handler of %s panicked on %s: %v\n%s", g.name, j.ID, p, debug.Stack()))
			v = Verdict{kind: lapse, after: backoff(j.Reclaims)}
		}
	}()
	c := j.Claimed
	v = g.handler(ctx, &c)
	if v.kind == "" {
		v.kind = giveBack
	}
	return v
}

// verdict makes the item that says a verdict. One that is impossible buries the job.
func (q *Queue) verdict(j *job, v *Verdict) *item {
	for {
		with := Change{}
		if v.with != nil {
			with = *v.with
		}
		with.Shard = j.shard
		it := newItem(j.shard)
		err := it.encode(q, &with, j, v)
		if err == nil {
			return it
		}
		q.unborn(it)
		it.put()
		q.o.OnError(fmt.Errorf("queue: verdict on %s: %w", j.ID, err))
		v = &Verdict{kind: bury, reason: "verdict: " + err.Error()}
	}
}

// sayLater has a verdict travel with what a committer carries next.
func (q *Queue) sayLater(c *committer, j *job, v *Verdict) {
	it := q.verdict(j, v)
	it.lazy, it.says = true, *v
	s := q.siteOf[j.shard]
	if c == &s.verdicts && c.hold(q, it) || c != &s.verdicts && c.later(s, it) {
		return
	}
	q.unborn(it)
	it.put()
	said := *v
	go func() {
		q.finish(j, &said)
		q.sched.release(j)
	}()
}

// settle lets a verdict go that nobody waits for, or says it again.
func (q *Queue) settle(it *item) {
	j, v, again := it.ends, it.says, !q.told(it.ends, it.code, it.res)
	it.put()
	if again {
		go func() {
			q.finish(j, &v)
			q.sched.release(j)
		}()
	}
}

// finish commits a verdict, again and again while Redis is away: until it is done, or the lease lapsed and it is not ours to
// say any more.
func (q *Queue) finish(j *job, v *Verdict) {
	for n := 0; ; n++ {
		res, code := q.submit(context.Background(), q.verdict(j, v))
		if q.told(j, code, res) {
			return
		}
		if code == 'E' {
			v = q.again(j, v, n)
		}
		timer := time.NewTimer(backoff(n))
		select {
		case <-timer.C:
		case <-q.gone:
			timer.Stop()
			return
		}
	}
}

// told counts what became of a verdict, and tells whether that is the end of it.
func (q *Queue) told(j *job, code byte, res Result) bool {
	switch code {
	case 'K':
		q.tally.finished.Add(1)
	case 'A':
	case 'S':
		q.tally.stale.Add(1)
	case 'E':
		q.o.OnError(fmt.Errorf("queue: verdict on %s: %w", j.ID, res.Err))
		return false
	default:
		return false
	}
	return true
}
