package relay

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay/webhook"
)

// Kinds of endpoint, and how it orders its deliveries.
const (
	KindWebhook = "webhook" // every event, as a signed Standard Webhook
	KindWeChat  = "wechat"  // pushes only, encrypted and signed as WeChat does, with the subscriber's own keys

	OrderNone = "none"
	OrderUser = "user" // one delivery at a time per app and openid, in the order of events
)

// EndpointRequest is what a partner may say about an endpoint: PUT endpoints/{id}. What is left out has its default, but
// secrets and keys, which stay.
type EndpointRequest struct {
	URL      string            `json:"url"`
	Events   []string          `json:"events"`
	Secrets  []string          `json:"secrets"`
	Kind     string            `json:"kind"`
	WeChat   *WeChatKeys       `json:"wechat"`
	Filter   EndpointFilter    `json:"filter"`
	Headers  map[string]string `json:"headers"`
	Timeout  string            `json:"timeout"` // a duration: 15s
	InFlight *int              `json:"in_flight"`
	Rate     *float64          `json:"rate"`
	Order    string            `json:"order"`
}

// EndpointFilter narrows an endpoint's events: a field's value must be one of those listed, one that an event lacks is not
// filtered on.
type EndpointFilter struct {
	App        []string `json:"app"`
	Event      []string `json:"event"` // WeChat's names
	TemplateID []string `json:"template_id"`
	OpenID     []string `json:"openid"`
}

// WeChatKeys is how a subscriber of kind wechat receives pushes.
type WeChatKeys struct {
	Token          string `json:"token"`
	EncodingAESKey string `json:"encoding_aes_key"`
	Mode           string `json:"mode"`   // secure | compat | plain
	Format         string `json:"format"` // same | xml | json
}

// endpointRecord is an endpoint of the API as the registry keeps it, encrypted.
type endpointRecord struct {
	URL       string            `json:"url"`
	Events    []string          `json:"events"`
	Secrets   []string          `json:"secrets"` // newest first
	OldUntil  int64             `json:"old_until,omitempty"`
	Kind      string            `json:"kind"`
	WeChat    *WeChatKeys       `json:"wechat,omitempty"`
	Filter    EndpointFilter    `json:"filter"`
	Headers   map[string]string `json:"headers,omitempty"`
	TimeoutMS int64             `json:"timeout_ms"`
	InFlight  int               `json:"in_flight"`
	Rate      float64           `json:"rate"`
	Order     string            `json:"order"`
	Created   int64             `json:"created"` // Unix ms, as below
	Updated   int64             `json:"updated"`
	// ShownTo is the request whose answer showed the newest secret: its repeat gets the same.
	ShownTo string `json:"shown_to,omitempty"`
}

// Bounds of what a partner may say.
const (
	maxPatterns    = 50
	maxFiltered    = 100 // values of one field
	maxFilterValue = 128
	maxRate        = 1000
)

// read checks a request against the known apps and event types and makes the record of it; old is nil for a new endpoint.
func (q *EndpointRequest) read(partner Partner, old *endpointRecord) (endpointRecord, faults) {
	var f faults
	rec := endpointRecord{URL: q.URL, Kind: q.Kind, Order: q.Order, Filter: q.Filter, Events: q.Events, InFlight: webhook.DefaultInFlight,
		TimeoutMS: defaultTimeout.Milliseconds()}
	if rec.URL == "" {
		f.add("url", "is missing")
	}
	if rec.Kind == "" {
		rec.Kind = KindWebhook
	}
	if rec.Kind != KindWebhook && rec.Kind != KindWeChat {
		f.add("kind", "must be webhook or wechat")
	}
	if rec.Order == "" {
		rec.Order = OrderNone
	}
	if rec.Order != OrderNone && rec.Order != OrderUser {
		f.add("order", "must be none or user")
	}
	q.readEvents(&rec, &f)
	q.readFilter(partner, &f)
	q.readHeaders(&rec, old, &f)
	q.readLimits(&rec, &f)
	q.readSecrets(&rec, old, &f)
	q.readWeChat(&rec, old, &f)
	return rec, f
}

// defaultTimeout is of one attempt.
const defaultTimeout = 15 * time.Second

func (q *EndpointRequest) readEvents(rec *endpointRecord, f *faults) {
	if q.Events == nil {
		rec.Events = []string{"*"}
		return
	}
	if len(q.Events) == 0 || len(q.Events) > maxPatterns {
		f.add("events", fmt.Sprintf("must be 1 to %d patterns; leave it out for every event", maxPatterns))
		return
	}
	for i, p := range q.Events {
		field := fmt.Sprintf("events[%d]", i)
		if err := webhook.CheckPattern(p); err != nil {
			f.add(field, "must be an event type, a prefix ending in .*, or *")
		} else if !slices.ContainsFunc(append(EventTypes(), "audience.done"), func(t string) bool { return webhook.Endpoint{Events: []string{p}}.Wants(t) }) {
			f.add(field, "matches no event type")
		}
	}
}

func (q *EndpointRequest) readFilter(partner Partner, f *faults) {
	for field, list := range q.Filter.fields() {
		if len(list) > maxFiltered {
			f.add("filter."+field, fmt.Sprintf("%d values, at most %d", len(list), maxFiltered))
		}
		for i, v := range list {
			at := fmt.Sprintf("filter.%s[%d]", field, i)
			switch {
			case v == "" || len(v) > maxFilterValue:
				f.add(at, fmt.Sprintf("must have 1 to %d bytes", maxFilterValue))
			case field == "app" && !partner.MayUse(v):
				f.add(at, "is no app of this partner")
			}
			if len(*f) >= maxPatterns {
				return
			}
		}
	}
}

// fields are the lists by the field they are about.
func (e EndpointFilter) fields() map[string][]string {
	return map[string][]string{"app": e.App, "event": e.Event, "template_id": e.TemplateID, "openid": e.OpenID}
}

// kept stands for a value that is not shown: given back, it means the one that is kept.
const kept = "***"

func (q *EndpointRequest) readHeaders(rec *endpointRecord, old *endpointRecord, f *faults) {
	if len(q.Headers) == 0 {
		return
	}
	rec.Headers = make(map[string]string, len(q.Headers))
	for name, value := range q.Headers {
		if value == kept && old != nil {
			if was, ok := old.Headers[name]; ok {
				value = was
			}
		}
		rec.Headers[name] = value
	}
	if err := webhook.CheckHeaders(rec.Headers); err != nil {
		f.add("headers", strings.TrimPrefix(err.Error(), webhook.ErrHeader.Error()+": "))
	}
}

func (q *EndpointRequest) readLimits(rec *endpointRecord, f *faults) {
	if q.Timeout != "" {
		d, err := time.ParseDuration(q.Timeout)
		if err != nil || d < webhook.MinTimeout || d > webhook.MaxTimeout {
			f.add("timeout", "must be a duration from 1s to 30s")
		}
		rec.TimeoutMS = d.Milliseconds()
	}
	if q.InFlight != nil {
		rec.InFlight = *q.InFlight
		if rec.InFlight < 1 || rec.InFlight > webhook.MaxInFlight {
			f.add("in_flight", fmt.Sprintf("must be 1 to %d", webhook.MaxInFlight))
		}
	}
	if q.Rate != nil {
		rec.Rate = *q.Rate
		if !(rec.Rate == 0 || rec.Rate >= 0.001 && rec.Rate <= maxRate) {
			f.add("rate", fmt.Sprintf("must be 0 (no limit) or from 0.001 to %d a second", maxRate))
		}
	}
}

func (q *EndpointRequest) readSecrets(rec *endpointRecord, old *endpointRecord, f *faults) {
	if q.Secrets == nil {
		if old != nil {
			rec.Secrets, rec.OldUntil, rec.ShownTo = old.Secrets, old.OldUntil, old.ShownTo
		}
		return
	}
	if len(q.Secrets) < 1 || len(q.Secrets) > 2 {
		f.add("secrets", "must be 1, or 2 while they are rotated; leave it out to have one made")
		return
	}
	for i, s := range q.Secrets {
		if _, err := webhook.ParseSigningKey(s); err != nil {
			f.add(fmt.Sprintf("secrets[%d]", i), "must be whsec_ and base64 of 24 to 64 bytes, or whsk_ and base64 of an ed25519 key")
		}
	}
	if len(q.Secrets) == 2 && q.Secrets[0] == q.Secrets[1] {
		f.add("secrets[1]", "is the first again")
	}
	rec.Secrets = q.Secrets
}

func (q *EndpointRequest) readWeChat(rec *endpointRecord, old *endpointRecord, f *faults) {
	if rec.Kind != KindWeChat {
		if q.WeChat != nil {
			f.add("wechat", "is for kind wechat")
		}
		return
	}
	var keys WeChatKeys
	if q.WeChat != nil {
		keys = *q.WeChat
	}
	if old != nil && old.WeChat != nil {
		if keys.Token == "" || keys.Token == kept {
			keys.Token = old.WeChat.Token
		}
		if keys.EncodingAESKey == "" || keys.EncodingAESKey == kept {
			keys.EncodingAESKey = old.WeChat.EncodingAESKey
		}
	}
	for field, reason := range keys.check() {
		f.add("wechat."+field, reason)
	}
	rec.WeChat = &keys
}

// endpoint is a record as it is delivered to; at is now, for secrets that no longer sign.
func (rec *endpointRecord) endpoint(partner, id string, at time.Time) (webhook.Endpoint, error) {
	e := webhook.Endpoint{Partner: partner, ID: id, URL: rec.URL, Events: rec.Events, Headers: rec.Headers, InFlight: rec.InFlight,
		Timeout: time.Duration(rec.TimeoutMS) * time.Millisecond, Rate: rec.Rate, Ordered: rec.Order == OrderUser, Filter: rec.Filter.fields()}
	for i, s := range rec.Secrets {
		if i > 0 && rec.OldUntil != 0 && at.UnixMilli() >= rec.OldUntil {
			break
		}
		parsed, err := webhook.ParseSigningKey(s)
		if err != nil {
			return e, err
		}
		e.Secrets = append(e.Secrets, parsed)
	}
	return e, nil
}

// Endpoint is an endpoint as partners and operators see it.
type Endpoint struct {
	ID        string            `json:"id"`
	Partner   string            `json:"partner"`
	URL       string            `json:"url"`
	Events    []string          `json:"events"`
	Kind      string            `json:"kind"`
	WeChat    *WeChatKeys       `json:"wechat"` // token and key as ***
	Filter    EndpointFilter    `json:"filter"`
	Headers   map[string]string `json:"headers"` // values as ***
	Timeout   string            `json:"timeout"`
	InFlight  int               `json:"in_flight"`
	Rate      float64           `json:"rate"`
	Order     string            `json:"order"`
	ManagedBy string            `json:"managed_by"` // config | api
	State     string            `json:"state"`      // healthy | benched | probing | disabled
	Reason    *string           `json:"reason"`     // why it is benched or disabled
	Since     *time.Time        `json:"since"`      // benched or disabled since
	Until     *time.Time        `json:"until"`      // benched: when it is probed
	Failures  int               `json:"failures"`   // in a row
	Pending   int64             `json:"pending"`    // deliveries on their way
	Held      int64             `json:"held"`       // deliveries that wait until it is enabled
	OldestAt  *time.Time        `json:"oldest_at"`  // of those
	CreatedAt *time.Time        `json:"created_at"`
	UpdatedAt *time.Time        `json:"updated_at"`
	Secrets   []string          `json:"secrets"`    // only in the answer that shows a new one, else null
	PublicKey *string           `json:"public_key"` // of a whsk_ secret: what verifies v1a
	// RotatingUntil is how long the secret before the newest signs too.
	RotatingUntil *time.Time `json:"rotating_until"`
}

// viewEndpoint shows an endpoint in force; rec is nil for one of the config.
func (r *Relay) viewEndpoint(e webhook.Endpoint, keys *WeChatKeys, rec *endpointRecord) Endpoint {
	out := Endpoint{ID: e.ID, Partner: e.Partner, URL: e.URL, Events: append([]string{}, e.Events...), Kind: KindWebhook,
		Filter: filterOf(e.Filter), Headers: map[string]string{}, Timeout: defaultTimeout.String(), InFlight: e.AtOnce(), Rate: e.Rate,
		Order: OrderNone, ManagedBy: "config"}
	if keys != nil {
		out.Kind = KindWeChat
		out.WeChat = &WeChatKeys{Token: kept, EncodingAESKey: kept, Mode: keys.Mode, Format: keys.Format}
	}
	for name := range maps.Keys(e.Headers) {
		out.Headers[name] = kept
	}
	if e.Timeout > 0 {
		out.Timeout = e.Timeout.String()
	}
	if e.Ordered {
		out.Order = OrderUser
	}
	for _, s := range e.Secrets {
		if text := s.PublicKey(); text != "" && out.PublicKey == nil {
			out.PublicKey = &text
		}
	}
	if rec != nil {
		out.ManagedBy = "api"
		out.CreatedAt, out.UpdatedAt = msTime(rec.Created), msTime(rec.Updated)
		if rec.OldUntil > time.Now().UnixMilli() && len(rec.Secrets) > 1 {
			out.RotatingUntil = msTime(rec.OldUntil)
		}
	}
	return out
}

func filterOf(m map[string][]string) EndpointFilter {
	list := func(name string) []string { return append([]string{}, m[name]...) }
	return EndpointFilter{App: list("app"), Event: list("event"), TemplateID: list("template_id"), OpenID: list("openid")}
}

func msTime(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}

func someTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// shownHost is what a log may have of an endpoint's address: its query may hold a secret.
func shownHost(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
