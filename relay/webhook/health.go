package webhook

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Health knows which endpoints are benched or disabled, over all replicas.
type Health struct{ rdb redis.UniversalClient }

// NewHealth keeps it in rdb.
func NewHealth(rdb redis.UniversalClient) *Health { return &Health{rdb: rdb} }

// Transition is what an outcome changed.
type Transition string

// The transitions.
const (
	NoTransition Transition = ""
	Benched      Transition = "benched"
	Recovered    Transition = "recovered"
	Disabled     Transition = "disabled"
)

// Condition is what is known about one endpoint.
type Condition struct {
	State    string    // healthy benched probing disabled
	Until    time.Time // benched: when it is probed
	Since    time.Time // benched or disabled since; zero when healthy
	Failures int       // in a row
}

// Note counts one outcome and says what it changed.
func (h *Health) Note(ctx context.Context, endpoint string, o Outcome) (Transition, error) {
	return NoTransition, nil
}

// Gate says how long a delivery to this endpoint must wait (0 = go) without spending an attempt, and whether the
// endpoint is disabled. While benched it lets one probe through at a time. At most 1 s old.
func (h *Health) Gate(ctx context.Context, endpoint string) (wait time.Duration, disabled bool, err error) {
	return 0, false, nil
}

// Enable forgets everything held against the endpoint.
func (h *Health) Enable(ctx context.Context, endpoint string) error { return nil }

// Of reads one endpoint's condition.
func (h *Health) Of(ctx context.Context, endpoint string) (Condition, error) {
	return Condition{State: "healthy"}, nil
}
