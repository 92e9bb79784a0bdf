package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay"
)

// Deliveries is the latest deliveries that fit the fields of the search.
type Deliveries struct {
	Frame     `json:"-"`
	Endpoints []string         `json:"-"` // partner/endpoint, to choose from
	Partners  []string         `json:"-"`
	Partner   string           `json:"partner"`
	Endpoint  string           `json:"endpoint"` // partner/endpoint
	State     string           `json:"state"`
	Type      string           `json:"type"`
	WebhookID string           `json:"webhook_id"`
	Since     string           `json:"since"`
	Until     string           `json:"until"`
	Items     []relay.Delivery `json:"items"`
	Next      *string          `json:"next_cursor"`
	Matched   *int             `json:"matched"` // with count=1: how many would be replayed
}

func (*Deliveries) template() string { return "deliveries" }

// States are the states to choose from.
func (p *Deliveries) States() []Option { return p.options(relay.DeliveryStates, p.State) }

// Table is the deliveries for the part that draws them.
func (p *Deliveries) Table() Table[relay.Delivery] { return Table[relay.Delivery]{&p.Frame, p.Items} }

// MayReplay tells whether the filter names what can be replayed at once: something of one partner that is not under way.
func (p *Deliveries) MayReplay() bool {
	return p.Partner != "" && p.State != relay.DeliveryPending && p.WebhookID == "" && len(p.Items) > 0
}

// EndpointID is the endpoint without its partner.
func (p *Deliveries) EndpointID() string {
	_, id, _ := strings.Cut(p.Endpoint, "/")
	return id
}

func (c *Console) deliveries(r *http.Request) (page, error) {
	q := func(name string) string { return strings.TrimSpace(r.URL.Query().Get(name)) }
	rules := c.o.Relay.Rules()
	p := &Deliveries{Partner: q("partner"), Endpoint: q("endpoint"), State: q("state"), Type: q("type"), WebhookID: q("webhook_id"), Since: q("since"),
		Until: q("until"), Partners: names(rules.Partners), Items: []relay.Delivery{}}
	if strings.HasPrefix(p.WebhookID, "dlv_") {
		return c.oneDelivery(r.Context(), p.WebhookID)
	}
	for _, name := range p.Partners {
		for _, e := range rules.Partners[name].Endpoints {
			p.Endpoints = append(p.Endpoints, name+"/"+e.ID)
		}
	}
	if p.Endpoint != "" {
		if !slices.Contains(p.Endpoints, p.Endpoint) {
			return nil, relay.ErrNotFound
		}
		p.Partner, _, _ = strings.Cut(p.Endpoint, "/")
	}
	if _, ok := rules.Partners[p.Partner]; !ok && p.Partner != "" {
		return nil, relay.ErrNotFound
	}
	ask := relay.DeliveryQuery{Endpoint: p.EndpointID(), State: p.State, Type: p.Type, WebhookID: p.WebhookID}
	var err error
	if ask.Since, ask.Until, err = between(p.Since, p.Until); err != nil {
		return nil, err
	}
	if p.Items, p.Next, err = c.latestDeliveries(r.Context(), p.Partner, ask, q("cursor")); err != nil {
		return nil, err
	}
	if q("count") != "" && p.MayReplay() {
		what, err := replayOf(q)
		if err != nil {
			return nil, err
		}
		what.DryRun = true
		n, err := c.o.Relay.StartReplay(r.Context(), p.Partner, "", what)
		if err != nil {
			return nil, err
		}
		p.Matched = &n.Matched
	}
	return p, nil
}

// latestDeliveries merges every partner's deliveries, as latest does messages.
func (c *Console) latestDeliveries(ctx context.Context, partner string, q relay.DeliveryQuery, cursor string) ([]relay.Delivery, *string, error) {
	at, skip, err := readPlace(cursor)
	if err != nil {
		return nil, nil, err
	}
	if !at.IsZero() && (q.Until.IsZero() || at.Before(q.Until)) {
		q.Until = at
	}
	all, rules, over := []relay.Delivery{}, c.o.Relay.Rules(), time.Now().Add(searchTime)
	want := shown + skip + 1
	q.Limit = min(want, 100)
	for name, p := range rules.Partners {
		if partner != "" && partner != name || len(p.Endpoints) == 0 {
			continue
		}
		found := 0
		for q.Cursor = ""; ; {
			list, err := c.o.Relay.Deliveries(ctx, name, q)
			if err != nil {
				return nil, nil, err
			}
			all, found = append(all, list.Items...), found+len(list.Items)
			if list.NextCursor == nil || found >= want || time.Now().After(over) {
				break
			}
			q.Cursor = *list.NextCursor
		}
	}
	slices.SortFunc(all, func(a, b relay.Delivery) int {
		if d := b.CreatedAt.Compare(a.CreatedAt); d != 0 {
			return d
		}
		return strings.Compare(b.ID, a.ID)
	})
	items, next := cutPage(all, at, skip, func(d relay.Delivery) time.Time { return d.CreatedAt })
	return items, next, nil
}

// Delivery is one delivery: the event, and what each attempt sent and heard.
type Delivery struct {
	Frame `json:"-"`
	relay.Delivery
	URL   string       `json:"url"`
	Event *relay.Event `json:"event"` // nil = it is forgotten
	Curl  string       `json:"curl"`  // the same request by hand, with the signature of the last attempt
}

func (*Delivery) template() string { return "delivery" }

// EventText is the event as it was sent.
func (d *Delivery) EventText() string {
	if d.Event == nil {
		return ""
	}
	return pretty(d.body())
}

// body is the request's body as it was signed: the order of its fields is that of relay's events.
func (d *Delivery) body() []byte {
	kind, err := json.Marshal(d.Event.Type)
	if err != nil {
		return nil // a text: it encodes
	}
	at, err := json.Marshal(d.Event.Timestamp)
	if err != nil {
		return nil // a year past 9999
	}
	return slices.Concat([]byte(`{"type":`), kind, []byte(`,"timestamp":`), at, []byte(`,"data":`), d.Event.Data, []byte(`}`))
}

// MessageID is the message that the event is about; "" = none.
func (d *Delivery) MessageID() string {
	if d.Event == nil || !strings.HasPrefix(d.Type, "message.") {
		return ""
	}
	return textAt(d.Event.Data, "id")
}

// Header is one header of a request or answer.
type Header struct{ Name, Value string }

// Headers sorts headers by name.
func (d *Delivery) Headers(h map[string]string) []Header {
	out := make([]Header, 0, len(h))
	for _, name := range names(h) {
		out = append(out, Header{name, h[name]})
	}
	return out
}

// Newest are the attempts, the newest first.
func (d *Delivery) Newest() []relay.DeliveryAttempt {
	out := slices.Clone(d.Attempts)
	slices.Reverse(out)
	return out
}

// MayReplay tells whether it may be sent again, or at once.
func (d *Delivery) MayReplay() bool { return d.State != relay.DeliveryCancelled }

// MayCancel tells whether it waits.
func (d *Delivery) MayCancel() bool {
	return d.State == relay.DeliveryPending || d.State == relay.DeliveryHeld
}

func (c *Console) delivery(r *http.Request) (page, error) {
	return c.oneDelivery(r.Context(), r.PathValue("id"))
}

func (c *Console) oneDelivery(ctx context.Context, id string) (page, error) {
	d, err := c.o.Relay.Delivery(ctx, "", id)
	if err != nil {
		return nil, err
	}
	p := &Delivery{Delivery: d}
	switch e, err := c.o.Relay.Event(ctx, d.Partner, d.WebhookID); {
	case err == nil:
		e.Deliveries = nil
		p.Event = &e
	case !errors.Is(err, relay.ErrNotFound):
		return nil, err
	}
	switch e, err := c.o.Relay.Endpoint(ctx, d.Partner, d.Endpoint); {
	case err == nil:
		p.URL = shownURL(e.URL)
	case !errors.Is(err, relay.ErrNotFound):
		return nil, err
	}
	p.Curl = deliveryCurl(p)
	return p, nil
}

// deliveryCurl repeats the last attempt by hand. Its signature is as old as that attempt.
func deliveryCurl(d *Delivery) string {
	if d.Event == nil || len(d.Attempts) == 0 || d.Attempts[len(d.Attempts)-1].RequestHeaders == nil {
		return ""
	}
	var b strings.Builder
	b.WriteString("curl -i " + quoted(d.URL))
	for _, h := range d.Headers(d.Attempts[len(d.Attempts)-1].RequestHeaders) {
		if h.Name != "Content-Length" {
			b.WriteString(" \\\n  -H " + quoted(h.Name+": "+h.Value))
		}
	}
	b.WriteString(" \\\n  --data-binary " + quoted(string(d.body())))
	return b.String()
}

// shownURL is an endpoint's address without its query: many receivers know their senders by a token in it.
func shownURL(raw string) string {
	if bare, _, asked := strings.Cut(raw, "?"); asked {
		return bare + "?***"
	}
	return raw
}

func (c *Console) replayDelivery(r *http.Request, _ input) (any, error) {
	return c.o.Relay.ReplayDelivery(r.Context(), "", r.PathValue("id"))
}

func (c *Console) cancelDelivery(r *http.Request, _ input) (any, error) {
	return c.o.Relay.CancelDelivery(r.Context(), "", r.PathValue("id"))
}

// Replay is how far a replay of many is; as a page it looks again every second while it runs.
type Replay struct {
	Frame `json:"-"`
	relay.Replay
	Partner string `json:"partner"`
}

func (*Replay) template() string { return "replay" }

// Running tells whether it goes on.
func (p *Replay) Running() bool { return p.State == "running" }

// Most is what a bar of the progress ends at.
func (p *Replay) Most() int { return max(p.Matched, 1) }

func (c *Console) replay(r *http.Request) (page, error) {
	partner := r.PathValue("partner")
	out, err := c.o.Relay.Replay(r.Context(), partner, r.PathValue("id"))
	return &Replay{Replay: out, Partner: partner}, err
}

// replayOf is what a form or a filter asks to replay.
func replayOf(in func(string) string) (relay.ReplayRequest, error) {
	q := relay.ReplayRequest{Type: in("type"), State: in("state")}
	_, q.Endpoint, _ = strings.Cut(in("endpoint"), "/")
	since, until, err := between(in("since"), in("until"))
	if !since.IsZero() {
		q.Since = &since
	}
	if !until.IsZero() {
		q.Until = &until
	}
	return q, err
}

// replayFilter is the list that a replay was begun from.
func replayFilter(in input) url.Values {
	q := url.Values{}
	for _, name := range []string{"partner", "endpoint", "type", "state", "since", "until"} {
		if v := in(name); v != "" {
			q.Set(name, v)
		}
	}
	return q
}

func (c *Console) startReplay(r *http.Request, in input) (any, error) {
	q, err := replayOf(in)
	if err != nil {
		return nil, err
	}
	if in("partner") == "" {
		return nil, wrong("partner", "is required")
	}
	if _, ok := c.o.Relay.Partner(in("partner")); !ok {
		return nil, relay.ErrNotFound
	}
	q.DryRun, _ = strconv.ParseBool(in("dry_run"))
	return c.o.Relay.StartReplay(r.Context(), in("partner"), "", q)
}

func (c *Console) stopReplay(r *http.Request, _ input) (any, error) {
	return c.o.Relay.StopReplay(r.Context(), r.PathValue("partner"), r.PathValue("id"))
}
