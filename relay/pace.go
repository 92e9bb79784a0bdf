package relay

import (
	"sync"
	"time"
)

// paces slow each app's sends to what WeChat takes in a minute, which it does not publish but tells by refusing (45011).
// A refusal sets the limit to four fifths of what had passed; every minute without one raises it by a tenth. Each process
// paces itself: with several replicas each meets its own refusals.
//
// They also rest an app that WeChat refuses whole (a quota, a fault of its config). When a rest is over, one message goes
// ahead as a probe; the others follow when WeChat's answer to it shows that the app works again.
type paces struct {
	mu  sync.Mutex
	app map[string]*pace
}

type pace struct {
	minute int64 // Unix minute that sent counts
	sent   int
	limit  float64 // sends a minute; 0 = none known
	rest   time.Time
	probe  time.Time // when the probe left; zero = none is out
}

const (
	probePatience = 30 * time.Second       // a probe without an answer is forgotten
	probePause    = 500 * time.Millisecond // how long others wait for it
)

func (p *paces) of(app string, now time.Time) *pace {
	if p.app == nil {
		p.app = map[string]*pace{}
	}
	a := p.app[app]
	if a == nil {
		a = &pace{minute: now.Unix() / 60}
		p.app[app] = a
	}
	if m := now.Unix() / 60; m > a.minute {
		if a.limit > 0 {
			a.limit += max(a.limit/10, 1)
		}
		a.minute, a.sent = m, 0
	}
	return a
}

// admit counts one send, or says how long it has to wait.
func (p *paces) admit(app string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.of(app, now)
	if !a.rest.IsZero() {
		if wait := a.rest.Sub(now); wait > 0 {
			return wait
		}
		if !a.probe.IsZero() && now.Sub(a.probe) < probePatience {
			return probePause
		}
		a.probe = now
	}
	if a.limit > 0 && float64(a.sent) >= a.limit {
		a.probe = time.Time{}
		return untilNext(now, time.Minute)
	}
	a.sent++
	return 0
}

// refused learns from WeChat's 45011.
func (p *paces) refused(app string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.of(app, now)
	if limit := max(float64(a.sent)*4/5, 1); a.limit == 0 || limit < a.limit {
		a.limit = limit
	}
}

// rested lets the app rest for d; begins tells whether it did not rest already.
func (p *paces) rested(app string, d time.Duration, now time.Time) (begins bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.of(app, now)
	a.probe = time.Time{}
	if a.rest.After(now) {
		return false
	}
	a.rest = now.Add(d)
	return true
}

// works: WeChat answered about a message, not about the app.
func (p *paces) works(app string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.of(app, now); !now.Before(a.rest) { // one that was under way when the rest began proves nothing
		a.rest, a.probe = time.Time{}, time.Time{}
	}
}
