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

// group is one Handle: its slots, what is in them, and where more may be had.
type group struct {
	name    string
	session string // its name among the lease holders
	bit     uint64
	conf    Group
	handler Handler

	// guarded by hands.mu
	count   int
	lanes   map[string]int
	slots   map[string]int // of lanes that have fewer than conf.PerLane
	frees   int            // slots that the verdicts of the turn being made free,
	freesIn map[string]int // and in which lane
	shards  [64]int        // jobs in hand, by shard
	dirty   uint64         // shards (bits) that may have due work
	capped  uint64         // shards whose due work waits for a slot of its lane
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

// hands is what this process holds, and what it knows about where to find more.
type hands struct {
	mu     sync.Mutex
	groups []*group
	byName atomic.Pointer[map[string]*group] // replaced, never changed
	frozen atomic.Bool                       // Run has begun: no more groups
	wake   chan struct{}
	wakeAt time.Time // the loop sleeps until then
	idle   chan struct{}
	total  int
	all    uint64 // every shard
}

func (h *hands) init(shards int) {
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
	hs := &q.hands
	hs.mu.Lock()
	defer hs.mu.Unlock()
	n := len(hs.groups)
	if hs.frozen.Load() || n == 64 || hs.group(name) != nil || name == "" || strings.ContainsAny(name, ":\n") {
		panic("queue: Handle(" + strconv.Quote(name) + ") twice, too late, or not a group's name")
	}
	gr := &group{name: name, session: q.caller + "-" + strconv.Itoa(n), bit: 1 << n, conf: g, handler: h,
		lanes: map[string]int{}, slots: map[string]int{}, freesIn: map[string]int{}}
	hs.groups = append(hs.groups, gr)
	byName := maps.Clone(*hs.byName.Load())
	byName[name] = gr
	hs.byName.Store(&byName)
}

// Slots sets how many jobs of a lane this process may have in hand at once, at least 1 and at most Group.PerLane, which it is
// without. What is in hand beyond it is finished. A lane whose group nobody handles has none.
func (q *Queue) Slots(lane string, n int) {
	h := &q.hands
	name, _, _ := strings.Cut(lane, ":")
	g := h.group(name)
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
	more := g.perLane(lane) > before && g.capped != 0
	if more {
		g.dirty |= g.capped
		g.capped = 0
	}
	h.mu.Unlock()
	if more {
		h.rouse()
	}
}

// perLane is how many jobs of a lane may be in hand. Called with hands.mu.
func (g *group) perLane(lane string) int {
	if n, fewer := g.slots[lane]; fewer {
		return n
	}
	return g.conf.PerLane
}

func (h *hands) group(name string) *group { return (*h.byName.Load())[name] }

func (h *hands) bySession(session string) *group {
	for _, g := range h.groups {
		if g.session == session {
			return g
		}
	}
	return nil
}

// groupBit is the bit of the lane's group, 0 when this process does not handle it.
func (h *hands) groupBit(lane string) uint64 {
	name, _, _ := strings.Cut(lane, ":")
	if g := h.group(name); g != nil {
		return g.bit
	}
	return 0
}

// nudge tells the loop what a commit of this process made due, or will.
func (h *hands) nudge(it *item) {
	if it.ready|it.later == 0 || !h.frozen.Load() {
		return
	}
	shard := uint64(1) << it.shard
	wake := false
	h.mu.Lock()
	for _, g := range h.groups {
		if it.ready&g.bit != 0 && g.dirty&shard == 0 {
			g.dirty |= shard
			wake = wake || g.count < g.conf.Concurrency
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

func (h *hands) rouse() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// take puts a job that was asked for at a time into its slot. It tells whether there was one: an answer that came late may
// bring more than there is room for meanwhile. ctx is its handler's: it ends with under, or when the lease is lost.
func (h *hands) take(under context.Context, g *group, j *job, asked time.Time) (ctx context.Context, free bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	free = g.count < g.conf.Concurrency && g.lanes[j.Lane] < g.perLane(j.Lane)
	if g.shards[j.shard] == 0 {
		g.beatAt[j.shard], g.sure[j.shard] = asked.Add(g.conf.Lease/6), asked
	}
	j.group = g
	g.count++
	h.total++
	g.lanes[j.Lane]++
	g.shards[j.shard]++
	l := &g.leases[j.shard]
	if l.ctx == nil {
		l.ctx, l.lost = context.WithCancelCause(under)
	}
	return l.ctx, free
}

// release frees a job's slot, and rouses the loop when somebody waits for one. It tells whether it was taken.
func (h *hands) release(j *job) bool {
	h.mu.Lock()
	g := j.group
	if g == nil || j.out {
		h.mu.Unlock()
		return false
	}
	j.out = true
	g.count--
	h.total--
	if g.lanes[j.Lane]--; g.lanes[j.Lane] == 0 {
		delete(g.lanes, j.Lane)
	}
	g.shards[j.shard]--
	g.dirty |= g.capped
	g.capped = 0
	wake := g.dirty != 0
	if h.total == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
	h.mu.Unlock()
	if wake {
		h.rouse()
	}
	return true
}

// empty returns a channel that is closed when nothing is in hand.
func (h *hands) empty() <-chan struct{} {
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

// wish gathers what the next turn asks of a site: leases that are to be renewed and, when claiming, free slots for the
// shards that may have due work. sweep looks everywhere. Nil when there is nothing to ask.
func (h *hands) wish(s *site, now time.Time, sweep, claiming bool, turn int) *wish {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &wish{site: s, at: now, look: sweep && claiming}
	if s.verdicts.held() > 0 {
		w.verdicts, _ = s.verdicts.next(make([]*item, 0, maxBatch))
	}
	for _, g := range h.groups {
		g.foresee(w.verdicts)
		for _, n := range s.shards {
			if g.shards[n] > 0 && !now.Before(g.beatAt[n]) {
				w.beats = append(w.beats, beat{g, n})
			}
		}
		h.want(w, g, sweep, claiming, turn, now)
	}
	if !w.look && len(w.beats) == 0 && len(w.groups) == 0 && len(w.verdicts) == 0 {
		return nil
	}
	return w
}

// want adds a group's wish for a site. What a lost answer was about is asked for again, with slots or without.
func (h *hands) want(w *wish, g *group, sweep, claiming bool, turn int, now time.Time) {
	s, slots := w.site, 0
	unsure := slices.Contains(s.unsure, g)
	if claiming {
		slots = max(0, min(maxClaim, g.conf.Concurrency-g.count+g.frees))
	}
	if slots == 0 && !unsure {
		return
	}
	var shards []int
	for i := 0; i < len(s.shards) && slots > 0; i++ {
		n := s.shards[(i+turn)%len(s.shards)]
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
	maps.Copy(lanes, g.slots)
	for lane, n := range g.lanes {
		lanes[lane] = g.perLane(lane) - n + g.freesIn[lane]
	}
	w.groups = append(w.groups, want{g, slots, lanes, shards})
}

// foresee reckons with what the verdicts of a turn will have done when it claims: slots they free, work they make due.
// Called with hands.mu.
func (g *group) foresee(verdicts []*item) {
	g.frees = 0
	clear(g.freesIn)
	for _, it := range verdicts {
		if it.ready&g.bit != 0 {
			g.dirty |= 1 << it.shard
			it.ready &^= g.bit
		}
		if it.ends.group == g {
			g.frees++
			g.freesIn[it.ends.Lane]++
		}
	}
	if g.frees > 0 {
		g.dirty |= g.capped
		g.capped = 0
	}
}

// again marks what a failed turn would have looked at, and may have looked at.
func (h *hands) again(w *wish) {
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

// learn keeps what a turn did to our leases and what it said about work that is left.
func (h *hands) learn(w *wish, t *turned) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range w.beats {
		b.group.beatAt[b.shard], b.group.sure[b.shard] = w.at.Add(b.group.conf.Lease/6), w.at
	}
	for _, l := range t.left {
		if l.group == nil {
			continue
		}
		switch l.why {
		case 'm':
			l.group.dirty |= 1 << l.shard
		case 'c':
			l.group.capped |= 1 << l.shard
		default:
			l.group.due[l.shard] = l.due
		}
	}
	for _, b := range t.lost {
		if b.group != nil {
			b.group.lose(b.shard)
		}
	}
}

// lose tells the handlers of a shard's jobs that they hold them no more. Called with hands.mu.
func (g *group) lose(shard int) {
	if l := &g.leases[shard]; l.ctx != nil {
		l.lost(ErrLeaseLost)
		*l = lease{}
	}
}

// doubt tells the handlers of leases that went unrenewed for too long; nobody else's clock is needed to know that.
func (h *hands) doubt(now time.Time) {
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
func (h *hands) sleepUntil(now, sweepAt time.Time, sites []*site, claiming bool) time.Time {
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
		free := claiming && g.count < g.conf.Concurrency
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
func (h *hands) everywhere() {
	h.mu.Lock()
	for _, g := range h.groups {
		g.dirty = h.all
	}
	h.mu.Unlock()
	h.rouse()
}
