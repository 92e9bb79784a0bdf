package relay

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/wxrelay/wxrelay/relay/message"
)

// What a journey may answer besides the errors of its packages ([wechat.APIError], [queue.ErrUnavailable], ...), which
// pass through as they are. [AsError] turns both into an [Error].
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

// What is wrong with a request, as package message finds it.
type (
	Field     = message.Issue
	Malformed = message.Malformed
	TooLarge  = message.TooLarge
)

// MaxFields is how many faults of one request are named.
const MaxFields = message.MaxIssues

// NotText is the reason of a text that is not Unicode.
const NotText = message.NotText

// IsText tells whether a text from outside a body (a path, a query) is Unicode.
func IsText(s string) bool { return utf8.ValidString(s) }

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

// invalid is the refusal of a request for one field.
func invalid(field, reason string) error {
	return &Invalid{Code: "invalid_request", Fields: []Field{{Field: field, Reason: reason}}}
}

// faults collects Fields, of which the outside is told so many.
type faults []Field

func (f *faults) add(field, reason string) { (*message.Issues)(f).Add(field, reason) }

func (f faults) err(code string) error {
	if len(f) == 0 {
		return nil
	}
	return &Invalid{Code: code, Fields: f}
}
