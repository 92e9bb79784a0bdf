// Package partnersim owns a partner system as an outsider would write it: it takes the gateway's webhooks and verifies
// them with its own reading of the Standard Webhooks specification, keeps what it was told by webhook-id, misbehaves on
// request, and signs requests to the gateway (Client). Standard library only; it shares no line with what it tests.
package partnersim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Options of a partner.
type Options struct {
	Secrets   []string         // whsec_... that deliveries may be signed with; at least one
	Tolerance time.Duration    // of webhook-timestamp; 0 = 5 min
	Clock     func() time.Time // nil = time.Now
	Passive   string           // body of a 200; "" = nothing. For an endpoint that answers passive replies
}

// Event is what the gateway told, once per webhook-id, when it was first taken (answered with 2xx).
type Event struct {
	ID         string          `json:"id"` // webhook-id
	Type       string          `json:"type"`
	Timestamp  time.Time       `json:"timestamp"`
	Data       json.RawMessage `json:"data"`
	Payload    []byte          `json:"-"` // the body, byte for byte
	Path       string          `json:"path"`
	Taken      time.Time       `json:"taken"`
	Deliveries int             `json:"deliveries"` // of this id so far: refused, taken and repeated ones
}

// Into decodes Data.
func (e Event) Into(v any) error { return json.Unmarshal(e.Data, v) }

// Delivery is one request that reached the partner, genuine or not.
type Delivery struct {
	At     time.Time   `json:"at"`
	ID     string      `json:"id"`
	Type   string      `json:"type"`
	Path   string      `json:"path"`
	Header http.Header `json:"header"`
	Body   string      `json:"body"`
	Status int         `json:"status"` // what was answered; 0 = nothing
	Fault  string      `json:"fault"`  // why it was not genuine; "" = it was
	Repeat bool        `json:"repeat"` // its id was taken before
	Edited bool        `json:"edited"` // its id was seen before with another body: a fault of the sender
}

// Partner is one partner system. It is the http.Handler of its endpoint; any path is good.
type Partner struct {
	o       Options
	keys    [][]byte
	mu      sync.Mutex
	events  []*Event
	byID    map[string]*seen
	log     []Delivery
	moods   []*Behaviour
	waiting map[chan struct{}]struct{}
}

type seen struct {
	event      *Event // nil until taken
	body       []byte
	deliveries int
}

// New makes a partner; the error is about its secrets.
func New(o Options) (*Partner, error) {
	if o.Tolerance == 0 {
		o.Tolerance = 5 * time.Minute
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	p := &Partner{o: o, byID: map[string]*seen{}, waiting: map[chan struct{}]struct{}{}}
	for _, s := range o.Secrets {
		key, err := parseSecret(s)
		if err != nil {
			return nil, err
		}
		p.keys = append(p.keys, key)
	}
	if len(p.keys) == 0 {
		return nil, fmt.Errorf("partnersim: no secret")
	}
	return p, nil
}

const maxBody = 4 << 20

// ServeHTTP takes one delivery: 401 when it is not genuine, else what the partner is told to do (Misbehave), else 200.
func (p *Partner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return // the sender went away
	}
	d := Delivery{At: p.o.Clock(), ID: r.Header.Get("webhook-id"), Path: r.URL.Path, Header: r.Header.Clone(), Body: string(body)}
	var told Event
	if err := verify(p.keys, r.Header, body, p.o.Clock(), p.o.Tolerance); err != nil {
		d.Fault, d.Status = err.Error(), http.StatusUnauthorized
	} else if err := json.Unmarshal(body, &told); err != nil || told.Type == "" {
		d.Fault, d.Status = "body: not an event", http.StatusBadRequest
	}
	d.Type = told.Type
	if d.Fault != "" {
		p.note(&d, nil)
		http.Error(w, "refused", d.Status)
		return
	}
	b := p.behaviour(told.Type, d.ID)
	if b != nil {
		p.misbehave(w, r, b, &d, told, body)
		return
	}
	d.Status = http.StatusOK
	p.note(&d, p.take(told, d, body))
	_, _ = io.WriteString(w, p.o.Passive) // the sender went away: it will come again
}

func (p *Partner) take(told Event, d Delivery, body []byte) *Event {
	told.ID, told.Payload, told.Path, told.Taken = d.ID, body, d.Path, d.At
	return &told
}

// note books a delivery, and the event when it was taken.
func (p *Partner) note(d *Delivery, taken *Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.Fault == "" {
		s := p.byID[d.ID]
		if s == nil {
			s = &seen{body: []byte(d.Body)}
			p.byID[d.ID] = s
		}
		s.deliveries++
		d.Edited = !bytes.Equal(s.body, []byte(d.Body))
		d.Repeat = s.event != nil
		if taken != nil && s.event == nil {
			s.event = taken
			p.events = append(p.events, taken)
		}
	}
	p.log = append(p.log, *d)
	for c := range p.waiting {
		close(c)
		delete(p.waiting, c)
	}
}

// Events taken so far, in the order in which they were first taken.
func (p *Partner) Events() []Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Event, len(p.events))
	for i, e := range p.events {
		all[i] = *e
		all[i].Deliveries = p.byID[e.ID].deliveries
	}
	return all
}

// Deliveries that came, oldest first.
func (p *Partner) Deliveries() []Delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Delivery(nil), p.log...)
}

// Await returns the first taken event that fits, past or to come. The error is ctx's.
func (p *Partner) Await(ctx context.Context, fits func(Event) bool) (Event, error) {
	var found Event
	err := p.AwaitAll(ctx, func(all []Event) bool {
		for _, e := range all {
			if fits(e) {
				found = e
				return true
			}
		}
		return false
	})
	return found, err
}

// AwaitAll waits until enough holds for the taken events.
func (p *Partner) AwaitAll(ctx context.Context, enough func([]Event) bool) error {
	return p.await(ctx, func() bool { return enough(p.Events()) })
}

// AwaitDeliveries waits until enough holds for the deliveries, genuine or not.
func (p *Partner) AwaitDeliveries(ctx context.Context, enough func([]Delivery) bool) error {
	return p.await(ctx, func() bool { return enough(p.Deliveries()) })
}

func (p *Partner) await(ctx context.Context, cond func() bool) error {
	for {
		wake := make(chan struct{})
		p.mu.Lock()
		p.waiting[wake] = struct{}{}
		p.mu.Unlock()
		if cond() {
			p.mu.Lock()
			delete(p.waiting, wake)
			p.mu.Unlock()
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			p.mu.Lock()
			delete(p.waiting, wake)
			p.mu.Unlock()
			return ctx.Err()
		}
	}
}

// Forget drops everything seen so far; behaviours stay.
func (p *Partner) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events, p.log, p.byID = nil, nil, map[string]*seen{}
}
