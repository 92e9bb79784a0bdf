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

// laneState is what this process holds and knows of a lane.
type laneState struct {
	name    string
	group   *group
	running int
	held    int
	ahead   []*job        // in hand without a slot, the first to begin first
	waiting uint64        // shards (bits) where due jobs wait for this process
	rested  time.Time     // when this process last had it paused,
	rests   time.Duration // for so long
	hungry  bool          // it stands in group.hungry

	second time.Time // when the count began,
	count  int       // of handlers that have returned since
	before int       // and in the second before
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

// Slots sets how many handlers of a lane this process may have at work at once, at least 1 and at most Group.PerLane, which it
// is without. What is in hand beyond it is finished. A lane whose group nobody handles has none.
func (q *Queue) Slots(lane string, n int) {
	h := &q.sched
	g := h.groupOf(lane)
	if g == nil {
		return
	}
	h.mu.Lock()
	before := g.perLane(lane)
	if n < g.conf.PerLane {
		g.slots[lane] = max(n, 1)
	} else {
		delete(g.slots, lane)
	}
	l := g.lanes[lane]
	more := g.perLane(lane) > before && l != nil && l.waiting != 0
	if more {
		g.dirty |= l.waiting
	}
	h.mu.Unlock()
	if more {
		h.rouse()
	}
}

// perLane is how many handlers of a lane may be at work. Called with scheduler.mu.
func (g *group) perLane(lane string) int {
	if n, fewer := g.slots[lane]; fewer {
		return n
	}
	return g.conf.PerLane
}

// lane is the state of a lane, made when there is none. Called with scheduler.mu.
func (g *group) lane(name string) *laneState {
	l := g.lanes[name]
	if l == nil {
		l = &laneState{name: name, group: g}
		g.lanes[name] = l
	}
	return l
}

// tidy lets a lane go that has nothing to be remembered. Called with scheduler.mu.
func (l *laneState) tidy() {
	if l.held == 0 && l.waiting == 0 {
		delete(l.group.lanes, l.name)
	}
}

// limit is how many jobs of a lane may be in hand: as many as have slots, and ahead of them what the lane does in a second, so
// that a crash finds few in hand that would have waited for long. Called with scheduler.mu.
func (l *laneState) limit(now time.Time) int {
	n := l.group.perLane(l.name)
	if l.group.conf.Ahead == 0 {
		return n
	}
	speed := max(l.count, l.before)
	if now.Sub(l.second) > 2*time.Second {
		speed = 0
	}
	return n + min(l.group.conf.Ahead, max(speed, aheadLeast))
}

// counts notes that a handler has returned. Called with scheduler.mu.
func (l *laneState) counts(now time.Time) {
	if d := now.Sub(l.second); d >= time.Second {
		if l.before = l.count; d >= 2*time.Second {
			l.before = 0
		}
		l.second, l.count = now, 0
	}
	l.count++
}

// room is how many more jobs of a lane may be taken in hand. Those ahead of a slot are asked for when half of them are gone, so
// that it takes few claims. Called with scheduler.mu.
func (l *laneState) room() int {
	limit := l.limit(time.Now())
	n := limit - l.held
	if n < (limit-l.group.perLane(l.name))/2 {
		return 0
	}
	return max(n, 0)
}

// room is the same of a group.
func (h *scheduler) room(g *group) int {
	n := g.conf.Concurrency - g.held
	if g.conf.Ahead > 0 {
		if h.bytes >= aheadBytes {
			return 0
		}
		n += aheadLanes * g.conf.Ahead
	}
	return max(n, 0)
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
	if h.handlers == nil || h.room(g) == 0 {
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
	free = h.handlers != nil && h.room(g) > 0 && l.held < g.perLane(j.Lane)+g.conf.Ahead
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
	if l.waiting != 0 && l.room() > 0 {
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
		if l.room() > 0 {
			it.ready |= l.group.bit
		}
	}
	for _, g := range h.groups {
		if it.ready&g.bit != 0 && g.dirty&shard == 0 {
			g.dirty |= shard
			wake = wake || h.room(g) > 0
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

// request gathers what the next call asks of a site: leases that are to be renewed and, when claiming, free places for the
// shards that may have due work. sweep looks everywhere. Nil when there is nothing to ask.
func (h *scheduler) request(s *site, now time.Time, sweep, claiming bool, round int) *request {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &request{site: s, at: now, look: sweep && claiming}
	if s.verdicts.held() > 0 {
		w.verdicts, _ = s.verdicts.next(make([]*item, 0, maxBatch))
	}
	for _, g := range h.groups {
		h.foresee(g, w.verdicts)
		for _, n := range s.shards {
			if g.shards[n] > 0 && !now.Before(g.beatAt[n]) {
				w.beats = append(w.beats, beat{g, n})
			}
		}
		h.want(w, g, sweep, claiming, round, now)
	}
	if !w.look && len(w.beats) == 0 && len(w.groups) == 0 && len(w.verdicts) == 0 {
		return nil
	}
	return w
}

// want adds what a group asks of a site. What a lost answer was about is asked for again, with places or without.
func (h *scheduler) want(w *request, g *group, sweep, claiming bool, round int, now time.Time) {
	s, places := w.site, 0
	unsure := slices.Contains(s.unsure, g)
	if claiming {
		places = min(maxClaim, h.room(g)+g.frees)
	}
	if places == 0 && !unsure {
		return
	}
	var shards []int
	for i := 0; i < len(s.shards) && places > 0; i++ {
		n := s.shards[(i+round)%len(s.shards)]
		if d := g.due[n]; !d.IsZero() && !now.Before(d) {
			g.dirty |= 1 << n
			g.due[n] = time.Time{}
		}
		if sweep || g.dirty&(1<<n) != 0 {
			shards = append(shards, n)
			g.dirty &^= 1 << n
		}
	}
	if len(shards) == 0 && !unsure {
		return
	}
	lanes := make(map[string]int, len(g.lanes)+len(g.slots))
	for lane, n := range g.slots {
		lanes[lane] = n + min(g.conf.Ahead, aheadLeast)
	}
	for lane, l := range g.lanes {
		lanes[lane] = l.room() + g.freesIn[lane]
	}
	w.groups = append(w.groups, want{g, places, lanes, shards})
}

// foresee reckons with what the verdicts of a request will have done when it claims: places they free, work they make due.
// Called with mu.
func (h *scheduler) foresee(g *group, verdicts []*item) {
	g.frees = 0
	clear(g.freesIn)
	for _, it := range verdicts {
		shard := uint64(1) << it.shard
		if it.ready&g.bit != 0 {
			g.dirty |= shard
			it.ready &^= g.bit
		}
		for _, name := range it.waiting {
			if h.groupOf(name) == g {
				g.lane(name).waiting |= shard
				g.dirty |= shard
			}
		}
		if it.ends.group == g {
			g.frees++
			g.freesIn[it.ends.Lane]++
			g.dirty |= it.ends.lane.waiting
		}
	}
}

// again marks what a failed request would have looked at, and may have looked at.
func (h *scheduler) again(w *request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.site.unsure = w.site.unsure[:0]
	for _, g := range w.groups {
		w.site.unsure = append(w.site.unsure, g.group)
		for _, n := range g.shards {
			g.group.dirty |= 1 << n
		}
	}
}

// learn keeps what a request did to our leases and what its answer said about work that is left.
func (h *scheduler) learn(w *request, t *answered) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range w.beats {
		b.group.beatAt[b.shard], b.group.sure[b.shard] = w.at.Add(b.group.conf.Lease/6), w.at
	}
	for _, g := range w.groups { // what was looked at has no due work left but what the answer says
		var looked uint64
		for _, n := range g.shards {
			looked |= 1 << n
		}
		for _, f := range t.left {
			if f.group == g.group && f.lane == "" && f.due.IsZero() {
				looked &^= 1 << f.shard
			}
		}
		for _, l := range g.group.lanes {
			l.waiting &^= looked
		}
	}
	for _, f := range t.left {
		if f.group == nil {
			continue
		}
		switch {
		case f.lane != "":
			l := f.group.lane(f.lane)
			l.waiting |= 1 << f.shard
			if l.room() > 0 { // its places came free meanwhile
				f.group.dirty |= 1 << f.shard
			}
		case f.due.IsZero():
			f.group.dirty |= 1 << f.shard
		default:
			f.group.due[f.shard] = f.due
		}
	}
	for _, b := range t.lost {
		if b.group != nil {
			b.group.lose(b.shard)
		}
	}
}

// lose tells the handlers of a shard's jobs that they hold them no more. Called with mu.
func (g *group) lose(shard int) {
	if l := &g.leases[shard]; l.ctx != nil {
		l.lost(ErrLeaseLost)
		*l = lease{}
	}
}

// doubt tells the handlers of leases that went unrenewed for too long; nobody else's clock is needed to know that.
func (h *scheduler) doubt(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.groups {
		for n := range g.sure {
			if g.shards[n] > 0 && now.Sub(g.sure[n]) > g.conf.Lease {
				g.lose(n)
			}
		}
	}
}

// sleepUntil is when the loop has something to do by itself; now when it has at once. Sites that are out or fail are asked
// again at their own time.
func (h *scheduler) sleepUntil(now, sweepAt time.Time, sites []*site, claiming bool) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := sweepAt
	soon := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	var open uint64
	for _, s := range sites {
		switch {
		case s.out:
		case now.Before(s.retryAt):
			soon(s.retryAt)
		default:
			for _, n := range s.shards {
				open |= 1 << n
			}
			if s.verdicts.held() > 0 {
				at = now
			}
		}
	}
	for _, g := range h.groups {
		free := claiming && h.room(g) > 0
		if free && g.dirty&open != 0 {
			at = now
		}
		for n := range g.due {
			if open&(1<<n) == 0 {
				continue
			}
			if free {
				soon(g.due[n])
			}
			if g.shards[n] > 0 {
				soon(g.beatAt[n])
			}
		}
	}
	h.wakeAt = at
	return at
}

// everywhere has the loop look at every shard.
func (h *scheduler) everywhere() {
	h.mu.Lock()
	for _, g := range h.groups {
		g.dirty = h.all
	}
	h.mu.Unlock()
	h.rouse()
}
