package relay

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/wxrelay/wxrelay/relay/queue"
)

// Media is an image at WeChat, as customer service messages name it.
type Media struct {
	MediaID   string `json:"media_id"` // good for three days
	Type      string `json:"type"`
	CreatedAt int64  `json:"created_at"` // Unix seconds, as WeChat has it
}

// UploadMedia hands an image to WeChat for the app's customer service messages.
func (r *Relay) UploadMedia(ctx context.Context, partner, app, filename, contentType string, content []byte) (Media, error) {
	if _, err := r.appOf(partner, app); err != nil {
		return Media{}, err
	}
	m, err := r.wechat.Upload(ctx, app, filename, contentType, content)
	return Media{MediaID: m.ID, Type: m.Type, CreatedAt: m.CreatedAt}, err
}

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	ID        string            `json:"id"`
	WebhookID string            `json:"webhook_id"`
	Endpoint  string            `json:"endpoint"`
	Type      string            `json:"type"`
	State     string            `json:"state"` // pending | held | delivered | buried
	Reason    *string           `json:"reason"`
	CreatedAt time.Time         `json:"created_at"`
	NextAt    *time.Time        `json:"next_at"`
	Attempts  []DeliveryAttempt `json:"attempts"`
}

// DeliveryAttempt is one try and its answer.
type DeliveryAttempt struct {
	At     time.Time `json:"at"`
	Status *int      `json:"status"`
	TookMS int64     `json:"took_ms"`
	Error  *string   `json:"error"`
}

func viewDelivery(rec queue.Record) (Delivery, envelope, error) {
	env, _, err := openEnvelope(rec.Body)
	if err != nil {
		return Delivery{}, env, err
	}
	d := Delivery{ID: rec.ID, WebhookID: env.ID, Endpoint: env.Endpoint, Type: env.Type, Reason: some(rec.Reason), CreatedAt: rec.Created.UTC(), Attempts: []DeliveryAttempt{}}
	switch rec.State {
	case "ended":
		d.State, d.Reason = "delivered", nil // what was wrong before stands with the attempts
	case "buried":
		d.State = "buried"
	case "parked":
		d.State = "held"
	default:
		d.State = "pending"
		if !rec.Due.IsZero() {
			due := rec.Due.UTC()
			d.NextAt = &due
		}
	}
	var note deliveryNote
	if len(rec.Note) > 0 {
		if err := json.Unmarshal(rec.Note, &note); err != nil {
			return d, env, err
		}
	}
	for _, a := range note.Attempts {
		da := DeliveryAttempt{At: time.UnixMilli(a.At).UTC(), TookMS: a.Took, Error: some(a.Err)}
		if a.Status != 0 {
			da.Status = &a.Status
		}
		d.Attempts = append(d.Attempts, da)
	}
	return d, env, nil
}

// DeliveryQuery chooses deliveries of a partner; empty fields choose all.
type DeliveryQuery struct {
	Endpoint, State, Cursor string
	Limit                   int // of a page; 0 = 50, at most 100
}

// Deliveries lists a partner's deliveries, the newest first. ErrNotFound: no such endpoint; an *Invalid: the cursor.
func (r *Relay) Deliveries(ctx context.Context, partner string, q DeliveryQuery) (Page[Delivery], error) {
	page := Page[Delivery]{Items: []Delivery{}}
	var of []queue.Listed
	for _, e := range r.rules.Load().Partners[partner].Endpoints {
		if q.Endpoint == "" || e.ID == q.Endpoint {
			of = append(of, queue.Listed{Tag: deliveryTag(partner, e.ID), Shard: -1})
		}
	}
	if q.Endpoint != "" && len(of) == 0 {
		return page, ErrNotFound
	}
	limit, cursor := pageSize(q.Limit), q.Cursor
	for range 20 {
		recs, next, err := r.q.ListAny(ctx, of, cursor, limit-len(page.Items))
		if err != nil {
			return page, badCursor(err)
		}
		for _, rec := range recs {
			if d, _, err := viewDelivery(rec); err == nil && (q.State == "" || d.State == q.State) {
				page.Items = append(page.Items, d)
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

// ReplayDelivery sends a delivery again, under the same webhook-id. partner "" is the operator.
func (r *Relay) ReplayDelivery(ctx context.Context, partner, id string) (Delivery, error) {
	for range 5 {
		rec, err := r.q.Get(ctx, id)
		switch {
		case errors.Is(err, queue.ErrNotFound), errors.Is(err, queue.ErrID):
			return Delivery{}, ErrNotFound
		case err != nil:
			return Delivery{}, err
		}
		d, env, err := viewDelivery(rec)
		if err != nil || partner != "" && env.Partner != partner {
			return Delivery{}, ErrNotFound
		}
		if rec.State == "leased" {
			return Delivery{}, ErrTooLate
		}
		var note deliveryNote
		if len(rec.Note) > 0 {
			if err := json.Unmarshal(rec.Note, &note); err != nil {
				return Delivery{}, err
			}
		}
		note.Replays++
		shard, err := queue.ShardOf(id)
		if err != nil {
			return Delivery{}, ErrNotFound
		}
		err = r.q.Commit(ctx, queue.Change{Shard: shard, Edit: &queue.Edit{ID: id, Version: rec.Version, Note: encode(note), To: queue.Ready}}).Err
		switch {
		case errors.Is(err, queue.ErrStale):
			continue
		case errors.Is(err, queue.ErrInHand):
			return Delivery{}, ErrTooLate
		case errors.Is(err, queue.ErrNotFound):
			return Delivery{}, ErrNotFound
		}
		d.State, d.Reason = "pending", nil
		return d, err
	}
	return Delivery{}, ErrTooLate
}
