package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
)

// Held messages wait for the user's next accept (or next word, for customer service), in the order they came, one for each
// credit.

// waiting returns the jobs parked under a name, the oldest first.
func (r *Relay) waiting(ctx context.Context, shard int, park string) ([]queue.Record, error) {
	recs, _, err := r.q.Parked(ctx, shard, park, "", 1000)
	return recs, err
}

// behind is the park name whose messages come before a new one on channel n; "" = none do. Rate-limited lines have no queue:
// what makes one of their messages wait does not concern the others.
func (d *draft) behind(n int) string {
	if d.NoCredit == "try" || !needs(d.Channels[n]) || d.Channels[n] == ChannelSubscribe && d.Kind == string(ledger.RateLimited) {
		return ""
	}
	return d.parkName(n)
}

// parkLimit is what a message takes that waits: of one user so many may, and of one supersede_key the newest.
func (d *draft) parkLimit(rules *Rules) *queue.ParkLimit {
	limit := &queue.ParkLimit{Set: "h/" + d.App + "/" + d.OpenID, Most: rules.HeldPerUser}
	if d.Supersede != "" {
		limit.Key = d.Partner + "\x00" + d.Supersede
	}
	return limit
}

// freed asks for a release where a message gives its credit back: the next that waits is to have it, and not who comes next.
func (r *Relay) releaseJobs(shard int, d *draft, s *progress) []queue.Job {
	if !needs(d.Channels[s.Channel]) || s.Booked != s.Channel+1 {
		return nil
	}
	return []queue.Job{{ID: r.q.NewID("rel_", shard), Lane: laneRelease + ":" + d.App, Body: encode(reportJob{Park: d.parkName(s.Channel)})}}
}

func tooManyHeld(rules *Rules) error {
	return &Invalid{Code: "invalid_message", Fields: []Field{{Field: "no_credit", Reason: fmt.Sprintf("%d messages already wait for this user: cancel some or use supersede_key", rules.HeldPerUser)}}}
}

// commitInOrder commits an acceptance. Between a grant and the release it causes, older messages still wait although there is a
// credit for each: then they go first, and the new one is asked again; or it waits behind them, and goes when its turn comes.
func (r *Relay) commitInOrder(ctx context.Context, ch queue.Change, now time.Time) queue.Result {
	for range 3 {
		res := r.q.Commit(ctx, ch)
		if !res.Refused || len(res.Replies) == 0 || res.Replies[len(res.Replies)-1] != queue.Behind {
			return res
		}
		if n, err := r.release(ctx, ch.Shard, ch.Behind, now); n == 0 || err != nil || len(ch.Refused) > 0 {
			return res
		}
	}
	return r.q.Commit(ctx, ch)
}

// superseded ends the messages that a newer one of their key replaces. Those that gave way when it was parked left their park
// then: should we die here, they are due, and a worker
// ends them: only who gave way is handed to it as held.
func (r *Relay) superseded(ctx context.Context, shard int, ids []string) {
	for _, id := range ids {
		rec, err := r.q.Get(ctx, id)
		if err != nil {
			continue
		}
		d, s, err := read(rec.Body, rec.Note)
		if err == nil && s.State == StateHeld && (rec.State == "ready" || rec.State == "parked") {
			_, _ = r.end(ctx, shard, rec, &d, &s, StateCancelled, "superseded")
		}
	}
}

// release lets the messages held under a park name go, each with its own credit, until the credits are used up or nobody
// waits; it tells how many went. Reserve and release are one change, so two replicas at it release nothing twice. One that is
// to be sent later keeps its time.
//
// Who comes while others wait is parked behind them ([queue.Change] Behind). So it looks again until the ledger refuses:
// what was parked meanwhile would have nobody else to release it.
func (r *Relay) release(ctx context.Context, shard int, park string, now time.Time) (gone int, err error) {
	for {
		held, err := r.waiting(ctx, shard, park)
		if err != nil {
			return gone, err
		}
		moved := false
		newest := newestOf(held)
		for _, rec := range held {
			if newest[rec.ID] != "" {
				r.superseded(ctx, shard, []string{rec.ID})
				continue
			}
			res, ok := r.releaseOne(ctx, shard, rec, now)
			switch {
			case !ok:
				continue
			case errors.Is(res.Err, queue.ErrStale), errors.Is(res.Err, queue.ErrNotFound), errors.Is(res.Err, queue.ErrInHand):
				moved = true // cancelled, expired or released by another
			case res.Err != nil:
				return gone, res.Err
			case res.Refused:
				reason, wait := refusalOf(res)
				if reason != ledger.TooSoon {
					return gone, nil // no credit left
				}
				if err := r.postpone(ctx, shard, rec, now, wait); err != nil {
					return gone, err
				}
				moved = true
			default:
				moved = true
				gone++
			}
		}
		if !moved {
			return gone, nil
		}
	}
}

// newestOf names, for each message that a newer one of its supersede_key has overtaken, that newer one. They meet when the
// older one had left for WeChat already and came back (43101).
func newestOf(held []queue.Record) map[string]string {
	type key struct{ partner, key string }
	type seat struct {
		id      string
		created int64
	}
	first, out := map[key]seat{}, map[string]string{}
	for _, rec := range held {
		d, _, err := read(rec.Body, rec.Note)
		if err != nil || d.Supersede == "" {
			continue
		}
		k := key{d.Partner, d.Supersede}
		switch was, ok := first[k]; {
		case ok && was.created > d.Created:
			out[rec.ID] = was.id
		case ok:
			out[was.id] = rec.ID
			fallthrough
		default:
			first[k] = seat{rec.ID, d.Created}
		}
	}
	return out
}

func (r *Relay) releaseOne(ctx context.Context, shard int, rec queue.Record, now time.Time) (res queue.Result, ok bool) {
	d, s, err := read(rec.Body, rec.Note)
	if err != nil || s.State != StateHeld {
		return res, false
	}
	s.Booked = s.Channel + 1
	edit := &queue.Edit{ID: rec.ID, Version: rec.Version, To: queue.Ready, Lasting: d.Expires == 0}
	if wait := time.UnixMilli(d.Due).Sub(now); d.Due != 0 && wait > 0 {
		edit.To, edit.After = queue.Later, wait
		s.To(StateScheduled, "credit", now, nil)
	} else {
		s.To(StateQueued, "credit", now, nil)
	}
	edit.Note = s.Pack()
	return r.q.Commit(ctx, queue.Change{Shard: shard, Edit: edit, Operations: append(d.reserve(s.Channel, rec.ID), d.count(StateHeld, s.State)...)}), true
}

// postpone has a held message go when its line's period is over: the user has accepted, and will not be asked again. It then
// takes its place like any other.
func (r *Relay) postpone(ctx context.Context, shard int, rec queue.Record, now time.Time, wait time.Duration) error {
	d, s, err := read(rec.Body, rec.Note)
	if err != nil {
		return err
	}
	was := s.State
	s.To(StateScheduled, ledger.TooSoon, now, nil)
	err = r.q.Commit(ctx, queue.Change{Shard: shard, Operations: d.count(was, s.State),
		Edit: &queue.Edit{ID: rec.ID, Version: rec.Version, To: queue.Later, After: wait, Note: s.Pack()}}).Err
	if errors.Is(err, queue.ErrStale) || errors.Is(err, queue.ErrNotFound) || errors.Is(err, queue.ErrInHand) {
		return nil
	}
	return err
}
