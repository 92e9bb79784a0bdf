package queue

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// answer hands out what became of a batch that a committer carried. The place of a job that has ended is free before its
// worker knows, and what was born begins before its committer does.
func (q *Queue) answer(c *committer, batch []*item, text string, err error) {
	var now int64
	if err == nil {
		var at string
		at, text, _ = strings.Cut(text, " ")
		now = number(at)
	}
	for _, it := range batch {
		if err == nil {
			text, err = it.answer(text)
		}
		switch {
		case err != nil:
			it.res = Result{Err: err}
			q.doubtful(c, it)
		case it.code == 'E': // some of its jobs may be put
			q.sched.nudge(it)
			q.doubtful(c, it)
		case it.res.Err == nil && it.put_:
			q.sched.nudge(it)
			q.begin(it, now)
		default:
			if it.res.Err == nil {
				q.sched.nudge(it)
			}
			q.unborn(it)
		}
		if it.ends != nil && err == nil && over[it.code] {
			q.sched.release(it.ends)
		}
		if it.lazy {
			q.settle(it)
		} else {
			it.done <- struct{}{}
		}
	}
}

// begin starts the jobs that a change has put into this process' hand.
func (q *Queue) begin(it *item, now int64) {
	for _, j := range it.born {
		j.Created = time.UnixMicro(now).UTC()
		j.Now, j.due = j.Created, strconv.FormatInt(now, 10)
		if j.replies {
			j.Note = []byte(strings.Join(it.res.Replies, "\n"))
		}
		q.start(j)
	}
}

// unborn gives back the places of jobs whose change did not happen.
func (q *Queue) unborn(it *item) {
	for _, j := range it.born {
		q.sched.release(j)
	}
	it.born = it.born[:0]
}

// doubtful looks after the jobs of a change of which nobody knows whether it happened: if it did they are in our hand, and must
// go back. The same committer says so, because the script takes no call that comes after a later one of its caller.
func (q *Queue) doubtful(c *committer, it *item) {
	for _, j := range it.born {
		v := GiveBack()
		j.due = strconv.FormatInt(time.Now().UnixMicro(), 10)
		q.sayLater(c, j, &v)
	}
	it.born = it.born[:0]
}

// over are the codes after which a job is not in this process' hand any more.
var over = [256]bool{'K': true, 'A': true, 'S': true}

var errTornAnswer = fmt.Errorf("%w: torn answer", ErrUnavailable)

// answer reads this item's part of the reply and returns the rest.
func (it *item) answer(text string) (rest string, err error) {
	if text == "" {
		return "", errTornAnswer
	}
	it.code = text[0]
	count, rest, ok := strings.Cut(text[1:], " ")
	n, err := strconv.Atoi(count)
	if !ok || err != nil {
		return "", errTornAnswer
	}
	var replies []string
	if n > 0 {
		replies = make([]string, 0, n)
	}
	for range n {
		size, after, ok := strings.Cut(rest, ":")
		l, err := strconv.Atoi(size)
		if !ok || err != nil || l > len(after) {
			return "", errTornAnswer
		}
		replies, rest = append(replies, after[:l]), after[l:]
	}
	it.res, it.put_ = Result{Replies: replies}, false
	switch it.code {
	case 'k': // whoever waited for the serial may be of any lane
		it.code, it.ready, it.put_ = 'K', ^uint64(0), true
	case 'Q':
		it.code, it.ready, it.res.Refused = 'K', ^uint64(0), true
	case 'U':
		it.code, it.ready = 'K', ^uint64(0)
	case 'A':
		it.ready = ^uint64(0)
	case 'K':
		it.put_ = true
	case 'S':
	case 'T':
		it.res = Result{Err: ErrTaken, Held: strings.Join(replies, "")}
	case 'R':
		it.res.Refused = true
	case 'P': // refused, and behind the replies the ids of those that gave way
		n := len(replies) - 1
		it.res = Result{Refused: true, Replies: replies[:n:n], Replaced: strings.Split(replies[n], " ")}
	case 'E':
		it.ready = ^uint64(0)
		it.res = Result{Err: fmt.Errorf("%w: %s", ErrExtension, strings.Join(replies, ""))}
	default:
		it.res.Err = codes[it.code]
		if it.res.Err == nil {
			return "", errTornAnswer
		}
	}
	return rest, nil
}

var codes = map[byte]error{'X': ErrExists, 'V': ErrStale, 'H': ErrInHand, 'N': ErrNotFound, 'F': ErrFull}
