package relay

import (
	"slices"
	"sync"
	"time"
)

// throttle keeps sends below the rate that WeChat takes in a minute. WeChat does not publish that rate; it answers 45011
// above it. A minute with a refusal sets the limit to four fifths of what passed in it, or in the minute before if that was
// more (WeChat's minute need not begin with ours). A minute without one raises the limit by a tenth. A refusal also halves
// how many sends of a lane are under way at once, since those are refused beyond the first; a minute without one gives back
// a sixteenth. Each process has its own throttle: with several replicas each learns from its own refusals.
//
// It also pauses what WeChat refuses as a whole: an app with a fault in its config, or one API of it (a quota, a missing
// right). At the end of a pause one message is sent as a probe; the others follow when WeChat's answer to it shows that the
// fault is gone.
type throttle struct {
	mu    sync.Mutex
	at    map[route]*window
	slots func(at route, concurrency int) // sets how many jobs of the route's lanes the queue runs at once
}

// route is a channel of an app; with channel "" everything the app does.
type route struct{ app, channel string }

func (p route) whole() route { return route{app: p.app} }

// window is what is known about a route in the current minute, and its pause.
type window struct {
	minute      int64     // Unix minute of the counts
	sent        int       // sends of this minute
	passed      int       // of them, those that WeChat did not refuse for their number
	last        int       // passed of the minute before
	refused     bool      // WeChat refused one for their number
	full        bool      // the limit is reached, and one caller was told to pause the lanes
	limit       float64   // sends a minute; 0 = none known
	concurrency int       // sends of a lane at once; at first, and at most, sendsPerLane
	until       time.Time // end of the pause; zero = there is none
	why         string    // cause of the pause, as messages show it
	errcode     *int      // WeChat's errcode that began the pause
	probe       time.Time // when the probe was sent; zero = none is under way
}

// delay is how long a send has to wait (0 = not at all), and why. first is true for one caller of several, which then pauses
// the lanes.
type delay struct {
	wait    time.Duration
	why     string
	errcode *int
	first   bool
}

const (
	sendsPerLane  = 128                    // sends of a lane at once, until WeChat refuses some
	probePatience = 30 * time.Second       // after this a probe without an answer does not count
	probePause    = 500 * time.Millisecond // how long others wait for the probe's answer
)

func (p *throttle) of(at route, now time.Time) *window {
	if p.at == nil {
		p.at = map[route]*window{}
	}
	a := p.at[at]
	if a == nil {
		a = &window{minute: now.Unix() / 60, concurrency: sendsPerLane}
		p.at[at] = a
	}
	if m := now.Unix() / 60; m > a.minute {
		quiet := !a.refused
		a.next(m)
		if quiet {
			p.setConcurrency(at, a, min(a.concurrency+sendsPerLane/16, sendsPerLane))
		}
	}
	return a
}

// next begins another minute.
func (a *window) next(minute int64) {
	if a.refused {
		a.limit = max(float64(max(a.passed, a.last))*4/5, 1)
	} else if a.limit > 0 {
		a.limit += max(a.limit/10, 1)
	}
	a.minute, a.last = minute, a.passed
	a.sent, a.passed, a.refused, a.full = 0, 0, false, false
}

// admit counts one send, or returns how long it has to wait.
func (p *throttle) admit(at route, now time.Time) delay {
	p.mu.Lock()
	defer p.mu.Unlock()
	app, api := p.of(at.whole(), now), p.of(at, now)
	for _, a := range []*window{app, api} {
		if wait := a.waits(now); wait > 0 {
			return delay{wait: wait, why: a.why, errcode: a.errcode}
		}
	}
	if api.refused || api.limit > 0 && float64(api.sent) >= api.limit {
		first := !api.full
		api.full = true
		return delay{wait: untilNext(now, time.Minute), why: "no more than WeChat takes in a minute", first: first}
	}
	for _, a := range []*window{app, api} {
		if !a.until.IsZero() {
			a.probe = now
		}
	}
	api.sent++
	return delay{}
}

// waits is how long the pause still lasts, or how long to wait for the probe at its end.
func (a *window) waits(now time.Time) time.Duration {
	if a.until.IsZero() {
		return 0
	}
	if wait := a.until.Sub(now); wait > 0 {
		return wait
	}
	if !a.probe.IsZero() && now.Sub(a.probe) < probePatience {
		return probePause
	}
	return 0
}

// refused books a 45011: too many sends in this minute.
func (p *throttle) refused(at route, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.of(at, now); !a.refused {
		a.refused = true
		p.setConcurrency(at, a, max(a.concurrency/2, 1))
	}
}

// setConcurrency sets how many sends of each lane of a route are under way at once.
func (p *throttle) setConcurrency(at route, a *window, concurrency int) {
	if concurrency != a.concurrency {
		a.concurrency = concurrency
		p.slots(at, concurrency)
	}
}

// pause pauses a route for d; first is false when it is paused already.
func (p *throttle) pause(at route, d time.Duration, why string, errcode *int, now time.Time) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.of(at, now)
	a.probe = time.Time{}
	if a.until.After(now) {
		return false
	}
	a.until, a.why, a.errcode = now.Add(d), why, errcode
	return true
}

// succeeded books an answer of WeChat that is about the message and not about the app.
func (p *throttle) succeeded(at route, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of(at, now).passed++
	for _, a := range []*window{p.of(at.whole(), now), p.of(at, now)} {
		if !now.Before(a.until) { // a send from before the pause proves nothing
			a.until, a.probe = time.Time{}, time.Time{}
		}
	}
}

// retired remembers which channels WeChat has withdrawn (45103, 45109), so that a message that has no other channel is
// refused at once. Each process learns it from one message, and tries again after retiredFor.
type retired struct {
	mu    sync.Mutex
	until map[[2]string]time.Time // app, channel
}

const retiredFor = time.Hour

func (t *retired) note(app, channel string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until == nil {
		t.until = map[[2]string]time.Time{}
	}
	t.until[[2]string{app, channel}] = now.Add(retiredFor)
}

// all tells whether an app has none of these channels.
func (t *retired) all(app string, channels []string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !slices.ContainsFunc(channels, func(ch string) bool { return !now.Before(t.until[[2]string{app, ch}]) })
}
