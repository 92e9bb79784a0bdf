package relay

import (
	"sync"
	"time"
)

// paces slow each app's sends to what WeChat takes in a minute, which it does not publish but tells by refusing (45011).
// A refusal sets the limit to four fifths of what had passed; every minute without one raises it by a tenth. Each process
// paces itself: with several replicas each meets its own refusals.
type paces struct {
	mu  sync.Mutex
	app map[string]*pace
}

type pace struct {
	minute int64 // Unix minute that sent counts
	sent   int
	limit  float64 // sends a minute; 0 = none known
}

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

// admit counts one send, or says how long it has to wait for the next minute.
func (p *paces) admit(app string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.of(app, now)
	if a.limit > 0 && float64(a.sent) >= a.limit {
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
