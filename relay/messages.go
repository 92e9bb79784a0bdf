package relay

import (
	"context"
	"errors"
	"time"

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

func (r *Relay) record(ctx context.Context, partner, id string) (queue.Record, *draft, error) {
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
	d, _, err := read(rec.Body, rec.Note)
	if err == nil && partner != "" && d.Partner != partner {
		return rec, nil, ErrNotFound
	}
	return rec, &d, err
}

// MessageQuery chooses messages of a partner; empty fields choose all.
type MessageQuery struct {
	App, OpenID, User, State string
	TemplateID, Channel      string
	MsgID                    string    // WeChat's
	AudienceSend             string    // id of the audience send that made it
	Since, Until             time.Time // accepted between these, the ends included
	Cursor                   string
	Limit                    int // of a page; 0 = 50, at most 100
}

// fits tells whether a message is one of those that its place in the lists does not choose already.
func (q *MessageQuery) fits(partner string, m *Message, d *draft) bool {
	return d.Partner == partner && (q.App == "" || d.App == q.App) && (q.State == "" || m.State == q.State) &&
		(q.TemplateID == "" || d.TemplateID == q.TemplateID) && (q.Channel == "" || m.Channel == q.Channel) &&
		(q.MsgID == "" || m.MsgID != nil && *m.MsgID == q.MsgID) && (q.AudienceSend == "" || d.Audience == q.AudienceSend)
}

// maxLooked is how many messages a page looks at: one that looks for few may be short and still have a next one.
const maxLooked = 5000

// Messages lists a partner's messages, the newest first.
func (r *Relay) Messages(ctx context.Context, partner string, q MessageQuery) (Page[Message], error) {
	page := Page[Message]{Items: []Message{}}
	search := queue.Query{Since: q.Since, Until: q.Until}
	var err error
	if search.Of, err = r.listed(ctx, partner, q); err != nil || len(search.Of) == 0 {
		return page, err
	}
	if q.MsgID != "" {
		return r.byMsgID(ctx, partner, &q)
	}
	limit, cursor := pageSize(q.Limit), q.Cursor
	size := limit
	for looked := 0; ; {
		recs, next, err := r.q.Search(ctx, search, cursor, size)
		if err != nil {
			return page, badCursor(err)
		}
		var found []Message
		last := 0 // how many of recs fill the page
		for i, rec := range recs {
			m, d, err := viewRecord(rec)
			if err == nil && q.fits(partner, &m, d) {
				if found = append(found, m); len(page.Items)+len(found) == limit {
					last = i + 1
					break
				}
			}
		}
		if last > 0 && last < len(recs) { // read anew up to there: that tells the cursor behind it
			size = last
			continue
		}
		page.Items = append(page.Items, found...)
		looked += len(recs)
		if next == "" || len(page.Items) >= limit || looked >= maxLooked {
			page.NextCursor = some(next)
			return page, nil
		}
		cursor, size = next, min(2*size, 500) // what is looked for is rare
	}
}

// byMsgID finds the message that WeChat gave a msgid: by the name under which it is kept for WeChat's report, on
// every shard, since nothing tells whose it is.
func (r *Relay) byMsgID(ctx context.Context, partner string, q *MessageQuery) (Page[Message], error) {
	page := Page[Message]{Items: []Message{}}
	for _, app := range r.rules.Load().Partners[partner].Apps {
		for shard := range r.q.Shards() {
			id, err := r.q.Lookup(ctx, shard, msgidName(app, q.MsgID))
			if errors.Is(err, queue.ErrNotFound) {
				continue
			}
			if err != nil {
				return page, err
			}
			rec, d, err := r.record(ctx, partner, id)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return page, err
			}
			m, _, err := viewRecord(rec)
			if err != nil || !q.fits(partner, &m, d) || q.OpenID != "" && m.OpenID != q.OpenID ||
				q.User != "" && (m.User == nil || *m.User != q.User) ||
				!q.Since.IsZero() && m.CreatedAt.Before(q.Since) || !q.Until.IsZero() && m.CreatedAt.After(q.Until) {
				continue
			}
			page.Items = append(page.Items, m)
		}
	}
	return page, nil
}

// listed is where the messages of a query stand. Without an app a user is looked for in each that the partner is
// given: an openid is of one app only, the partner's own user may have one in several. Nobody bound is nothing
// listed.
func (r *Relay) listed(ctx context.Context, partner string, q MessageQuery) ([]queue.Listed, error) {
	apps := []string{q.App}
	if q.App == "" {
		apps = r.rules.Load().Partners[partner].Apps
	} else if _, err := r.appOf(partner, q.App); err != nil {
		return nil, err
	}
	if q.User == "" && q.OpenID == "" && q.AudienceSend != "" {
		return []queue.Listed{{Tag: sendTag(q.AudienceSend), Shard: -1}}, nil
	}
	if q.User == "" && q.OpenID == "" {
		return []queue.Listed{{Tag: partnerTag(partner), Shard: -1}}, nil
	}
	var of []queue.Listed
	for _, app := range apps {
		openid, err := r.openidOf(ctx, partner, app, q.OpenID, q.User)
		switch {
		case errors.Is(err, ErrNotFound):
			continue
		case err != nil:
			return nil, err
		}
		of = append(of, queue.Listed{Tag: userTag(app, openid), Shard: r.q.Shard(app, openid)})
	}
	return of, nil
}

// pageSize is how many items a page of a list has.
func pageSize(asked int) int {
	if asked <= 0 {
		return 50
	}
	return min(asked, 100)
}

// badCursor says what is wrong when a list could not read its cursor.
func badCursor(err error) error {
	if errors.Is(err, queue.ErrID) {
		return invalid("cursor", "is not a next_cursor of this list: leave it out to begin")
	}
	return err
}

// openRecord tells whether the user may have a stored message although no answer says so; one whose lease
// lapsed may, before somebody has looked at it.
func openRecord(rec *queue.Record, s *progress) bool {
	lapsed := rec.Reclaims > s.Lapses && (s.State == StateQueued || s.State == StateScheduled)
	return s.InDoubt() || lapsed
}

// viewRecord shows a stored message; one that a worker holds or on its way is `sending`, a scheduled one that fell
// due is `queued`.
func viewRecord(rec queue.Record) (Message, *draft, error) {
	d, s, err := read(rec.Body, rec.Note)
	if err != nil {
		return Message{}, nil, err
	}
	m := view(rec.ID, &d, &s)
	switch {
	case rec.State == "leased" && (s.State == StateQueued || s.State == StateScheduled || s.State == StateHeld),
		openRecord(&rec, &s) && s.State != StateUnknown:
		m.State = StateSending
	case rec.State == "ready" && s.State == StateScheduled:
		m.State = StateQueued
	}
	return m, &d, nil
}

// Cancel ends a message that still waits; ErrTooLate once it is on its way.
func (r *Relay) Cancel(ctx context.Context, partner, id string) (Message, error) {
	for range 5 {
		rec, d, err := r.record(ctx, partner, id)
		if err != nil {
			return Message{}, err
		}
		_, s, err := read(rec.Body, rec.Note)
		if err != nil {
			return Message{}, err
		}
		if rec.State == "leased" || openRecord(&rec, &s) || s.State != StateScheduled && s.State != StateHeld && s.State != StateQueued {
			return Message{}, ErrTooLate
		}
		shard, err := queue.ShardOf(id)
		if err != nil {
			return Message{}, ErrNotFound
		}
		m, err := r.end(ctx, shard, rec, d, &s, StateCancelled, "partner")
		switch {
		case errors.Is(err, queue.ErrStale):
			continue
		case errors.Is(err, queue.ErrInHand):
			return Message{}, ErrTooLate
		case errors.Is(err, queue.ErrNotFound):
			return Message{}, ErrNotFound
		}
		return m, err
	}
	return Message{}, ErrTooLate // it does not stand still
}

// end brings a waiting message to its end: its credit returns, its partner is told, in one change.
func (r *Relay) end(ctx context.Context, shard int, rec queue.Record, d *draft, s *progress, state, cause string) (Message, error) {
	now, was := time.Now(), s.State
	s.To(state, cause, now, nil)
	m := view(rec.ID, d, s)
	res := r.q.Commit(ctx, queue.Change{Shard: shard, Edit: &queue.Edit{ID: rec.ID, Version: rec.Version, Note: s.Pack(), To: queue.End},
		Operations: append(d.giveBack(s, rec.ID), d.count(was, state)...), Jobs: append(r.notifyMessage(shard, m, d, now), r.releaseJobs(shard, d, s)...)})
	if res.Err == nil {
		r.observeMessage(&m, 0, cause)
		r.returnFormID(d, s, rec.ID)
	}
	return m, res.Err
}
