package relay

import (
	"context"
	"errors"
	"time"

	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
)

// Held messages wait for the user's next accept (or next word, for customer service), in the order they came, one for each
// credit.

// waiting returns the held messages of a park name, the oldest first; there are never more than a user may have waiting.
func (r *Relay) waiting(ctx context.Context, shard int, park string) ([]queue.Record, error) {
	recs, _, err := r.q.Parked(ctx, shard, park, "", 1000)
	return recs, err
}

// release lets the messages held under a park name go, each with its own credit, until the credits are used up. Reserve and
// release are one change, so two replicas at it release nothing twice. One that is to be sent later keeps its time.
func (r *Relay) release(ctx context.Context, shard int, park string, now time.Time) error {
	held, err := r.waiting(ctx, shard, park)
	if err != nil {
		return err
	}
	for _, rec := range held {
		o, s, err := read(rec.Body, rec.Note)
		if err != nil || s.State != StateHeld {
			continue
		}
		s.Booked = s.Channel + 1
		edit := &queue.Edit{ID: rec.ID, Version: rec.Version, To: queue.Ready}
		if wait := time.UnixMilli(o.Due).Sub(now); o.Due != 0 && wait > 0 {
			edit.To, edit.After = queue.Later, wait
			s.to(StateScheduled, "credit", now, nil)
		} else {
			s.to(StateQueued, "credit", now, nil)
		}
		edit.Note = s.note()
		res := r.q.Commit(ctx, queue.Change{Shard: shard, Edit: edit, Moves: o.reserve(s.Channel, rec.ID)})
		switch {
		case errors.Is(res.Err, queue.ErrStale), errors.Is(res.Err, queue.ErrNotFound), errors.Is(res.Err, queue.ErrInHand):
			continue // cancelled, expired or released by another
		case res.Err != nil:
			return res.Err
		case res.Refused:
			reason, wait := refusalOf(res)
			if reason != ledger.TooSoon {
				return nil // no credit left
			}
			if err := r.postpone(ctx, shard, rec, now, wait); err != nil {
				return err
			}
		}
	}
	return nil
}

// postpone has a held message go when its line's period is over: the user has accepted, and will not be asked again. It then
// takes its place like any other.
func (r *Relay) postpone(ctx context.Context, shard int, rec queue.Record, now time.Time, wait time.Duration) error {
	_, s, err := read(rec.Body, rec.Note)
	if err != nil {
		return err
	}
	s.to(StateScheduled, ledger.TooSoon, now, nil)
	err = r.q.Commit(ctx, queue.Change{Shard: shard, Edit: &queue.Edit{ID: rec.ID, Version: rec.Version, To: queue.Later, After: wait, Note: s.note()}}).Err
	if errors.Is(err, queue.ErrStale) || errors.Is(err, queue.ErrNotFound) || errors.Is(err, queue.ErrInHand) {
		return nil
	}
	return err
}
