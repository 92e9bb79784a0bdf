package queue

import (
	"context"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// clocked is an in-process Redis whose clock stands still until it is told to go.
type clocked struct {
	*miniredis.Miniredis
	rdb redis.UniversalClient
	now time.Time
}

func clock(t *testing.T) *clocked {
	t.Helper()
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { rdb.Close() })
	c := &clocked{m, rdb, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	m.SetTime(c.now)
	return c
}

// pass lets time go by: for scripts and for keys that expire.
func (c *clocked) pass(d time.Duration) {
	c.now = c.now.Add(d)
	c.SetTime(c.now)
	c.FastForward(d)
}

// claimed is a worker's loop done by hand: one sweep over everything; what it brings stays in hand.
func claimed(t *testing.T, q *Queue) []*job {
	t.Helper()
	var jobs []*job
	for i, s := range q.sites {
		w := q.sched.request(s, time.Now(), true, true, i)
		a, err := q.ask(context.Background(), w)
		if err != nil {
			t.Fatal(err)
		}
		s.claims++
		s.unsure = nil
		q.sched.learn(w, &a)
		for _, j := range a.jobs {
			byHand(q, j, w.at)
		}
		jobs = append(jobs, a.jobs...)
	}
	return jobs
}

// byHand has a claimed job begin, as far as the scheduler knows.
func byHand(q *Queue, j *job, asked time.Time) {
	g := q.sched.bySession(sessionOf(j.token))
	q.sched.take(g, j, asked)
	q.sched.mu.Lock()
	defer q.sched.mu.Unlock()
	q.sched.handlers = context.Background()
	q.sched.begin(j)
	q.sched.handlers = nil
}

// judge gives a verdict on a job claimed by hand.
func judge(t *testing.T, q *Queue, j *job, v Verdict) {
	t.Helper()
	q.finish(j, &v)
	q.sched.release(j)
}

func ids(jobs []*job) []string {
	var out []string
	for _, j := range jobs {
		out = append(out, j.ID)
	}
	return out
}

// never is a handler for queues that are worked by hand.
func never(context.Context, *Claimed) Verdict { panic("not by hand") }
