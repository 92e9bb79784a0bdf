package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/wxrelay/wxrelay/relay"
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
	e := relay.AsError(err)
	code := Code(e.Code)
	if _, ok := entries[code]; !ok {
		code = InvalidRequest
	}
	p := problem(code, e.Detail)
	p.Errors, p.after = e.Fields, e.RetryAfter
	if e.WeChat != nil {
		p = p.withWeChat(e.WeChat)
	}
	if code == SessionInvalid {
		p.scope = "Bearer"
	}
	if e.Hidden {
		p.cause = err
	}
	return p
}

// unavailableFor is the Retry-After of the gateway's own 503.
const unavailableFor = 2 * time.Second

// transient tells whether the same request may do better a moment later.
func (p Problem) transient() bool {
	return p.Status >= 500 || p.Code == RateLimited || p.Code == InProgress
}

// withWeChat adds WeChat's own words, scrubbed of secrets where they came in.
func (p Problem) withWeChat(e *relay.WeChatError) Problem {
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
