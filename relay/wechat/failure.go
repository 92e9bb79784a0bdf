package wechat

import (
	"fmt"
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

func (e *APIError) Error() string { return fmt.Sprintf("wechat: %d %s", e.Code, e.Msg) }

// Reaction says what to do about it. For a send, -1 (ReactionRetry) leaves the outcome unknown.
func (e *APIError) Reaction() Reaction { return Lookup(e.Code).Reaction }

// TokenError: there is no token to work with, so the call it was for did not leave: errors.Is(err, ErrNotLeft).
// errors.As finds the *APIError in it only when the operator or a quota must act (reactions config, quota_day,
// quota_minute), never a token endpoint's -1, which says nothing about the call.
type TokenError struct {
	App        string
	Err        error
	RetryAfter time.Duration // nothing is asked before that; 0 = try again at will
}

func (e *TokenError) Error() string { return "wechat: no token for " + e.App + ": " + e.Err.Error() }

// ConfigError is told to OnAlert: the token endpoint refuses this app until its operator acts.
type ConfigError struct {
	App string
	API *APIError
}

func (e *ConfigError) Error() string { return e.API.Error() }

// TokenChanged is told to OnAlert: a token died before its time, so somebody else asked for another (a second token
// centre, a laptop), or WeChat withdrew it.
type TokenChanged struct {
	App   string
	Code  int           // 40001, 40014 or 42001
	RID   string        // WeChat's id of the call that showed it; "" when a partner reported it
	Left  time.Duration // life it had left
	Today int           // how many times today (Beijing's day)
}

func (e *TokenChanged) Error() string { return "wechat: token changed outside: " + e.App }

// TokenTrouble is told to OnAlert: the token endpoint has failed several times in a row, not by config.
type TokenTrouble struct {
	App string
	Err error
}

func (e *TokenTrouble) Error() string { return e.Err.Error() }
