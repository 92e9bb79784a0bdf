package relay

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay/queue"
)

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	ID        string            `json:"id"`
	WebhookID string            `json:"webhook_id"`
	Type      string            `json:"type"`
	Partner   string            `json:"partner"`
	Endpoint  string            `json:"endpoint"`
	State     string            `json:"state"` // pending | held | delivered | buried | cancelled
	Attempts  []DeliveryAttempt `json:"attempts"`
	NextAt    *time.Time        `json:"next_at"`
	Reason    *string           `json:"reason"` // why it is held, buried or cancelled, or of the last failure
	CreatedAt time.Time         `json:"created_at"`
}

// The states of a delivery.
const (
	DeliveryPending   = "pending"
	DeliveryHeld      = "held"
	DeliveryDelivered = "delivered"
	DeliveryBuried    = "buried"
	DeliveryCancelled = "cancelled"
)

// DeliveryStates are all of them.
var DeliveryStates = []string{DeliveryPending, DeliveryHeld, DeliveryDelivered, DeliveryBuried, DeliveryCancelled}

// inQueue is how the queue calls the jobs among which deliveries of a state are.
var inQueue = map[string]string{"": "", DeliveryPending: "waiting", DeliveryHeld: "parked", DeliveryBuried: "buried", DeliveryDelivered: "ended", DeliveryCancelled: "ended"}

// stateOf is a job's state as a delivery's.
func stateOf(rec *queue.Record, note *deliveryNote) string {
	switch {
	case rec.State == "ended" && note.Cancelled != "":
		return DeliveryCancelled
	case rec.State == "ended":
		return DeliveryDelivered
	case rec.State == "buried":
		return DeliveryBuried
	case rec.State == "parked":
		return DeliveryHeld
	}
	return DeliveryPending
}

func viewDelivery(rec queue.Record) (d Delivery, env envelope, note deliveryNote, err error) {
	if env, _, err = openEnvelope(rec.Body); err != nil {
		return d, env, note, err
	}
	if len(rec.Note) > 0 {
		if err = json.Unmarshal(rec.Note, &note); err != nil {
			return d, env, note, err
		}
	}
	d = Delivery{ID: rec.ID, WebhookID: env.ID, Type: env.Type, Partner: env.Partner, Endpoint: env.Endpoint, State: stateOf(&rec, &note),
		Reason: some(rec.Reason), CreatedAt: rec.Created.UTC(), Attempts: make([]DeliveryAttempt, 0, len(note.Attempts))}
	switch d.State {
	case DeliveryCancelled:
		d.Reason = some(note.Cancelled)
	case DeliveryDelivered:
		d.Reason = nil // what was wrong before stands with the attempts
	case DeliveryHeld:
		d.Reason = some("endpoint_disabled")
	case DeliveryPending:
		d.NextAt = someTime(rec.Due)
	}
	for i := range note.Attempts {
		d.Attempts = append(d.Attempts, note.Attempts[i].view(&env))
	}
	return d, env, note, nil
}

// DeliveryQuery chooses deliveries of a partner; empty fields choose all.
type DeliveryQuery struct {
	Endpoint, State string
	Type            string // exact, or a prefix ending in .*
	WebhookID       string
	Message         string // deliveries of this message's events
	Since, Until    time.Time
	Cursor          string
	Limit           int // of a page; 0 = 50, at most 100
}

// fillTime bounds how long a page is filled when little of what is there fits.
const fillTime = 2 * time.Second

// Deliveries lists a partner's deliveries, the newest first. A page is full unless the list is at its end, or filling it
// takes longer than fillTime.
func (r *Relay) Deliveries(ctx context.Context, partner string, q DeliveryQuery) (Page[Delivery], error) {
	page := Page[Delivery]{Items: []Delivery{}}
	if q.Limit <= 0 {
		q.Limit = 50
	}
	q.Limit = min(q.Limit, 100)
	if q.WebhookID != "" {
		return r.deliveriesOf(ctx, partner, q)
	}
	search, err := r.search(partner, q)
	if err != nil || len(search.Of) == 0 {
		return page, err
	}
	started, cursor := time.Now(), q.Cursor
	for {
		recs, next, err := r.q.Search(ctx, search, cursor, q.Limit-len(page.Items))
		if err != nil {
			return page, badCursor(err)
		}
		for _, rec := range recs {
			if d, env, _, err := viewDelivery(rec); err == nil && env.Partner == partner && (q.State == "" || d.State == q.State) {
				page.Items = append(page.Items, d)
			}
		}
		if cursor = next; next == "" || len(page.Items) >= q.Limit || time.Since(started) > fillTime {
			page.NextCursor = some(next)
			return page, nil
		}
	}
}

// search is a query as the queue can answer it; what it cannot (delivered or cancelled) is left to the caller.
func (r *Relay) search(partner string, q DeliveryQuery) (s queue.Query, err error) {
	if q.State != "" && !slices.Contains(DeliveryStates, q.State) {
		return s, &Invalid{Code: "invalid_request", Fields: []Field{{Field: "state", Reason: "must be one of " + strings.Join(DeliveryStates, ", ")}}}
	}
	shard := -1
	if q.Message != "" {
		if shard, err = queue.ShardOf(q.Message); err != nil {
			return s, nil //nolint:nilerr // no message has this id: nothing is listed
		}
		s.Contains = append(s.Contains, envelopeText("m", q.Message))
	}
	if q.Type != "" {
		text := envelopeText("t", strings.TrimSuffix(q.Type, "*"))
		if strings.HasSuffix(q.Type, ".*") {
			text = strings.TrimSuffix(text, `"`)
		}
		s.Contains = append(s.Contains, text)
	}
	s.State, s.Since, s.Until = inQueue[q.State], q.Since, q.Until
	found := q.Endpoint == ""
	for _, e := range r.rules.Load().Partners[partner].Endpoints {
		if q.Endpoint == "" || e.ID == q.Endpoint {
			found = true
			s.Of = append(s.Of, queue.Listed{Tag: deliveryTag(partner, e.ID), Shard: shard})
		}
	}
	if !found {
		return s, ErrNotFound
	}
	return s, nil
}

// deliveriesOf lists those of one event.
func (r *Relay) deliveriesOf(ctx context.Context, partner string, q DeliveryQuery) (Page[Delivery], error) {
	page := Page[Delivery]{Items: []Delivery{}}
	if _, err := r.search(partner, q); err != nil {
		return page, err
	}
	recs, err := r.ofEvent(ctx, partner, q.WebhookID)
	if err != nil {
		return page, err
	}
	prefix, wild := strings.CutSuffix(q.Type, "*")
	for _, rec := range recs {
		d, env, _, err := viewDelivery(rec)
		fits := err == nil && (q.Endpoint == "" || d.Endpoint == q.Endpoint) && (q.State == "" || d.State == q.State) &&
			(q.Type == "" || d.Type == q.Type || wild && strings.HasPrefix(d.Type, prefix)) && (q.Message == "" || env.Message == q.Message) &&
			!d.CreatedAt.Before(q.Since) && (q.Until.IsZero() || !d.CreatedAt.After(q.Until))
		if fits {
			page.Items = append(page.Items, d)
		}
	}
	return page, nil
}

// ofEvent reads an event's deliveries to the partner's endpoints: their ids follow from the event's.
func (r *Relay) ofEvent(ctx context.Context, partner, event string) ([]queue.Record, error) {
	var recs []queue.Record
	if _, err := queue.ShardOf(event); err != nil {
		return nil, nil //nolint:nilerr // no event has this id
	}
	for _, e := range r.rules.Load().Partners[partner].Endpoints {
		rec, err := r.q.Get(ctx, deliveryID(event, partner, e.ID))
		switch {
		case err == nil:
			recs = append(recs, rec)
		case !errors.Is(err, queue.ErrNotFound) && !errors.Is(err, queue.ErrID):
			return nil, err
		}
	}
	return recs, nil
}

// Event is what was sent to a partner, to which endpoints, and what became of it.
type Event struct {
	WebhookID  string          `json:"webhook_id"`
	Type       string          `json:"type"`
	Timestamp  time.Time       `json:"timestamp"`
	Data       json.RawMessage `json:"data"`
	Deliveries []Delivery      `json:"deliveries"`
}

// Event finds an event by its webhook-id.
func (r *Relay) Event(ctx context.Context, partner, id string) (Event, error) {
	out := Event{Deliveries: []Delivery{}}
	recs, err := r.ofEvent(ctx, partner, id)
	if err != nil {
		return out, err
	}
	for _, rec := range recs {
		d, env, _, err := viewDelivery(rec)
		if err != nil {
			continue
		}
		_, payload, _ := openEnvelope(rec.Body)
		if payload, err = r.decrypted(rec.ID, env, payload); err != nil {
			return out, err
		}
		if err := json.Unmarshal(payload, &out); err != nil {
			return out, err
		}
		out.WebhookID, out.Type = env.ID, env.Type
		out.Deliveries = append(out.Deliveries, d)
	}
	if len(out.Deliveries) == 0 {
		return out, ErrNotFound
	}
	return out, nil
}

// Delivery shows one delivery; partner "" is the operator.
func (r *Relay) Delivery(ctx context.Context, partner, id string) (Delivery, error) {
	rec, err := r.deliveryRecord(ctx, partner, id)
	if err != nil {
		return Delivery{}, err
	}
	d, _, _, err := viewDelivery(rec)
	return d, err
}

func (r *Relay) deliveryRecord(ctx context.Context, partner, id string) (queue.Record, error) {
	if !strings.HasPrefix(id, "dlv_") {
		return queue.Record{}, ErrNotFound
	}
	rec, err := r.q.Get(ctx, id)
	switch {
	case errors.Is(err, queue.ErrNotFound), errors.Is(err, queue.ErrID):
		return rec, ErrNotFound
	case err != nil:
		return rec, err
	}
	if env, _, err := openEnvelope(rec.Body); err != nil || partner != "" && env.Partner != partner {
		return rec, ErrNotFound
	}
	return rec, nil
}

// ReplayDelivery sends a delivery again, under the same webhook-id; one that waits goes at once. partner "" is the operator.
func (r *Relay) ReplayDelivery(ctx context.Context, partner, id string) (Delivery, error) {
	return r.changeDelivery(ctx, partner, id, func(rec queue.Record, note *deliveryNote) (*queue.Edit, error) {
		return replayed(rec, note, "", time.Now()), nil
	})
}

// CancelDelivery ends a delivery that waits; ErrTooLate when it does not.
func (r *Relay) CancelDelivery(ctx context.Context, partner, id string) (Delivery, error) {
	return r.changeDelivery(ctx, partner, id, func(rec queue.Record, note *deliveryNote) (*queue.Edit, error) {
		if rec.State == "ended" || rec.State == "buried" {
			return nil, ErrTooLate
		}
		return cancelled(rec, reasonCanceled), nil
	})
}

// replayed has a delivery made again: a fresh schedule, and no expiry that was its own. by names the replay, if it is one of many.
func replayed(rec queue.Record, note *deliveryNote, by string, now time.Time) *queue.Edit {
	note.Replays++
	note.ReplayedAt, note.ReplayedBy = now.UnixMilli(), by
	note.Cancelled, note.Held, note.Missing, note.Turn = "", false, 0, 0
	return &queue.Edit{ID: rec.ID, Version: rec.Version, Note: encode(note), To: queue.Ready, Lasting: true}
}

// changeDelivery edits a delivery as it stands, again when it changed meanwhile. One that is in hand is ErrTooLate.
func (r *Relay) changeDelivery(ctx context.Context, partner, id string, change func(queue.Record, *deliveryNote) (*queue.Edit, error)) (Delivery, error) {
	for range 5 {
		rec, err := r.deliveryRecord(ctx, partner, id)
		if err != nil {
			return Delivery{}, err
		}
		_, _, note, err := viewDelivery(rec)
		if err != nil {
			return Delivery{}, err
		}
		if rec.State == "leased" {
			return Delivery{}, ErrTooLate
		}
		edit, err := change(rec, &note)
		if err != nil {
			return Delivery{}, err
		}
		shard, err := queue.ShardOf(id)
		if err != nil {
			return Delivery{}, ErrNotFound
		}
		err = r.q.Commit(ctx, queue.Change{Shard: shard, Edit: edit}).Err
		switch {
		case errors.Is(err, queue.ErrStale):
			continue
		case errors.Is(err, queue.ErrInHand):
			return Delivery{}, ErrTooLate
		case errors.Is(err, queue.ErrNotFound):
			return Delivery{}, ErrNotFound
		case err != nil:
			return Delivery{}, err
		}
		return r.Delivery(ctx, partner, id)
	}
	return Delivery{}, ErrTooLate
}
