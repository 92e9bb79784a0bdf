package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// rememberPush is how long the same proven push is known again, at least: WeChat repeats within seconds, operators within a
// day. Whoever recorded one can replay it for as long as its timestamp is taken, so it is known a little longer than that.
const (
	rememberPush = 24 * time.Hour
	replayMargin = 5 * time.Minute // the clocks' difference
)

func (a App) remembers() time.Duration { return max(rememberPush, a.PushMaxAge+replayMargin) }

// WeChat's names of the events the journeys act on.
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/subscribe-message.html
const (
	wxPopup        = "subscribe_msg_popup_event"
	wxChange       = "subscribe_msg_change_event"
	wxSent         = "subscribe_msg_sent_event"
	wxTemplateSent = "TEMPLATESENDJOBFINISH"
	wxRevoke       = "user_authorization_revoke"
	wxCancellation = "user_authorization_cancellation"
	wxEnter        = "user_enter_tempsession"
	wxFollow       = "subscribe"
	wxVerifyTicket = "component_verify_ticket"
)

// Accept takes a proven push: remembered, booked and queued in one change, or not at all. It is the [callback.Sink].
// The same push again changes nothing and is acknowledged again.
func (r *Relay) Accept(ctx context.Context, p *callback.Push) ([]byte, error) {
	ctx, span := r.BeginSpan(ctx, "", SpanPush)
	if span == nil {
		return r.acceptPush(ctx, p)
	}
	reply, err := r.acceptPush(ctx, p)
	span.End(err != nil, zap.String("app", p.App), zap.String("msg_type", p.Event.MsgType), zap.String("event", p.Event.Event))
	return reply, err
}

func (r *Relay) acceptPush(ctx context.Context, p *callback.Push) ([]byte, error) {
	rules := r.rules.Load()
	app, ok := rules.Apps[p.App]
	if !ok {
		return nil, fmt.Errorf("push for %q, which is not in the config", p.App)
	}
	if c := p.Event.Component; c != nil && c.InfoType == wxVerifyTicket { // a secret of the platform's: neither kept nor told
		r.observePush(p, "accepted")
		return nil, nil
	}
	shard := r.q.Shard(p.App, p.Event.OpenID)
	jobs := r.notify(notification{shard: shard, app: p.App, typ: EventPush, at: time.Now(), trace: r.traceOf(ctx), data: pushReceived(p.App, string(p.Format), p.Raw, &p.Event)})
	if job, ok := r.follow(app, shard, p, r.traceOf(ctx)); ok {
		jobs = append(jobs, job)
	}
	res := r.q.Commit(ctx, queue.Change{Shard: shard, Once: "p/" + p.App + "/" + p.ID, OnceFor: app.remembers(),
		Operations: r.book(rules, p), Jobs: jobs})
	switch {
	case errors.Is(res.Err, queue.ErrTaken):
		r.observePush(p, "duplicate")
	case res.Err != nil:
		r.observePush(p, "not_stored")
		return nil, res.Err
	default:
		r.observePush(p, "accepted")
	}
	return r.reply(ctx, app, p), nil
}

// book turns a push into movements of the ledger. A doubtful push moves nothing: it may hold a user's words as fields.
func (r *Relay) book(rules *Rules, p *callback.Push) []queue.Operation {
	ev := &p.Event
	if ev.Doubtful {
		return nil
	}
	switch ev.Event {
	case wxPopup, wxChange:
		scene := "popup"
		if ev.Event == wxChange {
			scene = "change"
		}
		moves := make([]queue.Operation, 0, len(ev.Subscribes))
		for i, s := range ev.Subscribes {
			line := ledger.Subscription{App: p.App, OpenID: ev.OpenID, TemplateID: s.TemplateID, Kind: r.kind(p.App, s.TemplateID)}
			moves = append(moves, operation(ledger.Answer(line, rules.Apps[p.App].Consent, s.Status, scene, p.ID+strconv.Itoa(i), ev.CreateTime)))
		}
		return moves
	case wxRevoke, wxCancellation:
		if ev.OpenID == "" {
			return nil // it names nobody
		}
		return []queue.Operation{operation(ledger.Forget(p.App, ev.OpenID))}
	}
	if t, ok := triggerOf(rules.Apps[p.App], ev); ok && ev.OpenID != "" {
		return []queue.Operation{allowance(ledger.GrantAllowance(p.App, ev.OpenID, t, ev.CreateTime))}
	}
	return nil
}

// follow is the job that does what a push asks for beyond being passed on; most ask for nothing. Where only held messages may
// have waited for it, the job is made when some do.
func (r *Relay) follow(app App, shard int, p *callback.Push, trace string) (queue.Job, bool) {
	ev := &p.Event
	job := queue.Job{Lane: lanePush + ":" + p.App, Replies: true}
	switch {
	case ev.Doubtful:
		r.log.Warn("a push that cannot be read without doubt is passed on and changes nothing", zap.String("app", p.App), zap.String("push", p.ID))
		return job, false
	case ev.Event == wxPopup || ev.Event == wxChange:
		notified := len(ev.Subscribes) > maxParkNames
		for _, s := range ev.Subscribes {
			r.templates.Expect(p.App, s.TemplateID)
			notified = notified || len(r.subscribers(p.App, subscriptionEvent(s.Status, ev.Event == wxChange))) > 0
			job.Parked = append(job.Parked, subscriptionPark(ledger.Subscription{App: p.App, OpenID: ev.OpenID, TemplateID: s.TemplateID}))
		}
		if len(ev.Subscribes) == 0 {
			return job, false
		}
		if notified {
			job.Parked = nil
		}
	case ev.Event == wxSent || ev.Event == wxTemplateSent || ev.Event == wxRevoke || ev.Event == wxCancellation:
	case ev.Event == wxFollow && app.Kind == wechat.KindOfficialAccount:
	default:
		if _, ok := triggerOf(app, ev); !ok {
			return job, false
		}
		job.Parked = []string{allowancePark(p.App, ev.OpenID)}
	}
	job.ID, job.Body = r.q.NewID("psh_", shard), encodePush(p, trace)
	return job, true
}

// maxParkNames is how many park names a job can depend on.
const maxParkNames = 255

// encodePush is a push as its job carries it: app, then, if its trace is recorded, a space and the traceparent; on the next line
// the message byte for byte.
func encodePush(p *callback.Push, trace string) []byte {
	b := append(make([]byte, 0, len(p.App)+len(trace)+2+len(p.Raw)), p.App...)
	if trace != "" {
		b = append(append(b, ' '), trace...)
	}
	return append(append(b, '\n'), p.Raw...)
}

func decodePush(body []byte) (app, trace string, raw []byte, err error) {
	head, raw, ok := bytes.Cut(body, []byte("\n"))
	if !ok {
		return "", "", nil, errors.New("push job without its header")
	}
	app, trace, _ = strings.Cut(string(head), " ")
	return app, trace, raw, nil
}

// pushNote is how far a push has been followed.
type pushNote struct {
	Since int64 `json:"since"` // Unix ms: when looking for the message of a receipt began
}

// followPush does what a push asks for once it is safe and passed on: lines that moved are told, receipts settle their
// messages, held messages leave. Every part may be repeated after a crash.
func (r *Relay) followPush(ctx context.Context, c *queue.Claimed) queue.Verdict {
	app, trace, raw, err := decodePush(c.Body)
	if err != nil {
		return queue.Bury("malformed", c.Note)
	}
	ctx, span := r.resume(ctx, trace, SpanFollow)
	if span != nil {
		defer func() { span.End(false, zap.String("app", app)) }()
	}
	_, ev, err := callback.Decode(raw)
	if err != nil { // it was decoded before it was accepted
		return queue.Bury("malformed", c.Note)
	}
	shard, err := queue.ShardOf(c.ID)
	if err != nil {
		return queue.Bury("malformed", c.Note)
	}
	var note pushNote
	var replies []string
	if len(c.Note) > 0 && c.Note[0] == '{' {
		if err := json.Unmarshal(c.Note, &note); err != nil {
			return queue.Bury("malformed", c.Note)
		}
	} else if len(c.Note) > 0 {
		replies = strings.Split(string(c.Note), "\n")
	}

	var jobs []queue.Job
	var moves []queue.Operation
	switch ev.Event {
	case wxPopup, wxChange:
		told, err := r.notifySubscriptions(ctx, shard, app, &ev, replies, c.Created)
		if err != nil {
			return queue.Snooze(time.Second, c.Note)
		}
		for _, s := range ev.Subscribes {
			if _, err := r.release(ctx, shard, subscriptionPark(ledger.Subscription{App: app, OpenID: ev.OpenID, TemplateID: s.TemplateID}), c.Now); err != nil {
				return queue.Snooze(time.Second, c.Note)
			}
		}
		jobs = append(jobs, told...)
	case wxSent, wxTemplateSent:
		settled, foreign, err := r.settle(ctx, shard, app, &ev, c.Created, c.Now)
		if err != nil || !settled {
			since := note.Since
			if since == 0 {
				since = c.Now.UnixMilli()
			}
			if waited := c.Now.Sub(time.UnixMilli(since)); err != nil || waited < r.receiptPatience() {
				return queue.Snooze(r.receiptPause(c.Now.Sub(time.UnixMilli(since))), encode(pushNote{Since: since}))
			}
			r.log.Info("receipt of a message we did not send", zap.String("app", app), zap.String("openid", ShortID(ev.OpenID)))
			moves = r.elsewhere(app, &ev, c.ID, foreign, c.Now)
		}
	case wxFollow:
		if a, _ := r.App(app); a.Kind == wechat.KindOfficialAccount {
			if err := r.learnUnionID(ctx, app, ev.OpenID); err != nil && c.Now.Sub(c.Created) < r.receiptPatience() {
				return queue.Snooze(5*time.Second, encode(pushNote{Since: note.Since}))
			}
		}
	case wxRevoke, wxCancellation:
		if ev.OpenID == "" {
			r.log.Warn("a revocation names nobody", zap.String("app", app), zap.String("event", ev.Event))
			break
		}
		e := erasure{App: app, OpenID: ev.OpenID, Reason: ev.Event}
		left, err := r.erase(ctx, c.ID, &e, c.Created)
		if err != nil {
			return queue.Snooze(time.Second, c.Note)
		}
		if left {
			jobs = append(jobs, r.eraseJob(&e, shard, eraseAgain))
		}
	}
	known, _ := r.App(app)
	if _, ok := triggerOf(known, &ev); ok {
		if _, err := r.release(ctx, shard, allowancePark(app, ev.OpenID), c.Now); err != nil {
			return queue.Snooze(time.Second, c.Note)
		}
	}
	return queue.Done(nil).With(queue.Change{Jobs: jobs, Operations: moves})
}

func (r *Relay) observePush(p *callback.Push, result string) {
	if f := r.observe.Push; f != nil {
		f(p.App, p.Event.Event, result)
	}
	if line := r.log.Check(zap.DebugLevel, "push"); line != nil {
		line.Write(zap.String("app", p.App), zap.String("msg_type", p.Event.MsgType), zap.String("event", p.Event.Event),
			zap.String("openid", ShortID(p.Event.OpenID)), zap.String("result", result))
	}
}

// meet learns the unionid of a follower. An account without an Open Platform has none.
func (r *Relay) learnUnionID(ctx context.Context, app, openid string) error {
	unionid, err := r.wechat.UnionID(ctx, app, openid)
	if err == nil {
		_, err = r.bindings.Meet(ctx, app, binding.Identity{OpenID: openid, UnionID: unionid})
	}
	if err != nil {
		r.log.Warn("follower's unionid not learnt", zap.String("app", app), zap.String("openid", ShortID(openid)), zap.Error(err))
	}
	return err
}
