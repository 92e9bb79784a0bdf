package relay

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// What a journey may answer besides the errors of the rooms ([wechat.APIError], [queue.ErrUnavailable], ...), which pass
// through as they are. The gateway translates both to HTTP.
var (
	ErrNotFound       = errors.New("nothing there under this name")
	ErrNotAllowed     = errors.New("this partner is not given that app or that right")
	ErrNoCredit       = errors.New("the user has no subscription left for this template")
	ErrTooLate        = errors.New("it is already on its way or at its end")
	ErrChannelRetired = errors.New("WeChat has retired this channel")
	ErrSessionInvalid = errors.New("the session is unknown or over: call login again")
	ErrCodeInvalid    = errors.New("the code is wrong, used or over: call wx.login again")
	ErrUserBlocked    = errors.New("WeChat blocks the login of this user as high risk")
	ErrTicketExpired  = errors.New("the ticket is unknown, used or over: ask for a new one")
	ErrAlreadyBound   = errors.New("bound to somebody else: unbind first")
)

// TooSoon says that a rate-limited template was sent to the user within its period already.
type TooSoon struct {
	TemplateID, Keyword, Value string
	Every, Wait                time.Duration
}

func (e *TooSoon) Error() string {
	return fmt.Sprintf("template %s may be sent to a user once in %s for each %s, and %q had its message: again in %s",
		e.TemplateID, e.Every, e.Keyword, e.Value, e.Wait.Round(time.Second))
}

// Field is one fault of a request: where, and what to do about it.
type Field struct {
	Field  string `json:"field"`  // path as in the request: data.thing1
	Reason string `json:"reason"` // "23 characters, at most 20"
}

// Invalid lists every fault of a request at once.
type Invalid struct {
	Code   string // invalid_message | invalid_request
	Fields []Field
}

func (e *Invalid) Error() string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		parts[i] = f.Field + ": " + f.Reason
	}
	return strings.ReplaceAll(e.Code, "_", " ") + ": " + strings.Join(parts, "; ")
}

// faults collects Fields.
type faults []Field

func (f *faults) add(field, reason string) { *f = append(*f, Field{field, reason}) }

func (f faults) err(code string) error {
	if len(f) == 0 {
		return nil
	}
	return &Invalid{Code: code, Fields: f}
}
