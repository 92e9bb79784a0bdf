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
		w := q.hands.wish(s, time.Now(), true, true, i)
		tr, err := q.turn(context.Background(), w)
		if err != nil {
			t.Fatal(err)
		}
		s.turns++
		s.unsure = nil
		q.hands.learn(w, &tr)
		for _, j := range tr.jobs {
			q.hands.take(context.Background(), q.hands.bySession(sessionOf(j.token)), j, w.at)
		}
		jobs = append(jobs, tr.jobs...)
	}
	return jobs
}

// judge gives a verdict on a job claimed by hand.
func judge(t *testing.T, q *Queue, j *job, v Verdict) {
	t.Helper()
	q.finish(j, &v)
	q.hands.release(j)
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
