package queue

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

// Depth counts the jobs of a lane that are in one state.
type Depth struct {
	Lane, State string // ready later parked leased buried
	Count       int64
	OldestAge   time.Duration // of ready jobs: since the first of them was due; else 0
}

// Depths counts the jobs of every lane over all shards, those of other processes too. What is empty is left out.
func (q *Queue) Depths(ctx context.Context) ([]Depth, error) {
	answers := make([][]any, q.o.Shards)
	err := q.eachShard(func(i int) error {
		res, err := q.depths.run(ctx, q.rdb, Prefix(i))
		if err != nil {
			return unavailable(err)
		}
		answers[i], _ = res.([]any)
		return nil
	})
	if err != nil {
		return nil, err
	}
	sums := map[[2]string]*Depth{}
	for _, a := range answers {
		if len(a) == 0 {
			continue
		}
		now, _ := a[0].(string)
		for i := 1; i+3 < len(a); i += 4 {
			lane, _ := a[i].(string)
			state, _ := a[i+1].(string)
			count, _ := a[i+2].(int64)
			due, _ := a[i+3].(string)
			d := sums[[2]string{lane, state}]
			if d == nil {
				d = &Depth{Lane: lane, State: state}
				sums[[2]string{lane, state}] = d
			}
			d.Count += count
			if due != "" {
				d.OldestAge = max(d.OldestAge, time.Duration(number(now)-number(due))*time.Microsecond)
			}
		}
	}
	out := make([]Depth, 0, len(sums))
	for _, d := range sums {
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b Depth) int {
		return cmp.Or(strings.Compare(a.Lane, b.Lane), strings.Compare(a.State, b.State))
	})
	return out, nil
}

// Pause keeps a lane from being claimed, on every shard and by every replica, for d or until Resume. What is in hand is
// finished, what this process has taken ahead goes back. Jobs that expire meanwhile are handed out when the pause is over.
func (q *Queue) Pause(ctx context.Context, lane string, d time.Duration) error {
	return q.setPause(ctx, lane, d)
}

// Resume ends a pause.
func (q *Queue) Resume(ctx context.Context, lane string) error {
	err := q.setPause(ctx, lane, 0)
	q.sched.everywhere()
	return err
}

func (q *Queue) setPause(ctx context.Context, lane string, d time.Duration) error {
	back, known := q.sched.rest(lane, d)
	defer q.giveBack(back) // behind the pause, or they would be claimed again
	if known {
		return nil
	}
	return q.eachShard(func(i int) error {
		if _, err := q.pause.run(ctx, q.rdb, Prefix(i), lane, ms(d)); err != nil {
			return unavailable(err)
		}
		return nil
	})
}
