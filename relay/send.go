package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	if err := r.prepareHold(ctx, rules, shard, id, o); err != nil {
		return Message{}, err
	}
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
		ch := queue.Change{Shard: shard, Jobs: []queue.Job{r.messageJob(rules, id, o, s)}, Moves: o.reserve(n, id)}
		held := &story{Channel: n}
		if o.waitsOn() == n {
			held.to(StateHeld, "no_credit", now, nil)
			ch.Refused = append(r.tellMessage(shard, view(id, o, held), partner, now), r.messageJob(rules, id, o, held))
		}
		res := r.q.Commit(ctx, ch)
		switch {
		case errors.Is(res.Err, queue.ErrExists): // this very request was accepted before
			return r.message(ctx, partner, id)
		case res.Err != nil:
			return Message{}, res.Err
		case res.Refused && len(ch.Refused) > 0:
			s = held
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

// reasonOfRefusal is why a rider refused: no_credit, too_soon, no_allowance.
func reasonOfRefusal(res queue.Result) string {
	if n := len(res.Replies); n > 0 {
		return res.Replies[n-1]
	}
	return "no_credit"
}

func (r *Relay) messageJob(rules *Rules, id string, o *order, s *story) queue.Job {
	job := queue.Job{ID: id, Lane: sendLane(o.App, o.Channels[s.Channel], o.Priority), Serial: serialOf(o.App, o.OpenID), Body: encode(o), Note: s.note(),
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
	return time.UnixMilli(o.Created).Add(rules.KeepMessages)
}

// sendLane is where messages of an app wait that set out by a channel. Each priority is a group of its own, so that the
// slots bulk fills are not those high needs; each channel a lane, so that one can rest alone. (Lanes named send:<app>:<priority>,
// of older versions, are still worked on, by the group of normal.)
func sendLane(app, channel, priority string) string {
	group := laneSend
	switch priority {
	case "high":
		group = laneSendHigh
	case "bulk":
		group = laneSendBulk
	}
	return group + ":" + app + ":" + channel
}

var priorities = []string{"high", "normal", "bulk"}

// prepareHold keeps what one user may have waiting within bounds, and cancels what the new message supersedes. Superseded
// ones go first: should we die before the new one is stored, its partner has no 202 and asks again.
func (r *Relay) prepareHold(ctx context.Context, rules *Rules, shard int, id string, o *order) error {
	n := o.waitsOn()
	if n < 0 {
		return nil
	}
	held, err := r.waiting(ctx, shard, o.parkName(n))
	if err != nil {
		return err
	}
	left := 0
	for _, rec := range held {
		old, s, err := read(rec.Body, rec.Note)
		if err != nil || rec.ID == id {
			continue
		}
		if o.Supersede == "" || old.Partner != o.Partner || old.Supersede != o.Supersede {
			left++
			continue
		}
		if _, err := r.end(ctx, shard, rec, &old, &s, StateCancelled, "superseded"); err != nil &&
			!errors.Is(err, queue.ErrStale) && !errors.Is(err, queue.ErrInHand) && !errors.Is(err, queue.ErrNotFound) {
			return err
		}
	}
	if left >= rules.HeldPerUser {
		return &Invalid{Code: "invalid_message", Fields: []Field{{"no_credit", fmt.Sprintf("%d messages already wait for this user: cancel some or use supersede_key", left)}}}
	}
	return nil
}

// end brings a waiting message to its end: its credit returns, its partner is told, in one change.
func (r *Relay) end(ctx context.Context, shard int, rec queue.Record, o *order, s *story, state, cause string) (Message, error) {
	now := time.Now()
	s.to(state, cause, now, nil)
	m := view(rec.ID, o, s)
	res := r.q.Commit(ctx, queue.Change{Shard: shard, Edit: &queue.Edit{ID: rec.ID, Version: rec.Version, Note: s.note(), To: queue.End},
		Moves: o.giveBack(s, rec.ID), Jobs: r.tellMessage(shard, m, o.Partner, now)})
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
		if rec.State == "leased" || openRecord(&rec, &s) || s.State != StateScheduled && s.State != StateHeld && s.State != StateQueued {
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

// SendBatch accepts each message for itself, side by side; results stand in the order asked.
func (r *Relay) SendBatch(ctx context.Context, partner, key string, raws []json.RawMessage) ([]BatchResult, error) {
	if most := r.rules.Load().BatchLimit; len(raws) > most {
		return nil, &TooLarge{fmt.Sprintf("%d messages, at most %d in one batch", len(raws), most)}
	}
	if len(raws) == 0 {
		return nil, &Invalid{Code: "invalid_request", Fields: []Field{{"messages", "is required: a list of messages"}}}
	}
	out := make([]BatchResult, len(raws))
	parallel(len(raws), 64, func(i int) {
		req, err := ParseSend(raws[i])
		if err == nil {
			var m Message
			if m, err = r.Send(ctx, partner, key+"#"+strconv.Itoa(i), req); err == nil {
				out[i].Message = &m
				return
			}
		}
		out[i].Err = err
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
