package console

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/wxrelay/wxrelay/relay"
)

// Endpoints is every endpoint and how it does.
type Endpoints struct {
	Frame    `json:"-"`
	Partners []string         `json:"-"`
	Partner  string           `json:"partner"`
	State    string           `json:"state"`
	Items    []relay.Endpoint `json:"items"`
}

func (*Endpoints) template() string { return "endpoints" }

// endpointStates are what an endpoint may be.
var endpointStates = []string{"healthy", "benched", "probing", "disabled"}

// States are the states to choose from.
func (p *Endpoints) States() []Option { return p.options(endpointStates, p.State) }

func (c *Console) endpoints(r *http.Request) (page, error) {
	rules := c.o.Relay.Rules()
	p := &Endpoints{Items: []relay.Endpoint{}, Partners: names(rules.Partners), Partner: r.URL.Query().Get("partner"), State: r.URL.Query().Get("state")}
	if _, ok := rules.Partners[p.Partner]; !ok && p.Partner != "" {
		return nil, relay.ErrNotFound
	}
	for _, name := range p.Partners {
		if p.Partner != "" && p.Partner != name {
			continue
		}
		list, err := c.o.Relay.Endpoints(r.Context(), name)
		if err != nil {
			return nil, err
		}
		for _, e := range list.Items {
			if p.State == "" || e.State == p.State {
				e.URL = shownURL(e.URL)
				p.Items = append(p.Items, e)
			}
		}
	}
	return p, nil
}

// Endpoint is one endpoint, with its latest deliveries.
type Endpoint struct {
	Frame `json:"-"`
	relay.Endpoint
	Deliveries []relay.Delivery `json:"deliveries"`
	Key        string           `json:"-"` // partner/endpoint
}

func (*Endpoint) template() string { return "endpoint" }

// Latest is its deliveries for the part that draws them.
func (e *Endpoint) Latest() Table[relay.Delivery] {
	return Table[relay.Delivery]{&e.Frame, e.Deliveries}
}

// FilterText is what it takes of the events, as JSON; "" = all.
func (e *Endpoint) FilterText() string {
	parts := []string{}
	add := func(name string, values []string) {
		if len(values) > 0 {
			parts = append(parts, name+": "+strings.Join(values, ", "))
		}
	}
	add("app", e.Filter.App)
	add("event", e.Filter.Event)
	add("template_id", e.Filter.TemplateID)
	add("openid", e.Filter.OpenID)
	return strings.Join(parts, " · ")
}

func (c *Console) endpoint(r *http.Request) (page, error) {
	return c.oneEndpoint(r, nil)
}

// oneEndpoint shows an endpoint; secrets are those of a rotation, shown once.
func (c *Console) oneEndpoint(r *http.Request, secrets []string) (*Endpoint, error) {
	partner, id := r.PathValue("partner"), r.PathValue("id")
	e, err := c.o.Relay.Endpoint(r.Context(), partner, id)
	if err != nil {
		return nil, err
	}
	list, err := c.o.Relay.Deliveries(r.Context(), partner, relay.DeliveryQuery{Endpoint: id, Limit: 15})
	if err != nil {
		return nil, err
	}
	e.URL, e.Secrets = shownURL(e.URL), secrets
	return &Endpoint{Endpoint: e, Deliveries: list.Items, Key: partner + "/" + id}, nil
}

func (c *Console) enableEndpoint(r *http.Request, in input) (any, error) {
	q, _, err := between(in("since"), "")
	if err != nil {
		return nil, err
	}
	plan := in("deliveries")
	if plan != "since" || q.IsZero() {
		return c.o.Relay.EnableEndpoint(r.Context(), r.PathValue("partner"), r.PathValue("id"), plan, nil)
	}
	return c.o.Relay.EnableEndpoint(r.Context(), r.PathValue("partner"), r.PathValue("id"), plan, &q)
}

func (c *Console) disableEndpoint(r *http.Request, _ input) (any, error) {
	return c.o.Relay.DisableEndpoint(r.Context(), r.PathValue("partner"), r.PathValue("id"))
}

func (c *Console) probeEndpoint(r *http.Request, _ input) (any, error) {
	return c.o.Relay.ProbeEndpoint(r.Context(), r.PathValue("partner"), r.PathValue("id"))
}

func (c *Console) testEndpoint(r *http.Request, _ input) (any, error) {
	return c.o.Relay.TestEndpoint(r.Context(), r.PathValue("partner"), r.PathValue("id"))
}

// rotateEndpoint's answer shows the new secret, once.
func (c *Console) rotateEndpoint(r *http.Request, _ input) (any, error) {
	e, err := c.o.Relay.RotateEndpoint(r.Context(), r.PathValue("partner"), r.PathValue("id"), rand.Text())
	if err != nil {
		return nil, err
	}
	p, err := c.oneEndpoint(r, e.Secrets)
	if err != nil {
		return nil, err
	}
	p.Done, p.Path = "rotate", "/endpoints/"+p.Key
	return p, nil
}

// textAt is a text field of a JSON object, at its top or in a "message" below.
func textAt(raw json.RawMessage, name string) string {
	var event struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	top := map[string]json.RawMessage{}
	if json.Unmarshal(raw, &event) == nil && event.Data != nil {
		top = event.Data
	} else if json.Unmarshal(raw, &top) != nil {
		return ""
	}
	var s string
	if json.Unmarshal(top[name], &s) != nil {
		return ""
	}
	return s
}
