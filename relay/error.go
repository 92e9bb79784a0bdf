package relay

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// Error is every error of this package as a server shows it. Code is one of the codes of gateway/openapi.yaml.
type Error struct {
	Code       string
	Detail     string        // "" = what the code says itself
	Fields     []Field       // what is wrong with the request
	RetryAfter time.Duration // 0 = no use to try again, or nothing known
	WeChat     *WeChatError  // WeChat's answer, when it is the cause
	Cause      error         // what happened
	Hidden     bool          // Cause is for the operator only: the outside is told less
}

// WeChatError is a refusal of WeChat's: errcode, errmsg, rid.
type WeChatError = wechat.APIError

func (e *Error) Error() string { return e.Code + ": " + cmp.Or(e.Detail, e.Cause.Error()) }

// Unwrap is what happened.
func (e *Error) Unwrap() error { return e.Cause }

// unavailableFor is the RetryAfter of unavailable: a Redis failover takes a few seconds.
const unavailableFor = 2 * time.Second

// sentinels says which code each error of this package and those behind it becomes; the detail "" is the code's own.
var sentinels = []struct {
	err          error
	code, detail string
	after        time.Duration
}{
	{err: ErrNotFound, code: "not_found"},
	{err: ErrNotAllowed, code: "not_allowed"},
	{err: ErrNoCredit, code: "no_credit"},
	{err: ErrNoAllowance, code: "no_credit", detail: "the user has not written to customer service lately, or was answered as often as WeChat allows"},
	{err: ErrTooLate, code: "too_late"},
	{err: ErrChannelRetired, code: "channel_retired"},
	{err: ErrSessionInvalid, code: "session_invalid"},
	{err: ErrCodeInvalid, code: "code_invalid"},
	{err: ErrUserBlocked, code: "user_blocked"},
	{err: ErrTicketExpired, code: "ticket_expired"},
	{err: ErrAlreadyBound, code: "already_bound"},
	{err: ErrNoSession, code: "no_session"},
	{err: ErrManagedByConfig, code: "managed_by_config"},
	{err: webhook.ErrReused, code: "id_reused"},
	{err: webhook.ErrStale, code: "too_late", detail: "somebody else changed it at the same time"},
	{err: binding.ErrSession, code: "session_invalid"},
	{err: binding.ErrTicket, code: "ticket_expired"},
	{err: binding.ErrBound, code: "already_bound"},
	{err: binding.ErrNotFound, code: "not_found"},
	{err: binding.ErrBusy, code: "in_progress", detail: "the same binding is being changed right now", after: time.Second},
	{err: wechat.ErrUnknownApp, code: "not_found"},
	{err: wechat.ErrBody, code: "invalid_request", detail: "this path, method or body cannot be passed on to WeChat"},
	{err: wechat.ErrNotTokenCode, code: "invalid_request", detail: "only 40001, 40014 and 42001 speak against a token"},
	{err: queue.ErrNotFound, code: "not_found"},
	{err: queue.ErrID, code: "not_found"},
	{err: queue.ErrInHand, code: "too_late"},
	{err: queue.ErrStale, code: "too_late"},
	{err: queue.ErrTooLarge, code: "too_large"},
}

// AsError turns any error of this package, or of one behind it, into an Error. What it does not know is internal.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	e := &Error{Cause: err}
	api, refused := errors.AsType[*wechat.APIError](err)
	switch {
	case e.request(err):
	case e.known(err):
		if refused {
			e.WeChat = api
		}
	case refused:
		e.refusal(api)
	case e.progress(err):
	case errors.Is(err, wechat.ErrNoAnswer), errors.Is(err, wechat.ErrNotLeft):
		e.Code, e.Detail, e.Hidden = "wechat_error", "WeChat could not be reached or did not answer in time", true
		if t, ok := errors.AsType[*wechat.TokenError](err); ok {
			e.RetryAfter = t.RetryAfter
		}
	case unavailable(err):
		e.Code, e.RetryAfter, e.Hidden = "unavailable", unavailableFor, true
	default:
		e.Code, e.Hidden = "internal", true
	}
	return e
}

// request is about what was asked.
func (e *Error) request(err error) bool {
	if m, ok := errors.AsType[*Malformed](err); ok {
		e.Code, e.Detail = "malformed", m.Detail
	} else if t, ok := errors.AsType[*TooLarge](err); ok {
		e.Code, e.Detail = "too_large", t.Detail
	} else if s, ok := errors.AsType[*TooSoon](err); ok {
		e.Code, e.Detail, e.RetryAfter = "no_credit", s.Error(), s.Wait
	} else if q, ok := errors.AsType[*QuotaShared](err); ok {
		e.Code, e.Detail, e.RetryAfter = "rate_limited", q.Error(), q.Reset
	} else if v, ok := errors.AsType[*Invalid](err); ok {
		e.Code, e.Fields = v.Code, v.Fields
	}
	return e.Code != ""
}

func (e *Error) known(err error) bool {
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			e.Code, e.Detail, e.RetryAfter = s.code, s.detail, s.after
			return true
		}
	}
	return false
}

func (e *Error) progress(err error) bool {
	w, ok := errors.AsType[*webhook.InProgressError](err)
	if ok {
		e.Code, e.RetryAfter = "in_progress", w.RetryAfter
	}
	return ok
}

// refusal is WeChat's answer, by what the operator or the caller can do about it.
func (e *Error) refusal(api *wechat.APIError) {
	known := wechat.Lookup(api.Code)
	e.Code, e.WeChat, e.Detail = "wechat_error", api, known.Meaning
	if known.Cure != "" {
		e.Detail = strings.TrimPrefix(e.Detail+"; "+known.Cure, "; ")
	}
	switch known.Reaction {
	case wechat.ReactionConfig, wechat.ReactionToken, wechat.ReactionBanned:
		e.Code = "wechat_config"
	case wechat.ReactionQuotaMinute:
		e.Code, e.RetryAfter = "rate_limited", time.Minute
	case wechat.ReactionQuotaDay:
		e.Code, e.RetryAfter = "rate_limited", time.Hour // WeChat's day ends in Beijing, or when the operator clears the quota
	case wechat.ReactionRetired:
		e.Code = "channel_retired"
	}
}

// unavailable tells whether Redis, or the time to ask it, was missing. Packages that only read return what their Redis
// client says: a network error, an end of stream, or an error reply, which marks itself by this method.
func unavailable(err error) bool {
	for _, is := range []error{queue.ErrUnavailable, webhook.ErrUnavailable, binding.ErrUnavailable, context.Canceled,
		context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed} {
		if errors.Is(err, is) {
			return true
		}
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
