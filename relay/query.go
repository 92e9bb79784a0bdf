package relay

import (
	"context"
	"errors"

	"github.com/wxrelay/wxrelay/relay/queue"
)

// Page is one page of a list; NextCursor is null at its end.
type Page[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor"`
}

// Message returns a partner's message; another partner's is ErrNotFound.
func (r *Relay) Message(ctx context.Context, partner, id string) (Message, error) {
	return r.message(ctx, partner, id)
}

func (r *Relay) message(ctx context.Context, partner, id string) (Message, error) {
	rec, _, err := r.record(ctx, partner, id)
	if err != nil {
		return Message{}, err
	}
	m, _, err := viewRecord(rec)
	return m, err
}

func (r *Relay) record(ctx context.Context, partner, id string) (queue.Record, *order, error) {
	if len(id) < 5 || id[:4] != "msg_" {
		return queue.Record{}, nil, ErrNotFound
	}
	rec, err := r.q.Get(ctx, id)
	switch {
	case errors.Is(err, queue.ErrNotFound), errors.Is(err, queue.ErrID):
		return rec, nil, ErrNotFound
	case err != nil:
		return rec, nil, err
	}
	o, _, err := read(rec.Body, rec.Note)
	if err == nil && partner != "" && o.Partner != partner {
		return rec, nil, ErrNotFound
	}
	return rec, &o, err
}

// MessageQuery chooses messages of a partner; empty fields choose all.
type MessageQuery struct {
	App, OpenID, User, State, Cursor string
	Limit                            int // of a page; 0 = 50, at most 200
}

// Messages lists a partner's messages, the newest first. A filter by state or app looks through a bounded stretch, so a page
// may be short and still have a next one.
func (r *Relay) Messages(ctx context.Context, partner string, q MessageQuery) (Page[Message], error) {
	page := Page[Message]{Items: []Message{}}
	tag, shard := partnerTag(partner), -1
	if q.App != "" {
		if _, err := r.appOf(partner, q.App); err != nil {
			return page, err
		}
	}
	if q.User != "" || q.OpenID != "" {
		if q.App == "" {
			return page, &Invalid{Code: "invalid_request", Fields: []Field{{"app", "is required with openid or user"}}}
		}
		openid, err := r.openidOf(ctx, partner, q.App, q.OpenID, q.User)
		if err != nil {
			return page, err
		}
		tag, shard = userTag(q.App, openid), r.q.Shard(q.App, openid)
	}
	limit := min(q.Limit, 200)
	if limit <= 0 {
		limit = 50
	}
	cursor := q.Cursor
	for range 20 {
		recs, next, err := r.q.List(ctx, tag, shard, cursor, limit-len(page.Items))
		if err != nil {
			return page, err
		}
		for _, rec := range recs {
			m, o, err := viewRecord(rec)
			if err == nil && o.Partner == partner && (q.App == "" || o.App == q.App) && (q.State == "" || m.State == q.State) {
				page.Items = append(page.Items, m)
			}
		}
		cursor = next
		if next == "" || len(page.Items) >= limit {
			break
		}
	}
	page.NextCursor = some(cursor)
	return page, nil
}
