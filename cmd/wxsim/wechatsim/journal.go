package wechatsim

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"
)

// Message is what a user received.
type Message struct {
	At       time.Time                  `json:"at"`
	Channel  string                     `json:"channel"` // subscribe customer_service oa_template template uniform passive
	Template string                     `json:"template,omitempty"`
	MsgID    int64                      `json:"msgid,omitempty"`
	Page     string                     `json:"page,omitempty"`
	Values   map[string]string          `json:"values,omitempty"` // keyword -> text, or the text of a customer message
	Body     map[string]json.RawMessage `json:"body"`             // the request as it came
}

// Send is one call that tried to write to a person, accepted or not.
type Send struct {
	At       time.Time
	App      string // appid
	Path     string
	OpenID   string
	Template string
	Errcode  int
	MsgID    int64
	RID      string
	Mood     Mood // what the platform did to this call, "" = nothing
	Answered bool // false: the caller never learnt the outcome
}

// Call is one request at the API handler.
type Call struct {
	At      time.Time
	App     string // appid, "" when unknown
	Path    string
	Errcode int
	Errmsg  string
	RID     string
	Mood    Mood
	Took    time.Duration
}

// detail is what openapi/rid/get tells about a call; only the latest ones are kept.
type detail struct {
	Call
	body, client string
}

const keepDetails = 2048

// Push is one event or message on its way to an app's callback.
type Push struct {
	N          int64
	At         time.Time
	App        string // appid
	OpenID     string
	Event      string // or the message type
	Mode       Mode
	Format     Format
	Body       string // the plain body, the same in every delivery
	Result     string // pending taken failed dropped lost
	Deliveries []Delivery
	Reply      string // a passive reply, opened
}

// The results of a push.
const (
	Pending = "pending"
	Taken   = "taken"   // a delivery was answered as WeChat wants it
	Failed  = "failed"  // every delivery failed
	Dropped = "dropped" // not sent: MarkFail, no callback URL, or the platform closed
	Gone    = "lost"    // not sent: the mood Lost
)

// Delivery is one POST of a push.
type Delivery struct {
	At      time.Time
	Took    time.Duration
	Status  int    // HTTP; 0 when no answer came
	Answer  string // its body, cut at 1 KiB
	Fault   string // why WeChat counts it as failed; "" = good
	Doubled bool   // by the mood Duplicate, after a good one
}

// journal is what everybody saw. The newest keep entries stay; counts are of everything.
type journal struct {
	keep   int
	mu     sync.Mutex
	sends  ring[Send]
	pushes ring[*Push]
	calls  ring[Call]
	recent ring[detail]
	counts map[string]int64
	pushed int64

	waiting atomic.Int32
	wake    chan struct{}
}

type ring[T any] struct {
	items []T
	next  int
}

func (r *ring[T]) add(v T, keep int) {
	if keep <= 0 {
		return
	}
	if len(r.items) < keep {
		r.items = append(r.items, v)
		return
	}
	r.items[r.next] = v
	r.next = (r.next + 1) % keep
}

// all in the order they came.
func (r *ring[T]) all() []T {
	return append(append(make([]T, 0, len(r.items)), r.items[r.next:]...), r.items[:r.next]...)
}

func newJournal(keep int) *journal {
	return &journal{keep: keep, counts: map[string]int64{}, wake: make(chan struct{})}
}

func (j *journal) forget() {
	j.note(func() {
		j.sends, j.pushes, j.calls, j.recent = ring[Send]{}, ring[*Push]{}, ring[Call]{}, ring[detail]{}
		j.counts, j.pushed = map[string]int64{}, 0
	})
}

// note runs f under the journal's lock and wakes who waits.
func (j *journal) note(f func()) {
	j.mu.Lock()
	f()
	j.wakeLocked()
	j.mu.Unlock()
}

func (j *journal) poke() { j.note(func() {}) }

func (j *journal) wakeLocked() {
	if j.waiting.Load() > 0 {
		close(j.wake)
		j.wake = make(chan struct{})
	}
}

func (j *journal) await(ctx context.Context, cond func() bool) error {
	j.waiting.Add(1)
	defer j.waiting.Add(-1)
	for {
		j.mu.Lock()
		wake := j.wake
		j.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Inbox is what the user received, oldest first.
func (s *Sim) Inbox(openid string) []Message {
	acc := s.mustAccount(openid)
	acc.mu.Lock()
	defer acc.mu.Unlock()
	return append([]Message(nil), acc.inbox...)
}

// receive puts a message before the user's eyes.
func (s *Sim) receive(acc *account, m Message) {
	m.At = s.now()
	acc.mu.Lock()
	acc.received++
	if s.o.Keep > 0 {
		if len(acc.inbox) >= s.o.Keep {
			acc.inbox = acc.inbox[1:]
		}
		acc.inbox = append(acc.inbox, m)
	}
	acc.mu.Unlock()
	s.seen.note(func() { s.seen.counts["received"]++ })
}

// Sends that reached the API handler, oldest first.
func (s *Sim) Sends() []Send {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	return s.seen.sends.all()
}

// Calls of every API path, oldest first.
func (s *Sim) Calls() []Call {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	return s.seen.calls.all()
}

// Pushes made so far, with their deliveries, oldest first.
func (s *Sim) Pushes() []Push {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	all := make([]Push, 0, len(s.seen.pushes.items))
	for _, p := range s.seen.pushes.all() {
		own := *p
		own.Deliveries = append([]Delivery(nil), p.Deliveries...)
		all = append(all, own)
	}
	return all
}

// Counts of everything since the start: "calls", "call:/cgi-bin/token", "errcode:43101", "tokens", "tokens:stable",
// "received", "pushes", "push:taken", "deliveries", "mood:busy" and so on.
func (s *Sim) Counts() map[string]int64 {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	own := make(map[string]int64, len(s.seen.counts))
	for k, v := range s.seen.counts {
		own[k] = v
	}
	return own
}

// Count is one of Counts.
func (s *Sim) Count(name string) int64 {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	return s.seen.counts[name]
}
