package queue

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"slices"
	"time"
)

// A verdict whose consequences cannot be done must neither lose them nor look like a crash of its worker: what the handler did
// may be a call that nobody may repeat. So after some tries it is committed with jobs in their place, one for each consequence,
// and these jobs try theirs until it is done.

// consequenceGroup is the group of the jobs that carry consequences. Their lanes name the group of the verdict.
const consequenceGroup = "consequence"

const (
	consequenceTries = 2           // of a verdict with its consequences, before they become jobs
	consequencePause = time.Minute // between two tries of such a job
)

// again is what is committed after the nth try of a verdict failed in Redis.
func (q *Queue) again(j *job, v *Verdict, n int) *Verdict {
	next := *v
	next.again = true
	switch {
	case n != consequenceTries || v.with == nil || v.with.Edit != nil:
	case j.group != nil && j.group.name == consequenceGroup:
		next = Snooze(consequencePause, nil)
		if j.Now.Sub(j.Created) > q.o.BuriedKeep {
			next = Bury("its consequence cannot be done", nil)
		}
	default:
		jobs, err := q.consequences(j, v.with)
		if err != nil {
			q.o.OnError(fmt.Errorf("queue: verdict on %s: %w", j.ID, err))
			return &next
		}
		next.with = &Change{Jobs: jobs}
	}
	return &next
}

// consequences are the jobs that do what a verdict asked for. What belongs together is one of them: a change that may refuse,
// or have happened before.
func (q *Queue) consequences(j *job, c *Change) ([]Job, error) {
	var parts []Change
	replies := func(j Job) bool { return j.Replies }
	if c.Once != "" || c.Behind != "" || len(c.Refused) > 0 || slices.ContainsFunc(c.Jobs, replies) {
		parts = append(parts, *c)
	} else {
		for i := range c.Operations {
			parts = append(parts, Change{Operations: c.Operations[i : i+1]})
		}
		for i := range c.Jobs {
			parts = append(parts, Change{Jobs: c.Jobs[i : i+1]})
		}
		if len(c.Names) > 0 {
			parts = append(parts, Change{Names: c.Names})
		}
	}
	jobs := make([]Job, len(parts))
	for i := range parts {
		var body bytes.Buffer
		if err := gob.NewEncoder(&body).Encode(parts[i]); err != nil {
			return nil, err
		}
		if body.Len() > MaxBody {
			return nil, fmt.Errorf("%w: a consequence of %d bytes", ErrTooLarge, body.Len())
		}
		jobs[i] = Job{ID: q.NewID("csq_", j.shard), Lane: consequenceGroup + ":" + j.group.name, Body: body.Bytes()}
	}
	return jobs, nil
}

// consequence does what a verdict could not.
func consequence(_ context.Context, c *Claimed) Verdict {
	var change Change
	if err := gob.NewDecoder(bytes.NewReader(c.Body)).Decode(&change); err != nil {
		return Bury("malformed", nil)
	}
	return Done(nil).With(change)
}
