package relay

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// A replay of many is a job of its own: it makes some deliveries ready, notes how far it is in the same breath as it lets go
// of the job, and comes again a second later. A crash repeats at most one step, whose deliveries are known by ReplayedBy.
const (
	laneReplay  = "replay"
	replayStep  = 50              // deliveries a step, and so a second
	replayAhead = 500             // so many of an endpoint's deliveries may wait before more are made ready
	replayPause = time.Second     //
	countPage   = 500             // deliveries looked at in one page of counting
	countTime   = 3 * time.Second // how long a request counts; the job counts the rest
)

// ReplayRequest chooses what is replayed; empty fields choose all but what is on its way anyway.
type ReplayRequest struct {
	Endpoint string     `json:"endpoint"`
	Type     string     `json:"type"`
	State    string     `json:"state"`
	Since    *time.Time `json:"since"`
	Until    *time.Time `json:"until"` // nil = now
	DryRun   bool       `json:"dry_run"`
}

// Replay is how far a replay is.
type Replay struct {
	ID        string    `json:"id"`
	Matched   int       `json:"matched"`
	Replayed  int       `json:"replayed"`
	State     string    `json:"state"` // running | done | stopped
	DryRun    bool      `json:"dry_run"`
	CreatedAt time.Time `json:"created_at"`
}

// replayOrder is a replay job's body.
type replayOrder struct {
	Partner string        `json:"p"`
	Ask     ReplayRequest `json:"q"`
}

// replayNote is how far it is.
type replayNote struct {
	Counted  bool   `json:"c,omitempty"` // Matched is all there is
	Cursor   string `json:"k,omitempty"` // of counting, then of replaying
	Matched  int    `json:"m"`
	Replayed int    `json:"r"`
	Stopped  bool   `json:"s,omitempty"`
}

// StartReplay begins a replay in the background. key makes the same request go on where it was stopped: "" begins a new one.
func (r *Relay) StartReplay(ctx context.Context, partner, key string, q ReplayRequest) (Replay, error) {
	var f faults
	if q.State == DeliveryPending {
		f.add("state", "pending ones are on their way")
	}
	if q.Since != nil && q.Until != nil && q.Until.Before(*q.Since) {
		f.add("until", "is before since")
	}
	if err := f.err("invalid_request"); err != nil {
		return Replay{}, err
	}
	if q.Until == nil {
		now := time.Now()
		q.Until = &now
	}
	o := replayOrder{Partner: partner, Ask: q}
	if _, err := r.search(partner, o.query()); err != nil {
		return Replay{}, err
	}
	shard := r.q.Shard(partner, "")
	id := r.q.NewID("rpl_", shard)
	if key != "" {
		id = r.q.IDFor("rpl_", shard, partner+"\x00"+key)
		switch old, err := r.Replay(ctx, partner, id); {
		case err == nil && old.State == "stopped":
			return r.resumeReplay(ctx, partner, id)
		case err == nil && old.State == "running":
			return old, nil
		case err == nil:
			id = r.q.NewID("rpl_", shard)
		case !errors.Is(err, ErrNotFound):
			return Replay{}, err
		}
	}
	var note replayNote
	quick, cancel := context.WithTimeout(ctx, countTime)
	err := r.countReplay(quick, &o, &note)
	cancel()
	if err != nil && quick.Err() == nil {
		return Replay{}, err
	}
	job := queue.Job{ID: id, Lane: laneReplay + ":" + partner, Body: encode(o), Note: encode(note), Keep: r.rules.Load().KeepEvents}
	if res := r.q.Commit(ctx, queue.Change{Shard: shard, Jobs: []queue.Job{job}}); res.Err != nil {
		return Replay{}, res.Err
	}
	return r.Replay(ctx, partner, id)
}

func (o *replayOrder) query() DeliveryQuery {
	q := DeliveryQuery{Endpoint: o.Ask.Endpoint, Type: o.Ask.Type, State: o.Ask.State}
	if o.Ask.Since != nil {
		q.Since = *o.Ask.Since
	}
	if o.Ask.Until != nil {
		q.Until = *o.Ask.Until
	}
	return q
}

// fits tells whether a delivery is to be replayed; by names the replay that is asking.
func (o *replayOrder) fits(rec queue.Record, by string) (deliveryNote, bool) {
	d, env, note, err := viewDelivery(rec)
	if err != nil || env.Partner != o.Partner {
		return note, false
	}
	if by != "" && note.ReplayedBy == by {
		return note, true
	}
	return note, d.State != DeliveryPending && d.State != DeliveryHeld && (o.Ask.State == "" || d.State == o.Ask.State) || d.State == DeliveryHeld && o.Ask.State == DeliveryHeld
}

// countReplay counts from the note's cursor on, until ctx ends or all is counted.
func (r *Relay) countReplay(ctx context.Context, o *replayOrder, note *replayNote) error {
	search, err := r.search(o.Partner, o.query())
	if err != nil {
		return err
	}
	search.Oldest = true
	for len(search.Of) > 0 {
		recs, next, err := r.q.Search(ctx, search, note.Cursor, countPage)
		if err != nil {
			return err
		}
		for _, rec := range recs {
			if _, ok := o.fits(rec, ""); ok {
				note.Matched++
			}
		}
		if note.Cursor = next; next == "" {
			break
		}
	}
	note.Counted, note.Cursor = true, ""
	return nil
}

// replaySome is the handler of a replay's job: one step.
func (r *Relay) replaySome(ctx context.Context, c *queue.Claimed) queue.Verdict {
	var o replayOrder
	var note replayNote
	if json.Unmarshal(c.Body, &o) != nil || json.Unmarshal(c.Note, &note) != nil {
		return queue.Bury("malformed", c.Note)
	}
	if !note.Counted {
		ctx, cancel := context.WithTimeout(ctx, countTime)
		defer cancel()
		_ = r.countReplay(ctx, &o, &note) // what is counted is in the note; the rest comes next time
		return queue.Snooze(0, encode(note))
	}
	if o.Ask.DryRun {
		return queue.Done(encode(note))
	}
	search, err := r.search(o.Partner, o.query())
	switch {
	case errors.Is(err, ErrNotFound): // its endpoint was removed
		note.Stopped = true
		return queue.Done(encode(note))
	case err != nil || r.crowded(ctx, &o):
		return queue.Snooze(replayPause, c.Note)
	}
	search.Oldest, search.State = true, "" // one that this replay made ready already is known by its note
	if len(search.Of) == 0 {
		return queue.Done(encode(note))
	}
	for looked := 0; looked < countPage; {
		recs, next, err := r.q.Search(ctx, search, note.Cursor, replayStep)
		if err != nil {
			return queue.Snooze(replayPause, c.Note)
		}
		looked += len(recs)
		n := 0
		for _, rec := range recs {
			done, err := r.replayOne(ctx, &o, rec, c.ID)
			if err != nil {
				return queue.Snooze(replayPause, c.Note)
			}
			if done {
				n++
			}
		}
		note.Replayed += n
		if f := r.observe.Replayed; f != nil && n > 0 {
			f(o.Partner, n)
		}
		note.Matched = max(note.Matched, note.Replayed)
		if note.Cursor = next; next == "" {
			return queue.Done(encode(note))
		}
		if n > 0 {
			return queue.Snooze(replayPause, encode(note))
		}
	}
	return queue.Snooze(0, encode(note))
}

// replayOne makes a delivery ready if it fits; done also when an earlier try of this step did.
func (r *Relay) replayOne(ctx context.Context, o *replayOrder, rec queue.Record, by string) (done bool, err error) {
	note, ok := o.fits(rec, by)
	if !ok || note.ReplayedBy == by {
		return ok, nil
	}
	shard, err := queue.ShardOf(rec.ID)
	if err != nil {
		return false, nil //nolint:nilerr // not an id of ours: passed over
	}
	err = r.q.Commit(ctx, queue.Change{Shard: shard, Edit: replayed(rec, &note, by, time.Now())}).Err
	switch {
	case errors.Is(err, queue.ErrStale), errors.Is(err, queue.ErrInHand), errors.Is(err, queue.ErrNotFound):
		return false, nil // somebody else is at it
	}
	return err == nil, err
}

// crowded tells whether an endpoint has enough to do, or is not well.
func (r *Relay) crowded(ctx context.Context, o *replayOrder) bool {
	b, err := r.backlogNow(ctx)
	if err != nil {
		return true
	}
	for _, e := range r.rules.Load().Partners[o.Partner].Endpoints {
		if o.Ask.Endpoint != "" && e.ID != o.Ask.Endpoint {
			continue
		}
		how, err := r.health.Of(ctx, e.HealthKey())
		if err != nil || b.of[endpointKey{e.Partner, e.ID}].pending > replayAhead || o.Ask.Endpoint != "" && how.State != webhook.Healthy {
			return true
		}
	}
	return false
}

// Replay tells how far a replay is.
func (r *Relay) Replay(ctx context.Context, partner, id string) (Replay, error) {
	rec, o, note, err := r.replayRecord(ctx, partner, id)
	if err != nil {
		return Replay{}, err
	}
	out := Replay{ID: id, Matched: note.Matched, Replayed: note.Replayed, State: "running", DryRun: o.Ask.DryRun, CreatedAt: rec.Created.UTC()}
	switch {
	case note.Stopped || rec.State == "buried":
		out.State = "stopped"
	case rec.State == "ended":
		out.State = "done"
	case o.Ask.DryRun && note.Counted:
		out.State = "done"
	}
	return out, nil
}

func (r *Relay) replayRecord(ctx context.Context, partner, id string) (rec queue.Record, o replayOrder, note replayNote, err error) {
	if len(id) < 4 || id[:4] != "rpl_" {
		return rec, o, note, ErrNotFound
	}
	rec, err = r.q.Get(ctx, id)
	switch {
	case errors.Is(err, queue.ErrNotFound), errors.Is(err, queue.ErrID):
		return rec, o, note, ErrNotFound
	case err != nil:
		return rec, o, note, err
	}
	if err = json.Unmarshal(rec.Body, &o); err == nil {
		err = json.Unmarshal(rec.Note, &note)
	}
	if err == nil && o.Partner != partner {
		err = ErrNotFound
	}
	return rec, o, note, err
}

// StopReplay ends a replay; what it made ready is delivered all the same. One that is over stays as it is.
func (r *Relay) StopReplay(ctx context.Context, partner, id string) (Replay, error) {
	return r.changeReplay(ctx, partner, id, func(rec queue.Record, note *replayNote) *queue.Edit {
		if rec.State == "ended" || rec.State == "buried" {
			return nil
		}
		note.Stopped = true
		return &queue.Edit{To: queue.End}
	})
}

func (r *Relay) resumeReplay(ctx context.Context, partner, id string) (Replay, error) {
	return r.changeReplay(ctx, partner, id, func(_ queue.Record, note *replayNote) *queue.Edit {
		note.Stopped = false
		return &queue.Edit{To: queue.Ready}
	})
}

// changeReplay edits a replay's job; a step that is under way is waited for.
func (r *Relay) changeReplay(ctx context.Context, partner, id string, change func(queue.Record, *replayNote) *queue.Edit) (Replay, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 250 {
		rec, _, note, err := r.replayRecord(ctx, partner, id)
		if err != nil {
			return Replay{}, err
		}
		edit := change(rec, &note)
		if edit == nil {
			return r.Replay(ctx, partner, id)
		}
		edit.ID, edit.Version, edit.Note = id, rec.Version, encode(note)
		shard, err := queue.ShardOf(id)
		if err != nil {
			return Replay{}, ErrNotFound
		}
		err = r.q.Commit(ctx, queue.Change{Shard: shard, Edit: edit}).Err
		switch {
		case err == nil:
			return r.Replay(ctx, partner, id)
		case !errors.Is(err, queue.ErrStale) && !errors.Is(err, queue.ErrInHand):
			return Replay{}, err
		}
		select {
		case <-ctx.Done():
			return Replay{}, ctx.Err()
		case <-tick.C:
		}
	}
	return Replay{}, ErrTooLate
}
