package queue

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// serial is as Lua knows it: one that is held through Retry and Snooze begins with +, the others with something else.
func (j *Job) serial() string {
	if j.Holds {
		return "+" + j.Serial
	}
	return j.Serial
}

// check tells whether a job may be put on a shard.
func (j *Job) check(shard int) error {
	if n, err := ShardOf(j.ID); err != nil || n != shard {
		return fmt.Errorf("%w: id %q in a change of shard %d", ErrID, j.ID, shard)
	}
	if j.Lane == "" || j.Lane[0] == ':' || strings.IndexByte(j.Lane, '\n') >= 0 || strings.IndexByte(j.Serial, '\n') >= 0 || strings.HasPrefix(j.Serial, "+") {
		return fmt.Errorf("%w: lane %q, serial %q", ErrID, j.Lane, j.Serial)
	}
	if s := j.Shared; s != nil && (s.Name == "" || j.Replies) {
		return fmt.Errorf("%w: job %s shares a body without a name, or has replies beside it", ErrID, j.ID)
	}
	if len(j.Parked) > 255 {
		return fmt.Errorf("%w: %d park names of job %s", ErrTooLarge, len(j.Parked), j.ID)
	}
	for _, t := range j.Tags {
		if t == "" || strings.IndexByte(t, '\n') >= 0 {
			return fmt.Errorf("%w: tag %q", ErrID, t)
		}
	}
	return nil
}

// lanesOf writes the lanes of jobs, each once; one job's policy counts for all of its lane.
func (it *item) lanesOf(jobs []Job) int {
	at := len(it.strs)
	for i := range jobs {
		j := &jobs[i]
		known := len(it.strs)-at >= 2*255
		for k := at; k < len(it.strs) && !known; k += 2 {
			known = it.strs[k] == j.Lane
		}
		if known {
			continue
		}
		policy := "0"
		if j.Drop {
			policy = "1"
		}
		it.str(j.Lane, policy)
	}
	return (len(it.strs) - at) / 2
}

// onlyInHand marks the lanes of which all jobs are born: nothing needs to be known about them.
func (it *item) onlyInHand(jobs []Job, at, lanes int) {
	if len(it.born) < len(jobs) { // the rare change with jobs of both ways is not looked at closer
		for i := range jobs {
			if !slices.ContainsFunc(it.born, func(b *job) bool { return b.ID == jobs[i].ID }) && len(jobs[i].Parked) == 0 {
				return
			}
		}
	}
	for k := range lanes {
		lane := it.strs[at+2*k]
		if slices.ContainsFunc(it.born, func(b *job) bool { return b.Lane == lane }) {
			it.strs[at+2*k+1] = "h"
		}
	}
}

// job writes one of the jobs of a change. hold: it may be this process' from its first moment.
func (it *item) job(q *Queue, jobs []Job, i int, hold bool) {
	j := &jobs[i]
	shape := [7]byte{'n', '-', '0', '0', '0', '0', '0'}
	tags := ""
	if len(j.Tags) > 0 {
		tags = "\n" + strings.Join(j.Tags, "\n")
	}
	it.str(j.Lane, "\n"+j.Lane+"\n"+ms(j.Keep)+tags, q.life(j), "")
	at := len(it.strs) - 1
	it.blob(j.Body)
	group := q.sched.groupBit(j.Lane)
	switch {
	case j.Park != "":
		shape[0] = 'p'
		it.str(j.Park)
	case !j.Due.IsZero():
		shape[0] = 'd'
		it.str(strconv.FormatInt(j.Due.UnixMilli(), 10))
		it.wake(group, time.Until(j.Due))
	case j.After > 0:
		shape[0] = 'a'
		it.str(ms(j.After))
		it.wake(group, j.After)
	default:
		if b := q.sched.reserve(j, it.shard, hold && group != 0 && len(j.Parked) == 0); b != nil {
			shape[0] = 'h'
			b.keep, b.tags, b.lasts = ms(j.Keep), tags, j.Idle > 0 && j.Idle <= j.Keep
			it.str(b.token, b.group.session, strconv.FormatInt(b.group.conf.Lease.Milliseconds(), 10))
			it.born = append(it.born, b)
		} else {
			if group != 0 && len(j.Parked) == 0 && !slices.Contains(it.waiting, j.Lane) {
				it.waiting = append(it.waiting, j.Lane)
			}
		}
	}
	if j.Serial != "" {
		shape[2] = '1'
		it.str(j.serial())
	}
	if !j.Expires.IsZero() {
		shape[3] = '1'
		it.str(strconv.FormatInt(j.Expires.UnixMilli(), 10))
	}
	if tags != "" {
		shape[4] = '1'
		it.str(tags)
	}
	if s := j.Shared; s != nil {
		it.str(s.Name)
		if shape[5] = '1'; slices.ContainsFunc(jobs[:i], func(o Job) bool { return o.Shared != nil && o.Shared.Name == s.Name && len(o.Parked) == 0 }) {
			shape[5] = '2'
		} else {
			it.blob(s.Data)
		}
	}
	if len(j.Parked) > 0 {
		shape[6] = '1'
		it.str(strconv.Itoa(len(j.Parked)))
		it.str(j.Parked...)
	}
	switch {
	case j.Replies:
		shape[1] = 'r'
	case len(j.Note) > 0:
		shape[1] = 'n'
		it.blob(j.Note)
	}
	it.strs[at] = string(shape[:])
}

// idleLife is Job.Idle where it says nothing, and what it is once the job was put off.
const idleLife = 60 * 24 * time.Hour

// freshFor is how old a job may be whose end leaves its expiry as it is: it is kept so much shorter.
const freshFor = time.Hour

// life is how long, in ms, a job and what lists it must live: to the latest time it is known to wait for, then as long as it is
// kept, or waits for somebody to work on it. Verdicts and edits look after it again.
func (q *Queue) life(j *Job) string {
	wait := max(0, j.After)
	switch {
	case !j.Expires.IsZero():
		wait = max(0, time.Until(j.Expires))
	case j.Park != "":
		wait = q.o.BuriedKeep
	case !j.Due.IsZero():
		wait = max(0, time.Until(j.Due))
	}
	return ms(wait + max(j.Keep, or(j.Idle, idleLife)))
}
