package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// What waits for an endpoint is bounded by age and by number, whatever state it is in:
//
//	enabled   a delivery that is not made within pendingLife is buried; one in hand or due does not wait longer than that
//	benched   the lane rests until the bench is over; attempts are made by probes alone
//	disabled  deliveries are held (parked), up to Rules.KeepBuried after their event and Rules.HeldPerEndpoint of them
//	removed   they are cancelled
//
// What is held goes on when the endpoint is enabled, or when its URL changes: then it is another address, and healthy.

// Plans for what was held, as Health keeps them; since carries Unix ms: "since:1700000000000".
const (
	planAll   = "all"
	planSince = "since"
	planDrop  = "drop"
)

const (
	backlogEvery   = 5 * time.Second
	backlogFresh   = time.Second        // how old the counts shown may be
	pendingLife    = 5 * 24 * time.Hour // all attempts take two and a half days
	defaultHeld    = 20_000             // deliveries held for one endpoint
	heldAlert      = 80                 // percent of it: the operator is told
	movedAtOnce    = 64                 // deliveries changed at the same time
	movedPerRound  = 5_000              // of one endpoint
	reasonRemoved  = "endpoint_removed" // of cancelled deliveries, as those below
	reasonDropped  = "dropped"          // by the plan
	reasonTooLong  = "held_too_long"    //
	reasonCanceled = "cancelled"        // on request
	laneHead       = laneDeliver + ":"  //
	roundName      = "backlog"          // taken by the replica that looks
)

// backlog is what waits, by endpoint.
type backlog struct {
	at time.Time
	of map[endpointKey]waiting
}

type waiting struct {
	pending, held int64
	oldest        time.Time // zero = nothing waits
}

func deliverLane(partner, endpoint string) string { return laneHead + partner + "/" + endpoint }

func parkedFor(partner, endpoint string) string { return "e/" + partner + "/" + endpoint }

// stirBacklog has the backlog looked at soon.
func (r *Relay) stirBacklog() {
	select {
	case r.endpoints.wake <- struct{}{}:
	default:
	}
}

// firstThisRound tells whether this replica looks at the backlog in this round.
func (r *Relay) firstThisRound(ctx context.Context) bool {
	res := r.q.Commit(ctx, queue.Change{Once: roundName, OnceFor: backlogEvery - time.Second})
	return res.Err == nil
}

// backlogNow counts what waits, at most once in backlogFresh.
func (r *Relay) backlogNow(ctx context.Context) (backlog, error) {
	r.endpoints.mu.Lock()
	last := r.endpoints.snapshot
	r.endpoints.mu.Unlock()
	if time.Since(last.at) < backlogFresh {
		return last, nil
	}
	return r.countBacklog(ctx)
}

func (r *Relay) countBacklog(ctx context.Context) (backlog, error) {
	depths, err := r.q.Depths(ctx)
	if err != nil {
		return backlog{}, err
	}
	b := backlog{at: time.Now(), of: map[endpointKey]waiting{}}
	for _, d := range depths {
		name, ok := strings.CutPrefix(d.Lane, laneHead)
		if !ok {
			continue
		}
		partner, id, _ := strings.Cut(name, "/")
		key := endpointKey{partner, id}
		w := b.of[key]
		switch d.State {
		case "parked":
			w.held += d.Count
		case "ready", "later", "leased":
			w.pending += d.Count
			if at := b.at.Add(-d.OldestAge); d.OldestAge > 0 && (w.oldest.IsZero() || at.Before(w.oldest)) {
				w.oldest = at
			}
		}
		b.of[key] = w
	}
	for key, w := range b.of {
		if w.held == 0 {
			continue
		}
		recs, _, err := r.q.Parked(ctx, -1, parkedFor(key.partner, key.id), "", 1)
		if err != nil {
			return backlog{}, err
		}
		if len(recs) > 0 && (w.oldest.IsZero() || recs[0].Created.Before(w.oldest)) {
			w.oldest = recs[0].Created
			b.of[key] = w
		}
	}
	r.endpoints.mu.Lock()
	r.endpoints.snapshot = b
	r.endpoints.mu.Unlock()
	return b, nil
}

// tendBacklog looks at all that waits once: what is held for an endpoint that is enabled again goes on, for one that is
// removed ends, and over the bound the oldest go. Each step may be repeated, by this replica or another.
func (r *Relay) tendBacklog(ctx context.Context) {
	b, err := r.countBacklog(ctx)
	if err != nil {
		r.log.Warn("backlog not counted", zap.Error(err))
		return
	}
	for _, key := range r.endpoints.removals() {
		if _, there := b.of[key]; !there {
			r.removed(key)
		}
	}
	for key, w := range b.of {
		if err := r.tend(ctx, key, w); err != nil && ctx.Err() == nil {
			r.log.Warn("backlog not tended", zap.String("partner", key.partner), zap.String("endpoint", key.id), zap.Error(err))
		}
	}
}

func (r *Relay) tend(ctx context.Context, key endpointKey, w waiting) error {
	e, ok, err := r.known(ctx, key.partner, key.id)
	if err != nil {
		return err
	}
	if !ok {
		return r.tendRemoved(ctx, key, w)
	}
	how, err := r.health.Of(ctx, e.HealthKey())
	if err != nil {
		return err
	}
	switch how.State {
	case webhook.Healthy:
	case webhook.Off:
		// those that wait for their next attempt are held too: due now, they come to the gate
		_, err := r.edit(ctx, r.waitingFor(key), func(rec queue.Record) *queue.Edit {
			if rec.State != "later" {
				return nil
			}
			return &queue.Edit{ID: rec.ID, Version: rec.Version, To: queue.Later}
		})
		if err != nil {
			return err
		}
		fallthrough
	default:
		return r.bound(ctx, key, w)
	}
	if w.held == 0 {
		if how.Plan != "" {
			return r.health.Settle(ctx, e.HealthKey(), how.Plan)
		}
		return nil
	}
	since, err := sinceOf(how.Plan)
	if err != nil {
		return err
	}
	moved, err := r.edit(ctx, r.parked(key), func(rec queue.Record) *queue.Edit {
		if how.Plan == planDrop || !since.IsZero() && r.eventTime(rec).Before(since) {
			return cancelled(rec, reasonDropped)
		}
		return &queue.Edit{ID: rec.ID, Version: rec.Version, To: queue.Ready}
	})
	if moved > 0 {
		r.log.Info("held deliveries went on", zap.String("partner", key.partner), zap.String("endpoint", key.id), zap.String("plan", how.Plan), zap.Int("deliveries", moved))
		r.stirBacklog()
	}
	return err
}

// tendRemoved ends what waits for an endpoint that is no more. The config of another replica may be older or newer than ours:
// what this one removed over the API is gone for all; of the rest what is held goes back to its lane, where it ends after
// removedPatience.
func (r *Relay) tendRemoved(ctx context.Context, key endpointKey, w waiting) error {
	if r.removing(key) {
		end := func(rec queue.Record) *queue.Edit { return cancelled(rec, reasonRemoved) }
		if _, err := r.edit(ctx, r.parked(key), end); err != nil {
			return err
		}
		moved, err := r.edit(ctx, r.waitingFor(key), end)
		if err == nil && moved == 0 {
			r.removed(key)
		}
		return err
	}
	if w.held == 0 {
		return nil
	}
	_, err := r.edit(ctx, r.parked(key), func(rec queue.Record) *queue.Edit {
		return &queue.Edit{ID: rec.ID, Version: rec.Version, To: queue.Ready}
	})
	return err
}

func (r *Relay) parked(key endpointKey) func(context.Context, string) ([]queue.Record, string, error) {
	return func(ctx context.Context, cursor string) ([]queue.Record, string, error) {
		return r.q.Parked(ctx, -1, parkedFor(key.partner, key.id), cursor, 256)
	}
}

func (r *Relay) waitingFor(key endpointKey) func(context.Context, string) ([]queue.Record, string, error) {
	return func(ctx context.Context, cursor string) ([]queue.Record, string, error) {
		return r.q.Search(ctx, queue.Query{Of: []queue.Listed{{Tag: deliveryTag(key.partner, key.id), Shard: -1}}, State: "waiting", Oldest: true}, cursor, 256)
	}
}

// bound drops the oldest of what waits for an endpoint that takes nothing, and tells the operator before it comes to that.
func (r *Relay) bound(ctx context.Context, key endpointKey, w waiting) error {
	most := int64(r.rules.Load().HeldPerEndpoint)
	total := w.held + w.pending
	if total*100 >= most*heldAlert {
		r.alertBacklog(ctx, key, total, most)
	}
	over := int(total - most)
	if over <= 0 {
		return nil
	}
	read := r.parked(key)
	if w.held < int64(over) {
		read = r.waitingFor(key)
	}
	dropped, err := r.edit(ctx, read, func(rec queue.Record) *queue.Edit {
		if over == 0 || rec.State == "leased" {
			return nil
		}
		over--
		return &queue.Edit{ID: rec.ID, Version: rec.Version, To: queue.Forget}
	})
	if dropped > 0 {
		if f := r.observe.Dropped; f != nil {
			f(key.partner, dropped)
		}
		r.log.Error("deliveries dropped: more wait for the endpoint than may", zap.String("partner", key.partner), zap.String("endpoint", key.id),
			zap.Int("dropped", dropped), zap.Int64("most", most))
	}
	return err
}

// edit edits what a list has, page by page, until it is at its end or a round is full; it says how many were edited. One that
// changed meanwhile is left to the next round.
func (r *Relay) edit(ctx context.Context, read func(context.Context, string) ([]queue.Record, string, error), change func(queue.Record) *queue.Edit) (moved int, err error) {
	var mu sync.Mutex
	for cursor, looked := "", 0; looked < movedPerRound; {
		recs, next, err := read(ctx, cursor)
		if err != nil {
			return moved, err
		}
		looked += len(recs)
		var wg sync.WaitGroup
		slots := make(chan struct{}, movedAtOnce)
		for _, rec := range recs {
			e := change(rec)
			if e == nil {
				continue
			}
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				shard, failed := queue.ShardOf(e.ID)
				if failed == nil {
					failed = r.q.Commit(ctx, queue.Change{Shard: shard, Edit: e}).Err
				}
				mu.Lock()
				defer mu.Unlock()
				switch {
				case failed == nil:
					moved++
				case errors.Is(failed, queue.ErrStale), errors.Is(failed, queue.ErrInHand), errors.Is(failed, queue.ErrNotFound):
				default:
					err = failed
				}
			})
		}
		wg.Wait()
		if err != nil || next == "" {
			return moved, err
		}
		cursor = next
	}
	return moved, nil
}

// cancelled ends a delivery for a reason that can be read.
func cancelled(rec queue.Record, reason string) *queue.Edit {
	var note deliveryNote
	_ = json.Unmarshal(rec.Note, &note) // none, or one of ours
	note.Cancelled = reason
	return &queue.Edit{ID: rec.ID, Version: rec.Version, Note: encode(note), To: queue.End}
}

func sinceOf(plan string) (time.Time, error) {
	ms, ok := strings.CutPrefix(plan, planSince+":")
	if !ok {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(ms, 10, 64)
	return time.UnixMilli(n), err
}

// eventTime is the event's own timestamp.
func (r *Relay) eventTime(rec queue.Record) time.Time {
	env, payload, err := openEnvelope(rec.Body)
	if err != nil {
		return time.Time{}
	}
	if payload, err = r.decrypted(rec.ID, env, payload); err != nil {
		return rec.Created
	}
	var head struct {
		Timestamp time.Time `json:"timestamp"`
	}
	_ = json.Unmarshal(payload, &head)
	return head.Timestamp
}

// alertBacklog tells the operator and the partner's other endpoints, once an hour, that deliveries are about to be dropped.
func (r *Relay) alertBacklog(ctx context.Context, key endpointKey, total, most int64) {
	e, ok := r.endpoint(key.partner, key.id)
	p := r.rules.Load().Partners[key.partner]
	if !ok || len(p.Apps) == 0 {
		return
	}
	name := key.partner + "/" + key.id
	shard := r.q.Shard(key.partner, key.id)
	now := time.Now()
	jobs := r.notify(notification{shard: shard, partner: e.Partner, not: e.ID, typ: EventAlert, at: now, data: Alert{App: p.Apps[0],
		Meaning:   fmt.Sprintf("%d of at most %d deliveries wait for the endpoint %s; over that the oldest are dropped", total, most, name),
		MeaningZH: fmt.Sprintf("端点 %s 已积压 %d 条投递，上限 %d 条，超过后将丢弃最早的投递", name, total, most),
		Cure:      "bring the endpoint back and enable it, or remove it",
		CureZH:    "请恢复并启用该端点，或将其删除"}})
	res := r.q.Commit(ctx, queue.Change{Shard: shard, Once: "alert/backlog/" + name, OnceFor: alertSilence, Jobs: jobs})
	if res.Err == nil {
		r.log.Error("deliveries are about to be dropped", zap.String("partner", key.partner), zap.String("endpoint", key.id),
			zap.Int64("waiting", total), zap.Int64("most", most))
	}
}
