package queue

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what a group with Group.Ahead holds.
const (
	aheadLanes = 32       // so many lanes may hold Ahead jobs at once
	aheadLeast = 16       // of a lane whose speed is not known; else what it did in a second
	aheadBytes = 16 << 20 // of bodies, over all groups
)

// group is one Handle: its slots, what is in them, and where more may be had.
type group struct {
	name    string
	session string // its name among the lease holders
	bit     uint64
	conf    Group
	handler Handler

	// guarded by scheduler.mu
	running int // handlers at work
	held    int // jobs in hand: running, ahead of a slot, or with a verdict on its way
	lanes   map[string]*laneState
	hungry  []*laneState   // lanes with jobs ahead that found all slots of the group taken
	slots   map[string]int // of lanes that have fewer than conf.PerLane
	frees   int            // slots that the verdicts of the request being made free,
	freesIn map[string]int // and in which lane
	shards  [64]int        // jobs in hand, by shard
	dirty   uint64         // shards (bits) that may have due work
	due     [64]time.Time  // when a shard's next job is due; zero = not known
	beatAt  [64]time.Time  // next renewal of a shard's lease
	sure    [64]time.Time  // the lease was certainly renewed later than this
	leases  [64]lease      // what the handlers of a shard's jobs run under
}

// lease is the context of the handlers that work under one lease: it ends when that is lost. The zero lease is not begun.
type lease struct {
	ctx  context.Context
	lost context.CancelCauseFunc
}

// scheduler is what this process holds, and what it knows about where to find more.
type scheduler struct {
	mu       sync.Mutex
	groups   []*group
	byName   atomic.Pointer[map[string]*group] // replaced, never changed
	frozen   atomic.Bool                       // Run has begun: no more groups
	handlers context.Context                   // of Run's handlers; nil while nothing may begin
	born     atomic.Uint64                     // number of the next token of a job that is taken in hand by its commit
	wake     chan struct{}
	wakeAt   time.Time // the loop sleeps until then
	idle     chan struct{}
	total    int
	bytes    int    // of the bodies of jobs ahead
	all      uint64 // every shard
}

func (h *scheduler) init(shards int) {
	h.wake, h.all = make(chan struct{}, 1), 1<<shards-1
	h.byName.Store(&map[string]*group{})
}

// Handle names the handler of a group: of the lanes "name" and "name:...". Call it before Run; one handler for a group, at
// most 64 groups. A lane whose group nobody handles keeps its jobs.
func (q *Queue) Handle(name string, g Group, h Handler) {
	if g.Concurrency <= 0 {
		g.Concurrency = 16
	}
	if g.PerLane <= 0 || g.PerLane > g.Concurrency {
		g.PerLane = g.Concurrency
	}
	g.Lease = or(g.Lease, q.o.Lease)
	hs := &q.sched
	hs.mu.Lock()
	defer hs.mu.Unlock()
	n := len(hs.groups)
	if hs.frozen.Load() || n == 64 || hs.group(name) != nil || name == "" || strings.ContainsAny(name, ":\n") {
		panic("queue: Handle(" + strconv.Quote(name) + ") twice, too late, or not a group's name")
	}
	gr := &group{name: name, session: q.caller + "-" + strconv.Itoa(n), bit: 1 << n, conf: g, handler: h,
		lanes: map[string]*laneState{}, slots: map[string]int{}, freesIn: map[string]int{}}
	hs.groups = append(hs.groups, gr)
	byName := maps.Clone(*hs.byName.Load())
	byName[name] = gr
	hs.byName.Store(&byName)
}

func (h *scheduler) group(name string) *group { return (*h.byName.Load())[name] }

func (h *scheduler) groupOf(lane string) *group {
	name, _, _ := strings.Cut(lane, ":")
	return h.group(name)
}

func (h *scheduler) bySession(session string) *group {
	for _, g := range h.groups {
		if g.session == session {
			return g
		}
	}
	return nil
}

// groupBit is the bit of the lane's group, 0 when this process does not handle it.
func (h *scheduler) groupBit(lane string) uint64 {
	if g := h.groupOf(lane); g != nil {
		return g.bit
	}
	return 0
}

// reserve takes a place for a job that is about to be committed: it will be in this process' hand from its first moment. Nil
// when it must go to its lane: nothing may begin, all places are taken, or others wait before it.
func (h *scheduler) reserve(j *Job, shard int, may bool) *job {
	if !may || j.Serial != "" || !minted(j.ID) {
		return nil
	}
	g := h.groupOf(j.Lane)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.handlers == nil || h.places(g) == 0 {
		return nil
	}
	l := g.lane(j.Lane)
	if l.waiting != 0 || l.held >= l.limit(time.Now()) {
		return nil
	}
	body := j.Body
	if j.Shared != nil {
		body = slices.Concat(body, j.Shared.Data)
	}
	b := &job{Claimed: Claimed{ID: j.ID, Lane: j.Lane, Body: body, Note: j.Note, State: "leased"},
		shard: shard, token: g.session + "." + strconv.FormatUint(h.born.Add(1), 10) + "b", replies: j.Replies}
	if j.Shared != nil {
		b.shared = j.Shared.Name
	}
	if !j.Expires.IsZero() {
		b.expires = strconv.FormatInt(j.Expires.UnixMilli(), 10)
	}
	h.hold(b, l, time.Now())
	return b
}

// hold counts a job in. asked is when it was asked for: its lease is not older. Called with scheduler.mu.
func (h *scheduler) hold(j *job, l *laneState, asked time.Time) {
	g := l.group
	if g.shards[j.shard] == 0 {
		g.beatAt[j.shard], g.sure[j.shard] = asked.Add(g.conf.Lease/6), asked
	}
	j.group, j.lane = g, l
	g.held++
	h.total++
	l.held++
	g.shards[j.shard]++
}

// take holds a job that a claim brought. It tells whether there is room: an answer that came late may bring more than was
// asked for meanwhile.
func (h *scheduler) take(g *group, j *job, asked time.Time) (free bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := g.lane(j.Lane)
	free = h.handlers != nil && h.places(g) > 0 && l.held < g.perLane(j.Lane)+g.conf.Ahead
	h.hold(j, l, asked)
	return free
}

// start begins with a job in hand, or has it wait for a slot. false: it must go back.
func (h *scheduler) start(j *job) (ctx context.Context, begin, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g, l := j.group, j.lane
	switch {
	case h.handlers == nil:
		return nil, false, false
	case l.running < g.perLane(l.name) && g.running < g.conf.Concurrency:
		return h.begin(j), true, true
	}
	l.ahead = append(l.ahead, j)
	h.bytes += len(j.Body)
	if l.running < g.perLane(l.name) && !l.hungry {
		l.hungry = true
		g.hungry = append(g.hungry, l)
	}
	return nil, false, true
}

// begin counts a handler in and returns its context, which ends with Run's or when the lease is lost. Called with mu.
func (h *scheduler) begin(j *job) context.Context {
	j.group.running++
	j.lane.running++
	j.begun = true
	c := &j.group.leases[j.shard]
	if c.ctx == nil {
		c.ctx, c.lost = context.WithCancelCause(h.handlers)
	}
	return c.ctx
}

// done frees the slot of a job whose handler has returned, and begins with the next that waits for one: of a lane that found
// all slots taken, or of the same.
func (h *scheduler) done(j *job) (next *job, ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.vacate(j)
	g, l := j.group, j.lane
	l.counts(time.Now())
	if len(g.hungry) > 0 {
		if len(l.ahead) > 0 && !l.hungry {
			l.hungry = true
			g.hungry = append(g.hungry, l)
		}
		l = g.hungry[0]
		g.hungry = slices.Delete(g.hungry, 0, 1)
		l.hungry = false
	}
	if len(l.ahead) == 0 || l.running >= g.perLane(l.name) || h.handlers == nil {
		return nil, nil
	}
	next = l.pop()
	h.bytes -= len(next.Body)
	return next, h.begin(next)
}

// vacate frees a job's slot. Called with mu.
func (h *scheduler) vacate(j *job) {
	if j.begun {
		j.begun = false
		j.group.running--
		j.lane.running--
	}
}

func (l *laneState) pop() *job {
	j := l.ahead[0]
	n := copy(l.ahead, l.ahead[1:])
	l.ahead[n] = nil
	l.ahead = l.ahead[:n]
	return j
}

// flush takes all jobs that wait for a slot out of a lane, or of every lane: they are to be given back.
func (h *scheduler) flush(lane *laneState) (back []*job) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.groups {
		for _, l := range g.lanes {
			if lane == nil || l == lane {
				back = append(back, l.ahead...)
				clear(l.ahead)
				l.ahead = l.ahead[:0]
			}
		}
	}
	for _, j := range back {
		h.bytes -= len(j.Body)
	}
	return back
}

// release counts a job out, and rouses the loop when others wait for its place. Twice is once.
func (h *scheduler) release(j *job) {
	h.mu.Lock()
	if j.out {
		h.mu.Unlock()
		return
	}
	j.out = true
	h.vacate(j)
	g, l := j.group, j.lane
	g.held--
	h.total--
	l.held--
	g.shards[j.shard]--
	if l.waiting != 0 && l.places() > 0 {
		g.dirty |= l.waiting
	}
	l.tidy()
	wake := g.dirty != 0
	if h.total == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
	h.mu.Unlock()
	if wake {
		h.rouse()
	}
}

// nudge tells the loop what a commit of this process made due, or will.
func (h *scheduler) nudge(it *item) {
	if it.ready|it.later == 0 && len(it.waiting) == 0 || !h.frozen.Load() {
		return
	}
	shard := uint64(1) << it.shard
	wake := false
	h.mu.Lock()
	for _, name := range it.waiting {
		l := h.groupOf(name).lane(name)
		l.waiting |= shard
		if l.places() > 0 {
			it.ready |= l.group.bit
		}
	}
	for _, g := range h.groups {
		if it.ready&g.bit != 0 && g.dirty&shard == 0 {
			g.dirty |= shard
			wake = wake || h.places(g) > 0
		}
		if it.later&g.bit != 0 {
			at := time.Now().Add(it.wakeIn)
			if d := &g.due[it.shard]; d.IsZero() || at.Before(*d) {
				*d = at
				wake = wake || at.Before(h.wakeAt)
			}
		}
	}
	h.mu.Unlock()
	if wake {
		h.rouse()
	}
}

func (h *scheduler) rouse() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// open lets handlers begin, under a context, until shut.
func (h *scheduler) open(handlers context.Context) {
	h.mu.Lock()
	h.handlers = handlers
	h.mu.Unlock()
}

// shut lets no more handlers begin.
func (h *scheduler) shut() {
	h.mu.Lock()
	h.handlers = nil
	h.mu.Unlock()
}

// empty returns a channel that is closed when nothing is in hand.
func (h *scheduler) empty() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := make(chan struct{})
	if h.total == 0 {
		close(c)
	} else {
		h.idle = c
	}
	return c
}

// restedLately is how soon a pause that several handlers ask for is not asked of Redis again.
const restedLately = 100 * time.Millisecond

// rest returns the jobs of a lane that is paused for a while which are to go back. known: this process has had it paused just now.
func (h *scheduler) rest(lane string, d time.Duration) (back []*job, known bool) {
	g := h.groupOf(lane)
	if g == nil {
		return nil, false
	}
	h.mu.Lock()
	l := g.lane(lane)
	now := time.Now()
	known = d > 0 && now.Sub(l.rested) < restedLately && d <= l.rests
	if !known {
		l.rested, l.rests = now, d
	}
	h.mu.Unlock()
	if d <= 0 {
		return nil, false
	}
	return h.flush(l), known
}
