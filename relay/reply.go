package relay

import (
	"bytes"
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// How long a partner may think about its reply: WeChat waits 5 seconds for ours, and whoever hears the push may allow less.
// Of that, replyMargin is kept for sealing and the way back: a push that is stored must not look late.
const (
	replyBudget = 3500 * time.Millisecond
	replyMargin = 300 * time.Millisecond
)

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
	budget := timeToThink(ctx)
	if budget <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	shard := r.q.Shard(p.App, p.Event.OpenID)
	payload := encode(struct {
		Type      string       `json:"type"`
		Timestamp time.Time    `json:"timestamp"`
		Data      PushReceived `json:"data"`
	}{EventPush, time.Now().UTC(), pushReceived(p.App, string(p.Format), p.Raw, &p.Event)})
	out := r.sender.Deliver(ctx, webhook.Attempt{Endpoint: e, ID: r.q.IDFor("ask_", shard, p.ID), Type: EventPush, Payload: payload, Number: 1, Whole: true, Traceparent: r.traceOf(ctx)})
	body := bytes.TrimSpace(out.Body)
	why := out.Err
	switch {
	case out.Kind != webhook.Delivered:
	case len(body) == 0 || string(body) == "success":
		return nil
	default:
		if why = unfit(p, body); why == "" {
			return body
		}
	}
	r.log.Warn("partner's reply not used", zap.String("app", p.App), zap.String("endpoint", app.ReplyEndpoint), zap.String("reason", why))
	return nil
}

// timeToThink is what is left for a partner; storing the push may have taken most of it.
func timeToThink(ctx context.Context) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return replyBudget
	}
	return min(replyBudget, time.Until(end)-replyMargin)
}

// unfit says why a partner's answer is no passive reply to the push, "" when it is one. WeChat shows the user an error for
// what it cannot read, and does not push the event again.
// https://developers.weixin.qq.com/doc/service/guide/product/message/Passive_user_reply_message.html
func unfit(p *callback.Push, body []byte) string {
	format, reply, err := callback.Decode(body)
	switch {
	case err != nil:
		return "it is neither XML nor JSON"
	case reply.Doubtful:
		return "it is not well-formed"
	case format != p.Format:
		return "it is " + string(format) + ", the push was " + string(p.Format)
	case reply.MsgType == "" || reply.FromUserName == "":
		return "it has no MsgType or FromUserName"
	case reply.ToUserName != p.Event.FromUserName:
		return "its ToUserName is not the push's FromUserName"
	}
	return ""
}

func pushReceived(app, format string, raw []byte, ev *callback.Event) PushReceived {
	name := ev.Event
	if ev.Component != nil {
		name = ev.Component.InfoType // what a third-party platform is told has this in its place
	}
	return PushReceived{App: app, OpenID: some(ev.OpenID), MsgType: some(ev.MsgType), Event: some(name), Format: format, Raw: string(raw), Fields: raw}
}
