package relay

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
)

// erasure is somebody who is to be forgotten in an app.
type erasure struct {
	App     string `json:"a"`
	OpenID  string `json:"o"`
	Partner string `json:"p,omitempty"` // who asked; "" = WeChat
	Reason  string `json:"r"`
}

const (
	eraseAgain  = 5 * time.Second      // when what could not be erased at once is tried again, at first
	eraseFor    = 40 * 24 * time.Hour  // and for how long: events that nobody takes are buried, and forgotten, before
	erasedKept  = 400 * 24 * time.Hour // the audit record
	reasonErase = "erased"
)

// Erased is the answer to an erasure.
type Erased struct {
	ID     string `json:"id"`     // of the audit record
	App    string `json:"app"`    //
	OpenID string `json:"openid"` //
	State  string `json:"state"`  // erased | erasing: events about the person are still on their way
}

// EraseUser forgets somebody in an app, for all partners. Once its job is queued it happens, whatever becomes of the request.
func (r *Relay) EraseUser(ctx context.Context, partner, app, openid string) (Erased, error) {
	if _, err := r.person(partner, app, openid); err != nil {
		return Erased{}, err
	}
	e := erasure{App: app, OpenID: openid, Partner: partner, Reason: reasonErase}
	shard, now := r.q.Shard(app, openid), time.Now()
	job := r.eraseJob(&e, shard, 30*time.Second) // when this request dies
	if err := r.q.Commit(ctx, queue.Change{Shard: shard, Jobs: []queue.Job{job}}).Err; err != nil {
		return Erased{}, err
	}
	out := Erased{ID: job.ID, App: app, OpenID: openid, State: "erasing"}
	left, err := r.erase(ctx, job.ID, &e, now)
	if err != nil {
		r.log.Warn("an erasure goes on in the background", zap.String("app", app), zap.String("erasure", job.ID), zap.Error(err))
		return out, nil
	}
	edit := &queue.Edit{ID: job.ID, Version: -1, To: queue.Forget}
	if left {
		edit = &queue.Edit{ID: job.ID, Version: -1, To: queue.Later, After: eraseAgain}
	} else {
		out.State = "erased"
	}
	_ = r.q.Commit(ctx, queue.Change{Shard: shard, Edit: edit}) // else it finds nothing more to do
	return out, nil
}

func (r *Relay) eraseJob(e *erasure, shard int, after time.Duration) queue.Job {
	return queue.Job{ID: r.q.NewID("era_", shard), Lane: laneErase + ":" + e.App, Body: encode(e), After: after, Expires: time.Now().Add(eraseFor)}
}

// followErase goes on with an erasure.
func (r *Relay) followErase(ctx context.Context, c *queue.Claimed) queue.Verdict {
	var e erasure
	if err := json.Unmarshal(c.Body, &e); err != nil {
		return queue.Done(nil)
	}
	left, err := r.erase(ctx, c.ID, &e, c.Created)
	switch {
	case c.Expired:
		return queue.Done(nil)
	case err != nil:
		return queue.Snooze(time.Second, c.Note)
	case left:
		return queue.Retry(min(eraseAgain<<min(c.Attempts, 20), time.Hour), c.Note, "on its way")
	}
	return queue.Done(nil)
}

// erase forgets somebody, part by part; each may be repeated. left: something about the person is on its way, and has to be
// looked for again.
func (r *Relay) erase(ctx context.Context, id string, e *erasure, at time.Time) (left bool, err error) {
	shard := r.q.Shard(e.App, e.OpenID)
	users, err := r.bindings.Forget(ctx, e.App, e.OpenID) // asked again after a crash, it says the same
	if err != nil {
		return true, err
	}
	for name, p := range r.rules.Load().Partners {
		if p.MayUse(e.App) {
			if err := r.bindings.ForgetMember(ctx, name, e.App, e.OpenID, users[name]); err != nil {
				return true, err
			}
		}
	}
	busy, messages, err := r.eraseMessages(ctx, shard, e, at)
	if err != nil {
		return true, err
	}
	forget := queue.Change{Shard: shard, Operations: []queue.Operation{operation(ledger.Forget(e.App, e.OpenID)),
		{Extension: binding.EraseExtension, Args: []string{"k:h/" + e.App + "/" + e.OpenID}}}}
	if err := r.q.Commit(ctx, forget).Err; err != nil {
		return true, err
	}
	jobs := passing(r.notifyUser(ctx, shard, EventUserRevoked, UserEvent{App: e.App, OpenID: e.OpenID, Reason: some(e.Reason)}, users, at))
	if err := r.tellErased(ctx, shard, id, e, jobs, messages); err != nil {
		return true, err
	}
	pending, err := r.eraseDeliveries(ctx, shard, e)
	if err != nil {
		return true, err
	}
	return busy || pending, r.bindings.Forgotten(ctx, e.App, e.OpenID)
}

// passing has deliveries be forgotten when they are over: they are about somebody who is to be forgotten.
func passing(jobs []queue.Job) []queue.Job {
	for i := range jobs {
		jobs[i].Keep = 0
	}
	return jobs
}

// erased is the audit record of an erasure: nothing in it says who it was.
type erased struct {
	At       time.Time `json:"at"`
	App      string    `json:"app"`
	Partner  string    `json:"partner,omitempty"`
	Reason   string    `json:"reason"`
	Messages int       `json:"messages"`
}

// tellErased tells partners, once, and writes the audit record.
func (r *Relay) tellErased(ctx context.Context, shard int, id string, e *erasure, jobs []queue.Job, messages int) error {
	record := encode(erased{At: time.Now().UTC(), App: e.App, Partner: e.Partner, Reason: e.Reason, Messages: messages})
	err := r.q.Commit(ctx, queue.Change{Shard: shard, Once: "erased/" + id, OnceFor: eraseFor, Jobs: jobs,
		Names: []queue.Name{{Name: "erased/" + id, Value: string(record), For: erasedKept}}}).Err
	if errors.Is(err, queue.ErrTaken) {
		return nil
	}
	if err == nil {
		r.log.Info("a person is erased", zap.String("app", e.App), zap.String("partner", e.Partner), zap.String("reason", e.Reason), zap.String("erasure", id),
			zap.Int("messages", messages))
	}
	return err
}

// eraseMessages forgets a person's messages; those that wait are cancelled. busy: one is that a worker holds.
func (r *Relay) eraseMessages(ctx context.Context, shard int, e *erasure, at time.Time) (busy bool, n int, err error) {
	for cursor := ""; ; {
		recs, next, err := r.q.List(ctx, userTag(e.App, e.OpenID), shard, cursor, 200)
		if err != nil {
			return true, n, err
		}
		for _, rec := range recs {
			switch err := r.eraseMessage(ctx, shard, rec, at); {
			case errors.Is(err, queue.ErrInHand), errors.Is(err, queue.ErrStale):
				busy = true
			case errors.Is(err, queue.ErrNotFound):
			case err != nil:
				return true, n, err
			default:
				n++
			}
		}
		if cursor = next; next == "" {
			return busy, n, nil
		}
	}
}

func (r *Relay) eraseMessage(ctx context.Context, shard int, rec queue.Record, at time.Time) error {
	ch := queue.Change{Shard: shard, Edit: &queue.Edit{ID: rec.ID, Version: rec.Version, To: queue.Forget}}
	d, s, err := read(rec.Body, rec.Note)
	if err != nil { // not a message any more: it goes all the same
		return r.q.Commit(ctx, ch).Err
	}
	if rec.State != "ended" && !openRecord(&rec, &s) {
		was := s.State
		s.To(StateCancelled, reasonErase, at, nil)
		ch.Operations = append(d.giveBack(&s, rec.ID), d.count(was, StateCancelled)...)
		ch.Jobs = passing(r.notifyMessage(shard, view(rec.ID, &d, &s), &d, at))
	}
	if s.MsgID != "" {
		ch.Operations = append(ch.Operations, queue.Operation{Extension: binding.EraseExtension, Args: []string{"n:" + msgidName(d.sender(s.Channel), s.MsgID)}})
	}
	return r.q.Commit(ctx, ch).Err
}

// eraseDeliveries forgets the events about a person that are over. pending: some are still on their way to a partner.
func (r *Relay) eraseDeliveries(ctx context.Context, shard int, e *erasure) (pending bool, err error) {
	q := queue.Query{Contains: []string{envelopeText("a", e.App), envelopeText("o", e.OpenID)}}
	for name, p := range r.rules.Load().Partners {
		for _, end := range p.Endpoints {
			q.Of = append(q.Of, queue.Listed{Tag: deliveryTag(name, end.ID), Shard: shard})
		}
	}
	if len(q.Of) == 0 {
		return false, nil
	}
	for cursor := ""; ; {
		recs, next, err := r.q.Search(ctx, q, cursor, 200)
		if err != nil {
			return true, err
		}
		for _, rec := range recs {
			env, _, err := openEnvelope(rec.Body)
			if err != nil || rec.State != "ended" && rec.State != "buried" {
				pending = true
				continue
			}
			err = r.q.Commit(ctx, queue.Change{Shard: shard, Edit: &queue.Edit{ID: rec.ID, Version: rec.Version, To: queue.Forget},
				Operations: []queue.Operation{{Extension: binding.EraseExtension, Args: []string{"b:" + env.ID}}}}).Err
			switch {
			case errors.Is(err, queue.ErrInHand), errors.Is(err, queue.ErrStale):
				pending = true
			case err != nil && !errors.Is(err, queue.ErrNotFound):
				return true, err
			}
		}
		if cursor = next; next == "" {
			return pending, nil
		}
	}
}
