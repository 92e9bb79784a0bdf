package relay

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/message"
	"github.com/wxrelay/wxrelay/relay/queue"
)

// receiptPatience is how long a receipt looks for its message; past it, it belongs to a send that was not ours. It may come
// before the answer to its own send, and after a sender's death the message is not open before the lease has lapsed and
// somebody has looked.
func (r *Relay) receiptPatience() time.Duration { return max(3*time.Minute, 2*r.q.Lease()) }

// receiptPause is how long a receipt waits before it looks again: often enough to find an open send before its deadline.
func (r *Relay) receiptPause(waited time.Duration) time.Duration {
	switch {
	case waited < 2*time.Second:
		return 100 * time.Millisecond
	case waited < 10*time.Second:
		return min(time.Second, r.rules.Load().UnknownDeadline/3)
	}
	return min(10*time.Second, r.rules.Load().UnknownDeadline/3)
}

// receipt is WeChat's report about one send.
type receipt struct {
	channel         string
	template, msgid string
	ok              bool
	status          string
	code            *int      // WeChat's ErrorCode of a failure, where it gives one
	came            time.Time // when it came first
}

func receiptsOf(ev *callback.Event) []receipt {
	if ev.Event == wxTemplateSent {
		return []receipt{{channel: ChannelOATemplate, msgid: ev.MsgID, ok: strings.HasPrefix(strings.ToLower(ev.Status), "success"), status: ev.Status}}
	}
	out := make([]receipt, 0, len(ev.Subscribes))
	for _, s := range ev.Subscribes {
		rc := receipt{channel: ChannelSubscribe, template: s.TemplateID, msgid: s.MsgID, status: s.ErrorStatus,
			ok: (s.ErrorCode == "" || s.ErrorCode == "0") && !strings.HasPrefix(strings.ToLower(s.ErrorStatus), "fail")}
		if code, err := strconv.Atoi(s.ErrorCode); err == nil && code != 0 {
			rc.code = &code
		}
		out = append(out, rc)
	}
	return out
}

// settle joins receipts with their messages; settled is false while one has none yet. foreign are those that cannot be about
// a message of ours, as things stand.
func (r *Relay) settle(ctx context.Context, shard int, app string, ev *callback.Event, came, now time.Time) (settled bool, foreign []receipt, err error) {
	settled = true
	for _, rc := range receiptsOf(ev) {
		rc.came = came
		id, err := r.q.Lookup(ctx, shard, msgidName(app, rc.msgid))
		ours := true
		if errors.Is(err, queue.ErrNotFound) {
			var sends []openCall
			id, sends, ours, err = r.unnamed(ctx, shard, app, ev.OpenID, rc)
			if err == nil && len(sends) > 1 {
				one, err := r.settleAlike(ctx, shard, app, ev.OpenID, rc, sends, now)
				if err != nil {
					return false, nil, err
				}
				settled = settled && one
				continue
			}
		}
		switch {
		case err != nil:
			return false, nil, err
		case id == "":
			settled = false
			if !ours {
				foreign = append(foreign, rc)
			}
			continue
		}
		if err := r.settleOne(ctx, app, id, rc, now); err != nil {
			return false, nil, err
		}
	}
	return settled, foreign, nil
}

// elsewhere books receipts of sends that were not ours: somebody else used credits of the user's that we count. One from
// before what is remembered of our own sends may be ours all the same.
func (r *Relay) elsewhere(app string, ev *callback.Event, name string, foreign []receipt, now time.Time) (moves []queue.Operation) {
	if age := now.Sub(time.Unix(ev.CreateTime, 0)); age > r.rules.Load().KeepMessages {
		return nil
	}
	for _, rc := range foreign {
		if rc.ok && rc.channel == ChannelSubscribe && ev.OpenID != "" {
			l := ledger.Subscription{App: app, OpenID: ev.OpenID, TemplateID: rc.template}
			moves = append(moves, operation(ledger.SpentElsewhere(l, name+rc.msgid)))
		}
	}
	return moves
}

func msgidName(app, msgid string) string { return "m/" + app + "/" + msgid }

// unnamed finds the message of a receipt whose msgid is not known on the shard of the user it is about, or the several sends
// that it may be about. ours: it is, or may be, about a message of ours even when none was found.
func (r *Relay) unnamed(ctx context.Context, shard int, app, openid string, rc receipt) (id string, sends []openCall, ours bool, err error) {
	name := msgidName(app, rc.msgid)
	if rc.channel == ChannelOATemplate { // sent for a mini-program, it lives with that one's user
		for n := range r.q.Shards() {
			if id, err := r.q.Lookup(ctx, n, name); !errors.Is(err, queue.ErrNotFound) {
				return id, nil, true, err
			}
		}
	}
	sends, ours, err = r.openSends(ctx, shard, app, openid, rc)
	if len(sends) > 0 { // unless its answer came meanwhile
		if named, err := r.q.Lookup(ctx, shard, name); err == nil {
			return named, nil, true, nil
		}
	}
	var left []openCall // before the receipt came
	for _, s := range sends {
		if s.since <= rc.came.UnixMilli() {
			left = append(left, s)
		}
	}
	switch {
	case len(left) == 1:
		return left[0].id, nil, true, err
	case len(left) == 0:
		return "", nil, ours, err
	case rc.channel == ChannelOATemplate: // of which each has its own message's name for itself
		return "", nil, ours, err
	}
	return "", sends, ours, err
}

// openPark is where the messages of a user wait whose send has no answer: for a receipt, or their deadline.
func openPark(app, openid string) string { return "u/" + app + "/" + openid }

// openSends finds the sends that a receipt may be about whose msgid we never learned: the open ones of that line, parked as
// unknown or about to be repeated. Where it may be another one's, there are none: one
// that is that a worker holds, since a receipt may come before its answer; one that was repeated, since a receipt of its first
// call names nothing we know; one whose deadline was not long ago. ours: as unnamed has it.
func (r *Relay) openSends(ctx context.Context, shard int, app, openid string, rc receipt) (sends []openCall, ours bool, err error) {
	all, more, err := r.q.List(ctx, userTag(app, openid), shard, "", 50)
	if err != nil {
		return nil, true, err
	}
	ours = more != ""
	parked, err := r.waiting(ctx, shard, openPark(app, openid))
	if err != nil {
		return nil, true, err
	}
	for _, rec := range append(all, parked...) {
		d, s, err := read(rec.Body, rec.Note)
		if err != nil || d.sender(s.Channel) != app || d.Channels[s.Channel] != rc.channel || rc.template != "" && d.TemplateID != rc.template {
			continue
		}
		// one that WeChat took without notification a msgid, that closed before its report, or that was sent twice
		ours = ours || s.Resent != 0 || s.MsgID == "" && (s.State == StateSent || s.State == StateUnknown)
		same := func(c openCall) bool { return c.id == rec.ID }
		switch {
		case rec.State == "leased":
			return nil, true, nil
		case slices.ContainsFunc(sends, same) || s.MsgID == rc.msgid && rc.msgid != "":
		case rec.State == "ended":
			if s.Open <= rc.came.UnixMilli() && r.doubtful(&s, rc.came) {
				return nil, true, nil
			}
		case !openRecord(&rec, &s) || s.MsgID != "":
		default:
			sends = append(sends, openCall{rec.ID, s.Open, s.Resent != 0 || s.Attempts > 1})
		}
	}
	return sends, ours || len(sends) > 0, nil
}

// doubtful tells whether a receipt without a known msgid may be about a message that has ended: a call of it was never heard of.
func (r *Relay) doubtful(s *progress, came time.Time) bool {
	recent := came.Sub(time.UnixMilli(s.At)) < r.rules.Load().UnknownDeadline+r.receiptPatience()
	return recent && (s.Resent != 0 || s.State == StateUnknown)
}

// settleOne writes a receipt into its message. A message that changed meanwhile is read again; one that has its end keeps it.
func (r *Relay) settleOne(ctx context.Context, app, id string, rc receipt, now time.Time) error {
	for {
		rec, err := r.q.Get(ctx, id)
		if errors.Is(err, queue.ErrNotFound) {
			return nil // retention was faster
		}
		if err != nil {
			return err
		}
		d, s, err := read(rec.Body, rec.Note)
		if err != nil || message.Ended(s.State) {
			return nil //nolint:nilerr // the worker buries a message that cannot be read
		}
		if rec.State == "leased" {
			return queue.ErrInHand // its own answer is being noted this moment
		}
		shard, err := queue.ShardOf(id)
		if err != nil {
			return err
		}
		open, was := openRecord(&rec, &s), s.State
		state, cause := StateDelivered, "wechat_report"
		switch {
		case !rc.ok && s.Resent != 0 && open: // one of two calls failed; the other one may have reached the user
			return nil
		case !rc.ok && s.Resent != 0:
			state, cause = StateUnknown, "wechat_report about the repeat: "+rc.status
		case !rc.ok:
			state, cause = StateFailed, "wechat_report: "+rc.status
			s.Errcode, s.Errmsg, s.RID = rc.code, rc.status, ""
		case open: // it was taken, whatever was said to a repeat
			s.Silent()
		}
		s.MsgID, s.Open = rc.msgid, 0
		s.To(state, cause, now, rc.code)
		m := view(id, &d, &s)
		ch := queue.Change{Shard: shard, Edit: &queue.Edit{ID: id, Version: rec.Version, Note: s.Pack(), To: queue.Stay},
			Jobs: r.notifyMessage(shard, m, &d, now)}
		if open { // the report proves that WeChat took it: the credit is spent
			ch.Edit.To = queue.End
			if rc.msgid != "" { // should this worker die now, the next one finds the message by its name
				ch.Names = []queue.Name{{Name: msgidName(app, rc.msgid), Value: id, For: r.rules.Load().KeepMessages}}
			}
			ch.Operations = d.spend(&s, id)
		}
		ch.Operations = append(ch.Operations, d.count(was, state)...)
		err = r.q.Commit(ctx, ch).Err
		if errors.Is(err, queue.ErrStale) || errors.Is(err, queue.ErrInHand) {
			continue
		}
		if err == nil {
			r.observeMessage(&m, code(&s), cause)
		}
		if errors.Is(err, queue.ErrNotFound) {
			return nil
		}
		return err
	}
}
