package relay

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/wxrelay/wxrelay/relay/queue"
)

// States of a message. scheduled, held and queued wait; sending is in a worker's hands; sent may still become delivered or
// failed by WeChat's report, unknown likewise until the deadline; the others are ends.
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

// order is what the queue carries of a message and never changes: the Body of its job.
type order struct {
	Partner    string          `json:"p"`
	App        string          `json:"a"`
	OpenID     string          `json:"o"`
	User       string          `json:"u,omitempty"`
	Channels   []string        `json:"c"`
	TemplateID string          `json:"t,omitempty"`
	Kind       string          `json:"k,omitempty"` // of the template, as known at acceptance
	Payloads   []payload       `json:"w"`           // one per channel: what WeChat is given
	NoCredit   string          `json:"n,omitempty"`
	Retry      bool            `json:"r,omitempty"` // on_unknown: retry
	Expires    int64           `json:"x,omitempty"` // Unix milliseconds, 0 = never
	Metadata   json.RawMessage `json:"m,omitempty"`
	Supersede  string          `json:"s,omitempty"`
	Audience   string          `json:"g,omitempty"`
	Account    string          `json:"f,omitempty"` // official account that oa_template goes by, when it is not App
	Created    int64           `json:"z"`           // Unix milliseconds
	Due        int64           `json:"d,omitempty"` // send_at, Unix milliseconds, 0 = at once
	Priority   string          `json:"q,omitempty"`
}

type payload = json.RawMessage

// story is what changes about a message: the Note of its job.
type story struct {
	State    string `json:"s"`
	Channel  int    `json:"c,omitempty"` // index into order.Channels: where in the chain it stands
	Booked   int    `json:"b,omitempty"` // 1 + index of the channel whose credit was asked for; 0 = none
	Open     int64  `json:"o,omitempty"` // since when a call may be with WeChat whose outcome is not known, Unix milliseconds; 0 = none
	MsgID    string `json:"i,omitempty"`
	Errcode  *int   `json:"e,omitempty"`
	Errmsg   string `json:"m,omitempty"`
	RID      string `json:"r,omitempty"`
	Attempts int    `json:"a,omitempty"` // calls that left for WeChat
	Lapses   int    `json:"l,omitempty"` // reclaims already reckoned with
	Resent   int64  `json:"x,omitempty"` // when the partner's word to repeat an open call was taken, Unix milliseconds; 0 = not yet
	At       int64  `json:"t"`           // last change, Unix milliseconds
	Steps    []step `json:"h"`
	// Legacy template messages: the kind of credential in use, and when it ends (Unix milliseconds).
	Cred      string `json:"f,omitempty"`
	CredUntil int64  `json:"fu,omitempty"`
}

type step struct {
	At      int64  `json:"t"`
	State   string `json:"s"`
	Cause   string `json:"c"`
	Errcode *int   `json:"e,omitempty"`
}

// maxSteps bounds a timeline: the first ones tell how it began, the last ones how it stands.
const maxSteps = 24

// to moves the story on and writes its timeline.
func (s *story) to(state, cause string, at time.Time, errcode *int) {
	s.State, s.At = state, at.UnixMilli()
	if len(s.Steps) >= maxSteps {
		s.Steps = append(s.Steps[:maxSteps/2], s.Steps[maxSteps/2+1:]...)
	}
	s.Steps = append(s.Steps, step{At: at.UnixMilli(), State: state, Cause: cause, Errcode: errcode})
}

// open tells whether the user may have the message although no answer says so: then it is not cancelled, does not
// expire, wait for another credit or go by another channel, and no refusal of a repeat ends it.
func (s *story) open() bool { return s.Open != 0 || s.State == StateUnknown }

// openRecord is open of a stored message; one whose lease lapsed is so before somebody has looked at it.
func openRecord(rec *queue.Record, s *story) bool {
	lapsed := rec.Reclaims > s.Lapses && (s.State == StateQueued || s.State == StateScheduled)
	return s.open() || lapsed
}

// waits writes down why a message waits, once for each cause since it was queued.
func (s *story) waits(cause string, at time.Time, errcode *int) {
	for i := len(s.Steps) - 1; i >= 0 && s.Steps[i].State == StateQueued; i-- {
		if s.Steps[i].Cause == cause {
			return
		}
	}
	s.to(StateQueued, cause, at, errcode)
}

// silent: no words came with the last call.
func (s *story) silent() { s.Errcode, s.Errmsg, s.RID = nil, "", "" }

// answered keeps WeChat's words.
func (s *story) answered(code int, msg, rid string) {
	s.Errcode, s.Errmsg, s.RID = &code, msg, rid
}

func (s *story) note() []byte { return encode(s) }

// encode is JSON without the escaping of HTML: WeChat refuses \u0026 (errcode 40033), partners get what was meant.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("relay: a type of ours does not encode: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// read takes a message out of its job.
func read(body, note []byte) (order, story, error) {
	var o order
	var s story
	if err := json.Unmarshal(body, &o); err != nil {
		return o, s, err
	}
	return o, s, json.Unmarshal(note, &s)
}

// view shows a message to its partner.
func view(id string, o *order, s *story) Message {
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

// viewRecord shows a stored message; one in a worker's hands or on its way is `sending`, a scheduled one that fell due is
// `queued`.
func viewRecord(rec queue.Record) (Message, *order, error) {
	o, s, err := read(rec.Body, rec.Note)
	if err != nil {
		return Message{}, nil, err
	}
	m := view(rec.ID, &o, &s)
	switch {
	case rec.State == "leased" && (s.State == StateQueued || s.State == StateScheduled || s.State == StateHeld),
		openRecord(&rec, &s) && s.State != StateUnknown:
		m.State = StateSending
	case rec.State == "ready" && s.State == StateScheduled:
		m.State = StateQueued
	}
	return m, &o, nil
}

func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// ended tells whether a state is final whatever WeChat may still report.
func ended(state string) bool {
	switch state {
	case StateDelivered, StateFailed, StateRefused, StateExpired, StateCancelled:
		return true
	}
	return false
}
