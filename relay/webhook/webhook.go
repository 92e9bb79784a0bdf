// Package webhook owns signed HTTP posts between two systems: how a post is signed and verified, how a repeated request gets
// its first answer again, which address an endpoint may have, what a partner's answer means, and when an endpoint's circuit
// breaker opens. It knows nothing of WeChat and never retries by itself.
package webhook

import (
	"errors"
	"time"
)

// ErrSignature is the one answer to everything that is wrong with a signed request: header missing, odd id, stale
// timestamp, unknown partner, wrong signature. Naming the fault would help a forger.
var ErrSignature = errors.New("webhook: not signed as it must be")

// ErrSecret says that a text is no secret. It never quotes the text.
var ErrSecret = errors.New("webhook: secret must be whsec_ followed by base64 of 24 to 64 bytes")

// ErrReused says that an id has been used for another request.
var ErrReused = errors.New("webhook: id used for another request")

// ErrURL says that an endpoint's address is not allowed; the text after it says why, in words for the operator.
var ErrURL = errors.New("address not allowed")

// ErrPattern says that an event pattern is neither exact, nor prefix.*, nor *.
var ErrPattern = errors.New("event pattern")

// ErrHeader says that an endpoint may not have a header.
var ErrHeader = errors.New("header not allowed")

// ErrStale says that a record of the registry changed meanwhile.
var ErrStale = errors.New("webhook: the endpoint changed meanwhile")

// ErrFull says that a partner has as many endpoints as may be made over the API.
var ErrFull = errors.New("webhook: too many endpoints")

// ErrUnavailable wraps every failure of Redis.
var ErrUnavailable = errors.New("webhook: redis")

// InProgressError says that the first request under this id has not been answered yet. errors.As.
type InProgressError struct {
	RetryAfter time.Duration // when to ask again
}

func (e *InProgressError) Error() string {
	return "webhook: first request with this id still in progress"
}
