// Package message owns what a message is: how a send request is read, checked and built into what WeChat is given, the states
// it goes through, and the form in which it is stored. It knows no Redis, no HTTP and no clock: what it cannot know from the
// request is given to it as [Facts].
//
//	body -> Parse -> Request -> Build(Facts) -> Draft (stored once) + Progress (changes)  -> View (what partners see)
//
//	scheduled -> queued -> sending -> sent -> delivered
//	     held -^              |   `-> unknown -> delivered | failed
//	                          `-> failed | refused            any that waits -> expired | cancelled
package message

import (
	"encoding/json"
	"time"
)

// Channels by which a message may go.
const (
	ChannelSubscribe       = "subscribe"
	ChannelCustomerService = "customer_service"
	ChannelOATemplate      = "oa_template"
	ChannelTemplate        = "template" // legacy; WeChat answers 45103
	ChannelUniform         = "uniform"  // legacy; WeChat answers 45109
)

// Channels are all of them.
var Channels = []string{ChannelSubscribe, ChannelCustomerService, ChannelOATemplate, ChannelTemplate, ChannelUniform}

// States of a message. scheduled, held and queued wait; sending is that a worker holds; sent may still become
// delivered or failed by WeChat's report, unknown likewise until the deadline; the others are ends.
const (
	StateScheduled = "scheduled"
	StateHeld      = "held"
	StateQueued    = "queued"
	StateSending   = "sending"
	StateSent      = "sent"
	StateDelivered = "delivered"
	StateFailed    = "failed"
	StateRefused   = "refused"
	StateExpired   = "expired"
	StateCancelled = "cancelled"
	StateUnknown   = "unknown"
)

// Message is a message as partners see it, in answers and in `message.*` events. Absent values are null.
type Message struct {
	ID         string          `json:"id"`
	App        string          `json:"app"`
	OpenID     string          `json:"openid"`
	User       *string         `json:"user"`
	Channel    string          `json:"channel"`
	TemplateID *string         `json:"template_id"`
	State      string          `json:"state"`
	MsgID      *string         `json:"msgid"` // WeChat's, past 2^53, so a string
	Errcode    *int            `json:"errcode"`
	Errmsg     *string         `json:"errmsg"`
	RID        *string         `json:"rid"`
	Attempts   int             `json:"attempts"` // calls to WeChat's send
	CreatedAt  time.Time       `json:"created_at"`
	UpdatedAt  time.Time       `json:"updated_at"`
	Metadata   json.RawMessage `json:"metadata"`
	Timeline   []Step          `json:"timeline"`
}

// Step is one entry of a message's timeline.
type Step struct {
	At      time.Time `json:"at"`
	State   string    `json:"state"`
	Cause   string    `json:"cause"`
	Errcode *int      `json:"errcode"`
}

// Draft is what the queue carries of a message and never changes: the Body of its job (stored.go has its form).
type Draft struct {
	Partner    string
	App        string
	OpenID     string
	User       string
	Channels   []string
	TemplateID string
	Kind       string            // of the template, as known at acceptance
	Every      int64             // rate-limited template: one message in so many milliseconds
	Keyword    string            // for each value of this keyword
	Value      string            // which is this
	Payloads   []json.RawMessage // one per channel: what WeChat is given
	NoCredit   string
	Retry      bool            // on_unknown: retry
	Expires    int64           // Unix milliseconds, 0 = never
	Metadata   json.RawMessage // compact
	Supersede  string
	Audience   string
	Account    string // official account that oa_template goes by, when it is not App
	Created    int64  // Unix milliseconds
	Due        int64  // send_at, Unix milliseconds, 0 = at once
	Priority   string
	First      int    // index into Channels: by which it was accepted
	Trace      string // W3C traceparent of the request that made it, when that is recorded
}

// Progress is what changes about a message: the Note of its job (stored.go has its form).
type Progress struct {
	State    string
	Channel  int   // index into Draft.Channels: where in the chain it stands
	Booked   int   // 1 + index of the channel whose credit was asked for; 0 = none
	Open     int64 // since when a call may be with WeChat whose outcome is not known, Unix milliseconds; 0 = none
	MsgID    string
	Errcode  *int
	Errmsg   string
	RID      string
	Attempts int   // calls that left for WeChat
	Lapses   int   // reclaims already reckoned with
	Resent   int64 // when the partner's word to repeat an open call was taken, Unix milliseconds; 0 = not yet
	At       int64 // last change, Unix milliseconds
	Steps    []Entry
	// Legacy template messages: the kind of credential in use, and when it ends (Unix milliseconds).
	Cred      string
	CredUntil int64
}

// Entry is one entry of a stored timeline: At in Unix milliseconds.
type Entry struct {
	At      int64
	State   string
	Cause   string
	Errcode *int
}

// maxSteps bounds a timeline: the first ones tell how it began, the last ones how it stands.
const maxSteps = 24

// To moves the message on and writes its timeline.
func (s *Progress) To(state, cause string, at time.Time, errcode *int) {
	s.State, s.At = state, at.UnixMilli()
	if len(s.Steps) >= maxSteps {
		s.Steps = append(s.Steps[:maxSteps/2], s.Steps[maxSteps/2+1:]...)
	}
	s.Steps = append(s.Steps, Entry{At: at.UnixMilli(), State: state, Cause: cause, Errcode: errcode})
}

// InDoubt tells whether the user may have the message although no answer says so: then it is not cancelled,
// does not expire, wait for another credit or go by another channel, and no refusal of a repeat ends it.
func (s *Progress) InDoubt() bool { return s.Open != 0 || s.State == StateUnknown }

// Waits writes down why a message waits, once for each cause since it was queued.
func (s *Progress) Waits(cause string, at time.Time, errcode *int) {
	for i := len(s.Steps) - 1; i >= 0 && s.Steps[i].State == StateQueued; i-- {
		if s.Steps[i].Cause == cause {
			return
		}
	}
	s.To(StateQueued, cause, at, errcode)
}

// Silent notes that no words came with the last call.
func (s *Progress) Silent() { s.Errcode, s.Errmsg, s.RID = nil, "", "" }

// Answered keeps WeChat's words.
func (s *Progress) Answered(code int, msg, rid string) {
	s.Errcode, s.Errmsg, s.RID = &code, msg, rid
}

// View shows a message to its partner.
func View(id string, o *Draft, s *Progress) Message {
	m := Message{ID: id, App: o.App, OpenID: o.OpenID, User: some(o.User), Channel: o.Channels[min(s.Channel, len(o.Channels)-1)],
		TemplateID: some(o.TemplateID), State: s.State, MsgID: some(s.MsgID), Errcode: s.Errcode, Errmsg: some(s.Errmsg), RID: some(s.RID),
		Attempts: s.Attempts, CreatedAt: time.UnixMilli(o.Created).UTC(), UpdatedAt: time.UnixMilli(s.At).UTC(), Metadata: o.Metadata,
		Timeline: make([]Step, len(s.Steps))}
	if m.Errcode != nil && s.Errmsg == "" {
		m.Errmsg = nil
	}
	if len(m.Metadata) == 0 {
		m.Metadata = json.RawMessage("{}")
	}
	for i, h := range s.Steps {
		m.Timeline[i] = Step{At: time.UnixMilli(h.At).UTC(), State: h.State, Cause: h.Cause, Errcode: h.Errcode}
	}
	return m
}

func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Ended tells whether a state is final whatever WeChat may still report.
func Ended(state string) bool {
	switch state {
	case StateDelivered, StateFailed, StateRefused, StateExpired, StateCancelled:
		return true
	}
	return false
}
