package partnersim

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Behaviour is what the partner does to genuine deliveries instead of answering 200.
type Behaviour struct {
	Times      int           // how many deliveries; 0 = 1, negative = until Behave
	Type       string        // of event, exact or "prefix.*"; "" = any
	ID         string        // what its webhook-id begins with; "" = any
	Status     int           // the answer; 0 = 200
	RetryAfter string        // a header: seconds or an HTTP date
	Location   string        // a header: with 301, 302, 307 or 308 a redirect
	Delay      time.Duration // before the answer; the event counts as taken only when Status is 2xx
	Close      bool          // close the connection without an answer
	Late       bool          // take the event, then close the connection without an answer
	Body       string        // of the answer
}

// Misbehave queues a behaviour. Several are worn in the order given, each for its Times.
func (p *Partner) Misbehave(b Behaviour) {
	if b.Times == 0 {
		b.Times = 1
	}
	if b.Status == 0 {
		b.Status = http.StatusOK
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moods = append(p.moods, &b)
}

// Behave drops every behaviour that is queued.
func (p *Partner) Behave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moods = nil
}

// behaviour spends one time of the first behaviour that is meant for the delivery.
func (p *Partner) behaviour(eventType, id string) *Behaviour {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, b := range p.moods {
		prefix, wild := strings.CutSuffix(b.Type, "*")
		if !strings.HasPrefix(id, b.ID) || b.Type != "" && b.Type != eventType && (!wild || !strings.HasPrefix(eventType, prefix)) {
			continue
		}
		worn := *b
		if b.Times > 0 {
			if b.Times--; b.Times == 0 {
				p.moods = append(p.moods[:i:i], p.moods[i+1:]...)
			}
		}
		return &worn
	}
	return nil
}

func (p *Partner) misbehave(w http.ResponseWriter, r *http.Request, b *Behaviour, d *Delivery, told Event, body []byte) {
	if b.Delay > 0 {
		t := time.NewTimer(b.Delay)
		select {
		case <-t.C:
		case <-r.Context().Done():
			t.Stop()
			p.note(d, nil)
			return
		}
	}
	var taken *Event
	if b.Late || (!b.Close && b.Status/100 == 2) {
		taken = p.take(told, *d, body)
	}
	if b.Close || b.Late {
		p.note(d, taken)
		panic(http.ErrAbortHandler)
	}
	d.Status = b.Status
	p.note(d, taken)
	if b.RetryAfter != "" {
		w.Header().Set("Retry-After", b.RetryAfter)
	}
	if b.Location != "" {
		w.Header().Set("Location", b.Location)
	}
	w.WriteHeader(b.Status)
	_, _ = fmt.Fprint(w, b.Body) // the sender went away: it will come again
}
