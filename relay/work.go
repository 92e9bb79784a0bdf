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
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/message"
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
	case c.Reclaims > s.Lapses && s.State != StateHeld: // what is held is not in hand to be sent
		s.Lapses = c.Reclaims
		s.Attempts++
		s.Silent()                                                                              // an answer kept from before is not this call's
		return w.unanswered(ctx, "the sender died with the call in hand", time.UnixMilli(s.At)) // not before its story's last step
	case w.expired() && s.InDoubt():
		return w.unknown("expires_at")
	case w.expired():
		r.returnFormID(&o, &s, c.ID)
		cause := "expires_at"
		if o.Expires == 0 {
			cause = "retention" // it was held as long as anything waits
		}
		return w.finish(StateExpired, cause, o.giveBack(&s, c.ID), r.freed(shard, &o, &s)...)
	case s.InDoubt() && !w.repeatable() && !w.granted() && !w.lastCredit(ctx):
		return w.unknown("too late to send it again")
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
	left  time.Time // when the call left, by the clock of c.Now, which stands at its answer then
}

func (w *sending) channel() string { return w.o.Channels[w.s.Channel] }

func (w *sending) expired() bool {
	return w.c.Expired || w.o.Expires != 0 && w.c.Now.UnixMilli() >= w.o.Expires
}

// repeatable tells whether an open call may be made again without harm: oa_template carries a client_msg_id, of which
// WeChat takes the same one once within 10 minutes.
func (w *sending) repeatable() bool {
	return w.channel() == ChannelOATemplate && w.openFor() < sameForWords
}

// granted tells whether an open call may be made again on the partner's word, taken not too long ago.
func (w *sending) granted() bool {
	return w.s.Resent != 0 && w.c.Now.Sub(time.UnixMilli(w.s.Resent)) < w.r.rules.Load().UnknownDeadline
}

// busyFor is how long a send that was answered -1 is repeated.
const busyFor = 2 * time.Minute

// lastCredit tells whether a subscribe message that was answered -1, and nothing else, may be sent again without harm: it holds
// the only credit of a one-time line, so WeChat answers 43101 to the repeat if it took the first call (DECISIONS 10). The
// ledger is read at each repeat; when it cannot be read, or the user accepted again meanwhile, the answer is no.
func (w *sending) lastCredit(ctx context.Context) bool {
	busy := w.s.Errcode != nil && *w.s.Errcode == -1 && w.s.Resent == 0
	if !busy || w.channel() != ChannelSubscribe || w.o.Kind != string(ledger.OneTime) || w.o.NoCredit == "try" || w.openFor() >= busyFor {
		return false
	}
	st, err := w.r.ledger.LineOf(ctx, w.o.App, w.o.OpenID, w.o.TemplateID)
	return err == nil && st.Credits == 0 && st.Reserved == 1
}

func (w *sending) openFor() time.Duration { return w.c.Now.Sub(time.UnixMilli(w.s.Open)) }

func (w *sending) call(ctx context.Context) queue.Verdict {
	if stay := w.r.paces.admit(w.path(), w.c.Now); stay.wait > 0 {
		w.s.Waits(stay.why, w.c.Now, stay.errcode)
		if stay.begins {
			w.pause(w.path(), stay.wait)
		}
		return queue.Snooze(stay.wait, w.s.Pack())
	}
	if why, wait, err := w.book(ctx); err != nil {
		return queue.Snooze(time.Second, w.s.Pack())
	} else if why != "" {
		return w.lacks(why, wait)
	}
	body, err := w.body(ctx)
	switch {
	case errors.Is(err, binding.ErrEmpty):
		return w.refusedFor(StateFailed, "no_form_id")
	case err != nil:
		return queue.Snooze(time.Second, w.s.Pack())
	}
	start := time.Now()
	got, err := w.r.wechat.Send(ctx, w.sender(), wechat.Channel(w.channel()), body)
	w.left, w.c.Now = w.c.Now, w.c.Now.Add(time.Since(start))
	var api *wechat.APIError
	switch {
	case err == nil:
		w.s.Attempts++
		w.r.paces.works(w.path(), w.left)
		return w.sent(got)
	case errors.Is(err, wechat.ErrNotLeft):
		return w.notLeft(ctx, err)
	case errors.As(err, &api):
		w.s.Attempts++
		return w.answered(ctx, api)
	case errors.Is(err, wechat.ErrNoAnswer):
		w.s.Attempts++
		w.s.Silent()
		return w.unanswered(ctx, "no_answer", w.left)
	}
	// The app left the config, or the body cannot be sent as it is: nothing left, and it never will.
	w.r.log.Error("send not possible", zap.String("app", w.o.App), zap.String("message", w.c.ID), zap.Error(err))
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
		w.s.Answered(api.Code, api.Msg, api.RID)
		return w.rest(w.path().whole(), configPause, "no_token", api)
	}
	if w.c.Attempts >= maxNotLeft {
		return w.refusedFor(StateFailed, "wechat_unreachable")
	}
	w.s.Waits("not_left", w.c.Now, w.s.Errcode)
	return queue.Retry(backoff(w.c.Attempts), w.s.Pack(), "not_left")
}

// book takes what the channel needs, unless it was taken before: when the message was accepted, or released. why is the
// ledger's refusal, wait how long it holds where time ends it. Should we die between this and the call, the next worker counts it as a call without an answer.
func (w *sending) book(ctx context.Context) (why string, wait time.Duration, err error) {
	if !needs(w.channel()) || w.s.Booked == w.s.Channel+1 {
		return "", 0, nil
	}
	res := w.r.q.Commit(ctx, queue.Change{Shard: w.shard, Operations: w.o.reserve(w.s.Channel, w.c.ID)})
	if res.Err != nil {
		return "", 0, res.Err
	}
	if res.Refused {
		why, wait = refusalOf(res)
		return why, wait, nil
	}
	w.s.Booked = w.s.Channel + 1
	return "", 0, nil
}

// lacks: the user gives nothing for this channel at the time of sending. The message waits where it asks for that.
func (w *sending) lacks(why string, wait time.Duration) queue.Verdict {
	switch {
	case w.s.InDoubt() || w.o.waitsOn() != w.s.Channel:
		return w.refusedFor(StateRefused, why)
	case wait > 0: // no accept ends a period
		w.s.Waits(why, w.c.Now, w.s.Errcode)
		return queue.Snooze(wait, w.s.Pack())
	}
	again := queue.Job{ID: w.r.q.NewID("rel_", w.shard), Lane: laneRelease + ":" + w.o.App, // for a credit that came meanwhile
		Body: encode(wordsOrder{Park: w.o.parkName(w.s.Channel)})}
	return w.hold(why, w.s.Errcode, queue.Change{Jobs: []queue.Job{again}})
}

// hold parks the message until the user's next accept.
func (w *sending) hold(cause string, errcode *int, ch queue.Change) queue.Verdict {
	w.s.Booked = 0
	w.s.To(StateHeld, cause, w.c.Now, errcode)
	m := view(w.c.ID, w.o, w.s)
	ch.Jobs = append(ch.Jobs, w.r.tellMessage(w.shard, m, w.o.Partner, w.c.Now)...)
	return queue.ParkAgain(w.o.parkName(w.s.Channel), w.o.heldUntil(w.r.rules.Load()), w.s.Pack()).With(ch)
}

// unbook has the other messages that hold a credit of this line reserve again when they are sent: what WeChat said of this one
// takes theirs too. None of them is in hand, since messages to one user go one at a time. One that cannot be written to is told
// by WeChat.
func (w *sending) unbook(ctx context.Context) {
	park := w.o.parkName(w.s.Channel)
	for cursor := ""; ; {
		recs, next, err := w.r.q.List(ctx, userTag(w.o.App, w.o.OpenID), w.shard, cursor, 100)
		for _, rec := range recs {
			if rec.ID == w.c.ID || rec.State != "ready" && rec.State != "later" {
				continue
			}
			o, s, bad := read(rec.Body, rec.Note)
			if bad != nil || s.Booked != s.Channel+1 || !needs(o.Channels[s.Channel]) || o.parkName(s.Channel) != park || openRecord(&rec, &s) {
				continue
			}
			s.Booked = 0
			err = errors.Join(err, w.r.q.Commit(ctx, queue.Change{Shard: w.shard,
				Edit: &queue.Edit{ID: rec.ID, Version: rec.Version, Note: s.Pack(), To: queue.Stay}}).Err)
		}
		if err != nil {
			w.r.log.Warn("messages keep a credit that WeChat took", zap.String("app", w.o.App), zap.String("openid", ShortID(w.o.OpenID)), zap.Error(err))
		}
		if cursor = next; next == "" || err != nil {
			return
		}
	}
}

// sender is the app whose token is used.
func (w *sending) sender() string { return w.o.sender(w.s.Channel) }

func (w *sending) path() path { return path{w.sender(), w.channel()} }

// ofOneAPI are the faults of an app that say nothing of its other APIs. The quotas (45009, 45011) are so too.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_getapiquota
var ofOneAPI = map[int]bool{48001: true, 43104: true}

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
func (w *sending) sent(got wechat.Receipt) queue.Verdict {
	w.s.MsgID, w.s.Open = got.MsgID, 0
	w.s.Answered(0, "ok", "")
	code := 0
	w.s.To(StateSent, "wechat", w.c.Now, &code)
	ch := queue.Change{Operations: w.o.spend(w.s, w.c.ID)}
	if got.MsgID != "" {
		ch.Names = []queue.Name{{Name: msgidName(w.sender(), got.MsgID), Value: w.c.ID, For: w.r.rules.Load().KeepMessages}}
	}
	return w.done(ch, 0)
}

// answered: WeChat refused in words. The table of errcodes says what that means for the message, the line and the app.
func (w *sending) answered(ctx context.Context, api *wechat.APIError) queue.Verdict {
	w.s.Answered(api.Code, api.Msg, api.RID)
	if f := w.r.observe.Send; f != nil {
		f(w.o.App, w.channel(), api.Code, string(api.Reaction()))
	}
	switch api.Reaction() {
	case wechat.ReactionRetry: // -1: WeChat says "again later", and may have taken it all the same (DECISIONS 10)
		return w.unanswered(ctx, "wechat_busy", w.left)
	case wechat.ReactionSerial: // 43108: another send to this openid is under way somewhere else
		w.s.Waits("another send to this user is under way", w.c.Now, &api.Code)
		return queue.Snooze(serialPause(w.s.Attempts), w.s.Pack())
	case wechat.ReactionQuotaMinute:
		w.r.paces.refused(w.path(), w.left)
		return w.rest(w.path(), untilNext(w.left, time.Minute), "WeChat takes no more this minute", nil)
	case wechat.ReactionQuotaDay:
		return w.rest(w.path(), quotaPause, "WeChat takes no more today", api)
	case wechat.ReactionConfig, wechat.ReactionToken, wechat.ReactionWait:
		at := w.path().whole()
		if ofOneAPI[api.Code] {
			at = w.path()
		}
		return w.rest(at, configPause, "the app needs its operator", api)
	}
	w.r.paces.works(w.path(), w.left)
	if api.Code == 40037 {
		w.r.templates.Doubt(w.sender())
	}
	if api.Reaction() == wechat.ReactionUnknown {
		w.r.log.Error("WeChat answered a code that is not in our table", zap.String("app", w.o.App), zap.String("message", w.c.ID), zap.Int("errcode", api.Code), zap.String("errmsg", api.Msg), zap.String("rid", api.RID))
		w.r.alert(w.sender(), api, w.c.Now)
	}
	if w.s.InDoubt() {
		return w.unknown("refused when sent again")
	}
	switch api.Reaction() {
	case wechat.ReactionLedger:
		return w.noCredit(ctx, api)
	case wechat.ReactionBanned:
		return w.banned(ctx, api)
	case wechat.ReactionFormID:
		return w.formIDRefused(api)
	case wechat.ReactionRetired:
		w.r.retired.note(w.o.App, w.channel(), time.Now())
		return w.refusedFor(StateFailed, "channel_retired")
	}
	return w.refusedFor(StateFailed, "wechat")
}

// noCredit: 43101. The line's credits are worth nothing, those of other messages too; a message that may wait goes back to
// waiting.
func (w *sending) noCredit(ctx context.Context, api *wechat.APIError) queue.Verdict {
	cause := strconv.Itoa(api.Code)
	void := w.o.void(w.s, w.c.ID, cause)
	w.unbook(ctx)
	if w.o.waitsOn() == w.s.Channel && (w.o.Expires == 0 || w.c.Now.UnixMilli() < w.o.Expires) {
		return w.hold("wechat "+cause, &api.Code, queue.Change{Operations: void})
	}
	if w.next() {
		return queue.Snooze(0, w.s.Pack()).With(queue.Change{Operations: void})
	}
	if api.Code != 43101 {
		return w.finish(StateFailed, "wechat", void)
	}
	return w.finish(StateRefused, "wechat", void)
}

// banned: 43107. The template or the account may not send: nobody's next accept helps, so the message does not wait, and what
// the line held is worth nothing. The app's other templates go on.
func (w *sending) banned(ctx context.Context, api *wechat.APIError) queue.Verdict {
	w.r.alert(w.sender(), api, w.c.Now)
	w.unbook(ctx)
	ch := queue.Change{Operations: w.o.void(w.s, w.c.ID, strconv.Itoa(api.Code))}
	if w.next() {
		return queue.Snooze(0, w.s.Pack()).With(ch)
	}
	w.s.To(StateFailed, "wechat", w.c.Now, w.s.Errcode)
	return w.done(ch, api.Code)
}

// refusedFor ends a message that is known not to have reached the user, unless another channel is left.
func (w *sending) refusedFor(state, cause string) queue.Verdict {
	if w.s.InDoubt() { // not known: an earlier call may have
		return w.unknown(cause)
	}
	back := w.o.giveBack(w.s, w.c.ID)
	w.r.returnFormID(w.o, w.s, w.c.ID)
	freed := w.r.freed(w.shard, w.o, w.s)
	if w.next() {
		return queue.Snooze(0, w.s.Pack()).With(queue.Change{Operations: back, Jobs: freed})
	}
	w.s.To(state, cause, w.c.Now, w.s.Errcode)
	return w.done(queue.Change{Operations: back, Jobs: freed}, code(w.s))
}

// next steps to the next channel of the chain.
func (w *sending) next() bool {
	if w.s.Channel+1 >= len(w.o.Channels) {
		return false
	}
	was := w.channel()
	w.s.Channel++
	w.s.Cred, w.s.CredUntil = "", 0
	w.s.To(StateQueued, was+" did not reach the user", w.c.Now, w.s.Errcode)
	return true
}

// unanswered: a call left, not before since, and what became of it is not known. It is made again where that is safe, or once
// on the partner's word.
func (w *sending) unanswered(ctx context.Context, cause string, since time.Time) queue.Verdict {
	if w.s.Open == 0 {
		w.s.Open = since.UnixMilli()
	}
	switch {
	case w.expired():
	case w.repeatable():
		w.s.Waits(cause+", sent again under the same client_msg_id", w.c.Now, w.s.Errcode)
		return queue.Retry(backoff(w.c.Attempts), w.s.Pack(), cause)
	case w.lastCredit(ctx):
		w.s.Waits(cause+", sent again unless WeChat reports it", w.c.Now, w.s.Errcode)
		return queue.Snooze(busyPause(w.s.Attempts), w.s.Pack())
	case w.o.Retry && w.s.Resent == 0:
		w.s.Resent = w.c.Now.UnixMilli()
		w.s.Waits(cause+", sent again as on_unknown asks", w.c.Now, w.s.Errcode)
		return queue.Snooze(time.Second, w.s.Pack())
	}
	return w.unknown(cause)
}

// unknown: whether the user has the message is not known. The credit stays reserved until WeChat's report or the deadline.
func (w *sending) unknown(cause string) queue.Verdict {
	w.s.To(StateUnknown, cause, w.c.Now, w.s.Errcode)
	m := view(w.c.ID, w.o, w.s)
	w.r.observeMessage(&m, code(w.s), cause)
	deadline := w.c.Now.Add(w.r.rules.Load().UnknownDeadline) // whatever expires_at says: the message has left
	return queue.ParkAgain(openPark(w.o.App, w.o.OpenID), deadline, w.s.Pack()).
		With(queue.Change{Jobs: w.r.tellUnknown(w.shard, m, w.o.Partner, w.c.Now, true)})
}

// close ends an unknown send at its deadline: it stays unknown, and its credit counts as spent, since a credit that may be
// gone at WeChat must not promise another send.
func (w *sending) close() queue.Verdict {
	w.s.To(StateUnknown, "deadline", w.c.Now, w.s.Errcode)
	return w.done(queue.Change{Operations: w.o.spend(w.s, w.c.ID)}, code(w.s))
}

func (w *sending) finish(state, cause string, moves []queue.Operation, jobs ...queue.Job) queue.Verdict {
	w.s.To(state, cause, w.c.Now, w.s.Errcode)
	return w.done(queue.Change{Operations: moves, Jobs: jobs}, code(w.s))
}

func (w *sending) done(ch queue.Change, errcode int) queue.Verdict {
	m := view(w.c.ID, w.o, w.s)
	ch.Jobs = append(ch.Jobs, w.r.tellMessage(w.shard, m, w.o.Partner, w.c.Now)...)
	w.r.observeMessage(&m, errcode, w.s.Steps[len(w.s.Steps)-1].Cause)
	return queue.Done(w.s.Pack()).With(ch)
}

func code(s *story) int {
	if s.Errcode == nil {
		return 0
	}
	return *s.Errcode
}

// rest lets the lanes of an app, or of one channel of it, rest, since WeChat refuses all that goes there and not the message;
// api is told to the operator. The message waits and goes again: each end of a rest is a probe.
func (w *sending) rest(at path, d time.Duration, why string, api *wechat.APIError) queue.Verdict {
	w.s.Waits(why, w.c.Now, w.s.Errcode)
	if w.r.paces.rested(at, d, why, w.s.Errcode, w.c.Now) {
		w.pause(at, d)
	}
	if api != nil {
		w.r.alert(w.sender(), api, w.c.Now)
	}
	return queue.Snooze(d, w.s.Pack())
}

// pause keeps the lanes of a path from being claimed. An account that is at fault does not stop the mini-program for which it
// sends, nor does a channel those that stand in another one's lane.
func (w *sending) pause(at path, d time.Duration) {
	if at.app != w.o.App {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, p := range priorities {
		for _, ch := range message.Channels {
			if at.channel != "" && at.channel != ch {
				continue
			}
			if err := w.r.q.Pause(ctx, sendLane(at.app, ch, p), d); err != nil {
				w.r.log.Warn("lane not paused", zap.String("app", at.app), zap.Error(err))
			}
		}
	}
}

// serialPause is how long to wait for another's send to the same user: a moment, longer when it does not end.
func serialPause(attempts int) time.Duration {
	d := 300 * time.Millisecond << min(max(attempts-3, 0), 7)
	return d + rand.N(d+400*time.Millisecond)
}

// busyPause is how long a send that was answered -1 waits for WeChat's report before it is repeated.
func busyPause(attempts int) time.Duration {
	return min(5*time.Second<<min(max(attempts-1, 0), 3), 30*time.Second) + rand.N(time.Second)
}

func backoff(attempts int) time.Duration {
	d := time.Second << min(attempts, 9)
	return min(d, 5*time.Minute) + rand.N(time.Second)
}

// untilNext is the time to the next full step of the clock, with some room so that not all come at once.
func untilNext(now time.Time, step time.Duration) time.Duration {
	return now.Truncate(step).Add(step).Sub(now) + rand.N(2*time.Second)
}
