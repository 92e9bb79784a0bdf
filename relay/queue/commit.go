package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Bounds of one script call, and of what may queue up behind one.
const (
	maxBatch      = 128
	maxBatchBytes = 4 << 20
	maxPending    = 64 << 20
)

var errFull = errors.New("nothing was sent: too many changes wait for Redis")

// Commit makes a change happen wholly or not at all. Safe for concurrent use; changes that are committed while a script call
// is in flight travel together in the next one.
//
// When ctx ends first, the error wraps ctx.Err(). If the change had not left yet it never will; if it had, the error wraps
// ErrUnavailable too, and the change may or may not happen. After any ErrUnavailable the same change may be committed
// again if it has a Once or names its jobs: it then answers ErrTaken or ErrExists when the first had happened.
func (q *Queue) Commit(ctx context.Context, c Change) Result {
	if err := ctx.Err(); err != nil {
		return Result{Err: err}
	}
	if c.Key != nil && q.apart {
		return q.commitKeyed(ctx, c)
	}
	it := newItem(c.Shard)
	if err := it.encode(q, &c, nil, nil); err != nil {
		it.put()
		return Result{Err: err}
	}
	res, _ := q.submit(ctx, it)
	return res
}

// submit queues an item, waits for its answer and lets it go.
func (q *Queue) submit(ctx context.Context, it *item) (Result, byte) {
	s := q.siteOf[it.shard]
	if c := s.committer(it); it.ends == nil || !c.join(it) && !s.verdicts.hold(q, it) {
		if !c.push(s, it) {
			q.unborn(it)
			it.put()
			return Result{Err: unavailable(errFull)}, 0
		}
	}
	select {
	case <-it.done:
	case <-ctx.Done():
		if it.state.CompareAndSwap(itemWaits, itemAbandoned) {
			return Result{Err: ctx.Err()}, 0 // the committer lets it go
		}
		return Result{Err: fmt.Errorf("%w: whether the change happened is not known: %w", ErrUnavailable, ctx.Err())}, 0
	}
	res, code := it.res, it.code
	it.put()
	return res, code
}

// gather is how long the verdicts of groups with Ahead wait for a call that is made anyway: at 500 pushes a second they cost
// none.
const gather = 25 * time.Millisecond

// committer is the group commit of a site, or of half of its shards: with two of them Redis works on one call while the next
// is made and the last is handed out. Each is a caller of its own to the script, which knows the last call of each again.
// No goroutine waits for work: the first change of an idle one starts it, and it ends when nothing is left. A third one only
// holds verdicts, for the loop to take along.
type committer struct {
	q       *Queue
	mu      sync.Mutex
	pending []*item
	bytes   int
	eager   int       // of pending: those that do not wait for others
	since   time.Time // the others wait
	late    bool      // they have waited long enough
	timed   bool      // somebody will say so
	busy    bool
	company bool // the call under way, or the next, carries more than verdicts
	open    bool // of verdicts: somebody will come for what is held
	caller  string
	calls   uint64 // touched by the one flush at work
	args    []any
}

func (c *committer) push(s *site, it *item) bool {
	c.mu.Lock()
	if !c.add(it) {
		c.mu.Unlock()
		return false
	}
	start := !c.busy
	c.busy = true
	c.mu.Unlock()
	if start {
		go c.flush(s)
	}
	return true
}

// later adds a verdict that waits for company.
func (c *committer) later(s *site, it *item) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.add(it) {
		return false
	}
	if len(c.pending)-c.eager == 1 {
		c.since = time.Now()
	}
	if !c.timed {
		c.timed = true
		time.AfterFunc(gather, func() { c.kick(s) })
	}
	return true
}

// kick sends what has waited long enough.
func (c *committer) kick(s *site) {
	c.mu.Lock()
	waits := gather - time.Since(c.since)
	switch {
	case len(c.pending) == c.eager:
		c.timed = false
	case waits > 0:
		time.AfterFunc(waits, func() { c.kick(s) })
	default:
		c.timed, c.late = false, true
		if !c.busy {
			c.busy = true
			go c.flush(s)
		}
	}
	c.mu.Unlock()
}

// join adds a verdict to the next call when one is under way that others asked for: where they commit all the time, it costs
// no call.
func (c *committer) join(it *item) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.busy && c.company && c.add(it)
}

// hold keeps a verdict for the loop's next turn, if there will be one.
func (c *committer) hold(q *Queue, it *item) bool {
	c.mu.Lock()
	held := c.open && c.add(it)
	first := len(c.pending) == 1
	c.mu.Unlock()
	if held && first {
		q.sched.rouse()
	}
	return held
}

// add tells whether there was room. Called with mu.
func (c *committer) add(it *item) bool {
	if c.bytes+it.size > maxPending {
		return false
	}
	c.pending = append(c.pending, it)
	c.bytes += it.size
	c.company = c.company || it.ends == nil
	if !it.lazy {
		c.eager++
	}
	return true
}

// held is how many wait.
func (c *committer) held() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending)
}

// shut gives what is held to those who commit by themselves.
func (c *committer) shut(s *site) {
	c.mu.Lock()
	held := c.pending
	c.pending, c.bytes, c.eager, c.open = nil, 0, 0, false
	c.mu.Unlock()
	for _, it := range held {
		if !s.committer(it).push(s, it) {
			c.q.answer(c, []*item{it}, "", unavailable(errFull))
		}
	}
}

// next takes what fits into one call. over: nothing is to be sent now, and the flush that asked must end, since the next push
// starts another.
func (c *committer) next(batch []*item) (_ []*item, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, bytes := 0, 0
	c.company = false
	for now := c.eager > 0 || c.late || len(c.pending) >= maxBatch; now && n < len(c.pending); n++ {
		it := c.pending[n]
		if len(batch) == maxBatch || bytes > 0 && bytes+it.size > maxBatchBytes {
			break
		}
		c.bytes -= it.size
		if !it.lazy {
			c.eager--
		}
		if it.state.CompareAndSwap(itemWaits, itemTaken) {
			batch = append(batch, it)
			bytes += it.size
			c.company = c.company || it.ends == nil
		} else {
			c.q.unborn(it)
			it.put()
		}
	}
	rest := copy(c.pending, c.pending[n:])
	clear(c.pending[rest:])
	c.pending = c.pending[:rest]
	c.late = c.late && rest > 0
	over = len(batch) == 0 && (rest == 0 || c.eager == 0 && !c.late)
	if over {
		c.busy = false
		if cap(c.pending) > 4*maxBatch && rest == 0 { // what a burst needed is given back
			c.pending, c.args = nil, nil
		}
	}
	return batch, over
}

func (c *committer) flush(s *site) {
	batch := make([]*item, 0, maxBatch)
	for {
		var over bool
		if batch, over = c.next(batch[:0]); over {
			return
		}
		if len(batch) > 0 {
			s.call(c, batch)
			clear(batch)
		}
	}
}

// call carries a batch to Redis and hands out the answers. A Redis without memory takes no changes, but it still takes
// verdicts, or it would never have memory again.
func (s *site) call(c *committer, batch []*item) {
	q := s.q
	text, err := s.carry(c, batch, false)
	if err != nil && redis.HasErrorPrefix(err, "OOM") {
		err = unavailable(err)
		q.o.OnError(err)
		ends, others := make([]*item, 0, len(batch)), make([]*item, 0, len(batch))
		for _, it := range batch {
			if it.ends != nil {
				ends = append(ends, it)
			} else {
				others = append(others, it)
			}
		}
		q.answer(c, others, "", err)
		if batch = ends; len(batch) == 0 {
			return
		}
		text, err = s.carry(c, batch, true)
	}
	if err != nil {
		err = unavailable(err)
		q.o.OnError(err)
	}
	q.answer(c, batch, text, err)
}

// carry makes one script call of a batch.
func (s *site) carry(c *committer, batch []*item, relief bool) (string, error) {
	q := s.q
	args := c.write(q, append(c.args[:0], "", "", "", "", "0"), batch, relief)
	res, err := q.turns.send(context.Background(), q.rdb, s.key, args)
	clear(args)
	c.args = args
	if err != nil {
		return "", err
	}
	text, ok := res.(string)
	if !ok {
		return "", fmt.Errorf("commit answered %T", res)
	}
	return text, nil
}

// write appends a batch as commit.lua reads it.
func (c *committer) write(q *Queue, args []any, batch []*item, relief bool) []any {
	c.calls++
	q.tally.calls.Add(1)
	q.tally.changes.Add(uint64(len(batch)))
	flag := "0"
	if relief {
		flag = "1"
	}
	args = append(args, c.caller, strconv.FormatUint(c.calls, 10), ms(q.o.BuriedKeep), flag, (q.o.MaxWaiting+q.o.Shards-1)/q.o.Shards)
	for _, it := range batch {
		for i := range it.strs {
			args = append(args, &it.strs[i])
		}
		for i := range it.blobs {
			args = append(args, it.blobs[i])
		}
	}
	return args
}
