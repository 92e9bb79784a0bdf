package webhook

import (
	"context"
	"crypto/x509"
	"net/netip"
	"time"
)

// CourierOptions are the courier's limits.
type CourierOptions struct {
	AllowPrivate []netip.Prefix // addresses endpoints may have although they are not public; plain http is allowed only there
	Budget       time.Duration  // one attempt with everything; 0 = 15 s
	PerHost      int            // connections kept open per endpoint; 0 = 16
	Version      string         // user-agent: wxrelay/<version>
	RootCAs      *x509.CertPool // nil = the system's
}

// Courier carries one payload to one endpoint, once.
type Courier struct{ o CourierOptions }

// NewCourier is ready to deliver.
func NewCourier(o CourierOptions) *Courier { return &Courier{o: o} }

// Kind says what became of an attempt.
type Kind string

// The kinds of outcome.
const (
	Delivered Kind = "delivered" // 2xx, answered whole within the budget
	Failed    Kind = "failed"    // may be tried again
	Gone      Kind = "gone"      // 410: the endpoint is to be disabled
	Blocked   Kind = "blocked"   // the address is not allowed: final
)

// Attempt is one delivery about to be made.
type Attempt struct {
	Endpoint Endpoint
	ID, Type string // webhook-id; event type
	Payload  []byte
	Number   int // 1 for the first
	Replay   bool
}

// Outcome is what became of it.
type Outcome struct {
	Kind       Kind
	Status     int           // 0 when no answer came
	RetryAfter time.Duration // the partner's wish, at most 6 h
	Took       time.Duration
	Err        string // empty when delivered; no secrets, no addresses
	Body       []byte // first 4 KiB of the answer
}

// Deliver makes one attempt. It never retries by itself.
func (c *Courier) Deliver(ctx context.Context, a Attempt) Outcome { return Outcome{Kind: Failed} }

// CheckURL applies to an address at load what delivery will apply again. ErrURL.
func (c *Courier) CheckURL(raw string) error { return nil }

// Allow replaces AllowPrivate and closes idle connections.
func (c *Courier) Allow(private []netip.Prefix) {}

// NextDelay is the wait before the next attempt after failures failed ones (1 = the first has failed); rnd in [0,1)
// makes the jitter. more is false when no further attempt is to be made: bury it.
func NextDelay(failures int, o Outcome, rnd float64) (d time.Duration, more bool) { return 0, false }
