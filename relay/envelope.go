package relay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// envelope is what a delivery job knows besides the payload: the first line of its body. Searches look for its texts, see
// envelopeText.
type envelope struct {
	Partner  string `json:"p"`
	Endpoint string `json:"e"`
	ID       string `json:"i"` // webhook-id: the same for every endpoint and every attempt
	Type     string `json:"t"`
	App      string `json:"a,omitempty"`
	OpenID   string `json:"o,omitempty"`
	Message  string `json:"m,omitempty"`
	Until    int64  `json:"u,omitempty"`  // Unix ms: worthless later
	Trace    string `json:"tp,omitempty"` // W3C traceparent of what it follows from, when that is recorded
	Sealed   bool   `json:"z,omitempty"`  // the payload is encrypted for the delivery's id
}

// envelopeText is how a field of an envelope is written.
func envelopeText(field, value string) string { return `"` + field + `":` + string(encode(value)) }

// envelope is the event's, but for its endpoint.
func (t *notification) envelope(id string) envelope {
	env := envelope{ID: id, Type: t.typ, App: t.app, Trace: t.trace}
	if app := t.values("app"); len(app) > 0 {
		env.App = app[0]
	}
	if openid := t.values("openid"); len(openid) > 0 {
		env.OpenID = openid[0]
	}
	if m, ok := t.data.(*Message); ok {
		env.Message = m.ID
	}
	return env
}

// values are what a field of the event has, for endpoints' filters: app, event (WeChat's name), template_id, openid.
func (t *notification) values(field string) []string {
	one := func(s string) []string {
		if s == "" {
			return nil
		}
		return []string{s}
	}
	maybe := func(s *string) []string {
		if s == nil {
			return nil
		}
		return one(*s)
	}
	switch d := t.data.(type) {
	case PushReceived:
		switch field {
		case "app":
			return one(d.App)
		case "openid":
			return maybe(d.OpenID)
		case "event":
			return maybe(d.Event)
		case "template_id":
			return templatesOf(d.Raw)
		}
	case *Message:
		switch field {
		case "app":
			return one(d.App)
		case "openid":
			return one(d.OpenID)
		case "template_id":
			return maybe(d.TemplateID)
		}
	case SubscriptionEvent:
		switch field {
		case "app":
			return one(d.App)
		case "openid":
			return one(d.OpenID)
		case "template_id":
			return one(d.TemplateID)
		}
	case UserEvent:
		switch field {
		case "app":
			return one(d.App)
		case "openid":
			return one(d.OpenID)
		}
	case Alert:
		if field == "app" {
			return one(d.App)
		}
	}
	return nil
}

// templatesOf are the templates that a push is about.
func templatesOf(raw string) (ids []string) {
	_, ev, err := callback.Decode([]byte(raw))
	if err != nil {
		return nil
	}
	for _, s := range ev.Subscribes {
		ids = append(ids, s.TemplateID)
	}
	return ids
}

// secret are the types whose payloads are encrypted in Redis.
var secret = map[string]bool{EventUserPhone: true}

// delivery is the job that brings an event to an endpoint: its body is the envelope, a newline, the payload. Its id follows from
// the event's and the endpoint's.
func (r *Relay) delivery(e webhook.Endpoint, env envelope, payload []byte, shared *queue.Shared) (j queue.Job, err error) {
	env.Partner, env.Endpoint = e.Partner, e.ID
	id := deliveryID(env.ID, e.Partner, e.ID)
	switch {
	case secret[env.Type] && r.sealer.Seal != nil:
		if payload, err = r.sealer.Seal(payload, []byte(id)); err != nil {
			return j, err
		}
		env.Sealed, shared = true, nil
	case shared != nil:
		payload = nil
	}
	head := encode(env)
	body := make([]byte, 0, len(head)+1+len(payload))
	body = append(append(append(body, head...), '\n'), payload...)
	keep := r.rules.Load().KeepEvents
	j = queue.Job{ID: id, Lane: deliverLane(e.Partner, e.ID), Body: body, Shared: shared, Tags: []string{deliveryTag(e.Partner, e.ID)},
		Keep: keep, Idle: max(keep, pendingLife+24*time.Hour), Drop: true, Expires: time.Now().Add(pendingLife)}
	if env.Until != 0 {
		j.Expires = time.UnixMilli(env.Until)
	}
	if e.Ordered && env.OpenID != "" {
		j.Serial, j.Holds = "d/"+e.Partner+"/"+e.ID+"/"+env.App+"/"+env.OpenID, true
	}
	return j, nil
}

// deliveryID is the id of an event's delivery to an endpoint.
func deliveryID(event, partner, endpoint string) string {
	return queue.Derive("dlv_", event, partner+"/"+endpoint)
}

// decrypted is a payload as it is posted.
func (r *Relay) decrypted(id string, env envelope, payload []byte) ([]byte, error) {
	if !env.Sealed || r.sealer.Unseal == nil {
		return payload, nil
	}
	return r.sealer.Unseal(payload, []byte(id))
}

func deliveryTag(partner, endpoint string) string { return "d/" + partner + "/" + endpoint }

// openEnvelope takes a delivery job's body apart.
func openEnvelope(body []byte) (env envelope, payload []byte, err error) {
	head, payload, ok := bytes.Cut(body, []byte("\n"))
	if !ok {
		return env, nil, fmt.Errorf("delivery without a payload")
	}
	return env, payload, json.Unmarshal(head, &env)
}
