package relay

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

const (
	maxNotLeft   = 30               // tries of a send that could not leave: some hours
	configPause  = 30 * time.Second // how long a misconfigured app rests before a message probes it
	quotaPause   = time.Minute      // how long one rests whose day is used up; an operator may clear the quota any time
	sameForWords = 9 * time.Minute  // WeChat knows a client_msg_id again for 10 minutes: a repeat is safe until then
	alertSilence = time.Hour        // the same fault of the same app is told once in this time
)

// sendOne makes one call to WeChat for one message, and turns its answer into a verdict that carries every consequence.
//
// the claim itself is the mark that the call may have left. A lapsed lease therefore means the same as a call without
// an answer: unknown, not sent again unless the partner asked for it.
func (r *Relay) sendOne(ctx context.Context, c *queue.Claimed) queue.Verdict {
	o, s, err := read(c.Body, c.Note)
	if err != nil {
		return queue.Bury("malformed", c.Note)
	}
	shard, err := queue.ShardOf(c.ID)
	if err != nil {
		return queue.Bury("malformed", c.Note)
	}
	w := &sending{r: r, c: c, o: &o, s: &s, shard: shard}
	switch {
	case s.State == StateUnknown: // the deadline: nothing settled it
		return w.close()
	case s.State == StateHeld && !c.Expired: // it gave way to a newer one of its supersede_key
		return w.finish(StateCancelled, "superseded", nil)
	case c.Reclaims > s.Lapses:
		s.Lapses = c.Reclaims
		s.Attempts++
		if !w.repeatable() {
			return w.unknown("the sender died with the call in hand")
		}
	case c.Expired, o.Expires != 0 && c.Now.UnixMilli() >= o.Expires:
		r.returnFormID(&o, &s, c.ID)
		cause := "expires_at"
		if o.Expires == 0 {
			cause = "retention" // it was held as long as anything waits
		}
		return w.finish(StateExpired, cause, o.giveBack(&s, c.ID), r.freed(shard, &o, &s)...)
	}
	return w.call(ctx)
}

// sending is one message in a worker's hands.
type sending struct {
	r     *Relay
	c     *queue.Claimed
	o     *order
	s     *story
	shard int
}

func (w *sending) channel() string { return w.o.Channels[w.s.Channel] }

// repeatable tells whether a call without an answer may be made again: oa_template carries a client_msg_id, of which
// WeChat takes the same one once within 10 minutes.
func (w *sending) repeatable() bool {
	return w.channel() == ChannelOATemplate && (w.s.First == 0 || w.c.Now.Sub(time.UnixMilli(w.s.First)) < sameForWords)
}

func (w *sending) call(ctx context.Context) queue.Verdict {
	if wait := w.r.paces.admit(w.sender(), w.c.Now); wait > 0 {
		return queue.Snooze(wait, w.s.note())
	}
	if why, err := w.book(ctx); err != nil {
		return queue.Snooze(time.Second, w.s.note())
	} else if why != "" {
		return w.refusedFor(StateRefused, why, nil)
	}
	body, err := w.body(ctx)
	switch {
	case errors.Is(err, binding.ErrEmpty):
		return w.refusedFor(StateFailed, "no_form_id", nil)
	case err != nil:
		return queue.Snooze(time.Second, w.s.note())
	}
	if w.s.First == 0 {
		w.s.First = w.c.Now.UnixMilli()
	}
	start := time.Now()
	got, err := w.r.wechat.Send(ctx, w.sender(), wechat.Channel(w.channel()), body)
	var api *wechat.APIError
	switch {
	case err == nil:
		w.s.Attempts++
		w.r.paces.works(w.sender(), w.c.Now)
		return w.sent(got, time.Since(start))
	case errors.Is(err, wechat.ErrNotLeft):
		return w.notLeft(ctx, err)
	case errors.As(err, &api):
		w.s.Attempts++
		return w.answered(api)
	case errors.Is(err, wechat.ErrNoAnswer):
		w.s.Attempts++
		if w.repeatable() {
			return queue.Retry(backoff(w.c.Attempts), w.s.note(), "no_answer")
		}
		return w.unknown("no_answer")
	}
	// The app left the config, or the body cannot be sent as it is: nothing left, and it never will.
	w.r.log.Error("send not possible", zap.String("app", w.o.App), zap.String("message", w.c.ID), zap.Error(err))
	return w.refusedFor(StateFailed, "not_possible", nil)
}

// notLeft: WeChat cannot have it, so it is tried again. When there is no token because the operator must act, the app's
// lanes rest meanwhile, and each end of a rest is a probe.
func (w *sending) notLeft(ctx context.Context, err error) queue.Verdict {
	if ctx.Err() != nil {
		return queue.GiveBack()
	}
	var api *wechat.APIError
	if errors.As(err, &api) {
		return w.rest(configPause, api)
	}
	if w.c.Attempts >= maxNotLeft {
		return w.refusedFor(StateFailed, "wechat_unreachable", nil)
	}
	return queue.Retry(backoff(w.c.Attempts), w.s.note(), "not_left")
}

// book takes what the channel needs, unless it was taken before: when the message was accepted, or released. why is the
// ledger's refusal. Should we die between this and the call, the next worker counts it as a call without an answer.
func (w *sending) book(ctx context.Context) (why string, err error) {
	if !needs(w.channel()) || w.s.Booked == w.s.Channel+1 {
		return "", nil
	}
	res := w.r.q.Commit(ctx, queue.Change{Shard: w.shard, Moves: w.o.reserve(w.s.Channel, w.c.ID)})
	if res.Err != nil {
		return "", res.Err
	}
	if res.Refused {
		return reasonOfRefusal(res), nil
	}
	w.s.Booked = w.s.Channel + 1
	return "", nil
}

// sender is the app whose token is used.
func (w *sending) sender() string { return w.o.sender(w.s.Channel) }

// body is what WeChat is given, with what only the moment of sending knows.
func (w *sending) body(ctx context.Context) (json.RawMessage, error) {
	raw := w.o.Payloads[w.s.Channel]
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

// sent: WeChat took it. The credit is spent, the msgid will name the receipt.
func (w *sending) sent(got wechat.Receipt, took time.Duration) queue.Verdict {
	w.s.MsgID = got.MsgID
	w.s.answered(0, "ok", "")
	code := 0
	w.s.to(StateSent, "wechat", w.c.Now.Add(took), &code)
	ch := queue.Change{Moves: w.o.spend(w.s, w.c.ID)}
	if got.MsgID != "" {
		ch.Names = []queue.Name{{Name: msgidName(w.sender(), got.MsgID), Value: w.c.ID, For: w.r.rules.Load().KeepMessages}}
	}
	return w.done(ch, 0)
}

// answered: WeChat refused in words. The table of errcodes says what that means for the message, the line and the app.
func (w *sending) answered(api *wechat.APIError) queue.Verdict {
	w.s.answered(api.Code, api.Msg, api.RID)
	if f := w.r.observe.Send; f != nil {
		f(w.o.App, w.channel(), api.Code, string(api.Reaction()))
	}
	switch api.Reaction() {
	case wechat.ReactionRetry: // -1: nobody knows whether it was taken
		if w.repeatable() {
			return queue.Retry(backoff(w.c.Attempts), w.s.note(), "system_busy")
		}
		return w.unknown("wechat_busy")
	case wechat.ReactionSerial: // 43108: another send to this openid is under way somewhere else
		return queue.Snooze(300*time.Millisecond+rand.N(700*time.Millisecond), w.s.note())
	case wechat.ReactionQuotaMinute:
		w.r.paces.refused(w.sender(), w.c.Now)
		return w.rest(untilNext(w.c.Now, time.Minute), nil)
	case wechat.ReactionQuotaDay:
		return w.rest(quotaPause, api)
	case wechat.ReactionConfig, wechat.ReactionToken, wechat.ReactionWait:
		return w.rest(configPause, api)
	}
	w.r.paces.works(w.sender(), w.c.Now)
	switch api.Reaction() {
	case wechat.ReactionLedger:
		return w.noCredit(api)
	case wechat.ReactionFormID:
		return w.formIDRefused(api)
	case wechat.ReactionRetired:
		w.r.retired.note(w.o.App, w.channel(), time.Now())
		return w.refusedFor(StateFailed, "channel_retired", api)
	}
	if api.Code == 40037 {
		w.r.templates.forget(w.o.App)
	}
	return w.refusedFor(StateFailed, "wechat", api)
}

// noCredit: 43101. The line's free credits are worth nothing; a message that may wait goes back to waiting.
func (w *sending) noCredit(api *wechat.APIError) queue.Verdict {
	cause := strconv.Itoa(api.Code)
	void := w.o.void(w.s, w.c.ID, cause)
	if w.o.waitsOn() == w.s.Channel && (w.o.Expires == 0 || w.c.Now.UnixMilli() < w.o.Expires) {
		w.s.Booked, w.s.First = 0, 0
		w.s.to(StateHeld, "wechat "+cause, w.c.Now, &api.Code)
		m := view(w.c.ID, w.o, w.s)
		return queue.ParkAgain(w.o.parkName(w.s.Channel), w.o.heldUntil(w.r.rules.Load()), w.s.note()).
			With(queue.Change{Moves: void, Jobs: w.r.tellMessage(w.shard, m, w.o.Partner, w.c.Now)})
	}
	if w.next() {
		return queue.Snooze(0, w.s.note()).With(queue.Change{Moves: void})
	}
	if api.Code != 43101 {
		return w.finish(StateFailed, "wechat", void)
	}
	return w.finish(StateRefused, "wechat", void)
}

// refusedFor ends a message that is known not to have reached the user, unless another channel is left.
func (w *sending) refusedFor(state, cause string, api *wechat.APIError) queue.Verdict {
	back := w.o.giveBack(w.s, w.c.ID)
	w.r.returnFormID(w.o, w.s, w.c.ID)
	loud := w.r.freed(w.shard, w.o, w.s)
	if api != nil && wechat.Lookup(api.Code).Reaction == wechat.ReactionUnknown {
		w.r.log.Error("WeChat answered a code that is not in our table", zap.String("app", w.o.App), zap.String("message", w.c.ID), zap.Int("errcode", api.Code), zap.String("errmsg", api.Msg), zap.String("rid", api.RID))
		loud = append(loud, w.r.alert(w.shard, w.sender(), api, w.c.Now)...)
	}
	if w.next() {
		return queue.Snooze(0, w.s.note()).With(queue.Change{Moves: back, Jobs: loud})
	}
	w.s.to(state, cause, w.c.Now, w.s.Errcode)
	return w.done(queue.Change{Moves: back, Jobs: loud}, code(w.s))
}

// next steps to the next channel of the chain.
func (w *sending) next() bool {
	if w.s.Channel+1 >= len(w.o.Channels) {
		return false
	}
	was := w.channel()
	w.s.Channel++
	w.s.First, w.s.Cred, w.s.CredUntil = 0, "", 0
	w.s.to(StateQueued, was+" did not reach the user", w.c.Now, w.s.Errcode)
	return true
}

// unknown: the call left and no answer came. The credit stays reserved until WeChat's report or the deadline.
func (w *sending) unknown(cause string) queue.Verdict {
	if w.o.Retry && !w.s.Resent {
		w.s.Resent = true
		w.s.to(StateQueued, cause+", sent again as on_unknown asks", w.c.Now, w.s.Errcode)
		return queue.Snooze(time.Second, w.s.note())
	}
	w.s.to(StateUnknown, cause, w.c.Now, w.s.Errcode)
	m := view(w.c.ID, w.o, w.s)
	w.r.observeMessage(&m, code(w.s), cause)
	deadline := w.c.Now.Add(w.r.rules.Load().UnknownDeadline) // whatever expires_at says: the message has left
	return queue.ParkAgain(openPark(w.o.App, w.o.OpenID), deadline, w.s.note()).With(queue.Change{Jobs: w.r.tellMessage(w.shard, m, w.o.Partner, w.c.Now)})
}

// close ends an unknown send at its deadline: it stays unknown, and its credit counts as spent, since a credit that may be
// gone at WeChat must not promise another send.
func (w *sending) close() queue.Verdict {
	w.s.to(StateUnknown, "deadline", w.c.Now, w.s.Errcode)
	return w.done(queue.Change{Moves: w.o.spend(w.s, w.c.ID)}, code(w.s))
}

func (w *sending) finish(state, cause string, moves []queue.Move, jobs ...queue.Job) queue.Verdict {
	w.s.to(state, cause, w.c.Now, w.s.Errcode)
	return w.done(queue.Change{Moves: moves, Jobs: jobs}, code(w.s))
}

func (w *sending) done(ch queue.Change, errcode int) queue.Verdict {
	m := view(w.c.ID, w.o, w.s)
	ch.Jobs = append(ch.Jobs, w.r.tellMessage(w.shard, m, w.o.Partner, w.c.Now)...)
	w.r.observeMessage(&m, errcode, w.s.Steps[len(w.s.Steps)-1].Cause)
	return queue.Done(w.s.note()).With(ch)
}

func code(s *story) int {
	if s.Errcode == nil {
		return 0
	}
	return *s.Errcode
}

// rest lets every lane of the message's app rest, since WeChat refuses the app and not the message; api is told to the
// operator. The message waits and goes again: each end of a rest is a probe.
func (w *sending) rest(d time.Duration, api *wechat.APIError) queue.Verdict {
	if w.r.paces.rested(w.sender(), d, w.c.Now) && w.sender() == w.o.App { // an account that is at fault does not stop the mini-program
		w.pause(d)
	}
	v := queue.Snooze(d, w.s.note())
	if api != nil {
		v = v.With(queue.Change{Jobs: w.r.alert(w.shard, w.sender(), api, w.c.Now)})
	}
	return v
}

func (w *sending) pause(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, p := range priorities {
		if err := w.r.q.Pause(ctx, sendLane(w.o.App, p), d); err != nil {
			w.r.log.Warn("lane not paused", zap.String("app", w.o.App), zap.Error(err))
		}
	}
}

// alert tells an app's partners and the log what its operator must do; deliveries of the same alert share a name, so that
// replicas and retries tell it once in alertSilence.
func (r *Relay) alert(shard int, app string, api *wechat.APIError, now time.Time) []queue.Job {
	if !r.alerts.first(app, api.Code, now) {
		return nil
	}
	e := wechat.Lookup(api.Code)
	r.log.Error("app needs its operator", zap.String("app", app), zap.Int("errcode", api.Code), zap.String("errmsg", api.Msg), zap.String("rid", api.RID), zap.String("cure", api.Cure()))
	return r.tell(telling{shard: shard, app: app, typ: EventAlert, at: now, data: Alert{App: app, Errcode: &api.Code, Errmsg: some(api.Msg),
		RID: some(api.RID), Meaning: e.Meaning, MeaningZH: e.MeaningZH, Cure: api.Cure(), CureZH: api.CureZH()}})
}

func backoff(attempts int) time.Duration {
	d := time.Second << min(attempts, 9)
	return min(d, 5*time.Minute) + rand.N(time.Second)
}

// untilNext is the time to the next full step of the clock, with some room so that not all come at once.
func untilNext(now time.Time, step time.Duration) time.Duration {
	return now.Truncate(step).Add(step).Sub(now) + rand.N(2*time.Second)
}
