package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// Problem is every error as the outside sees it: application/problem+json (RFC 9457) with a stable code.
type Problem struct {
	Type      string        `json:"type"` // /problems/<code>, a page that says what to do
	Title     string        `json:"title"`
	Status    int           `json:"status"`
	Code      Code          `json:"code"`
	Detail    string        `json:"detail"`
	RequestID string        `json:"request_id"`
	Errors    []relay.Field `json:"errors,omitempty"`
	Errcode   *int          `json:"errcode,omitempty"` // these three when WeChat's answer is the cause
	Errmsg    *string       `json:"errmsg,omitempty"`
	RID       *string       `json:"rid,omitempty"`

	after time.Duration // Retry-After, 0 = none
	scope string        // WWW-Authenticate, "" = none
	cause error         // for the operator only: set when the outside is told less than what happened
}

// fault is an error of this package: a code and what is wrong this time.
type fault struct {
	code   Code
	detail string
	fields []relay.Field
	after  time.Duration
	scope  string
}

func (f *fault) Error() string { return string(f.code) + ": " + f.detail }

// errUnauthorized is the one answer to every fault of a partner's signature: it does not tell an unknown partner, a
// wrong signature, a stale timestamp and a missing header apart.
var errUnauthorized = &fault{code: Unauthorized, scope: "Standard-Webhooks"}

// errNoRoute is the answer to paths that do not exist, errNoMethod to methods a path does not take: Allow lists those
// it does.
var (
	errNoRoute  = &fault{code: NotFound, detail: "there is no such route"}
	errNoMethod = &fault{code: MethodNotAllowed}
)

// sentinels says which code each error of relay and its packages becomes. The detail "" is the code's own.
var sentinels = []struct {
	err    error
	code   Code
	detail string
}{
	{relay.ErrNotFound, NotFound, ""},
	{relay.ErrNotAllowed, NotAllowed, ""},
	{relay.ErrNoCredit, NoCredit, ""},
	{relay.ErrNoAllowance, NoCredit, "the user has not written to customer service lately, or was answered as often as WeChat allows"},
	{relay.ErrTooLate, TooLate, ""},
	{relay.ErrChannelRetired, ChannelRetired, ""},
	{relay.ErrSessionInvalid, SessionInvalid, ""},
	{relay.ErrCodeInvalid, CodeInvalid, ""},
	{relay.ErrUserBlocked, UserBlocked, ""},
	{relay.ErrTicketExpired, TicketExpired, ""},
	{relay.ErrAlreadyBound, AlreadyBound, ""},
	{relay.ErrManagedByConfig, ManagedByConfig, ""},
	{webhook.ErrReused, IDReused, ""},
	{webhook.ErrStale, TooLate, "somebody else changed it at the same time"},
	{binding.ErrSession, SessionInvalid, ""},
	{binding.ErrTicket, TicketExpired, ""},
	{binding.ErrBound, AlreadyBound, ""},
	{binding.ErrNotFound, NotFound, ""},
	{binding.ErrBusy, InProgress, "the same binding is being changed right now"},
	{wechat.ErrUnknownApp, NotFound, ""},
	{wechat.ErrBody, InvalidRequest, "this path, method or body cannot be passed on to WeChat"},
	{wechat.ErrNotTokenCode, InvalidRequest, "only 40001, 40014 and 42001 speak against a token"},
	{queue.ErrNotFound, NotFound, ""},
	{queue.ErrID, NotFound, ""},
	{queue.ErrInHand, TooLate, ""},
	{queue.ErrStale, TooLate, ""},
	{queue.ErrTooLarge, TooLarge, ""},
}

// problemOf translates an error; it is the only place that does.
func problemOf(err error, requestID string) Problem {
	p := translate(err)
	p.RequestID = requestID
	return p
}

func translate(err error) Problem {
	if f, ok := errors.AsType[*fault](err); ok {
		p := problem(f.code, f.detail)
		p.Errors, p.after, p.scope = f.fields, f.after, f.scope
		return p
	}
	if m, ok := errors.AsType[*relay.Malformed](err); ok {
		return problem(Malformed, m.Detail)
	}
	if t, ok := errors.AsType[*relay.TooLarge](err); ok {
		return problem(TooLarge, t.Detail)
	}
	if s, ok := errors.AsType[*relay.TooSoon](err); ok {
		p := problem(NoCredit, s.Error())
		p.after = s.Wait
		return p
	}
	if q, ok := errors.AsType[*relay.QuotaShared](err); ok {
		p := problem(RateLimited, q.Error())
		p.after = q.Reset
		return p
	}
	if v, ok := errors.AsType[*relay.Invalid](err); ok {
		code := InvalidRequest
		if Code(v.Code) == InvalidMessage {
			code = InvalidMessage
		}
		p := problem(code, "")
		p.Errors = v.Fields
		return p
	}
	api, fromWeChat := errors.AsType[*wechat.APIError](err)
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			p := problem(s.code, s.detail)
			switch s.code {
			case InProgress:
				p.after = time.Second
			case SessionInvalid:
				p.scope = "Bearer"
			}
			if fromWeChat {
				p = p.withWeChat(api)
			}
			return p
		}
	}
	if fromWeChat {
		return fromWeChatCode(api)
	}
	if w, ok := errors.AsType[*webhook.InProgressError](err); ok {
		p := problem(InProgress, "")
		p.after = w.RetryAfter
		return p
	}
	if errors.Is(err, wechat.ErrNoAnswer) || errors.Is(err, wechat.ErrNotLeft) {
		p := problem(WeChatError, "WeChat could not be reached or did not answer in time")
		p.cause = err
		if t, ok := errors.AsType[*wechat.TokenError](err); ok {
			p.after = t.RetryAfter
		}
		return p
	}
	if unavailable(err) {
		p := problem(Unavailable, "")
		p.after, p.cause = unavailableFor, err
		return p
	}
	p := problem(Internal, "")
	p.cause = err
	return p
}

// unavailableFor is the Retry-After of 503: a Redis failover takes a few seconds.
const unavailableFor = 2 * time.Second

// unavailable tells whether Redis, or the time to ask it, was missing. Packages that only read return what their Redis
// client says: a network error, an end of stream, or an error reply, which marks itself by this method.
func unavailable(err error) bool {
	if errors.Is(err, queue.ErrUnavailable) || errors.Is(err, webhook.ErrUnavailable) || errors.Is(err, binding.ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	_, ok := errors.AsType[interface {
		error
		RedisError()
	}](err)
	return ok
}

// fromWeChatCode turns WeChat's refusal into ours, by what the operator or the caller can do about it.
func fromWeChatCode(e *wechat.APIError) Problem {
	known := wechat.Lookup(e.Code)
	code := WeChatError
	switch known.Reaction {
	case wechat.ReactionConfig, wechat.ReactionToken, wechat.ReactionBanned:
		code = WeChatConfig
	case wechat.ReactionQuotaDay, wechat.ReactionQuotaMinute:
		code = RateLimited
	case wechat.ReactionRetired:
		code = ChannelRetired
	}
	detail := known.Meaning
	if known.Cure != "" {
		detail = strings.TrimPrefix(detail+"; "+known.Cure, "; ")
	}
	p := problem(code, detail).withWeChat(e)
	switch known.Reaction {
	case wechat.ReactionQuotaMinute:
		p.after = time.Minute
	case wechat.ReactionQuotaDay:
		p.after = time.Hour // WeChat's day ends in Beijing, or earlier when the operator clears the quota
	}
	return p
}

// transient tells whether the same request may do better a moment later.
func (p Problem) transient() bool {
	return p.Status >= 500 || p.Code == RateLimited || p.Code == InProgress
}

// withWeChat adds WeChat's own words, scrubbed of secrets where they came in.
func (p Problem) withWeChat(e *wechat.APIError) Problem {
	code := e.Code
	p.Errcode, p.Errmsg, p.RID = &code, &e.Msg, &e.RID
	if e.RID == "" {
		p.RID = nil
	}
	return p
}

// problem is the problem of a code; detail "" is the code's own.
func problem(code Code, detail string) Problem {
	e := entries[code]
	if detail == "" {
		detail = e.Detail
	}
	return Problem{Type: "/problems/" + string(code), Title: e.Title, Status: e.Status, Code: code, Detail: detail}
}

// write answers with the problem.
func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	if p.after > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((p.after+time.Second-1)/time.Second), 10))
	}
	if p.scope != "" {
		h.Set("Www-Authenticate", p.scope)
	}
	writeJSON(w, p.Status, "application/problem+json", p)
}
