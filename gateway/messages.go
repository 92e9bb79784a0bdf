package gateway

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/wxrelay/wxrelay/relay"
)

// sendMessage accepts a message. The journey remembers the webhook-id in the very change that accepts; a request that is
// refused is looked up, because it may be one that was accepted before, when things stood otherwise.
func (g *Gate) sendMessage(ctx context.Context, r *partnerRequest) (reply, error) {
	var req relay.SendRequest
	var m relay.Message
	again := false
	err := decode(r.body, &req, InvalidMessage)
	if err == nil {
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

func (g *Gate) sendBatch(ctx context.Context, r *partnerRequest) (reply, error) {
	var req struct {
		Messages []apart `json:"messages"` // what is wrong with one is its own result
	}
	if err := decode(r.body, &req, InvalidRequest); err != nil {
		return reply{}, err
	}
	asked := make([]relay.BatchItem, len(req.Messages))
	for i, raw := range req.Messages {
		asked[i].Err = decode(raw, &asked[i].Request, InvalidMessage)
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
		out.open = out.open || p.passes()
	}
	out.body = batchAnswer{items}
	return out, nil
}

func (g *Gate) getMessage(ctx context.Context, r *partnerRequest) (reply, error) {
	m, err := g.relay.Message(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: &m}, err
}

func (g *Gate) cancelMessage(ctx context.Context, r *partnerRequest) (reply, error) {
	m, err := g.relay.Cancel(ctx, r.partner.Name, param(r.Context, "id"))
	return reply{status: http.StatusOK, body: &m}, err
}

var messageStates = []string{relay.StateScheduled, relay.StateHeld, relay.StateQueued, relay.StateSending, relay.StateSent, relay.StateDelivered,
	relay.StateFailed, relay.StateRefused, relay.StateExpired, relay.StateCancelled, relay.StateUnknown}

func (g *Gate) listMessages(ctx context.Context, r *partnerRequest) (reply, error) {
	q, err := filters(r.Request.URL.RawQuery, "app", "openid", "user", "state", "cursor", "limit")
	if err != nil {
		return reply{}, err
	}
	if s := q["state"]; s != "" && !slices.Contains(messageStates, s) {
		return reply{}, invalid("state", "must be one of "+strings.Join(messageStates, ", "))
	}
	limit, err := count(q["limit"])
	if err != nil {
		return reply{}, err
	}
	page, err := g.relay.Messages(ctx, r.partner.Name, relay.MessageQuery{App: q["app"], OpenID: q["openid"], User: q["user"], State: q["state"], Cursor: q["cursor"], Limit: limit})
	return reply{status: http.StatusOK, body: page}, err
}

// filters reads the query of a list. A name misspelt would widen the list unseen, so it is a fault.
func filters(raw string, known ...string) (map[string]string, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, &fault{code: Malformed, detail: "the query is not form-encoded"}
	}
	out := make(map[string]string, len(q))
	f := &fault{code: InvalidRequest}
	for name, values := range q {
		switch {
		case !slices.Contains(known, name):
			f.fields = append(f.fields, relay.Field{Field: name, Reason: "unknown, must be one of " + strings.Join(known, ", ")})
		case len(values) > 1:
			f.fields = append(f.fields, relay.Field{Field: name, Reason: "given twice"})
		default:
			out[name] = values[0]
		}
	}
	if len(f.fields) > 0 {
		slices.SortFunc(f.fields, func(a, b relay.Field) int { return strings.Compare(a.Field, b.Field) })
		return nil, f
	}
	return out, nil
}

// count reads a page's limit; "" is 0, the default.
func count(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 200 {
		return 0, invalid("limit", "must be a number from 1 to 200")
	}
	return n, nil
}

func invalid(field, reason string) error {
	return &fault{code: InvalidRequest, fields: []relay.Field{{Field: field, Reason: reason}}}
}
