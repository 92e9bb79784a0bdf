package relay

import (
	"slices"
	"sync"
	"time"
)

// paces slow sends to what WeChat takes in a minute, which it does not publish but tells by refusing (45011). A minute with a
// refusal sets the limit to four fifths of what passed in it, or in the one before if that was more (WeChat's minute need not
// begin with ours); one without raises it by a tenth. It also halves how many sends of a lane are under way at once, since
// those are what is refused beyond the first; a minute without gives a sixteenth back. Each process paces itself: with several
// replicas each meets its own refusals.
//
// They also rest what WeChat refuses whole: an app at fault in its config, or one API of it (a quota, a right it was not
// given). When a rest is over, one message goes ahead as a probe; the others follow when WeChat's answer to it shows that it
// works again.
type paces struct {
	mu    sync.Mutex
	at    map[path]*pace
	slots func(at path, atOnce int) // has the queue keep to it
}

// path is a way to WeChat: a channel of an app, or with channel "" whatever the app does.
type path struct{ app, channel string }

func (p path) whole() path { return path{app: p.app} }

type pace struct {
	minute  int64 // Unix minute that these count
	sent    int
	passed  int     // of them, those WeChat did not refuse for their number
	last    int     // that passed in the minute before
	refused bool    // it refused one
	full    bool    // no more go, and somebody was told
	limit   float64 // sends a minute; 0 = none known
	atOnce  int     // sends of a lane under way; at most, and at first, sendsAtOnce
	rest    time.Time
	why     string
	errcode *int      // WeChat's, that began the rest
	probe   time.Time // when the probe left; zero = none is out
}

// stay says how long a send has to wait and why, with WeChat's word to whoever met the reason; begins tells the first one, so
// that the lanes can rest too.
type stay struct {
	wait    time.Duration
	why     string
	errcode *int
	begins  bool
}

const (
	sendsAtOnce   = 128                    // of a lane, until WeChat refuses some
	probePatience = 30 * time.Second       // a probe without an answer is forgotten
	probePause    = 500 * time.Millisecond // how long others wait for it
)

func (p *paces) of(at path, now time.Time) *pace {
	if p.at == nil {
		p.at = map[path]*pace{}
	}
	a := p.at[at]
	if a == nil {
		a = &pace{minute: now.Unix() / 60, atOnce: sendsAtOnce}
		p.at[at] = a
	}
	if m := now.Unix() / 60; m > a.minute {
		quiet := !a.refused
		a.turn(m)
		if quiet {
			p.narrow(at, a, min(a.atOnce+sendsAtOnce/16, sendsAtOnce))
		}
	}
	return a
}

// turn begins another minute.
func (a *pace) turn(minute int64) {
	if a.refused {
		a.limit = max(float64(max(a.passed, a.last))*4/5, 1)
	} else if a.limit > 0 {
		a.limit += max(a.limit/10, 1)
	}
	a.minute, a.last = minute, a.passed
	a.sent, a.passed, a.refused, a.full = 0, 0, false, false
}

// admit counts one send, or says how long it has to wait.
func (p *paces) admit(at path, now time.Time) stay {
	p.mu.Lock()
	defer p.mu.Unlock()
	app, api := p.of(at.whole(), now), p.of(at, now)
	for _, a := range []*pace{app, api} {
		if wait := a.resting(now); wait > 0 {
			return stay{wait: wait, why: a.why, errcode: a.errcode}
		}
	}
	if api.refused || api.limit > 0 && float64(api.sent) >= api.limit {
		begins := !api.full
		api.full = true
		return stay{wait: untilNext(now, time.Minute), why: "no more than WeChat takes in a minute", begins: begins}
	}
	for _, a := range []*pace{app, api} {
		if !a.rest.IsZero() {
			a.probe = now
		}
	}
	api.sent++
	return stay{}
}

// resting is how long the rest lasts, or the probe at its end should be waited for.
func (a *pace) resting(now time.Time) time.Duration {
	if a.rest.IsZero() {
		return 0
	}
	if wait := a.rest.Sub(now); wait > 0 {
		return wait
	}
	if !a.probe.IsZero() && now.Sub(a.probe) < probePatience {
		return probePause
	}
	return 0
}

// refused learns from WeChat's 45011.
func (p *paces) refused(at path, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.of(at, now); !a.refused {
		a.refused = true
		p.narrow(at, a, max(a.atOnce/2, 1))
	}
}

// narrow sets how many sends of each lane of a path may be under way.
func (p *paces) narrow(at path, a *pace, atOnce int) {
	if atOnce != a.atOnce {
		a.atOnce = atOnce
		p.slots(at, atOnce)
	}
}

// rested lets an app or an API of it rest for d; begins tells whether it did not rest already.
func (p *paces) rested(at path, d time.Duration, why string, errcode *int, now time.Time) (begins bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.of(at, now)
	a.probe = time.Time{}
	if a.rest.After(now) {
		return false
	}
	a.rest, a.why, a.errcode = now.Add(d), why, errcode
	return true
}

// works: WeChat answered about the message, not about the app.
func (p *paces) works(at path, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of(at, now).passed++
	for _, a := range []*pace{p.of(at.whole(), now), p.of(at, now)} {
		if !now.Before(a.rest) { // one that was under way when the rest began proves nothing
			a.rest, a.probe = time.Time{}, time.Time{}
		}
	}
}

// retired remembers which channels WeChat said are withdrawn (45103, 45109), so that a message that has no other is refused
// at once. Each process learns it by one message; now and then another one asks again.
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
