package relay

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/message"
	"github.com/wxrelay/wxrelay/relay/queue"
)

// A binding lives in two slots of Redis and the partner's event on the shard of the user, so no script can write them all.
// What joins them is a job, queued before the binding is touched:
//
//	bind    {job, due later} -> bind -> {job, due now: the binding is made}    the worker tells user.bound
//	unbind  {job, due now} -> unbind                                           the worker unbinds, if need be, and tells user.unbound
//
// A crash at any place leaves the job. One that comes due without a word looks whether its binding was made, by its serial.
// A request that comes again finds the binding made and sees to its job again.

// Ticket binds whoever redeems it, once, to the partner's user.
type Ticket struct {
	Ticket    string    `json:"ticket"`
	ExpiresAt time.Time `json:"expires_at"`
}

// NewTicket makes a one-time ticket for a partner's user, good for 10 minutes.
func (r *Relay) NewTicket(ctx context.Context, partner, app, user string) (Ticket, error) {
	if err := r.checkUser(partner, app, user, true); err != nil {
		return Ticket{}, err
	}
	t, at, err := r.bindings.NewTicket(ctx, partner, app, user)
	return Ticket{Ticket: t, ExpiresAt: at.UTC()}, err
}

// checkUser wants an app and a name; a new binding's must also be one that can be shown. Bindings that older versions made
// under other names can still be read and deleted.
func (r *Relay) checkUser(partner, app, user string, isNew bool) error {
	var f faults
	if app == "" {
		f.add("app", "is required")
	}
	if user == "" || len(user) > 128 {
		f.add("user", "is required: 1 to 128 characters")
	} else if reason := message.CheckUser(user); isNew && reason != "" {
		f.add("user", reason)
	}
	if err := f.err("invalid_request"); err != nil {
		return err
	}
	_, err := r.appOf(partner, app)
	return err
}

// Binding is a partner's user and the openid it is.
type Binding struct {
	App    string `json:"app"`
	User   string `json:"user"`
	OpenID string `json:"openid"`
}

// bindingJob is the second half of a binding or of its end: the partner hears of it.
type bindingJob struct {
	Ends    bool   `json:"x,omitempty"`
	Partner string `json:"p"`
	App     string `json:"a"`
	User    string `json:"u"`
	OpenID  string `json:"o"`
	Serial  string `json:"s"`
	Trace   string `json:"tp,omitempty"` // traceparent of the request that made or ended it
}

// bindingMade is the note of a job whose binding is known to be made.
const bindingMade = "made"

// id is the same for all that is done about one binding (or its end), since a serial is one binding's.
func (b *bindingJob) id(r *Relay) (id string, shard int) {
	shard = r.q.Shard(b.App, b.OpenID)
	kind := "bnd_"
	if b.Ends {
		kind = "unb_"
	}
	return r.q.IDFor(kind, shard, b.Partner+"\x00"+b.App+"\x00"+b.User+"\x00"+b.Serial), shard
}

// promise queues the job, due after a while unless it is steered before. One that is there already is put off.
func (r *Relay) queueBinding(ctx context.Context, b *bindingJob, note string, after time.Duration) error {
	id, shard := b.id(r)
	job := queue.Job{ID: id, Lane: laneBinding + ":" + b.App, Body: encode(b), Note: []byte(note), After: after}
	err := r.q.Commit(ctx, queue.Change{Shard: shard, Jobs: []queue.Job{job}}).Err
	if !errors.Is(err, queue.ErrExists) || after == 0 {
		return err
	}
	return r.q.Commit(ctx, queue.Change{Shard: shard, Edit: &queue.Edit{ID: id, Version: -1, To: queue.Later, After: after}}).Err
}

// made has the partner told of a binding that is made. fresh: by this request, so that the job must still be there; else it
// may have been done long ago.
func (r *Relay) confirmBinding(ctx context.Context, b *bindingJob, fresh bool) error {
	id, shard := b.id(r)
	err := r.q.Commit(ctx, queue.Change{Shard: shard, Edit: &queue.Edit{ID: id, Version: -1, Note: []byte(bindingMade), To: queue.Ready}}).Err
	switch {
	case errors.Is(err, queue.ErrInHand), errors.Is(err, queue.ErrNotFound) && !fresh: // a worker is at it, or was
		return nil
	case errors.Is(err, queue.ErrNotFound): // it came due before the binding was made, and was done with
		return r.queueBinding(ctx, b, bindingMade, 0)
	}
	return err
}

// bind binds a user to an openid under a serial. The same again is fine, and sees to it that the partner is told.
func (r *Relay) bind(ctx context.Context, partner, app, user, openid, serial string) error {
	b := &bindingJob{Partner: partner, App: app, User: user, OpenID: openid, Serial: serial, Trace: r.traceOf(ctx)}
	was, err := r.bindings.Find(ctx, partner, app, user)
	switch {
	case err != nil && !errors.Is(err, binding.ErrNotFound):
		return err
	case was.OpenID == openid:
		b.Serial = was.Serial
		return r.confirmBinding(ctx, b, false)
	}
	if err := r.queueBinding(ctx, b, "", binding.BindTime+5*time.Second); err != nil {
		return err
	}
	if err := r.bindings.Bind(ctx, partner, app, user, openid, serial); err != nil {
		return bindError(err) // the job will find nothing to tell
	}
	if now, err := r.bindings.Find(ctx, partner, app, user); err != nil || now.Serial != serial {
		return err // the same beside this one was faster, and has its own job; or it has ended since
	}
	return r.confirmBinding(ctx, b, true)
}

// followBinding tells the partner of a binding that was made, or ends one and tells of that.
func (r *Relay) followBinding(ctx context.Context, c *queue.Claimed) queue.Verdict {
	var b bindingJob
	if err := json.Unmarshal(c.Body, &b); err != nil {
		return queue.Bury("malformed", c.Note)
	}
	shard, err := queue.ShardOf(c.ID)
	if err != nil {
		return queue.Bury("malformed", c.Note)
	}
	typ := EventUserBound
	switch {
	case b.Ends:
		typ = EventUserUnbound
		if err := r.bindings.Unbind(ctx, b.Partner, b.App, b.User, b.Serial); err != nil && !errors.Is(err, binding.ErrNotFound) {
			return queue.Snooze(time.Second, c.Note)
		}
	case string(c.Note) != bindingMade:
		was, err := r.bindings.Find(ctx, b.Partner, b.App, b.User)
		if err != nil && !errors.Is(err, binding.ErrNotFound) {
			return queue.Snooze(time.Second, c.Note)
		}
		if was != (binding.Half{OpenID: b.OpenID, Serial: b.Serial}) {
			return queue.Done(nil) // it was never made
		}
	}
	jobs := r.notify(notification{shard: shard, app: b.App, partner: b.Partner, typ: typ, at: c.Created, trace: b.Trace,
		data: UserEvent{App: b.App, OpenID: b.OpenID, User: some(b.User)}})
	if err := r.commitOnce(ctx, shard, "binding", c.ID, jobs); err != nil {
		return queue.Snooze(time.Second, c.Note)
	}
	return queue.Done(nil)
}

// Bind redeems a ticket for the session's openid. The openid that redeemed it may ask again while the ticket lasts, for the
// answer it did not get.
func (r *Relay) Bind(ctx context.Context, app, openid, ticket string) (Binding, error) {
	if ticket == "" {
		return Binding{}, invalid("ticket", "is required")
	}
	shown, err := r.bindings.Show(ctx, app, ticket, openid)
	if err != nil {
		return Binding{}, bindError(err)
	}
	if shown.Used {
		was, err := r.bindings.Find(ctx, shown.Partner, app, shown.User)
		if errors.Is(err, binding.ErrNotFound) || err == nil && was.OpenID != openid {
			return Binding{}, ErrTicketExpired // it made a binding that has ended since
		}
		if err != nil {
			return Binding{}, err
		}
	}
	if err := r.bind(ctx, shown.Partner, app, shown.User, openid, shown.Serial); err != nil {
		return Binding{}, err
	}
	return Binding{App: app, User: shown.User, OpenID: openid}, r.bindings.Use(ctx, ticket)
}

func bindError(err error) error {
	switch {
	case errors.Is(err, binding.ErrTicket):
		return ErrTicketExpired
	case errors.Is(err, binding.ErrBound):
		return ErrAlreadyBound
	case errors.Is(err, binding.ErrNotFound):
		return ErrNotFound
	}
	return err
}

// PutBinding binds a partner's user to an openid it knows. The same binding again is fine.
func (r *Relay) PutBinding(ctx context.Context, partner, app, user, openid string) (Binding, error) {
	if err := r.checkUser(partner, app, user, true); err != nil {
		return Binding{}, err
	}
	if !message.IsOpenID(openid) {
		return Binding{}, invalid("openid", "is required: an openid of this app")
	}
	return Binding{App: app, User: user, OpenID: openid}, r.bind(ctx, partner, app, user, openid, binding.NewSerial())
}

// Binding is the openid of a partner's user.
func (r *Relay) Binding(ctx context.Context, partner, app, user string) (Binding, error) {
	if err := r.checkUser(partner, app, user, false); err != nil {
		return Binding{}, err
	}
	openid, err := r.bindings.ByUser(ctx, partner, app, user)
	return Binding{App: app, User: user, OpenID: openid}, bindError(err)
}

// DeleteBinding ends a binding. Once its job is queued it will end, whatever becomes of this request.
func (r *Relay) DeleteBinding(ctx context.Context, partner, app, user string) (Binding, error) {
	if err := r.checkUser(partner, app, user, false); err != nil {
		return Binding{}, err
	}
	was, err := r.bindings.Find(ctx, partner, app, user)
	if err != nil {
		return Binding{}, bindError(err)
	}
	b := &bindingJob{Ends: true, Partner: partner, App: app, User: user, OpenID: was.OpenID, Serial: was.Serial, Trace: r.traceOf(ctx)}
	if err := r.queueBinding(ctx, b, "", 0); err != nil && !errors.Is(err, queue.ErrExists) {
		return Binding{}, err
	}
	err = r.bindings.Unbind(ctx, partner, app, user, was.Serial)
	if errors.Is(err, binding.ErrNotFound) { // the job was faster
		err = nil
	}
	return Binding{App: app, User: user, OpenID: was.OpenID}, err
}
