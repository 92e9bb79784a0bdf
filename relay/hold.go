package relay

import (
	"context"
	"errors"
	"time"

	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
)

// Held messages wait for the user's next accept, in the order they came, one for each credit.

// parkName is where a line's held messages wait.
func parkName(l ledger.Line) string { return "l/" + l.App + "/" + l.OpenID + "/" + l.TemplateID }

// waiting returns the held messages of a line, the oldest first; there are never more than a user may have waiting.
func (r *Relay) waiting(ctx context.Context, shard int, l ledger.Line) ([]queue.Record, error) {
	recs, _, err := r.q.Parked(ctx, shard, parkName(l), "", 1000)
	return recs, err
}

// release lets held messages of a line go, each with its own credit, until the credits are used up. Reserve and release are
// one change, so two replicas at it release nothing twice.
func (r *Relay) release(ctx context.Context, l ledger.Line, now time.Time) error {
	shard := r.q.Shard(l.App, l.OpenID)
	held, err := r.waiting(ctx, shard, l)
	if err != nil {
		return err
	}
	for _, rec := range held {
		o, s, err := read(rec.Body, rec.Note)
		if err != nil {
			continue
		}
		s.to(StateQueued, "credit", now, nil)
		l.Kind = ledger.Kind(o.Kind)
		res := r.q.Commit(ctx, queue.Change{Shard: shard, Edit: &queue.Edit{ID: rec.ID, Version: rec.Version, Note: s.note(), To: queue.Ready},
			Moves: []queue.Move{move(ledger.Reserve(l, rec.ID, false))}})
		switch {
		case errors.Is(res.Err, queue.ErrStale), errors.Is(res.Err, queue.ErrNotFound), errors.Is(res.Err, queue.ErrInHand):
			continue // cancelled, expired or released by another
		case res.Err != nil:
			return res.Err
		case res.Refused:
			return nil // no credit left
		}
	}
	return nil
}
