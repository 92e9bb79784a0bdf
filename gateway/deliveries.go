package gateway

import (
	"context"
	"net/http"

	"github.com/wxrelay/wxrelay/relay"
)

// deliveryRoutes are what was sent to the partner's endpoints, and its replay.
func (g *Handler) deliveryRoutes() []partnerRoute {
	const right = "endpoints"
	return []partnerRoute{
		{method: http.MethodGet, path: "/deliveries", right: right, run: g.deliveries},
		{method: http.MethodGet, path: "/deliveries/:id", right: right, run: g.getDelivery},
		{method: http.MethodPost, path: "/deliveries/:id/replay", right: right, run: g.replayDelivery},
		{method: http.MethodPost, path: "/deliveries/:id/cancel", right: right, run: g.cancelDelivery},
		{method: http.MethodPost, path: "/replays", right: right, run: g.startReplay},
		{method: http.MethodGet, path: "/replays/:id", right: right, run: g.getReplay},
		{method: http.MethodDelete, path: "/replays/:id", right: right, run: g.stopReplay},
		{method: http.MethodGet, path: "/events/:webhook_id", right: right, run: g.getEvent},
	}
}

func (g *Handler) deliveries(ctx context.Context, r *partnerRequest) (reply, error) {
	q, limit, err := listQuery(r.Request.URL.RawQuery, "endpoint", "state", "type", "webhook_id", "message", "since", "until")
	if err != nil {
		return reply{}, err
	}
	since, until, err := between(q)
	if err != nil {
		return reply{}, err
	}
	page, err := g.relay.Deliveries(ctx, r.partner.Name, relay.DeliveryQuery{Endpoint: q["endpoint"], State: q["state"], Type: q["type"],
		WebhookID: q["webhook_id"], Message: q["message"], Since: since, Until: until, Cursor: q["cursor"], Limit: limit})
	return reply{status: http.StatusOK, body: page}, err
}

func (g *Handler) getDelivery(ctx context.Context, r *partnerRequest) (reply, error) {
	d, err := g.relay.Delivery(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: d}, err
}

func (g *Handler) replayDelivery(ctx context.Context, r *partnerRequest) (reply, error) {
	d, err := g.relay.ReplayDelivery(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: d}, err
}

func (g *Handler) cancelDelivery(ctx context.Context, r *partnerRequest) (reply, error) {
	d, err := g.relay.CancelDelivery(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: d}, err
}

func (g *Handler) startReplay(ctx context.Context, r *partnerRequest) (reply, error) {
	var in relay.ReplayRequest
	if err := decode(r.body, &in); err != nil {
		return reply{}, err
	}
	p, err := g.relay.StartReplay(ctx, r.partner.Name, "", in)
	return reply{status: http.StatusAccepted, body: p}, err
}

func (g *Handler) getReplay(ctx context.Context, r *partnerRequest) (reply, error) {
	p, err := g.relay.Replay(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: p}, err
}

func (g *Handler) stopReplay(ctx context.Context, r *partnerRequest) (reply, error) {
	p, err := g.relay.StopReplay(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: p}, err
}

func (g *Handler) getEvent(ctx context.Context, r *partnerRequest) (reply, error) {
	e, err := g.relay.Event(ctx, r.partner.Name, param(r.Context, "webhook_id"))
	return reply{status: http.StatusOK, body: e}, err
}
