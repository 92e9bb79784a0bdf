package relay

import (
	"context"
	"encoding/json"
	"errors"
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
