package relay

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/message"
	"github.com/wxrelay/wxrelay/relay/queue"
)

// followAudienceSend does one step of an audience send.
func (r *Relay) followAudienceSend(ctx context.Context, c *queue.Claimed) queue.Verdict {
	e := &expansion{r: r, c: c}
	shard, err := queue.ShardOf(c.ID)
	if err == nil {
		err = errors.Join(json.Unmarshal(c.Body, &e.order), json.Unmarshal(c.Note, &e.note))
	}
	if err != nil {
		return queue.Bury("malformed", c.Note)
	}
	e.shard = shard
	cancelled, err := r.sendIsCancelled(ctx, c.ID)
	if err != nil {
		return queue.Snooze(time.Second, c.Note)
	}
	n, err := r.sendCounts(ctx, c.ID)
	if err != nil {
		return queue.Snooze(time.Second, c.Note)
	}
	waiting := e.note.Queued + n[StateQueued]
	switch {
	case cancelled:
		return e.cancel(ctx)
	case e.note.Over != 0 && waiting > 0:
		return queue.Snooze(e.pause(), c.Note)
	case e.note.Over != 0:
		return e.end(ctx, sendDone)
	case waiting >= sendWaiting:
		return queue.Snooze(time.Second, c.Note)
	}
	return e.step(ctx)
}

// expansion is an audience send that a worker holds.
type expansion struct {
	r     *Relay
	c     *queue.Claimed
	order sendOrder
	note  sendNote
	shard int
}

// pause is how long to wait before looking again whether messages of a send still wait: a tenth of the time it has waited.
func (e *expansion) pause() time.Duration {
	waited := e.c.Now.Sub(time.UnixMilli(e.note.Over))
	return min(max(waited/10, 200*time.Millisecond), 30*time.Second)
}

// made is what became of one member.
type made int

const (
	madeNothing made = iota // not known: the step is to be repeated
	madeQueued
	madeHeld
	madeNoCredit
	madeUnbound
)

// step makes the messages of the next members.
func (e *expansion) step(ctx context.Context) queue.Verdict {
	members, err := e.r.bindings.SnapshotMembers(ctx, e.order.Partner, e.c.ID, e.note.Cursor, sendStep)
	if err != nil {
		return queue.Snooze(time.Second, e.c.Note)
	}
	if len(members) == 0 { // those that are gone were forgotten meanwhile
		e.note.Unbound += max(e.order.Total-e.note.Looked, 0)
		e.note.Over, e.note.Cursor = e.c.Now.UnixMilli(), ""
		return queue.Snooze(0, encode(e.note))
	}
	results, err := e.make(ctx, members)
	if err != nil {
		var v *Invalid
		if errors.As(err, &v) || errors.Is(err, ErrNotAllowed) { // the config changed: nobody can be sent this any more
			e.r.log.Error("an audience send can no longer be made", zap.String("partner", e.order.Partner), zap.String("send", e.c.ID), zap.Error(err))
			return e.cancel(ctx)
		}
		return queue.Snooze(time.Second, e.c.Note)
	}
	for _, result := range results {
		switch result {
		case madeQueued:
			e.note.Queued++
		case madeHeld:
			e.note.Held++
		case madeNoCredit:
			e.note.NoCredit++
		case madeUnbound:
			e.note.Unbound++
		}
	}
	e.note.Looked += len(members)
	e.note.Cursor = members[len(members)-1]
	return queue.Snooze(0, encode(e.note))
}

// make makes the messages of some members, side by side. Any that cannot be made for a passing reason is an error.
func (e *expansion) make(ctx context.Context, members []string) ([]made, error) {
	r, rules := e.r, e.r.rules.Load()
	req, err := ParseMessage(e.order.Request)
	if err != nil {
		return nil, err
	}
	f, err := r.sendFacts(ctx, rules, e.order.Partner, &req, e.order.TemplateID, time.UnixMilli(e.order.Created))
	if err != nil {
		return nil, err
	}
	f.Subscribe, f.OATemplate = message.Template{}, message.Template{} // checked when it was accepted
	openids, users, err := r.resolve(ctx, e.order.Partner, e.order.App, members, e.order.Users)
	if err != nil {
		return nil, err
	}
	results := make([]made, len(members))
	var mu sync.Mutex
	parallel(len(members), sendParallel, func(i int) {
		one := f
		one.OpenID, one.User = openids[i], users[i]
		result, failed := e.makeOne(ctx, rules, req, one, members[i])
		results[i] = result
		if failed != nil {
			mu.Lock()
			defer mu.Unlock()
			err = failed
		}
	})
	return results, err
}

// resolve finds the openids of members, "" where there is none, and the partner's own users where it has such.
func (r *Relay) resolve(ctx context.Context, partner, app string, members []string, areUsers bool) (openids, users []string, err error) {
	switch {
	case areUsers:
		openids, err = r.bindings.OpenIDsOf(ctx, partner, app, members)
		return openids, members, err
	case r.rules.Load().Partners[partner].Allow["bindings"]:
		users, err = r.bindings.UserOf(ctx, partner, app, members)
		return members, users, err
	}
	return members, make([]string, len(members)), nil
}

// key names the message of a member.
func (e *expansion) key(member string) RequestKey {
	return RequestKey{ID: e.c.ID, Digest: sha256.Sum256([]byte(member)), Item: 1}
}

// made reads how the message of a member was accepted.
func (e *expansion) made(ctx context.Context, openid, member string) (Message, error) {
	id := e.r.q.IDFor("msg_", e.r.q.Shard(e.order.App, openid), e.key(member).seed(e.order.Partner))
	return e.r.FirstAnswer(ctx, e.order.Partner, id)
}

func (e *expansion) makeOne(ctx context.Context, rules *Rules, req SendRequest, f message.Facts, member string) (made, error) {
	if f.OpenID == "" {
		return madeUnbound, nil
	}
	if f.Account != "" {
		openid, err := e.r.openidAt(ctx, &f, &req, f.Account)
		if errors.Is(err, binding.ErrNotFound) {
			return madeUnbound, nil
		}
		if err != nil {
			return madeNothing, err
		}
		f.AccountOpenID = openid
	}
	d, issues := message.Build(req, f)
	if err := faults(issues).err("invalid_message"); err != nil {
		return madeNothing, err
	}
	d.Audience = e.c.ID
	m, _, err := e.r.accept(ctx, rules, e.order.Partner, e.key(member), &draft{d}, time.Now())
	var soon *TooSoon
	var full *Invalid
	refused := errors.Is(err, ErrNoCredit) || errors.Is(err, ErrNoAllowance) || errors.As(err, &soon) || errors.As(err, &full)
	if refused && e.c.Reclaims > 0 { // who died with this step may have made it, and its credit is not there for a second one
		if was, err := e.made(ctx, d.OpenID, member); err == nil {
			m, refused = was, false
		} else if !errors.Is(err, ErrNotFound) {
			return madeNothing, err
		}
	} else if !refused && err != nil {
		return madeNothing, fmt.Errorf("message of an audience send: %w", err)
	}
	switch {
	case refused:
		return madeNoCredit, nil
	case m.State == StateHeld:
		return madeHeld, nil
	}
	return madeQueued, nil
}

// recount notes the messages that a step made whose note was lost: no step comes again to find them.
func (e *expansion) recount(ctx context.Context) error {
	members, err := e.r.bindings.SnapshotMembers(ctx, e.order.Partner, e.c.ID, e.note.Cursor, sendStep)
	if err != nil {
		return err
	}
	openids, _, err := e.r.resolve(ctx, e.order.Partner, e.order.App, members, e.order.Users)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	note := e.note
	parallel(len(members), sendParallel, func(i int) {
		if openids[i] == "" {
			return
		}
		m, failed := e.made(ctx, openids[i], members[i])
		mu.Lock()
		defer mu.Unlock()
		switch {
		case errors.Is(failed, ErrNotFound):
		case failed != nil:
			err = failed
		case m.State == StateHeld:
			note.Held++
		default:
			note.Queued++
		}
	})
	if err == nil {
		e.note, e.note.Over, e.note.Cursor = note, e.c.Now.UnixMilli(), ""
	}
	return err
}

// cancel ends the messages that wait, and the send when none is on its way any more.
func (e *expansion) cancel(ctx context.Context) queue.Verdict {
	if e.note.Over == 0 {
		if e.recount(ctx) != nil {
			return queue.Snooze(time.Second, e.c.Note)
		}
	}
	for _, state := range []string{"waiting", "parked"} {
		for cursor := ""; ; {
			recs, next, err := e.r.q.Search(ctx, queue.Query{Of: []queue.Listed{{Tag: sendTag(e.c.ID), Shard: -1}}, State: state}, cursor, sendStep)
			if err != nil {
				return queue.Snooze(time.Second, encode(e.note))
			}
			parallel(len(recs), sendParallel, func(i int) { e.cancelOne(ctx, recs[i]) })
			if cursor = next; next == "" {
				break
			}
		}
	}
	n, err := e.r.sendCounts(ctx, e.c.ID)
	if err != nil {
		return queue.Snooze(time.Second, encode(e.note))
	}
	if e.note.Queued+n[StateQueued] > 0 {
		return queue.Snooze(e.pause(), encode(e.note))
	}
	return e.end(ctx, sendCancelled)
}

// cancelOne ends one message unless it is on its way, or changes this moment: the next pass sees it again.
func (e *expansion) cancelOne(ctx context.Context, rec queue.Record) {
	d, s, err := read(rec.Body, rec.Note)
	if err != nil || rec.State == "leased" || openRecord(&rec, &s) {
		return
	}
	switch s.State {
	case StateQueued, StateScheduled, StateHeld:
	default:
		return
	}
	shard, err := queue.ShardOf(rec.ID)
	if err != nil {
		return
	}
	_, err = e.r.end(ctx, shard, rec, &d, &s, StateCancelled, "audience send cancelled")
	if err != nil && !errors.Is(err, queue.ErrStale) && !errors.Is(err, queue.ErrInHand) && !errors.Is(err, queue.ErrNotFound) {
		e.r.log.Warn("a message of a cancelled audience send waits", zap.String("message", rec.ID), zap.Error(err))
	}
}

// end ends the send and tells its partner.
func (e *expansion) end(ctx context.Context, state string) queue.Verdict {
	if err := e.r.bindings.DropSnapshot(ctx, e.order.Partner, e.c.ID); err != nil {
		return queue.Snooze(time.Second, encode(e.note))
	}
	e.note.End, e.note.Cursor = state, ""
	s, err := e.r.viewSend(ctx, e.c.ID, &e.order, &e.note)
	if err != nil {
		e.note.End = ""
		return queue.Snooze(time.Second, encode(e.note))
	}
	jobs := e.r.notify(notification{shard: e.shard, partner: e.order.Partner, app: e.order.App, typ: EventAudienceDone, at: e.c.Now, data: s})
	e.r.log.Info("audience send over", zap.String("partner", e.order.Partner), zap.String("send", e.c.ID), zap.String("state", state),
		zap.Int("total", s.Total), zap.Int("made", s.Made), zap.Int("no_credit", s.NoCredit), zap.Int("unbound", s.Unbound))
	return queue.Done(encode(e.note)).With(queue.Change{Jobs: jobs})
}
