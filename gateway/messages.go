package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/wxrelay/wxrelay/relay"
)

// sendMessage accepts a message. The journey remembers the webhook-id in the very change that accepts; a request that
// is refused is looked up, because it may be one that was accepted before, when things stood otherwise.
func (g *Handler) sendMessage(ctx context.Context, r *partnerRequest) (reply, error) {
	var m relay.Message
	again := false
	req, err := relay.ParseMessage(r.body)
	if req.To.OnlyAudience() && err == nil {
		return g.sendToAudience(ctx, r, req)
	}
	if err = named(err); err == nil {
		m, again, err = g.relay.Send(ctx, r.partner.Name, relay.RequestKey{ID: r.id, Digest: r.digest}, req)
	}
	if err != nil && translate(err).Status < http.StatusInternalServerError {
		id, other := g.answers.Marked(ctx, r.partner.Name, r.id, r.digest)
		if other != nil {
			return reply{}, other
		}
		if was, gone := g.relay.FirstAnswer(ctx, r.partner.Name, id); id != "" && gone == nil {
			m, again, err = was, true, nil
		}
	}
	return reply{status: http.StatusAccepted, body: &m, again: again}, err
}

// batchItem is one result of a batch: a message, or the problem its own POST would have been answered.
type batchItem struct {
	Status  int            `json:"status"`
	Message *relay.Message `json:"message,omitempty"`
	Problem *Problem       `json:"problem,omitempty"`
}

type batchAnswer struct {
	Results []batchItem `json:"results"`
}

func (g *Handler) sendBatch(ctx context.Context, r *partnerRequest) (reply, error) {
	var req struct {
		Messages relay.Batch `json:"messages"` // what is wrong with one is its own result
	}
	req.Messages = g.relay.NewBatch(int(g.limits.Load().Body))
	if err := decode(r.body, &req); err != nil {
		if f, ok := errors.AsType[*relay.Invalid](err); ok && req.Messages.Len() == 0 && len(f.Fields) < relay.MaxFields {
			f.Fields = append(f.Fields, relay.Field{Field: "messages", Reason: "is required: a list of messages"})
		}
		return reply{}, err
	}
	asked := make([]relay.BatchItem, req.Messages.Len())
	err := req.Messages.Each(func(n int, q relay.SendRequest, err error) {
		asked[n] = relay.BatchItem{Request: q, Err: named(err)}
	})
	if err != nil {
		return reply{}, named(err)
	}
	results, err := g.relay.SendBatch(ctx, r.partner.Name, relay.RequestKey{ID: r.id, Digest: r.digest}, asked)
	if err != nil {
		return reply{}, err
	}
	out := reply{status: http.StatusOK}
	items := make([]batchItem, len(results))
	for i, result := range results {
		if result.Err == nil {
			items[i] = batchItem{Status: http.StatusAccepted, Message: result.Message}
			continue
		}
		p := problemOf(result.Err, requestIDOf(r.Context))
		if p.cause != nil {
			g.fault(p.RequestID, r.FullPath(), p.cause)
		}
		items[i] = batchItem{Status: p.Status, Problem: &p}
		out.open = out.open || p.transient()
	}
	out.body = batchAnswer{items}
	return out, nil
}

func (g *Handler) getMessage(ctx context.Context, r *partnerRequest) (reply, error) {
	m, err := g.relay.Message(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: &m}, err
}

func (g *Handler) cancelMessage(ctx context.Context, r *partnerRequest) (reply, error) {
	m, err := g.relay.Cancel(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: &m}, err
}

var messageStates = []string{relay.StateScheduled, relay.StateHeld, relay.StateQueued, relay.StateSending, relay.StateSent, relay.StateDelivered,
	relay.StateFailed, relay.StateRefused, relay.StateExpired, relay.StateCancelled, relay.StateUnknown}

func (g *Handler) listMessages(ctx context.Context, r *partnerRequest) (reply, error) {
	q, limit, err := listQuery(r.Request.URL.RawQuery, "app", "openid", "user", "state", "template_id", "channel", "msgid", "since", "until",
		"audience_send")
	if err != nil {
		return reply{}, err
	}
	if s := q["state"]; s != "" && !slices.Contains(messageStates, s) {
		return reply{}, invalid("state", "must be one of "+strings.Join(messageStates, ", "))
	}
	if ch := q["channel"]; ch != "" && !slices.Contains(relay.Channels, ch) {
		return reply{}, invalid("channel", "must be one of "+strings.Join(relay.Channels, ", "))
	}
	since, until, err := between(q)
	if err != nil {
		return reply{}, err
	}
	page, err := g.relay.Messages(ctx, r.partner.Name, relay.MessageQuery{App: q["app"], OpenID: q["openid"], User: q["user"], State: q["state"],
		TemplateID: q["template_id"], Channel: q["channel"], MsgID: q["msgid"], AudienceSend: q["audience_send"], Since: since, Until: until,
		Cursor: q["cursor"], Limit: limit})
	return reply{status: http.StatusOK, body: page}, err
}
