package gateway

import (
	"context"
	"net/http"
	"time"

	"github.com/wxrelay/wxrelay/relay"
)

// endpointRoutes are the partner's endpoints: where it receives events, and how they do.
func (g *Handler) endpointRoutes() []partnerRoute {
	const right = "endpoints"
	return []partnerRoute{
		{method: http.MethodGet, path: "/endpoints", right: right, run: g.listEndpoints},
		{method: http.MethodGet, path: "/endpoints/:id", right: right, run: g.getEndpoint},
		{method: http.MethodPut, path: "/endpoints/:id", right: right, run: g.putEndpoint},
		{method: http.MethodDelete, path: "/endpoints/:id", right: right, run: g.deleteEndpoint},
		{method: http.MethodPost, path: "/endpoints/:id/test", right: right, run: g.testEndpoint},
		{method: http.MethodPost, path: "/endpoints/:id/enable", right: right, run: g.enableEndpoint},
		{method: http.MethodPost, path: "/endpoints/:id/disable", right: right, run: g.disableEndpoint},
		{method: http.MethodPost, path: "/endpoints/:id/rotate", right: right, run: g.rotateEndpoint},
	}
}

func (g *Handler) listEndpoints(ctx context.Context, r *partnerRequest) (reply, error) {
	q, limit, err := listQuery(r.Request.URL.RawQuery)
	if err != nil {
		return reply{}, err
	}
	page, err := g.relay.Endpoints(ctx, r.partner.Name)
	if err != nil {
		return reply{}, err
	}
	out, err := paged(page.Items, func(e relay.Endpoint) string { return e.ID }, q["cursor"], limit)
	return reply{status: http.StatusOK, body: out}, err
}

func (g *Handler) getEndpoint(ctx context.Context, r *partnerRequest) (reply, error) {
	e, err := g.relay.Endpoint(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: e}, err
}

// putEndpoint's answer may show a secret, so it is not remembered; relay knows a repeated request by its webhook-id.
func (g *Handler) putEndpoint(ctx context.Context, r *partnerRequest) (reply, error) {
	var in relay.EndpointRequest
	if err := decode(r.body, &in); err != nil {
		return reply{}, err
	}
	e, made, err := g.relay.PutEndpoint(ctx, r.partner.Name, param(r.Context, "id"), r.id, in)
	out := reply{status: http.StatusOK, body: e, open: true}
	if made {
		out.status = http.StatusCreated
	}
	return out, err
}

func (g *Handler) deleteEndpoint(ctx context.Context, r *partnerRequest) (reply, error) {
	e, err := g.relay.DeleteEndpoint(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: e}, err
}

// rotateEndpoint: see putEndpoint.
func (g *Handler) rotateEndpoint(ctx context.Context, r *partnerRequest) (reply, error) {
	e, err := g.relay.RotateEndpoint(ctx, r.partner.Name, param(r.Context, "id"), r.id)
	return reply{status: http.StatusOK, body: e, open: true}, err
}

func (g *Handler) testEndpoint(ctx context.Context, r *partnerRequest) (reply, error) {
	d, err := g.relay.TestEndpoint(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusAccepted, body: d}, err
}

func (g *Handler) enableEndpoint(ctx context.Context, r *partnerRequest) (reply, error) {
	var in struct {
		Deliveries string     `json:"deliveries"`
		Since      *time.Time `json:"since"`
	}
	if len(r.body) > 0 {
		if err := decode(r.body, &in); err != nil {
			return reply{}, err
		}
	}
	e, err := g.relay.EnableEndpoint(ctx, r.partner.Name, param(r.Context, "id"), in.Deliveries, in.Since)
	return reply{status: http.StatusOK, body: e}, err
}

func (g *Handler) disableEndpoint(ctx context.Context, r *partnerRequest) (reply, error) {
	e, err := g.relay.DisableEndpoint(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: e}, err
}
