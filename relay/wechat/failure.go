package wechat

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Codes that OnCall gets where WeChat gave none. Above 700000: WeChat's own never are.
const (
	CodeNotLeft  = 700001
	CodeNoAnswer = 700002
)

// APIError is WeChat's refusal in WeChat's words. Find it with errors.As. Msg never holds a secret.
type APIError struct {
	Code int
	Msg  string // errmsg, scrubbed
	RID  string // WeChat's id of the call, for rid/get; "" when absent
	Path string // the API that answered, without its query
}

func (e *APIError) Error() string {
	return fmt.Sprintf("wechat: %s: %d %s", e.Path, e.Code, e.Msg)
}

// Reaction says what to do about it. For a send, -1 (ReactionRetry) leaves the outcome unknown. A 40001 of an API
// that takes the AppSecret means the secret is wrong, not that a token is dead.
func (e *APIError) Reaction() Reaction {
	r := Lookup(e.Code).Reaction
	if r == ReactionToken && takesSecret(e.Path) {
		return ReactionConfig
	}
	return r
}

// Cure says in English what to do, Cure's ZH twin in Chinese; for 40164 with the address WeChat saw.
func (e *APIError) Cure() string { return e.cure(e.row().Cure) }

// CureZH is Cure in Chinese.
func (e *APIError) CureZH() string { return e.cure(e.row().CureZH) }

func (e *APIError) row() Errcode {
	row := Lookup(e.Code)
	if row.Reaction == ReactionToken && takesSecret(e.Path) {
		return Lookup(40125)
	}
	return row
}

func (e *APIError) cure(text string) string {
	if ip := e.IP(); ip != "" {
		text += " [" + ip + "]"
	}
	return text
}

var ipInMsg = regexp.MustCompile(`invalid ip ([0-9A-Fa-f.:]+)`)

// IP is the address WeChat refused (40164, 61004: "invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist"), to be
// put on the allow-list; "" when the message names none.
func (e *APIError) IP() string {
	m := ipInMsg.FindStringSubmatch(e.Msg)
	if m == nil {
		return ""
	}
	ip, err := netip.ParseAddr(strings.TrimRight(m[1], ".:"))
	if err != nil {
		return ""
	}
	return ip.Unmap().String()
}

func takesSecret(path string) bool {
	return path == pathClassic || path == pathStable || path == pathLogin || path == pathExternal
}

// rid forms: "... rid: 617682e0-2f3a-..." (cgi-bin) and "..., rid: ..." (sns). Never compare errmsg itself.
var ridInMsg = regexp.MustCompile(`rid: ([0-9a-fA-F]+(?:-[0-9a-fA-F]+)+)`)

func newAPIError(path string, code int, msg string) *APIError {
	e := &APIError{Code: code, Msg: msg, Path: path}
	if m := ridInMsg.FindStringSubmatch(msg); m != nil {
		e.RID = m[1]
	}
	return e
}

// TokenError: there is no token to work with, so the call it was for did not leave: errors.Is(err, ErrNotLeft).
// errors.As finds the *APIError in it only when the operator or a quota must act (reactions config, quota_day,
// quota_minute), never a token endpoint's -1, which says nothing about the call. Its RetryAfter is when the token
// endpoint is asked again; 0 = at the next try.
type TokenError struct {
	App        string
	Err        error
	RetryAfter time.Duration
}

func (e *TokenError) Error() string {
	text := "wechat: no token for " + e.App + ": " + e.Err.Error()
	var api *APIError
	if errors.As(e.Err, &api) && Lookup(api.Code).Cure != "" {
		text += "; " + api.Cure()
	}
	return text
}

// Is keeps a token endpoint's ErrNoAnswer from being taken for the call's.
func (e *TokenError) Is(target error) bool { return target == ErrNotLeft }

// Unwrap gives the cause where it may speak for the call.
func (e *TokenError) Unwrap() error {
	var api *APIError
	if errors.As(e.Err, &api) {
		switch api.Reaction() {
		case ReactionConfig, ReactionQuotaDay, ReactionQuotaMinute:
			return api
		}
		return nil
	}
	var f *failure
	if errors.As(e.Err, &f) {
		return f.cause
	}
	return e.Err
}

// ConfigError goes to OnAlert: the token endpoint refuses this app until its operator acts.
type ConfigError struct {
	App string
	API *APIError
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("wechat: app %s gets no token: %d %s; %s", e.App, e.API.Code, e.API.Msg, e.API.Cure())
}

// Unwrap gives the *APIError.
func (e *ConfigError) Unwrap() error { return e.API }

// TokenChanged goes to OnAlert: a token died before its time, so somebody else asked for another (a second token
// centre, a laptop), or WeChat withdrew it.
type TokenChanged struct {
	App   string
	Code  int           // 40001, 40014 or 42001
	RID   string        // WeChat's id of the call that showed it; "" when a partner reported it
	Left  time.Duration // life it had left
	Today int           // how many tokens died so today (Beijing's day)
	By    string        // who found it: a partner's name, or "gateway"
}

func (e *TokenChanged) Error() string {
	return fmt.Sprintf("wechat: app %s: token changed outside: %d with %s of life left, no. %d today, rid %q; does another token centre use this AppSecret?",
		e.App, e.Code, e.Left.Round(time.Second), e.Today, e.RID)
}

// Advice says what it means and what to do, in English and in Chinese.
func (e *TokenChanged) Advice() (meaning, meaningZH, cure, cureZH string) {
	row := Lookup(e.Code)
	left := e.Left.Round(time.Second)
	return fmt.Sprintf("a token died %s before its end (no. %d today): another program fetched one with the same AppSecret, or the AppSecret was reset", left, e.Today),
		fmt.Sprintf("access_token 提前 %s 失效（今日第 %d 次）：有其他程序用同一 AppSecret 获取了 token，或 AppSecret 已被重置", left, e.Today),
		row.Cure, row.CureZH
}

// TokenTrouble goes to OnAlert: the token endpoint has failed several times in a row, and not by config.
type TokenTrouble struct {
	App string
	Err error
}

func (e *TokenTrouble) Error() string {
	return "wechat: app " + e.App + " gets no token: " + e.Err.Error()
}

// Unwrap gives the last failure.
func (e *TokenTrouble) Unwrap() error { return e.Err }

// failure is an exchange without an answer. It keeps its cause as text, scrubbed, and of the cause's identity only
// whether the context ended: an unwrappable *url.Error would bring the URL, and the secret, back.
type failure struct {
	kind  error // ErrNotLeft, ErrNoAnswer, ErrBody
	path  string
	why   string
	cause error // context.Canceled, context.DeadlineExceeded or nil
}

func (e *failure) Error() string { return e.kind.Error() + ": " + e.path + ": " + e.why }

func (e *failure) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

var secretParam = regexp.MustCompile(`(?i)\b((?:access_token|refresh_token|app_?secret|secret|js_code|session_key)["']?\s*[=:]\s*["']?)[^&\s"',;}\\]+`)

// scrub takes secrets out of a text: these very values, in clear and as they stand in a query, and whatever looks
// like one of WeChat's secret parameters.
func scrub(text string, secrets ...string) string {
	for _, s := range secrets {
		if len(s) < 4 {
			continue
		}
		text = strings.ReplaceAll(text, s, "***")
		if q := url.QueryEscape(s); q != s {
			text = strings.ReplaceAll(text, q, "***")
		}
	}
	return secretParam.ReplaceAllString(text, "${1}***")
}
