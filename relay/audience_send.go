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
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// A send to an audience is a job beside a copy of the members as they were when it was accepted. Each claim of the job makes
// the messages of a few hundred members by the way of every message, under ids that follow from the send and the member: a
// step that is repeated after a crash finds those that are made. Then the note moves on: the last member, and the counts.
//
//	accepted -> expanding: step, step, ... -> all are made -> none of them waits any more -> done
//	                `-> cancelled: no more are made, those that wait are ended -> none waits any more -> cancelled
//
// How many were made in a state stands in the note. What moved since is counted by the very change that moves a message
// ([binding.CountLua]); both together are exact, whoever dies when.

// AudienceSend is the progress of a send to an audience.
type AudienceSend struct {
	ID        string `json:"id"`
	State     string `json:"state"` // expanding | done | cancelled
	Total     int    `json:"total"` // members when it was accepted
	Made      int    `json:"made"`  // messages made, held ones too; the states below add up to it
	NoCredit  int    `json:"no_credit"`
	Unbound   int    `json:"unbound"`
	Queued    int    `json:"queued"` // scheduled, queued or sending
	Held      int    `json:"held"`
	Sent      int    `json:"sent"`
	Delivered int    `json:"delivered"`
	Failed    int    `json:"failed"`
	Refused   int    `json:"refused"`
	Expired   int    `json:"expired"`
	Cancelled int    `json:"cancelled"`
	Unknown   int    `json:"unknown"`
}

// States of an audience send.
const (
	sendExpanding = "expanding"
	sendDone      = "done"
	sendCancelled = "cancelled"
)

// sendOrder is the body of an audience send's job.
type sendOrder struct {
	Partner    string          `json:"p"`
	App        string          `json:"a"`
	Name       string          `json:"n"`           // of the audience
	Users      bool            `json:"u"`           // its members are users
	TemplateID string          `json:"m,omitempty"` // the audience's
	Total      int             `json:"t"`
	Created    int64           `json:"c"` // Unix milliseconds
	Request    json.RawMessage `json:"r"`
}

// sendNote is how far an audience send has come.
type sendNote struct {
	Cursor   string `json:"c,omitempty"` // last member looked at
	Looked   int    `json:"l,omitempty"`
	Queued   int    `json:"q,omitempty"` // messages made that did not have to wait for a credit
	Held     int    `json:"h,omitempty"`
	NoCredit int    `json:"n,omitempty"`
	Unbound  int    `json:"u,omitempty"`
	Over     int64  `json:"o,omitempty"` // since when no more are made, Unix milliseconds
	End      string `json:"e,omitempty"` // done | cancelled
}

const (
	// standIn is the addressee for whom the request of an audience send is validated.
	standIn      = "oStandIn00000000000000000000"
	sendStep     = 400  // members of one step
	sendWaiting  = 5000 // messages of one send that may wait before more are made
	sendParallel = 64
	snapshotTime = 30 * 24 * time.Hour // a send that takes longer ends with the members it has reached
)

func sendTag(id string) string { return "as/" + id }

// cancelName is taken while an audience send is to end.
func cancelName(id string) string { return "ac/" + id }

// countedAs is the state under which a message of an audience send is counted.
func countedAs(state string) string {
	switch state {
	case StateScheduled, StateSending:
		return StateQueued
	}
	return state
}

// count counts a message of an audience send from one state to another, in the change that moves it.
func (d *draft) count(from, to string) []queue.Operation {
	from, to = countedAs(from), countedAs(to)
	if d.Audience == "" || from == to {
		return nil
	}
	// longer than any of its messages may wait
	keep := time.Until(time.UnixMilli(max(d.Expires, d.Due))) + snapshotTime
	return []queue.Operation{{Extension: binding.CountExtension, Args: binding.Count(d.Audience, from, to, max(keep, snapshotTime))}}
}

// SendToAudience accepts a message to all members of an audience: the request is validated, the members are noted as they
// are, and the job that makes their messages is queued. raw is the request as it came. again and the errors are those of
// [Relay.Send].
func (r *Relay) SendToAudience(ctx context.Context, partner string, key RequestKey, req SendRequest, raw []byte) (s AudienceSend, again bool, err error) {
	rules, now, name := r.rules.Load(), time.Now(), req.To.Audience
	a, err := r.bindings.Audience(ctx, partner, name)
	if err != nil && !errors.Is(err, binding.ErrNotFound) {
		return s, false, err
	}
	if err := r.checkSend(ctx, rules, partner, req, a, now); err != nil {
		return s, false, err
	}
	shard := r.q.Shard(partner, name)
	id := r.q.IDFor("aud_", shard, key.seed(partner))
	if s, err := r.FirstAudienceAnswer(ctx, partner, id); !errors.Is(err, ErrNotFound) {
		return s, err == nil, err
	}
	if a, err = r.bindings.Snapshot(ctx, partner, name, id, snapshotTime); err != nil {
		_, err = viewAudience(a, err)
		return s, false, err
	}
	order := sendOrder{Partner: partner, App: a.App, Name: name, Users: a.Users, TemplateID: a.TemplateID, Total: a.Total, Created: now.UnixMilli(), Request: raw}
	mark := queue.Key{For: webhook.Remembered}
	mark.Name, mark.Value = webhook.Mark(partner, key.ID, key.Digest, id)
	job := queue.Job{ID: id, Lane: laneAudience + ":" + a.App, Body: encode(order), Note: encode(sendNote{}), Keep: max(rules.KeepMessages, webhook.Remembered)}
	for range 2 {
		res := r.q.Commit(ctx, queue.Change{Shard: shard, Key: &mark, Jobs: []queue.Job{job}})
		switch {
		case errors.Is(res.Err, queue.ErrExists):
			s, err := r.FirstAudienceAnswer(ctx, partner, id)
			return s, true, err
		case errors.Is(res.Err, queue.ErrTaken):
			if _, err := webhook.ReadMark(res.Held, key.Digest); err != nil {
				return s, false, errors.Join(err, r.bindings.DropSnapshot(ctx, partner, id))
			}
			mark.Over = res.Held // marked, and never done (see queue.Key)
			continue
		case res.Err != nil:
			return s, false, res.Err
		}
		r.log.Info("audience send", zap.String("partner", partner), zap.String("send", id), zap.Int("total", a.Total))
		return AudienceSend{ID: id, State: sendExpanding, Total: a.Total}, false, nil
	}
	return s, false, queue.ErrTaken
}

// checkSend validates the request of an audience send for a stand-in addressee: what is wrong with it is so for everybody.
func (r *Relay) checkSend(ctx context.Context, rules *Rules, partner string, req SendRequest, a binding.Audience, now time.Time) error {
	f, err := r.sendFacts(ctx, rules, partner, &req, a.TemplateID, now)
	if err != nil {
		return err
	}
	switch {
	case a.App == "":
		f.Issues.Add("to.audience", "there is no audience of this name")
	case req.App != "" && a.App != req.App:
		f.Issues.Add("to.audience", "is an audience of the app "+a.App)
	}
	d, issues := message.Build(req, f)
	if err := faults(issues).err("invalid_message"); err != nil {
		return err
	}
	if r.retired.all(d.App, d.Channels, now) {
		return ErrChannelRetired
	}
	return nil
}

// sendFacts are the facts about the request of an audience send, whose template is the audience's unless it names another.
func (r *Relay) sendFacts(ctx context.Context, rules *Rules, partner string, req *SendRequest, template string, now time.Time) (message.Facts, error) {
	req.To = To{OpenID: standIn}
	if req.Priority == "" {
		req.Priority = "bulk"
	}
	f, err := r.facts(ctx, rules, partner, req, now)
	if err == nil && req.TemplateID == "" && template != "" && req.TemplateOf(ChannelSubscribe) == "" {
		req.TemplateID = template
		f, err = r.facts(ctx, rules, partner, req, now)
	}
	return f, err
}

// FirstAudienceAnswer is what a partner was told when an audience send was accepted.
func (r *Relay) FirstAudienceAnswer(ctx context.Context, partner, id string) (AudienceSend, error) {
	_, order, _, err := r.audienceSend(ctx, partner, id)
	return AudienceSend{ID: id, State: sendExpanding, Total: order.Total}, err
}

func (r *Relay) audienceSend(ctx context.Context, partner, id string) (rec queue.Record, order sendOrder, note sendNote, err error) {
	if len(id) < 5 || id[:4] != "aud_" {
		return rec, order, note, ErrNotFound
	}
	rec, err = r.q.Get(ctx, id)
	if errors.Is(err, queue.ErrNotFound) || errors.Is(err, queue.ErrID) {
		return rec, order, note, ErrNotFound
	}
	if err == nil {
		err = errors.Join(json.Unmarshal(rec.Body, &order), json.Unmarshal(rec.Note, &note))
	}
	if err == nil && order.Partner != partner {
		err = ErrNotFound
	}
	return rec, order, note, err
}

// AudienceSend is the progress of a partner's send; another partner's is ErrNotFound.
func (r *Relay) AudienceSend(ctx context.Context, partner, id string) (AudienceSend, error) {
	_, order, note, err := r.audienceSend(ctx, partner, id)
	if err != nil {
		return AudienceSend{}, err
	}
	return r.viewSend(ctx, id, &order, &note)
}

func (r *Relay) viewSend(ctx context.Context, id string, order *sendOrder, note *sendNote) (AudienceSend, error) {
	cancelled, err := r.sendIsCancelled(ctx, id)
	if err != nil {
		return AudienceSend{}, err
	}
	n, err := r.sendCounts(ctx, id)
	if err != nil {
		return AudienceSend{}, err
	}
	n[StateQueued] += note.Queued
	n[StateHeld] += note.Held
	of := func(state string) int { return max(n[state], 0) } // a step that is not noted yet may have moved some
	s := AudienceSend{ID: id, State: sendExpanding, Total: order.Total, Made: note.Queued + note.Held, NoCredit: note.NoCredit, Unbound: note.Unbound,
		Queued: of(StateQueued), Held: of(StateHeld), Sent: of(StateSent), Delivered: of(StateDelivered), Failed: of(StateFailed),
		Refused: of(StateRefused), Expired: of(StateExpired), Cancelled: of(StateCancelled), Unknown: of(StateUnknown)}
	switch {
	case note.End != "":
		s.State = note.End
	case cancelled:
		s.State = sendCancelled
	}
	return s, nil
}

func (r *Relay) sendCounts(ctx context.Context, id string) (map[string]int, error) {
	prefixes := make([]string, r.q.Shards())
	for i := range prefixes {
		prefixes[i] = queue.Prefix(i)
	}
	return r.bindings.Counts(ctx, prefixes, id)
}

func (r *Relay) sendIsCancelled(ctx context.Context, id string) (bool, error) {
	shard, err := queue.ShardOf(id)
	if err != nil {
		return false, ErrNotFound
	}
	_, err = r.q.Lookup(ctx, shard, cancelName(id))
	if errors.Is(err, queue.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// CancelAudienceSend ends what has not left of a send, in the background. ErrTooLate once it is over.
func (r *Relay) CancelAudienceSend(ctx context.Context, partner, id string) (AudienceSend, error) {
	for range 5 {
		rec, order, note, err := r.audienceSend(ctx, partner, id)
		if err != nil {
			return AudienceSend{}, err
		}
		if note.End != "" {
			return AudienceSend{}, ErrTooLate
		}
		shard, err := queue.ShardOf(id)
		if err != nil {
			return AudienceSend{}, ErrNotFound
		}
		ch := queue.Change{Shard: shard, Names: []queue.Name{{Name: cancelName(id), Value: "1", For: snapshotTime}}}
		now := ch
		now.Edit = &queue.Edit{ID: id, Version: rec.Version, To: queue.Ready}
		err = r.q.Commit(ctx, now).Err
		switch {
		case errors.Is(err, queue.ErrStale):
			continue
		case errors.Is(err, queue.ErrInHand): // its next step sees it
			err = r.q.Commit(ctx, ch).Err
		case errors.Is(err, queue.ErrNotFound):
			return AudienceSend{}, ErrNotFound
		}
		if err != nil {
			return AudienceSend{}, err
		}
		return r.viewSend(ctx, id, &order, &note)
	}
	return AudienceSend{}, ErrTooLate // it does not stand still
}

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
