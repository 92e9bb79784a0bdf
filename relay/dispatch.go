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
	"github.com/wxrelay/wxrelay/relay/wechat"
)

const (
	maxNotLeft   = 30               // tries of a send that could not leave: some hours
	configPause  = 30 * time.Second // how long a misconfigured app rests before a message probes it
	quotaPause   = time.Minute      // how long one rests whose day is used up; an operator may clear the quota any time
	sameForWords = 9 * time.Minute  // WeChat knows a client_msg_id again for 10 minutes: a repeat is safe until then
)

// sendOne makes one call to WeChat for one message, and turns its answer into a verdict that carries every consequence.
//
// the claim itself is the mark that the call may have left. A lapsed lease therefore means the same as a call without
// an answer: open, not sent again unless that is safe or the partner asked for it. What is open stays so until WeChat takes a
// repeat, reports, or the deadline comes: a repeat that is refused says nothing about the call before it (DECISIONS 6).
func (r *Relay) sendOne(ctx context.Context, c *queue.Claimed) queue.Verdict {
	d, s, err := read(c.Body, c.Note)
	if err != nil {
		return queue.Bury("malformed", c.Note)
	}
	shard, err := queue.ShardOf(c.ID)
	if err != nil {
		return queue.Bury("malformed", c.Note)
	}
	w := &sending{r: r, c: c, draft: &d, progress: &s, shard: shard, was: s.State}
	ctx, span := r.resume(ctx, d.Trace, SpanSend)
	if span == nil {
		return w.step(ctx)
	}
	d.Trace = span.Traceparent // of the events that are told of this step; what is stored stays
	verdict := w.step(ctx)
	span.End(s.State == StateFailed, zap.String("app", d.App), zap.String("partner", d.Partner), zap.String("message", c.ID), zap.String("channel", w.channel()),
		zap.String("state", s.State), zap.Int("errcode", code(&s)), zap.Int("attempts", s.Attempts))
	return verdict
}

// step is what is to be done with the message now.
func (w *sending) step(ctx context.Context) queue.Verdict {
	r, c, d, s, shard := w.r, w.c, w.draft, w.progress, w.shard
	switch {
	case s.State == StateUnknown: // the deadline: nothing settled it
		return w.close()
	case s.State == StateHeld && !c.Expired: // it gave way to a newer one of its supersede_key
		return w.finish(StateCancelled, "superseded", nil)
	case c.Reclaims > s.Lapses && s.State != StateHeld: // what is held is not in hand to be sent
		s.Lapses = c.Reclaims
		s.Attempts++
		s.Silent()                                                                              // an answer kept from before is not this call's
		return w.unanswered(ctx, "the sender died with the call in hand", time.UnixMilli(s.At)) // not before the last step of its progress
	case w.expired() && s.InDoubt():
		return w.unknown("expires_at")
	case w.expired():
		r.returnFormID(d, s, c.ID)
		cause := "expires_at"
		if d.Expires == 0 {
			cause = "retention" // it was held as long as anything waits
		}
		return w.finish(StateExpired, cause, d.giveBack(s, c.ID), r.releaseJobs(shard, d, s)...)
	case s.InDoubt() && !w.repeatable() && !w.granted() && !w.lastCredit(ctx):
		return w.unknown("too late to send it again")
	}
	return w.call(ctx)
}

// sending is one message that a worker holds.
type sending struct {
	r        *Relay
	c        *queue.Claimed
	draft    *draft
	progress *progress
	shard    int
	was      string    // the state as it is stored
	left     time.Time // when the call left, by the clock of c.Now, which stands at its answer then
}

func (w *sending) channel() string { return w.draft.Channels[w.progress.Channel] }

func (w *sending) expired() bool {
	return w.c.Expired || w.draft.Expires != 0 && w.c.Now.UnixMilli() >= w.draft.Expires
}

// repeatable tells whether an open call may be made again without harm: oa_template carries a client_msg_id, of which
// WeChat takes the same one once within 10 minutes.
func (w *sending) repeatable() bool {
	return w.channel() == ChannelOATemplate && w.openFor() < sameForWords
}

// granted tells whether an open call may be made again on the partner's word, taken not too long ago.
func (w *sending) granted() bool {
	return w.progress.Resent != 0 && w.c.Now.Sub(time.UnixMilli(w.progress.Resent)) < w.r.rules.Load().UnknownDeadline
}

// busyFor is how long a send that was answered -1 is repeated.
const busyFor = 2 * time.Minute

// lastCredit tells whether a subscribe message that was answered -1, and nothing else, may be sent again without harm: it holds
// the only credit of a one-time line, so WeChat answers 43101 to the repeat if it took the first call (DECISIONS 10). The
// ledger is read at each repeat; when it cannot be read, or the user accepted again meanwhile, the answer is no.
func (w *sending) lastCredit(ctx context.Context) bool {
	busy := w.progress.Errcode != nil && *w.progress.Errcode == -1 && w.progress.Resent == 0
	if !busy || w.channel() != ChannelSubscribe || w.draft.Kind != string(ledger.OneTime) || w.draft.NoCredit == "try" || w.openFor() >= busyFor {
		return false
	}
	st, err := w.r.ledger.Get(ctx, w.draft.App, w.draft.OpenID, w.draft.TemplateID)
	return err == nil && st.Credits == 0 && st.Reserved == 1
}

func (w *sending) openFor() time.Duration { return w.c.Now.Sub(time.UnixMilli(w.progress.Open)) }

func (w *sending) call(ctx context.Context) queue.Verdict {
	if delay := w.r.throttle.admit(w.route(), w.c.Now); delay.wait > 0 {
		w.progress.Waits(delay.why, w.c.Now, delay.errcode)
		if delay.first {
			w.pauseLanes(w.route(), delay.wait)
		}
		return queue.Snooze(delay.wait, w.progress.Pack())
	}
	if why, wait, err := w.book(ctx); err != nil {
		return queue.Snooze(time.Second, w.progress.Pack())
	} else if why != "" {
		return w.withoutCredit(why, wait)
	}
	body, err := w.body(ctx)
	switch {
	case errors.Is(err, binding.ErrEmpty):
		return w.refusedFor(StateFailed, "no_form_id")
	case err != nil:
		return queue.Snooze(time.Second, w.progress.Pack())
	}
	start := time.Now()
	got, err := w.r.wechat.Send(ctx, w.sender(), wechat.Channel(w.channel()), body)
	w.left, w.c.Now = w.c.Now, w.c.Now.Add(time.Since(start))
	var api *wechat.APIError
	switch {
	case err == nil:
		w.progress.Attempts++
		w.r.throttle.succeeded(w.route(), w.left)
		return w.sent(got)
	case errors.Is(err, wechat.ErrNotLeft):
		return w.notLeft(ctx, err)
	case errors.As(err, &api):
		w.progress.Attempts++
		return w.answered(ctx, api)
	case errors.Is(err, wechat.ErrNoAnswer):
		w.progress.Attempts++
		w.progress.Silent()
		return w.unanswered(ctx, "no_answer", w.left)
	}
	// The app left the config, or the body cannot be sent as it is: nothing left, and it never will.
	w.r.log.Error("send not possible", zap.String("app", w.draft.App), zap.String("message", w.c.ID), zap.Error(err))
	return w.refusedFor(StateFailed, "not_possible")
}

// notLeft: WeChat cannot have it, so it is tried again. When there is no token because the operator must act, the app's
// lanes rest meanwhile, and each end of a rest is a probe.
func (w *sending) notLeft(ctx context.Context, err error) queue.Verdict {
	if ctx.Err() != nil {
		return queue.GiveBack()
	}
	var api *wechat.APIError
	if errors.As(err, &api) {
		w.progress.Answered(api.Code, api.Msg, api.RID)
		return w.pauseRoute(w.route().whole(), configPause, "no_token", api)
	}
	if w.c.Attempts >= maxNotLeft {
		return w.refusedFor(StateFailed, "wechat_unreachable")
	}
	w.progress.Waits("not_left", w.c.Now, w.progress.Errcode)
	return queue.Retry(backoff(w.c.Attempts), w.progress.Pack(), "not_left")
}

// book takes what the channel needs, unless it was taken before: when the message was accepted, or released. why is the
// ledger's refusal, wait how long it holds where time ends it. Should we die between this and the call, the next worker counts it as a call without an answer.
func (w *sending) book(ctx context.Context) (why string, wait time.Duration, err error) {
	if !needs(w.channel()) || w.progress.Booked == w.progress.Channel+1 {
		return "", 0, nil
	}
	res := w.r.q.Commit(ctx, queue.Change{Shard: w.shard, Operations: w.draft.reserve(w.progress.Channel, w.c.ID)})
	if res.Err != nil {
		return "", 0, res.Err
	}
	if res.Refused {
		why, wait = refusalOf(res)
		return why, wait, nil
	}
	w.progress.Booked = w.progress.Channel + 1
	return "", 0, nil
}

// lacks: the user gives nothing for this channel at the time of sending. The message waits where it asks for that.
func (w *sending) withoutCredit(why string, wait time.Duration) queue.Verdict {
	switch {
	case w.progress.InDoubt() || w.draft.waitsOn() != w.progress.Channel:
		return w.refusedFor(StateRefused, why)
	case wait > 0: // no accept ends a period
		w.progress.Waits(why, w.c.Now, w.progress.Errcode)
		return queue.Snooze(wait, w.progress.Pack())
	}
	again := queue.Job{ID: w.r.q.NewID("rel_", w.shard), Lane: laneRelease + ":" + w.draft.App, // for a credit that came meanwhile
		Body: encode(reportJob{Park: w.draft.parkName(w.progress.Channel)})}
	return w.hold(why, w.progress.Errcode, queue.Change{Jobs: []queue.Job{again}})
}

// sender is the app whose token is used.
func (w *sending) sender() string { return w.draft.sender(w.progress.Channel) }

func (w *sending) route() route { return route{w.sender(), w.channel()} }

// body is what WeChat is given, with what only the moment of sending knows.
func (w *sending) body(ctx context.Context) (json.RawMessage, error) {
	raw := w.draft.Payloads[w.progress.Channel]
	switch w.channel() {
	case ChannelOATemplate:
		return with(raw, "client_msg_id", w.c.ID)
	case ChannelTemplate:
		return w.withFormID(ctx, raw)
	}
	return raw, nil
}

// with sets one member of a JSON object.
func with(raw json.RawMessage, member, value string) (json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	m[member] = encode(value)
	return encode(m), nil
}
