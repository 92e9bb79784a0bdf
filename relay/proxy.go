package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/message"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// WeChatCall is one call of WeChat's API that a partner makes through this gateway.
type WeChatCall struct {
	Method string
	Path   string // below WeChat's root: "/wxa/getwxacodeunlimit"
	Query  string // raw; access_token in it is replaced
	Header map[string][]string
	Body   []byte
	From   string // the caller's address, for the audit log
	Key    string // names the request: the same one writes to nobody twice; "" = each call is its own
}

// WeChatAnswer is WeChat's answer; its Body streams and must be closed.
type WeChatAnswer = wechat.Response

// Paths that a partner does not reach unless wechat_paths names them exactly: what issues tokens, spends or tells of the
// account's quotas, or answers secrets and other partners' requests.
var (
	// closedAlways take the AppSecret, or answer tokens and session keys by it: there is no way to them but this gateway's own.
	closedAlways = []string{"cgi-bin/token", "cgi-bin/stable_token", "cgi-bin/component/*", "cgi-bin/clear_quota/v2", "sns/*"}
	// closedUnlessNamed: quotas are the whole account's; rid/get shows others' requests; resetusersessionkey answers a session_key.
	closedUnlessNamed = []string{"cgi-bin/clear_quota", "cgi-bin/openapi/*", "wxa/resetusersessionkey", "wxa/getwxadevinfo"}
)

// mayCall tells whether wechat_api reaches a path: of those that wechat_paths names ("cgi-bin/message/*" is everything
// below), or of all when it names none, but for the closed ones. Case does not make another path.
func (p *Partner) mayCall(path string) bool {
	path = strings.ToLower(strings.TrimPrefix(path, "/"))
	if matchesAny(closedAlways, path) {
		return false
	}
	if matchesAny(closedUnlessNamed, path) {
		for _, name := range p.WeChatPaths {
			if strings.ToLower(strings.TrimPrefix(name, "/")) == path {
				return true
			}
		}
		return false
	}
	return len(p.WeChatPaths) == 0 || matchesAny(p.WeChatPaths, path)
}

func matchesAny(patterns []string, path string) bool {
	for _, pattern := range patterns {
		pattern = strings.ToLower(strings.TrimPrefix(pattern, "/"))
		if below, ok := strings.CutSuffix(pattern, "*"); pattern == path || ok && strings.HasPrefix(path, below) {
			return true
		}
	}
	return false
}

// CallWeChat passes a call to WeChat with the app's token put in, and WeChat's answer back, untouched. What writes to a
// user is booked: see directSend. Errors: ErrNotAllowed, *QuotaShared, and those of [wechat.Client.Proxy].
func (r *Relay) CallWeChat(ctx context.Context, who Caller, c WeChatCall) (*WeChatAnswer, error) {
	if _, err := r.appOf(who.Partner, who.App); err != nil {
		return nil, err
	}
	p, _ := r.Partner(who.Partner)
	if !wechat.PlainPath(c.Path) || !p.mayCall(c.Path) {
		return nil, ErrNotAllowed
	}
	if err := r.spendShare(ctx, who, c.Path); err != nil {
		return nil, err
	}
	if ch, ok := wechat.ChannelOf(c.Path); ok && c.Method == "POST" {
		if d := r.directSend(who, string(ch), c); d != nil {
			return d.call(ctx)
		}
	}
	return r.pass(ctx, who, c)
}

func (r *Relay) pass(ctx context.Context, who Caller, c WeChatCall) (*WeChatAnswer, error) {
	target := c.Path
	if c.Query != "" {
		target += "?" + c.Query
	}
	return r.wechat.Proxy(ctx, who.App, wechat.Request{Method: c.Method, Target: target, Header: c.Header, Body: c.Body,
		Who: wechat.Reporter{By: who.Partner, From: c.From}})
}

// direct is one send that a partner makes past the queue. It is a message like any other, for the ledger, for receipts and
// in lists, only that its caller has WeChat's answer at once and nobody sends it again.
//
// It is stored before the call, as open: its credit reserved, parked for WeChat's report until the deadline. A crash at any
// point leaves what a send without an answer leaves.
type direct struct {
	r        *Relay
	who      Caller
	c        WeChatCall
	draft    *draft
	progress *progress
	id       string
	shard    int
}

// directSend reads who is written to; nil when the body does not say it, for WeChat to refuse.
func (r *Relay) directSend(who Caller, channel string, c WeChatCall) *direct {
	var body struct {
		ToUser     string `json:"touser"`
		TemplateID string `json:"template_id"`
	}
	if json.Unmarshal(c.Body, &body) != nil || !message.IsOpenID(body.ToUser) || len(body.TemplateID) > 128 {
		return nil
	}
	now := time.Now()
	m := &draft{message.Draft{Partner: who.Partner, App: who.App, OpenID: body.ToUser, Channels: []string{channel}, TemplateID: body.TemplateID,
		Payloads: []json.RawMessage{json.RawMessage("{}")}, NoCredit: "try", Created: now.UnixMilli(), Priority: "normal"}}
	if channel == ChannelSubscribe {
		m.Kind = string(r.kind(who.App, body.TemplateID))
	}
	d := &direct{r: r, who: who, c: c, draft: m, progress: &progress{Booked: 1}, shard: r.q.Shard(who.App, body.ToUser)}
	if c.Key == "" {
		d.id = r.q.NewID("msg_", d.shard)
	} else {
		d.id = r.q.IDFor("msg_", d.shard, "direct\x00"+who.Partner+"\x00"+who.App+"\x00"+c.Key)
	}
	return d
}

// call books the message, makes the call, and books what became of it.
func (d *direct) call(ctx context.Context) (*WeChatAnswer, error) {
	d.draft.Trace = d.r.traceOf(ctx)
	now, rules := time.Now(), d.r.rules.Load()
	d.progress.Open = now.UnixMilli()
	d.progress.To(StateUnknown, "sent by the partner itself", now, nil)
	job := d.r.messageJob(rules, d.id, d.draft, d.progress)
	job.Park, job.Expires = openPark(d.draft.App, d.draft.OpenID), now.Add(rules.UnknownDeadline)
	res := d.r.q.Commit(ctx, queue.Change{Shard: d.shard, Jobs: []queue.Job{job}, Operations: d.draft.reserve(0, d.id)})
	switch {
	case errors.Is(res.Err, queue.ErrExists): // this very request was made before, and its answer is lost: it is not sent again
		return nil, fmt.Errorf("%w: this request was made before, as message %s", wechat.ErrNoAnswer, d.id)
	case res.Err != nil: // Redis is away: the report of the send will tell the ledger (R-4: it costs no call)
		d.r.log.Warn("a partner's own send is not booked", zap.String("app", d.who.App), zap.String("partner", d.who.Partner), zap.Error(res.Err))
		return d.r.pass(ctx, d.who, d.c)
	}
	answer, err := d.r.pass(ctx, d.who, d.c)
	d.note(context.WithoutCancel(ctx), answer, err)
	return answer, err
}

// note books what became of the call. A message that WeChat's report has settled meanwhile is left as it is.
func (d *direct) note(ctx context.Context, answer *WeChatAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for range 5 {
		rec, gone := d.r.q.Get(ctx, d.id)
		if gone != nil || rec.State != "parked" {
			return
		}
		s := *d.progress
		s.Steps = append([]message.Entry(nil), d.progress.Steps...)
		ch, code, cause := d.outcome(ctx, &s, answer, err)
		ch.Shard = d.shard
		ch.Edit.ID, ch.Edit.Version, ch.Edit.Note = d.id, rec.Version, s.Pack()
		now := time.Now()
		m := view(d.id, d.draft, &s)
		ch.Jobs = append(ch.Jobs, d.r.notifyMessage(d.shard, m, d.draft, now)...)
		res := d.r.q.Commit(ctx, ch)
		if errors.Is(res.Err, queue.ErrStale) || errors.Is(res.Err, queue.ErrInHand) {
			continue
		}
		if res.Err != nil {
			d.r.log.Warn("the outcome of a partner's own send is not booked", zap.String("app", d.who.App), zap.String("message", d.id), zap.Error(res.Err))
			return
		}
		d.r.observeMessage(&m, code, cause)
		return
	}
}

// outcome is what WeChat's answer means for the message, its line and the app.
func (d *direct) outcome(ctx context.Context, s *progress, answer *WeChatAnswer, err error) (ch queue.Change, code int, cause string) {
	now := time.Now()
	ch.Edit = &queue.Edit{To: queue.End}
	end := func(state, why string, ops []queue.Operation) (queue.Change, int, string) {
		s.Open = 0
		s.To(state, why, now, s.Errcode)
		ch.Operations = ops
		return ch, code, why
	}
	open := func(why string) (queue.Change, int, string) {
		ch.Edit.To = queue.Stay
		s.To(StateUnknown, why, now, s.Errcode)
		return ch, code, why
	}
	switch {
	case errors.Is(err, wechat.ErrNotLeft), err != nil && !errors.Is(err, wechat.ErrNoAnswer):
		return end(StateFailed, "not_left", d.draft.giveBack(s, d.id))
	case err != nil, !answer.JSON:
		s.Attempts++
		return open("no_answer")
	}
	s.Attempts++
	code = answer.Errcode
	api := &wechat.APIError{Code: code, Msg: answer.Errmsg, RID: answer.RID, Path: d.c.Path}
	s.Answered(code, answer.Errmsg, answer.RID)
	if code == 0 {
		if s.MsgID = answer.MsgID; s.MsgID != "" {
			ch.Names = []queue.Name{{Name: msgidName(d.draft.App, s.MsgID), Value: d.id, For: d.r.rules.Load().KeepMessages}}
		}
		return end(StateSent, "wechat", d.draft.spend(s, d.id))
	}
	switch api.Reaction() {
	case wechat.ReactionRetry:
		return open("wechat_busy")
	case wechat.ReactionLedger, wechat.ReactionBanned:
		state := StateFailed
		if code == 43101 {
			state = StateRefused
		}
		w := &sending{r: d.r, c: &queue.Claimed{ID: d.id, Now: now}, draft: d.draft, progress: s, shard: d.shard}
		w.unbook(ctx)
		return end(state, "wechat", d.draft.void(s, d.id, strconv.Itoa(code)))
	case wechat.ReactionConfig, wechat.ReactionQuotaDay, wechat.ReactionUnknown:
		d.r.alert(d.draft.App, api, now)
	case wechat.ReactionRetired:
		d.r.retired.note(d.draft.App, d.draft.Channels[0], now)
	}
	return end(StateFailed, "wechat", d.draft.giveBack(s, d.id))
}

// QuotaShared says that a partner has used up its share of an API's day.
type QuotaShared struct {
	Path  string
	Share int64
	Reset time.Duration // until Beijing's next day
}

func (e *QuotaShared) Error() string {
	return "this partner's share of " + e.Path + ", " + strconv.FormatInt(e.Share, 10) + " calls a day, is used up"
}

// quotas is what this process knows of the daily limits of APIs.
type quotas struct{ known wechat.Limits }

// spendShare counts one call of a partner to an API. Where several partners may call an app's API, each has an equal share of
// the day that WeChat allows the account, so that one cannot spend another's. What WeChat's limit is it asks once an hour;
// while it is not known, or Redis is away, nothing is held back.
func (r *Relay) spendShare(ctx context.Context, who Caller, path string) error {
	rules := r.rules.Load()
	among := int64(0)
	for _, p := range rules.Partners {
		if p.Allow[rightWeChatAPI] && p.MayUse(who.App) && p.mayCall(path) {
			among++
		}
	}
	if among < 2 {
		return nil
	}
	limit, ok := r.wechat.DailyLimit(ctx, who.App, path, &r.quotas.known)
	if !ok {
		return nil
	}
	share := max(limit/among, 1)
	used, reset, err := r.wechat.CountCall(ctx, who.App, who.Partner, path)
	if err != nil || used <= share {
		return nil //nolint:nilerr // while Redis is away nothing is held back
	}
	return &QuotaShared{Path: path, Share: share, Reset: reset}
}
