package queue

import (
	"slices"
	"time"
)

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
		places = min(maxClaim, h.places(g)+g.frees)
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
		lanes[lane] = l.places() + g.freesIn[lane]
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
			if l.places() > 0 { // its places came free meanwhile
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
		free := claiming && h.places(g) > 0
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
