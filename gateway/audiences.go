package gateway

import (
	"bytes"
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

// sendToAudience accepts a message to an audience. As with a single message, a request that is refused may be one that was
// accepted before.
func (g *Handler) sendToAudience(ctx context.Context, r *partnerRequest, req relay.SendRequest) (reply, error) {
	s, again, err := g.relay.SendToAudience(ctx, r.partner.Name, relay.RequestKey{ID: r.id, Digest: r.digest}, req, bytes.Clone(r.body))
	if err != nil && translate(err).Status < http.StatusInternalServerError {
		id, other := g.answers.Marked(ctx, r.partner.Name, r.id, r.digest)
		if other != nil {
			return reply{}, other
		}
		if was, gone := g.relay.FirstAudienceAnswer(ctx, r.partner.Name, id); id != "" && gone == nil {
			s, again, err = was, true, nil
		}
	}
	return reply{status: http.StatusAccepted, body: s, again: again}, err
}

func (g *Handler) getAudienceSend(ctx context.Context, r *partnerRequest) (reply, error) {
	s, err := g.relay.AudienceSend(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: s}, err
}

func (g *Handler) cancelAudienceSend(ctx context.Context, r *partnerRequest) (reply, error) {
	s, err := g.relay.CancelAudienceSend(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: s}, err
}
