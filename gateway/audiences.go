package gateway

import (
	"context"
	"net/http"

	"github.com/wxrelay/wxrelay/relay"
)

func (g *Handler) putAudience(ctx context.Context, r *partnerRequest) (reply, error) {
	var in relay.AudienceRequest
	if err := decode(r.body, &in); err != nil {
		return reply{}, err
	}
	a, err := g.relay.PutAudience(ctx, r.partner.Name, param(r.Context, "name"), in)
	return reply{status: http.StatusOK, body: a}, err
}

func (g *Handler) patchAudience(ctx context.Context, r *partnerRequest) (reply, error) {
	var in relay.AudiencePatch
	if err := decode(r.body, &in); err != nil {
		return reply{}, err
	}
	a, err := g.relay.PatchAudience(ctx, r.partner.Name, param(r.Context, "name"), in)
	return reply{status: http.StatusOK, body: a}, err
}

func (g *Handler) getAudience(ctx context.Context, r *partnerRequest) (reply, error) {
	q, limit, err := listQuery(r.Request.URL.RawQuery)
	if err != nil {
		return reply{}, err
	}
	a, err := g.relay.Audience(ctx, r.partner.Name, param(r.Context, "name"), q["cursor"], limit)
	return reply{status: http.StatusOK, body: a}, err
}

func (g *Handler) deleteAudience(ctx context.Context, r *partnerRequest) (reply, error) {
	a, err := g.relay.DeleteAudience(ctx, r.partner.Name, param(r.Context, "name"))
	return reply{status: http.StatusOK, body: a}, err
}

func (g *Handler) listAudiences(ctx context.Context, r *partnerRequest) (reply, error) {
	q, limit, err := listQuery(r.Request.URL.RawQuery)
	if err != nil {
		return reply{}, err
	}
	all, err := g.relay.Audiences(ctx, r.partner.Name)
	if err != nil {
		return reply{}, err
	}
	page, err := paged(all, func(a relay.Audience) string { return a.Name }, q["cursor"], limit)
	return reply{status: http.StatusOK, body: page}, err
}
