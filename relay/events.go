package relay

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/relay/message"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// The vocabulary partners see: the `type` of what is posted to their endpoints.
const (
	EventPush                  = "push.received"
	EventSubscriptionAccepted  = "subscription.accepted"
	EventSubscriptionRejected  = "subscription.rejected"
	EventSubscriptionCancelled = "subscription.cancelled"
	EventMessageHeld           = "message.held"
	EventMessageSent           = "message.sent"
	EventMessageDelivered      = "message.delivered"
	EventMessageFailed         = "message.failed"
	EventMessageRefused        = "message.refused"
	EventMessageExpired        = "message.expired"
	EventMessageCancelled      = "message.cancelled"
	EventMessageUnknown        = "message.unknown"
	EventUserLoggedIn          = "user.logged_in"
	EventUserBound             = "user.bound"
	EventUserUnbound           = "user.unbound"
	EventUserRevoked           = "user.revoked"
	EventUserPhone             = "user.phone"
	EventEndpointBenched       = "endpoint.benched"
	EventEndpointDisabled      = "endpoint.disabled"
	EventEndpointRecovered     = "endpoint.recovered"
	EventEndpointTest          = "endpoint.test"
	EventAudienceDone          = "audience.done"
	EventAlert                 = "app.alert"
)

// PushReceived is the data of push.received: every push, whether we know its event or not.
type PushReceived struct {
	App     string  `json:"app"`
	OpenID  *string `json:"openid"`
	MsgType *string `json:"msg_type"`
	Event   *string `json:"event"`
	Format  string  `json:"format"` // json | xml
	Raw     string  `json:"raw"`    // the proven message, byte for byte
	Fields  fields  `json:"fields"` // the message as an object; null when it cannot be read without doubt
}

// fields is a message that becomes [callback.Fields] when the event is written, which happens only when an endpoint wants it.
type fields []byte

func (f fields) MarshalJSON() ([]byte, error) { return json.Marshal(callback.Fields(f)) }

// SubscriptionEvent is the data of subscription.*: the line after the movement, and what moved it.
type SubscriptionEvent struct {
	Subscription
	Cause string `json:"cause"`
}

// UserEvent is the data of user.*; absent values are null.
type UserEvent struct {
	App     string  `json:"app"`
	OpenID  string  `json:"openid"`
	UnionID *string `json:"unionid"`
	User    *string `json:"user"`
	IsNew   *bool   `json:"is_new"`
	Phone   *string `json:"phone"`  // with country code
	Reason  *string `json:"reason"` // WeChat's event, for user.revoked
}

// EndpointEvent is the data of endpoint.benched, disabled and recovered: sent to the partner's other endpoints.
type EndpointEvent struct {
	Partner  string    `json:"partner"`
	Endpoint string    `json:"endpoint"`
	State    string    `json:"state"` // benched | disabled | healthy
	Reason   *string   `json:"reason"`
	Status   *int      `json:"status"` // the HTTP status that decided
	Since    time.Time `json:"since"`
}

// Alert is the data of app.alert: an app needs its operator.
type Alert struct {
	App       string  `json:"app"`
	Errcode   *int    `json:"errcode"`
	Errmsg    *string `json:"errmsg"`
	RID       *string `json:"rid"`
	Meaning   string  `json:"meaning"`
	MeaningZH string  `json:"meaning_zh"`
	Cure      string  `json:"cure"`
	CureZH    string  `json:"cure_zh"`
}

// notification is one event about to be queued for its endpoints.
type notification struct {
	shard   int
	app     string // partners of this app are told; "" = only the named one
	partner string // only this partner; "" = every partner of the app
	not     string // not this endpoint (it is the one the event is about)
	typ     string
	at      time.Time
	data    any
	trace   string // W3C traceparent that its deliveries carry; "" = none
	open    bool   // message.unknown: WeChat's report may still settle it
}

// notify makes one delivery job per endpoint that wants the event; they share the webhook-id and, where there are several, the
// payload.
func (r *Relay) notify(t notification) []queue.Job {
	rules := r.rules.Load()
	var to []webhook.Endpoint
	for _, p := range rules.Partners {
		if t.partner != "" && p.Name != t.partner || t.app != "" && !p.MayUse(t.app) {
			continue
		}
		for _, e := range p.Endpoints {
			if (e.ID != t.not || t.not == "") && e.Wants(t.typ) && (len(e.Filter) == 0 || e.Passes(t.values)) {
				to = append(to, e)
			}
		}
	}
	if len(to) == 0 {
		return nil
	}
	id, payload := r.q.NewID("evt_", t.shard), t.payload()
	var shared *queue.Shared
	if len(to) > 1 {
		shared = &queue.Shared{Name: id, Data: payload}
	}
	env := t.envelope(id)
	jobs := make([]queue.Job, 0, len(to)+1)
	for _, e := range to {
		job, err := r.delivery(e, env, payload, shared)
		if err != nil { // no key, no storing in clear
			r.log.Error("event not encrypted", zap.String("type", t.typ), zap.String("partner", e.Partner), zap.Error(err))
			continue
		}
		jobs = append(jobs, job)
	}
	return jobs
}

// payload is what is posted: {"type","timestamp","data"}.
func (t *notification) payload() []byte {
	b := message.AppendText(append(make([]byte, 0, 1024), `{"type":`...), t.typ)
	b = append(message.AppendTime(append(b, `,"timestamp":`...), t.at.UTC()), `,"data":`...)
	if m, ok := t.data.(*Message); ok {
		b = m.AppendJSON(b)
		if t.typ == EventMessageUnknown {
			b = strconv.AppendBool(append(b[:len(b)-1], `,"final":`...), !t.open)
			b = append(b, '}')
		}
		return append(b, '}')
	}
	if p, ok := t.data.(PushReceived); ok {
		return append(p.appendJSON(b), '}')
	}
	return append(append(b, encode(t.data)...), '}')
}

// notifyMessage is a message.* event for the partner of the message, m as seen by it, in the draft's trace.
func (r *Relay) notifyMessage(shard int, m Message, d *draft, at time.Time) []queue.Job {
	return r.notify(notification{shard: shard, partner: d.Partner, typ: "message." + m.State, at: at, trace: d.Trace, data: &m})
}

// notifyUnknown tells that a send has no answer. open: a report may still settle it; else this is the last word.
func (r *Relay) notifyUnknown(shard int, m Message, d *draft, at time.Time, open bool) []queue.Job {
	return r.notify(notification{shard: shard, partner: d.Partner, typ: EventMessageUnknown, at: at, trace: d.Trace, data: &m, open: open})
}

// usersOf is whom each partner has bound an openid to, asked once, when somebody is to be told.
type usersOf func() (map[string]string, error)

func (r *Relay) usersOf(ctx context.Context, app, openid string) usersOf {
	return sync.OnceValues(func() (map[string]string, error) { return r.bindings.UsersOf(ctx, app, openid) })
}

// subscribers are the partners of an app with an endpoint that wants such events.
func (r *Relay) subscribers(app, typ string) (names []string) {
	for name, p := range r.rules.Load().Partners {
		if p.MayUse(app) && slices.ContainsFunc(p.Endpoints, func(e webhook.Endpoint) bool { return e.Wants(typ) }) {
			names = append(names, name)
		}
	}
	return names
}

// notifyUser tells every partner of the app, each with its own name for the user.
func (r *Relay) notifyUser(ctx context.Context, shard int, typ string, data UserEvent, users map[string]string, at time.Time) []queue.Job {
	var jobs []queue.Job
	for name, p := range r.rules.Load().Partners {
		if p.MayUse(data.App) {
			d := data
			d.User = some(users[name])
			jobs = append(jobs, r.notify(notification{shard: shard, app: data.App, partner: name, typ: typ, at: at, trace: r.traceOf(ctx), data: d})...)
		}
	}
	return jobs
}

// EventTypes lists every type that is posted to partners.
func EventTypes() []string {
	return []string{EventPush,
		EventSubscriptionAccepted, EventSubscriptionRejected, EventSubscriptionCancelled,
		EventMessageHeld, EventMessageSent, EventMessageDelivered, EventMessageFailed, EventMessageRefused, EventMessageExpired,
		EventMessageCancelled, EventMessageUnknown,
		EventUserLoggedIn, EventUserBound, EventUserUnbound, EventUserRevoked, EventUserPhone,
		EventEndpointBenched, EventEndpointDisabled, EventEndpointRecovered, EventEndpointTest, EventAudienceDone, EventAlert}
}
