package queue

import "time"

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

// places is how many more jobs of a lane may be taken in hand. Those ahead of a slot are asked for when half of them are gone, so
// that it takes few claims. Called with scheduler.mu.
func (l *laneState) places() int {
	limit := l.limit(time.Now())
	n := limit - l.held
	if n < (limit-l.group.perLane(l.name))/2 {
		return 0
	}
	return max(n, 0)
}

// places is the same of a group.
func (h *scheduler) places(g *group) int {
	n := g.conf.Concurrency - g.held
	if g.conf.Ahead > 0 {
		if h.bytes >= aheadBytes {
			return 0
		}
		n += aheadLanes * g.conf.Ahead
	}
	return max(n, 0)
}
