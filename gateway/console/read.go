package console

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/wxrelay/wxrelay/relay"
)

var messageStates = []string{relay.StateScheduled, relay.StateHeld, relay.StateQueued, relay.StateSending, relay.StateSent, relay.StateDelivered,
	relay.StateFailed, relay.StateRefused, relay.StateExpired, relay.StateCancelled, relay.StateUnknown}

// shown is how many messages or deliveries a page lists.
const shown = 50

func (c *Console) overview(r *http.Request) (page, error) {
	ctx, rules := r.Context(), c.o.Rules()
	p := &Overview{Ready: true, Checks: append([]Check{}, c.o.Ready(ctx)...), Apps: []AppRow{}, Live: r.URL.Query().Get("live") != ""}
	for _, check := range p.Checks {
		p.Ready = p.Ready && check.OK
	}
	for _, name := range names(rules.Apps) {
		app := rules.Apps[name]
		row := AppRow{Name: name, AppID: app.AppID, Kind: app.Kind, Partners: []string{}}
		for _, partner := range names(rules.Partners) {
			if rules.Partners[partner].MayUse(name) {
				row.Partners = append(row.Partners, partner)
			}
		}
		if t, held := c.o.WeChat.Held(name); held {
			row.Fetched, row.Expires = &t.FetchedAt, &t.ExpiresAt
		}
		p.Apps = append(p.Apps, row)
	}
	var err error
	if p.Lanes, err = c.lanes(ctx); err == nil {
		p.Recent, err = c.latest(ctx, relay.MessageQuery{Limit: 15})
	}
	if err != nil { // the checks above say why; a page without them would say less
		p.Blind = true
		c.o.Fault(r.URL.Path, err)
	}
	return p, nil
}

// lanes gathers the queue's depths into one row per lane.
func (c *Console) lanes(ctx context.Context) ([]Lane, error) {
	depths, err := c.o.Queue.Depths(ctx)
	if err != nil {
		return nil, err
	}
	rows := map[string]*Lane{}
	for _, d := range depths {
		row := rows[d.Lane]
		if row == nil {
			row = &Lane{Name: d.Lane}
			rows[d.Lane] = row
		}
		switch d.State {
		case "ready":
			row.Ready, row.Oldest = row.Ready+d.Count, max(row.Oldest, d.OldestAge)
		case "later":
			row.Later += d.Count
		case "leased":
			row.InHand += d.Count
		case "parked":
			row.Parked += d.Count
		case "buried":
			row.Buried += d.Count
		}
	}
	out := make([]Lane, 0, len(rows))
	for _, row := range rows {
		out = append(out, *row)
	}
	slices.SortFunc(out, func(a, b Lane) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// latest merges every partner's messages, the newest first. A partner that may not use the app asked for has none of
// it.
func (c *Console) latest(ctx context.Context, q relay.MessageQuery) ([]relay.Message, error) {
	all := []relay.Message{}
	rules := c.o.Rules()
	for name, partner := range rules.Partners {
		if q.App != "" && !partner.MayUse(q.App) {
			continue
		}
		page, err := c.o.Relay.Messages(ctx, name, q)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
	}
	slices.SortFunc(all, func(a, b relay.Message) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return all[:min(len(all), max(q.Limit, 1))], nil
}

func (c *Console) user(r *http.Request) (page, error) {
	q := r.URL.Query()
	p := &User{Apps: names(c.o.Rules().Apps), App: q.Get("app"), OpenID: strings.TrimSpace(q.Get("openid")),
		Lines: []relay.Subscription{}, Messages: []relay.Message{}}
	if p.OpenID == "" {
		return p, nil
	}
	if _, ok := c.o.Rules().Apps[p.App]; !ok {
		return nil, relay.ErrNotFound
	}
	var err error
	if p.Lines, err = c.o.Relay.SubscriptionsOf(r.Context(), p.App, p.OpenID); err != nil {
		return nil, err
	}
	p.Asked = true
	p.Messages, err = c.latest(r.Context(), relay.MessageQuery{App: p.App, OpenID: p.OpenID, Limit: shown})
	return p, err
}

func (c *Console) messages(r *http.Request) (page, error) {
	q := r.URL.Query()
	if id := strings.TrimSpace(q.Get("id")); id != "" {
		return c.oneMessage(r.Context(), id)
	}
	rules := c.o.Rules()
	p := &Messages{Apps: names(rules.Apps), App: q.Get("app"), State: q.Get("state"), All: messageStates}
	if _, ok := rules.Apps[p.App]; !ok && p.App != "" || p.State != "" && !slices.Contains(messageStates, p.State) {
		return nil, relay.ErrNotFound
	}
	var err error
	p.Items, err = c.latest(r.Context(), relay.MessageQuery{App: p.App, State: p.State, Limit: shown})
	return p, err
}

func (c *Console) message(r *http.Request) (page, error) {
	return c.oneMessage(r.Context(), r.PathValue("id"))
}

func (c *Console) oneMessage(ctx context.Context, id string) (page, error) {
	m, err := c.o.Relay.Message(ctx, "", id)
	if err != nil {
		return nil, err
	}
	p := &Message{Message: m}
	if m.Errcode != nil && *m.Errcode != 0 {
		known := errcodeOf(relay.LookupErrcode(*m.Errcode))
		p.Known = &known
	}
	return p, nil
}

// deliveries shows what is buried, unless another state is asked for; without an endpoint those of all.
func (c *Console) deliveries(r *http.Request) (page, error) {
	q, rules := r.URL.Query(), c.o.Rules()
	p := &Deliveries{Endpoint: q.Get("endpoint"), State: q.Get("state"), Items: []relay.Delivery{}, Replayed: q.Get("done") == "replay"}
	for _, name := range names(rules.Partners) {
		for _, e := range rules.Partners[name].Endpoints {
			p.Endpoints = append(p.Endpoints, name+"/"+e.ID)
		}
	}
	state := p.State
	switch state {
	case "":
		p.State, state = "buried", "buried"
	case "all":
		state = ""
	}
	of, cursor := p.Endpoints, ""
	if p.Endpoint != "" {
		of, cursor = []string{p.Endpoint}, q.Get("cursor")
	}
	for _, key := range of {
		partner, id, _ := strings.Cut(key, "/")
		list, err := c.o.Relay.Deliveries(r.Context(), partner, relay.DeliveryQuery{Endpoint: id, State: state, Cursor: cursor})
		if err != nil {
			return nil, err
		}
		for _, d := range list.Items {
			d.Endpoint = key
			p.Items = append(p.Items, d)
		}
		if p.Endpoint != "" {
			p.Next = list.NextCursor
		}
	}
	slices.SortStableFunc(p.Items, func(a, b relay.Delivery) int { return b.CreatedAt.Compare(a.CreatedAt) })
	if p.Endpoint == "" {
		p.Items = p.Items[:min(len(p.Items), shown)]
	}
	return p, nil
}

func (c *Console) endpoints(r *http.Request) (page, error) {
	p, rules := &Endpoints{Items: []EndpointRow{}}, c.o.Rules()
	for _, name := range names(rules.Partners) {
		for _, e := range rules.Partners[name].Endpoints {
			how, err := c.o.Health.Of(r.Context(), e.HealthKey())
			if err != nil {
				return nil, err
			}
			p.Items = append(p.Items, EndpointRow{Partner: name, ID: e.ID, URL: shownURL(e.URL), Events: append([]string{}, e.Events...), Condition: conditionOf(how)})
		}
	}
	return p, nil
}

// shownURL is an endpoint's address without its query: many receivers know their senders by a token in it.
func shownURL(raw string) string {
	if bare, _, asked := strings.Cut(raw, "?"); asked {
		return bare + "?***"
	}
	return raw
}

func (c *Console) errcodes(*http.Request) (page, error) {
	p := &Errcodes{Items: []Errcode{}}
	for _, row := range relay.Errcodes() {
		p.Items = append(p.Items, errcodeOf(row))
	}
	return p, nil
}

func names[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// statusOf is the status and the reason an error is answered with.
func statusOf(err error) (int, string) {
	var inv *relay.Invalid
	switch {
	case errors.Is(err, relay.ErrNotFound), errors.Is(err, relay.ErrNotAllowed):
		return http.StatusNotFound, "nothing there under this name"
	case errors.Is(err, relay.ErrTooLate):
		return http.StatusConflict, err.Error()
	case errors.As(err, &inv):
		return http.StatusUnprocessableEntity, inv.Error()
	}
	return http.StatusServiceUnavailable, "Redis or WeChat did not answer"
}
