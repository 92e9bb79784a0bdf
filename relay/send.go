package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
)

// Tags under which a message is listed.
func userTag(app, openid string) string  { return "m/" + app + "/" + openid }
func partnerTag(partner string) string   { return "m/" + partner }
func serialOf(app, openid string) string { return "o/" + app + "/" + openid }

// Send accepts one message of a partner: validated, its credit reserved and its job stored in one change, so
// that a 202 is never taken back and "no credit" is known at once. key names the request (its webhook-id, and the place in
// a batch): the same key gives the same message, whatever happened in between.
func (r *Relay) Send(ctx context.Context, partner, key string, req SendRequest) (Message, error) {
	rules := r.rules.Load()
	now := time.Now()
	o, err := r.compose(ctx, rules, partner, &req, now)
	if err != nil {
		return Message{}, err
	}
	shard := r.q.Shard(o.App, o.OpenID)
	id := r.q.IDFor("msg_", shard, partner+"\x00"+key)
	refused := ""
	for n := range o.Channels { // a channel the user gives no credit for cannot reach them: the next one is asked
		s := &story{Channel: n, Booked: n + 1}
		cause := "accepted"
		if n > 0 {
			cause = o.Channels[n-1] + ": " + refused
		}
		s.to(StateQueued, cause, now, nil)
		if o.Due != 0 {
			s.State, s.Steps[0].State = StateScheduled, StateScheduled
		}
		ch := queue.Change{Shard: shard, Jobs: []queue.Job{r.messageJob(rules, id, o, s)}, Moves: o.reserve(n, id), Behind: o.behind(n)}
		held := &story{Channel: n}
		if o.waitsOn() == n {
			held.to(StateHeld, "no_credit", now, nil)
			ch.Refused = append(r.tellMessage(shard, view(id, o, held), partner, now), r.messageJob(rules, id, o, held))
			ch.Room = o.room(rules)
		}
		res := r.inTurn(ctx, ch, now)
		switch {
		case errors.Is(res.Err, queue.ErrExists): // this very request was accepted before
			return r.message(ctx, partner, id)
		case errors.Is(res.Err, queue.ErrFull):
			return Message{}, tooManyHeld(rules)
		case res.Err != nil:
			return Message{}, res.Err
		case res.Refused && len(ch.Refused) > 0:
			s = held
			r.superseded(ctx, shard, res.Replaced)
		case res.Refused:
			refused = reasonOfRefusal(res)
			continue
		}
		m := view(id, o, s)
		r.observeMessage(&m, 0, "accepted")
		return m, nil
	}
	if refused == ledger.NoAllowance {
		return Message{}, ErrNoAllowance
	}
	return Message{}, ErrNoCredit
}

// reasonOfRefusal is why a rider refused: no_credit, too_soon, no_allowance. Who waits behind others has no credit either.
func reasonOfRefusal(res queue.Result) string {
	if n := len(res.Replies); n > 0 && res.Replies[n-1] != queue.Behind {
		return res.Replies[n-1]
	}
	return "no_credit"
}

func (r *Relay) messageJob(rules *Rules, id string, o *order, s *story) queue.Job {
	priority := o.Priority
	if priority == "" {
		priority = "normal"
	}
	job := queue.Job{ID: id, Lane: sendLane(o.App, priority), Serial: serialOf(o.App, o.OpenID), Body: encode(o), Note: s.note(),
		Tags: []string{partnerTag(o.Partner), userTag(o.App, o.OpenID)}, Keep: rules.KeepMessages}
	if o.Due != 0 {
		job.Due = time.UnixMilli(o.Due)
	}
	if o.Expires != 0 {
		job.Expires = time.UnixMilli(o.Expires)
	}
	if s.State == StateHeld {
		job.Due, job.Park = time.Time{}, o.parkName(s.Channel)
		job.Expires = o.heldUntil(rules)
	}
	return job
}

// heldUntil is when a message that waits for a credit gives up: nothing waits for ever.
func (o *order) heldUntil(rules *Rules) time.Time {
	if o.Expires != 0 {
		return time.UnixMilli(o.Expires)
	}
	return time.UnixMilli(max(o.Created, o.Due)).Add(rules.KeepMessages)
}

func sendLane(app, priority string) string { return laneSend + ":" + app + ":" + priority }

var priorities = []string{"high", "normal", "bulk"}

// end brings a waiting message to its end: its credit returns, its partner is told, in one change.
func (r *Relay) end(ctx context.Context, shard int, rec queue.Record, o *order, s *story, state, cause string) (Message, error) {
	now := time.Now()
	s.to(state, cause, now, nil)
	m := view(rec.ID, o, s)
	res := r.q.Commit(ctx, queue.Change{Shard: shard, Edit: &queue.Edit{ID: rec.ID, Version: rec.Version, Note: s.note(), To: queue.End},
		Moves: o.giveBack(s, rec.ID), Jobs: append(r.tellMessage(shard, m, o.Partner, now), r.freed(shard, o, s)...)})
	if res.Err == nil {
		r.observeMessage(&m, 0, cause)
		r.returnFormID(o, s, rec.ID)
	}
	return m, res.Err
}

// Cancel ends a message that still waits; ErrTooLate once it is on its way.
func (r *Relay) Cancel(ctx context.Context, partner, id string) (Message, error) {
	for range 5 {
		rec, o, err := r.record(ctx, partner, id)
		if err != nil {
			return Message{}, err
		}
		_, s, err := read(rec.Body, rec.Note)
		if err != nil {
			return Message{}, err
		}
		if rec.State == "leased" || s.State != StateScheduled && s.State != StateHeld && s.State != StateQueued {
			return Message{}, ErrTooLate
		}
		shard, err := queue.ShardOf(id)
		if err != nil {
			return Message{}, ErrNotFound
		}
		m, err := r.end(ctx, shard, rec, o, &s, StateCancelled, "partner")
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

// BatchResult is one item of a batch: what Send answered.
type BatchResult struct {
	Message *Message
	Err     error
}

// BatchItem is one message of a batch, or why it cannot be read.
type BatchItem struct {
	Request SendRequest
	Err     error
}

// batchUser is whom a message of a batch is to, as the partner names them.
type batchUser struct {
	app string
	to  To
}

// SendBatch accepts each message for itself; results stand in the order asked. Those to one user are taken one after the
// other, so that the first has the credit and is sent first; those to different users side by side.
func (r *Relay) SendBatch(ctx context.Context, partner, key string, items []BatchItem) ([]BatchResult, error) {
	if most := r.rules.Load().BatchLimit; len(items) > most {
		return nil, &TooLarge{fmt.Sprintf("%d messages, at most %d in one batch", len(items), most)}
	}
	if len(items) == 0 {
		return nil, &Invalid{Code: "invalid_request", Fields: []Field{{"messages", "is required: a list of messages"}}}
	}
	out := make([]BatchResult, len(items))
	users := make(map[batchUser][]int, len(items))
	for i := range items {
		if out[i].Err = items[i].Err; out[i].Err == nil {
			u := batchUser{items[i].Request.App, items[i].Request.To}
			users[u] = append(users[u], i)
		}
	}
	lines := slices.Collect(maps.Values(users))
	parallel(len(lines), 64, func(n int) {
		for _, i := range lines[n] {
			m, err := r.Send(ctx, partner, key+"#"+strconv.Itoa(i), items[i].Request)
			if out[i].Err = err; err == nil {
				out[i].Message = &m
			}
		}
	})
	return out, nil
}

// TooLarge says that a request is past a limit of the config.
type TooLarge struct{ Detail string }

func (e *TooLarge) Error() string { return e.Detail }

// parallel runs f(0..n-1) with at most width at once.
func parallel(n, width int, f func(int)) {
	next := make(chan int)
	done := make(chan struct{})
	width = min(width, n)
	for range width {
		go func() {
			for i := range next {
				f(i)
			}
			done <- struct{}{}
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	for range width {
		<-done
	}
}
