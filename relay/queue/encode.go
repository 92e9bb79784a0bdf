package queue

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxJobs       = 1000    // of one change
	maxOperations = 10_000  // of one change: a push of 256 KiB has fewer answers in it
	maxChange     = 8 << 20 // bytes of one change
)

// item is a change on its way: its ARGV (see commit.lua), the strings first, then the blobs.
type item struct {
	strs  []string
	blobs [][]byte
	size  int // bytes
	shard int
	ends  *job    // whose verdict it carries, if any
	says  Verdict // of a lazy one: what it says
	lazy  bool    // nobody waits for the answer: the queue itself looks after it

	born    []*job        // jobs of the change that are this process' from their first moment
	put_    bool          // the answer says that Jobs were put
	waiting []string      // lanes of this process' that get a due job which is not
	ready   uint64        // groups (bits) that get due work by it
	later   uint64        // groups that get work after wakeIn
	wakeIn  time.Duration // the soonest of it

	state atomic.Int32
	done  chan struct{}
	res   Result
	code  byte
}

// shape is what commit.lua reads first of a change.
type shape struct {
	size, blobs                    uint16 // of its ARGV; how many of them are blobs
	operations, jobs, refused      uint16
	once, finish, edit             byte
	names, key, look, queue, lanes byte
}

func (s *shape) String() string {
	return string([]byte{byte(s.size >> 8), byte(s.size), byte(s.blobs >> 8), byte(s.blobs), s.once,
		byte(s.operations >> 8), byte(s.operations), s.finish, s.edit,
		byte(s.jobs >> 8), byte(s.jobs), byte(s.refused >> 8), byte(s.refused), s.names, s.key, s.look, s.queue, s.lanes})
}

// How commit.lua looks whether the ids of a change exist.
const (
	lookAll = iota // a job, kept or not
	lookNot        // not at all (DECISIONS.md 15)
)

const (
	itemWaits int32 = iota
	itemTaken
	itemAbandoned
)

var items = sync.Pool{New: func() any { return &item{done: make(chan struct{}, 1)} }}

func newItem(shard int) *item {
	it := items.Get().(*item)
	it.strs, it.blobs = it.strs[:0], it.blobs[:0]
	it.size, it.shard, it.ends, it.lazy, it.ready, it.later, it.wakeIn = 0, shard, nil, false, 0, 0, 0
	it.born, it.waiting = it.born[:0], it.waiting[:0]
	it.res, it.code = Result{}, 0
	it.state.Store(itemWaits)
	return it
}

// put makes room for another change; what the change held is let go.
func (it *item) put() {
	clear(it.strs)
	clear(it.blobs)
	clear(it.born)
	clear(it.waiting)
	it.res, it.ends, it.says = Result{}, nil, Verdict{}
	items.Put(it)
}

func (it *item) str(s ...string) { it.strs = append(it.strs, s...) }

func (it *item) blob(b []byte) { it.blobs = append(it.blobs, b) }

// encode writes a change, and the verdict it comes with, if any.
func (it *item) encode(q *Queue, c *Change, f *job, v *Verdict) error {
	if c.Shard < 0 || c.Shard >= q.o.Shards {
		return fmt.Errorf("%w: shard %d of %d", ErrID, c.Shard, q.o.Shards)
	}
	if len(c.Jobs) > maxJobs || len(c.Refused) > maxJobs || len(c.Names) > 255 || len(c.Operations) > maxOperations {
		return fmt.Errorf("%w: %d jobs, %d names, %d operations in one change", ErrTooLarge, len(c.Jobs)+len(c.Refused), len(c.Names), len(c.Operations))
	}
	shape := shape{operations: uint16(len(c.Operations)), jobs: uint16(len(c.Jobs)), refused: uint16(len(c.Refused)), names: byte(len(c.Names))}
	it.str("", Prefix(c.Shard))
	if len(c.Refused) > 0 {
		it.str("", "")
	}
	if c.Once != "" {
		shape.once = 1
		it.str(c.Once, ms(or(c.OnceFor, 24*time.Hour)))
	}
	if k := c.Key; k != nil && f == nil {
		shape.key = 1
		it.str(k.Name, k.Value, ms(or(k.For, 24*time.Hour)), k.Over)
	}
	if f != nil {
		it.ends = f
		before := len(it.strs)
		it.verdict(q, f, v)
		shape.finish = byte(len(it.strs) - before)
	}
	if e := c.Edit; e != nil {
		shape.edit = 1
		if err := it.edit(q, c.Shard, e); err != nil {
			return err
		}
	}
	if c.Behind != "" {
		shape.queue = 1
		it.str(c.Behind)
	}
	if c.ParkLimit != nil {
		shape.queue += 2
		if err := it.parkLimit(q, c, f != nil); err != nil {
			return err
		}
	}
	fresh := true
	for _, jobs := range [2][]Job{c.Jobs, c.Refused} {
		for i := range jobs {
			if err := jobs[i].check(c.Shard); err != nil {
				return err
			}
			fresh = fresh && minted(jobs[i].ID)
			it.str(jobs[i].ID)
		}
	}
	if fresh && shape.once == 1 {
		shape.look = lookNot
	}
	lanes := it.lanesOf(c.Jobs)
	shape.lanes = byte(lanes)
	lanesAt := len(it.strs) - 2*lanes
	for i := range c.Operations {
		m := &c.Operations[i]
		n, ok := q.extensions[m.Extension]
		if !ok {
			return fmt.Errorf("%w: no extension is called %q", ErrExtension, m.Extension)
		}
		if len(m.Args) > 255 {
			return fmt.Errorf("%w: %d arguments of one operation", ErrTooLarge, len(m.Args))
		}
		it.str(string([]byte{n, byte(len(m.Args))}))
		it.str(m.Args...)
	}
	for i := range c.Names {
		n := &c.Names[i]
		it.str(n.Name, n.Value, ms(or(n.For, 24*time.Hour)))
	}
	for i := range c.Jobs {
		it.job(q, c.Jobs, i, f == nil || !v.again && minted(c.Jobs[i].ID)) // what exists already is in another's hand, or was
	}
	it.onlyInHand(c.Jobs, lanesAt, lanes)
	if len(c.Refused) > 0 {
		it.strs[2], it.strs[3] = strconv.Itoa(len(it.strs)), strconv.Itoa(len(it.blobs))
		for i := range c.Refused {
			it.job(q, c.Refused, i, false)
		}
	}
	if len(it.strs)+len(it.blobs) > 1<<16-1 {
		return fmt.Errorf("%w: %d parts of one change", ErrTooLarge, len(it.strs)+len(it.blobs))
	}
	shape.size, shape.blobs = uint16(len(it.strs)+len(it.blobs)), uint16(len(it.blobs))
	it.strs[0] = shape.String()
	for _, s := range it.strs {
		it.size += len(s) + 16
	}
	for _, b := range it.blobs {
		if len(b) > MaxBody {
			return fmt.Errorf("%w: a body or note of %d bytes, at most %d", ErrTooLarge, len(b), MaxBody)
		}
		it.size += len(b) + 16
	}
	if it.size > maxChange {
		return fmt.Errorf("%w: a change of %d bytes, at most %d", ErrTooLarge, it.size, maxChange)
	}
	return nil
}

func (it *item) edit(q *Queue, shard int, e *Edit) error {
	if n, err := ShardOf(e.ID); err != nil || n != shard {
		return fmt.Errorf("%w: id %q in a change of shard %d", ErrID, e.ID, shard)
	}
	flags := 0
	if e.Note != nil {
		flags = 1
		it.blob(e.Note)
	}
	if e.Lasting {
		flags += 2
	}
	it.str(e.ID, strconv.FormatInt(e.Version, 10), strconv.Itoa(int(e.To)), ms(e.After), strconv.Itoa(flags))
	switch e.To { // whose lane it is the script knows: every group looks
	case Ready:
		it.ready = ^uint64(0)
	case Later:
		it.wake(^uint64(0), e.After)
	}
	return nil
}

// parkLimit writes what the job that Refused parks needs.
func (it *item) parkLimit(q *Queue, c *Change, verdict bool) error {
	n := slices.IndexFunc(c.Refused, func(j Job) bool { return j.Park != "" })
	if n < 0 || verdict || c.ParkLimit.Set == "" || c.ParkLimit.Most < 1 {
		return fmt.Errorf("%w: limit %+v needs a refused job that parks, a set and how many", ErrID, *c.ParkLimit)
	}
	j := &c.Refused[n]
	it.str(j.Park, j.ID, c.ParkLimit.Set, strconv.Itoa(c.ParkLimit.Most), c.ParkLimit.Key, q.life(j))
	if c.ParkLimit.Key != "" {
		it.ready = ^uint64(0) // whose lane it is that those who give way are in, the script knows
	}
	return nil
}

// verdict writes what becomes of a job in hand.
func (it *item) verdict(q *Queue, f *job, v *Verdict) {
	noted, version, attempts, when := "0", f.Version, f.Attempts, ms(v.after)
	if v.note != nil && v.kind != giveBack && v.kind != lapse {
		noted = "1"
		it.blob(v.note)
	}
	if v.kind != giveBack && v.kind != lapse {
		version++
	}
	group := q.sched.groupBit(f.Lane)
	switch v.kind {
	case retry:
		attempts++
		it.wake(group, v.after)
	case snooze, lapse:
		it.wake(group, v.after)
	case giveBack:
		it.ready |= group
	case parkAgain:
		when = ""
		if !v.expires.IsZero() {
			when = strconv.FormatInt(v.expires.UnixMilli(), 10)
		}
	}
	keep := f.keep
	if v.kind == done && f.lasts && f.Now.Sub(f.Created) < freshFor {
		keep = "" // it lives long enough as it is
	}
	it.str(f.ID, f.token, f.Lane, f.serial, string(v.kind), noted, keep, f.tags)
	switch v.kind {
	case giveBack:
		it.str(f.due, "")
	case done:
		it.str(strconv.FormatInt(version, 10), "")
	default:
		it.str(strconv.FormatInt(version, 10), f.shared, when, f.expires, v.reason, strconv.Itoa(attempts), strconv.Itoa(v.most))
	}
}

// wake notes that groups get work after a while.
func (it *item) wake(groups uint64, after time.Duration) {
	if after <= 0 {
		it.ready |= groups
		return
	}
	if it.later == 0 || after < it.wakeIn {
		it.wakeIn = after
	}
	it.later |= groups
}

// ms is a duration in whole milliseconds, not less than it.
func ms(d time.Duration) string {
	if d <= 0 {
		return "0"
	}
	return strconv.FormatInt(int64((d+time.Millisecond-1)/time.Millisecond), 10)
}

func or(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}
