package relay

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/message"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// Tags under which a message is listed.
func userTag(app, openid string) string  { return "m/" + app + "/" + openid }
func partnerTag(partner string) string   { return "m/" + partner }
func serialOf(app, openid string) string { return "o/" + app + "/" + openid }

// RequestKey names what a partner asked: the same key is the same message, whatever happened in between.
type RequestKey struct {
	ID     string   // webhook-id
	Digest [32]byte // SHA-256 of all that makes the request what it is
	Item   int      // place in a batch, from 1 on, whose own answer is remembered; 0 = the message is the request
}

// seed is what a message's id is made of. The digest is in it: should an id be used again when it is long forgotten, for
// something else, that is another message.
func (k RequestKey) seed(partner string) string {
	b := make([]byte, 0, len(partner)+len(k.ID)+len(k.Digest)+24)
	b = append(append(append(append(b, partner...), 0), k.ID...), k.Digest[:]...)
	return string(strconv.AppendInt(b, int64(k.Item), 10))
}

// Send accepts one message of a partner: validated, its credit reserved, its job stored and its webhook-id remembered in one
// change, so that a 202 is never taken back, "no credit" is known at once, and a request that comes twice is never
// worked on twice. again: it was accepted before, and this is the answer it got. webhook.ErrReused: the id is another request's.
func (r *Relay) Send(ctx context.Context, partner string, key RequestKey, req SendRequest) (m Message, again bool, err error) {
	rules := r.rules.Load()
	now := time.Now()
	d, err := r.compose(ctx, rules, partner, &req, now)
	if err != nil {
		return Message{}, false, err
	}
	return r.accept(ctx, rules, partner, key, d, now)
}

// accept is what Send does with a draft.
func (r *Relay) accept(ctx context.Context, rules *Rules, partner string, key RequestKey, d *draft, now time.Time) (m Message, again bool, err error) {
	d.Trace = r.traceOf(ctx)
	shard := r.q.Shard(d.App, d.OpenID)
	id := r.q.IDFor("msg_", shard, key.seed(partner))
	var mark *queue.Key
	if key.Item == 0 {
		mark = &queue.Key{For: webhook.Remembered}
		mark.Name, mark.Value = webhook.Mark(partner, key.ID, key.Digest, id)
	}
	refused, wait := "", time.Duration(0)
	for n := 0; n < len(d.Channels); n++ { // a channel the user gives no credit for cannot reach them: the next one is asked
		d.First = n
		if lacks, err := r.lacksFormID(ctx, d, n); err != nil {
			return Message{}, false, err
		} else if lacks {
			refused = ledger.NoCredit
			continue
		}
		s := &progress{Channel: n, Booked: n + 1}
		cause := "accepted"
		if n > 0 {
			cause = d.Channels[n-1] + ": " + refused
		}
		s.To(StateQueued, cause, now, nil)
		if d.Due != 0 {
			s.State, s.Steps[0].State = StateScheduled, StateScheduled
		}
		ch := queue.Change{Shard: shard, Key: mark, Jobs: []queue.Job{r.messageJob(rules, id, d, s)}, Operations: d.reserve(n, id), Behind: d.behind(n)}
		held := &progress{Channel: n}
		waits := func() {
			held.To(StateHeld, "no_credit", now, nil)
			ch.Refused = append(r.notifyMessage(shard, view(id, d, held), d, now), r.messageJob(rules, id, d, held))
			ch.ParkLimit = d.parkLimit(rules)
		}
		if d.waitsOn() == n && d.Every == 0 {
			waits()
		}
		res := r.commitInOrder(ctx, ch, now)
		if reason, _ := refusalOf(res); d.waitsOn() == n && d.Every != 0 && reason == ledger.NoCredit {
			waits() // no accept ends a period: who is too soon is told so, and only who has no credit waits for one
			res = r.commitInOrder(ctx, ch, now)
		}
		switch {
		case errors.Is(res.Err, queue.ErrExists):
			m, err := r.FirstAnswer(ctx, partner, id)
			return m, true, err
		case errors.Is(res.Err, queue.ErrTaken): // the same request, when `to` meant somebody else; or another one
			was, err := webhook.ReadMark(res.Held, key.Digest)
			if err != nil {
				return Message{}, false, err
			}
			m, err := r.FirstAnswer(ctx, partner, was)
			if errors.Is(err, ErrNotFound) && mark.Over != res.Held { // marked, and never done (see queue.Key)
				mark.Over = res.Held
				n--
				continue
			}
			return m, true, err
		case errors.Is(res.Err, queue.ErrFull):
			return Message{}, false, tooManyHeld(rules)
		case res.Err != nil:
			return Message{}, false, res.Err
		case res.Refused && len(ch.Refused) > 0:
			s = held
			r.superseded(ctx, shard, res.Replaced)
		case res.Refused:
			refused, wait = refusalOf(res)
			continue
		}
		m := view(id, d, s)
		r.observeMessage(&m, 0, "accepted")
		return m, false, nil
	}
	switch refused {
	case ledger.NoAllowance:
		return Message{}, false, ErrNoAllowance
	case ledger.TooSoon:
		return Message{}, false, &TooSoon{TemplateID: d.TemplateID, Keyword: d.Keyword, Value: d.Value, Every: time.Duration(d.Every) * time.Millisecond, Wait: wait}
	}
	return Message{}, false, ErrNoCredit
}

// FirstAnswer is what a partner was told when a message was accepted, whatever has become of it since.
func (r *Relay) FirstAnswer(ctx context.Context, partner, id string) (Message, error) {
	rec, d, err := r.record(ctx, partner, id)
	if err != nil {
		return Message{}, err
	}
	_, s, err := read(rec.Body, rec.Note)
	if err != nil || len(s.Steps) == 0 {
		return Message{}, ErrNotFound
	}
	began := s.Steps[0]
	return view(id, d, &progress{Channel: d.First, State: began.State, At: began.At, Steps: []message.Entry{began}}), nil
}

// refusalOf is why an operation was refused, "" when it did not: no_credit, too_soon and for how long, no_allowance.
func refusalOf(res queue.Result) (reason string, wait time.Duration) {
	switch n := len(res.Replies); {
	case !res.Refused:
		return "", 0
	case n > 0 && res.Replies[n-1] != queue.Behind: // who waits behind others has no credit either
		return ledger.ParseRefusal(res.Replies[n-1])
	}
	return ledger.NoCredit, 0
}

func (r *Relay) messageJob(rules *Rules, id string, d *draft, s *progress) queue.Job {
	job := queue.Job{ID: id, Lane: sendLane(d.App, d.Channels[s.Channel], d.Priority), Serial: serialOf(d.App, d.OpenID), Body: d.Pack(), Note: s.Pack(),
		Tags: []string{partnerTag(d.Partner), userTag(d.App, d.OpenID)}, Keep: max(rules.KeepMessages, webhook.Remembered)}
	if d.Audience != "" {
		job.Tags = append(job.Tags, sendTag(d.Audience))
	}
	if d.Due != 0 {
		job.Due = time.UnixMilli(d.Due)
	}
	if d.Expires != 0 {
		job.Expires = time.UnixMilli(d.Expires)
	}
	if s.State == StateHeld {
		job.Due, job.Park = time.Time{}, d.parkName(s.Channel)
		job.Expires = d.heldUntil(rules)
	}
	return job
}

// heldUntil is when a message that waits for a credit gives up: nothing waits for ever.
func (d *draft) heldUntil(rules *Rules) time.Time {
	if d.Expires != 0 {
		return time.UnixMilli(d.Expires)
	}
	return time.UnixMilli(max(d.Created, d.Due)).Add(rules.KeepMessages)
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
