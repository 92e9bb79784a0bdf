package webhook

import (
	"fmt"
	"net/textproto"
	"slices"
	"strings"
	"time"
)

// What an endpoint may have at most, and has when nothing is said.
const (
	MinTimeout      = time.Second
	MaxTimeout      = 30 * time.Second
	MaxInFlight     = 100
	DefaultInFlight = 10
	maxHeaders      = 20
	maxHeader       = 1024 // bytes of one value
)

// Endpoint is one address of a partner and the events it subscribes to.
type Endpoint struct {
	Partner, ID, URL string
	Events           []string // patterns: exact, prefix.*, *; none matches nothing
	Secrets          []Secret // newest first, 1 or 2
	// Filter narrows the events by their fields: a field's value must be one of those listed. A field that an event lacks is
	// not filtered on.
	Filter   map[string][]string
	Headers  map[string]string // sent along; see CheckHeader
	Timeout  time.Duration     // of one attempt with everything; 0 = the Sender's budget
	InFlight int               // attempts at once and process; 0 = DefaultInFlight
	Rate     float64           // attempts a second over all processes; 0 = no limit
	Ordered  bool              // the deliveries of one user go one after the other
	Encode   Encoder           // nil: the payload as it is, signed as a Standard Webhook
}

// Encoder makes the request of an endpoint that speaks another protocol: it proves itself in its own way, so it is not signed.
type Encoder func(payload []byte, now time.Time) (Encoded, error)

// Encoded is what an Encoder posts: Query is added to the endpoint's own.
type Encoded struct {
	Query, ContentType string
	Body               []byte
}

// Wants says whether one of the patterns matches.
func (e Endpoint) Wants(eventType string) bool {
	for _, p := range e.Events {
		if matches(p, eventType) {
			return true
		}
	}
	return false
}

// Passes says whether an event's fields pass the filter; values are those a field of the event has, none = it lacks it.
func (e Endpoint) Passes(values func(field string) []string) bool {
	for field, allowed := range e.Filter {
		if len(allowed) == 0 {
			continue
		}
		have := values(field)
		if len(have) > 0 && !slices.ContainsFunc(have, func(v string) bool { return slices.Contains(allowed, v) }) {
			return false
		}
	}
	return true
}

// AtOnce is how many attempts may be in flight, per process.
func (e Endpoint) AtOnce() int {
	if e.InFlight <= 0 {
		return DefaultInFlight
	}
	return min(e.InFlight, MaxInFlight)
}

// ownHeaders are not an endpoint's to set: the Sender's own, and those of the connection.
var ownHeaders = []string{"Host", "Connection", "Keep-Alive", "Transfer-Encoding", "Te", "Trailer", "Upgrade", "Expect"}

// CheckHeader refuses a header that an endpoint may not set (webhook-*, Content-*, Host, those of the connection), and what is
// no header at all: ErrHeader.
func CheckHeader(name, value string) error {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case name == "" || len(name) > 128 || strings.Trim(name, tokenCharacters) != "":
		return fmt.Errorf("%w: %q is no header name", ErrHeader, name)
	case strings.HasPrefix(canonical, "Webhook-"), strings.HasPrefix(canonical, "Content-"), slices.Contains(ownHeaders, canonical),
		strings.HasPrefix(canonical, "Proxy-"):
		return fmt.Errorf("%w: %s is the gateway's own", ErrHeader, canonical)
	case len(value) > maxHeader || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return fmt.Errorf("%w: the value of %s has control characters or more than %d bytes", ErrHeader, canonical, maxHeader)
	}
	return nil
}

// CheckHeaders is CheckHeader for all of them, and for their number: ErrHeader.
func CheckHeaders(headers map[string]string) error {
	if len(headers) > maxHeaders {
		return fmt.Errorf("%w: %d, at most %d", ErrHeader, len(headers), maxHeaders)
	}
	for name, value := range headers {
		if err := CheckHeader(name, value); err != nil {
			return err
		}
	}
	return nil
}

// tokenCharacters are those of a header's name. https://www.rfc-editor.org/rfc/rfc9110#name-tokens
const tokenCharacters = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// HealthKey names the endpoint for Health. It covers the URL: the state of one address says nothing about another.
func (e Endpoint) HealthKey() string { return e.Partner + "/" + e.ID + "/" + hashOf(e.URL) }

func matches(pattern, eventType string) bool {
	if pattern == "*" {
		return true
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok { // prefix keeps its full stop
		return len(eventType) > len(prefix) && strings.HasPrefix(eventType, prefix)
	}
	return pattern == eventType
}

// CheckPattern refuses what is neither *, nor an event type (words of a-z, 0-9 and _ divided by full stops), nor such a
// type's beginning followed by .* - ErrPattern.
func CheckPattern(p string) error {
	if p == "*" {
		return nil
	}
	for word := range strings.SplitSeq(strings.TrimSuffix(p, ".*"), ".") {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return fmt.Errorf("%w %q is not an event type, a prefix ending in .*, or *", ErrPattern, p)
		}
	}
	return nil
}
