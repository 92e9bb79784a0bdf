package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/wxrelay/wxrelay/relay/message"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/wechat"
	"go.uber.org/zap"
)

// sent: WeChat took it. The credit is spent, the msgid will name the receipt.
func (w *sending) sent(got wechat.Receipt) queue.Verdict {
	w.progress.MsgID, w.progress.Open = got.MsgID, 0
	w.progress.Answered(0, "ok", "")
	code := 0
	w.progress.To(StateSent, "wechat", w.c.Now, &code)
	ch := queue.Change{Operations: w.draft.spend(w.progress, w.c.ID)}
	if got.MsgID != "" {
		ch.Names = []queue.Name{{Name: msgidName(w.sender(), got.MsgID), Value: w.c.ID, For: w.r.rules.Load().KeepMessages}}
	}
	return w.done(ch, 0)
}

// ofOneAPI are the faults of an app that say nothing of its other APIs. The quotas (45009, 45011) are so too.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_getapiquota
var ofOneAPI = map[int]bool{48001: true, 43104: true}

// answered: WeChat refused in words. The table of errcodes says what that means for the message, the line and the app.
func (w *sending) answered(ctx context.Context, api *wechat.APIError) queue.Verdict {
	w.progress.Answered(api.Code, api.Msg, api.RID)
	if f := w.r.observe.Send; f != nil {
		f(w.draft.App, w.channel(), api.Code, string(api.Reaction()))
	}
	switch api.Reaction() {
	case wechat.ReactionRetry: // -1: WeChat says "again later", and may have taken it all the same (DECISIONS 10)
		return w.unanswered(ctx, "wechat_busy", w.left)
	case wechat.ReactionSerial: // 43108: another send to this openid is under way somewhere else
		w.progress.Waits("another send to this user is under way", w.c.Now, &api.Code)
		return queue.Snooze(serialPause(w.progress.Attempts), w.progress.Pack())
	case wechat.ReactionQuotaMinute:
		w.r.throttle.refused(w.route(), w.left)
		return w.pauseRoute(w.route(), untilNext(w.left, time.Minute), "WeChat takes no more this minute", nil)
	case wechat.ReactionQuotaDay:
		return w.pauseRoute(w.route(), quotaPause, "WeChat takes no more today", api)
	case wechat.ReactionConfig, wechat.ReactionToken, wechat.ReactionWait:
		at := w.route().whole()
		if ofOneAPI[api.Code] {
			at = w.route()
		}
		return w.pauseRoute(at, configPause, "the app needs its operator", api)
	}
	w.r.throttle.succeeded(w.route(), w.left)
	if api.Code == 40037 {
		w.r.templates.Doubt(w.sender())
	}
	if api.Reaction() == wechat.ReactionUnknown {
		w.r.log.Error("WeChat answered a code that is not in our table", zap.String("app", w.draft.App), zap.String("message", w.c.ID), zap.Int("errcode", api.Code), zap.String("errmsg", api.Msg), zap.String("rid", api.RID))
		w.r.alert(w.sender(), api, w.c.Now)
	}
	if w.progress.InDoubt() {
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
		w.r.retired.note(w.draft.App, w.channel(), time.Now())
		return w.refusedFor(StateFailed, "channel_retired")
	}
	return w.refusedFor(StateFailed, "wechat")
}

// noCredit: 43101. The line's credits are worth nothing, those of other messages too; a message that may wait goes back to
// waiting.
func (w *sending) noCredit(ctx context.Context, api *wechat.APIError) queue.Verdict {
	cause := strconv.Itoa(api.Code)
	void := w.draft.void(w.progress, w.c.ID, cause)
	w.unbook(ctx)
	if w.draft.waitsOn() == w.progress.Channel && (w.draft.Expires == 0 || w.c.Now.UnixMilli() < w.draft.Expires) {
		return w.hold("wechat "+cause, &api.Code, queue.Change{Operations: void})
	}
	if w.next() {
		return queue.Snooze(0, w.progress.Pack()).With(queue.Change{Operations: void})
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
	ch := queue.Change{Operations: w.draft.void(w.progress, w.c.ID, strconv.Itoa(api.Code))}
	if w.next() {
		return queue.Snooze(0, w.progress.Pack()).With(ch)
	}
	w.progress.To(StateFailed, "wechat", w.c.Now, w.progress.Errcode)
	return w.done(ch, api.Code)
}

// refusedFor ends a message that is known not to have reached the user, unless another channel is left.
func (w *sending) refusedFor(state, cause string) queue.Verdict {
	if w.progress.InDoubt() { // not known: an earlier call may have
		return w.unknown(cause)
	}
	back := w.draft.giveBack(w.progress, w.c.ID)
	w.r.returnFormID(w.draft, w.progress, w.c.ID)
	freed := w.r.releaseJobs(w.shard, w.draft, w.progress)
	if w.next() {
		return queue.Snooze(0, w.progress.Pack()).With(queue.Change{Operations: back, Jobs: freed})
	}
	w.progress.To(state, cause, w.c.Now, w.progress.Errcode)
	return w.done(queue.Change{Operations: back, Jobs: freed}, code(w.progress))
}

// next steps to the next channel of the chain.
func (w *sending) next() bool {
	if w.progress.Channel+1 >= len(w.draft.Channels) {
		return false
	}
	was := w.channel()
	w.progress.Channel++
	w.progress.Cred, w.progress.CredUntil = "", 0
	w.progress.To(StateQueued, was+" did not reach the user", w.c.Now, w.progress.Errcode)
	return true
}

// unanswered: a call left, not before since, and what became of it is not known. It is made again where that is safe, or once
// on the partner's word.
func (w *sending) unanswered(ctx context.Context, cause string, since time.Time) queue.Verdict {
	if w.progress.Open == 0 {
		w.progress.Open = since.UnixMilli()
	}
	switch {
	case w.expired():
	case w.repeatable():
		w.progress.Waits(cause+", sent again under the same client_msg_id", w.c.Now, w.progress.Errcode)
		return queue.Retry(backoff(w.c.Attempts), w.progress.Pack(), cause)
	case w.lastCredit(ctx):
		w.progress.Waits(cause+", sent again unless WeChat reports it", w.c.Now, w.progress.Errcode)
		return queue.Snooze(busyPause(w.progress.Attempts), w.progress.Pack())
	case w.draft.Retry && w.progress.Resent == 0:
		w.progress.Resent = w.c.Now.UnixMilli()
		w.progress.Waits(cause+", sent again as on_unknown asks", w.c.Now, w.progress.Errcode)
		return queue.Snooze(time.Second, w.progress.Pack())
	}
	return w.unknown(cause)
}

// unknown: whether the user has the message is not known. The credit stays reserved until WeChat's report or the deadline.
func (w *sending) unknown(cause string) queue.Verdict {
	w.progress.To(StateUnknown, cause, w.c.Now, w.progress.Errcode)
	m := view(w.c.ID, w.draft, w.progress)
	w.r.observeMessage(&m, code(w.progress), cause)
	deadline := w.c.Now.Add(w.r.rules.Load().UnknownDeadline) // whatever expires_at says: the message has left
	return queue.ParkAgain(openPark(w.draft.App, w.draft.OpenID), deadline, w.progress.Pack()).
		With(queue.Change{Operations: w.draft.count(w.was, StateUnknown), Jobs: w.r.notifyUnknown(w.shard, m, w.draft, w.c.Now, true)})
}

// close ends an unknown send at its deadline: it stays unknown, and its credit counts as spent, since a credit that may be
// gone at WeChat must not promise another send.
func (w *sending) close() queue.Verdict {
	w.progress.To(StateUnknown, "deadline", w.c.Now, w.progress.Errcode)
	return w.done(queue.Change{Operations: w.draft.spend(w.progress, w.c.ID)}, code(w.progress))
}

func (w *sending) finish(state, cause string, moves []queue.Operation, jobs ...queue.Job) queue.Verdict {
	w.progress.To(state, cause, w.c.Now, w.progress.Errcode)
	return w.done(queue.Change{Operations: moves, Jobs: jobs}, code(w.progress))
}

func (w *sending) done(ch queue.Change, errcode int) queue.Verdict {
	ch.Operations = append(ch.Operations, w.draft.count(w.was, w.progress.State)...)
	m := view(w.c.ID, w.draft, w.progress)
	ch.Jobs = append(ch.Jobs, w.r.notifyMessage(w.shard, m, w.draft, w.c.Now)...)
	w.r.observeMessage(&m, errcode, w.progress.Steps[len(w.progress.Steps)-1].Cause)
	return queue.Done(w.progress.Pack()).With(ch)
}

func code(s *progress) int {
	if s.Errcode == nil {
		return 0
	}
	return *s.Errcode
}

// rest lets the lanes of an app, or of one channel of it, rest, since WeChat refuses all that goes there and not the message;
// api is told to the operator. The message waits and goes again: each end of a rest is a probe.
func (w *sending) pauseRoute(at route, d time.Duration, why string, api *wechat.APIError) queue.Verdict {
	w.progress.Waits(why, w.c.Now, w.progress.Errcode)
	if w.r.throttle.pause(at, d, why, w.progress.Errcode, w.c.Now) {
		w.pauseLanes(at, d)
	}
	if api != nil {
		w.r.alert(w.sender(), api, w.c.Now)
	}
	return queue.Snooze(d, w.progress.Pack())
}

// pause keeps the lanes of a path from being claimed. An account that is at fault does not stop the mini-program for which it
// sends, nor does a channel those that stand in another one's lane.
func (w *sending) pauseLanes(at route, d time.Duration) {
	if at.app != w.draft.App {
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

// hold parks the message until the user's next accept.
func (w *sending) hold(cause string, errcode *int, ch queue.Change) queue.Verdict {
	w.progress.Booked = 0
	w.progress.To(StateHeld, cause, w.c.Now, errcode)
	ch.Operations = append(ch.Operations, w.draft.count(w.was, StateHeld)...)
	m := view(w.c.ID, w.draft, w.progress)
	ch.Jobs = append(ch.Jobs, w.r.notifyMessage(w.shard, m, w.draft, w.c.Now)...)
	return queue.ParkAgain(w.draft.parkName(w.progress.Channel), w.draft.heldUntil(w.r.rules.Load()), w.progress.Pack()).With(ch)
}

// unbook has the other messages that hold a credit of this line reserve again when they are sent: what WeChat said of this one
// takes theirs too. None of them is in hand, since messages to one user go one at a time. One that cannot be written to is told
// by WeChat.
func (w *sending) unbook(ctx context.Context) {
	park := w.draft.parkName(w.progress.Channel)
	for cursor := ""; ; {
		recs, next, err := w.r.q.List(ctx, userTag(w.draft.App, w.draft.OpenID), w.shard, cursor, 100)
		for _, rec := range recs {
			if rec.ID == w.c.ID || rec.State != "ready" && rec.State != "later" {
				continue
			}
			d, s, bad := read(rec.Body, rec.Note)
			if bad != nil || s.Booked != s.Channel+1 || !needs(d.Channels[s.Channel]) || d.parkName(s.Channel) != park || openRecord(&rec, &s) {
				continue
			}
			s.Booked = 0
			err = errors.Join(err, w.r.q.Commit(ctx, queue.Change{Shard: w.shard,
				Edit: &queue.Edit{ID: rec.ID, Version: rec.Version, Note: s.Pack(), To: queue.Stay}}).Err)
		}
		if err != nil {
			w.r.log.Warn("messages keep a credit that WeChat took", zap.String("app", w.draft.App), zap.String("openid", ShortID(w.draft.OpenID)), zap.Error(err))
		}
		if cursor = next; next == "" || err != nil {
			return
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

func (r *Relay) observeMessage(m *Message, errcode int, cause string) {
	if f := r.observe.Send; f != nil {
		f(m.App, m.Channel, errcode, m.State)
	}
	line := r.log.Check(zap.InfoLevel, "message")
	if line == nil {
		return
	}
	line.Write(zap.String("app", m.App), zap.String("message", m.ID), zap.String("openid", ShortID(m.OpenID)),
		zap.String("channel", m.Channel), zap.String("state", m.State), zap.String("cause", cause), zap.Int("errcode", errcode), zap.Int("attempts", m.Attempts))
}
