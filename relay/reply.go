package relay

import (
	"context"
	"time"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// replyBudget leaves WeChat's 5 seconds room for the way back.
const replyBudget = 3500 * time.Millisecond

// reply is what WeChat hears besides "success". The push is durable before anybody is asked, so a partner that is late or
// broken costs its reply, not the event.
func (r *Relay) reply(ctx context.Context, app App, p *callback.Push) []byte {
	switch app.Reply {
	case "transfer_customer_service":
		return callback.TransferCustomerService(p)
	case "partner":
		return r.askPartner(ctx, app, p)
	}
	return nil
}

func (r *Relay) askPartner(ctx context.Context, app App, p *callback.Push) []byte {
	var e webhook.Endpoint
	for _, partner := range r.rules.Load().Partners {
		for _, have := range partner.Endpoints {
			if have.Partner+"/"+have.ID == app.ReplyEndpoint {
				e = have
			}
		}
	}
	if e.URL == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, replyBudget)
	defer cancel()
	shard := r.q.Shard(p.App, p.Event.OpenID)
	payload := encode(struct {
		Type      string       `json:"type"`
		Timestamp time.Time    `json:"timestamp"`
		Data      PushReceived `json:"data"`
	}{EventPush, time.Now().UTC(), pushReceived(p.App, string(p.Format), p.Raw, &p.Event)})
	out := r.courier.Deliver(ctx, webhook.Attempt{Endpoint: e, ID: r.q.IDFor("ask_", shard, p.Name), Type: EventPush, Payload: payload, Number: 1})
	if out.Kind != webhook.Delivered || len(out.Body) == 0 || string(out.Body) == "success" {
		return nil
	}
	return out.Body
}

func pushReceived(app, format string, raw []byte, ev *callback.Event) PushReceived {
	return PushReceived{App: app, OpenID: some(ev.OpenID), MsgType: some(ev.MsgType), Event: some(ev.Event), Format: format, Raw: string(raw)}
}
