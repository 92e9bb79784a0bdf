package webhook

import (
	"context"
	"fmt"
	"time"
)

// longestReservation is how far ahead a turn is reserved. What must wait longer asks again then: turns that are reserved and
// not used (the endpoint is benched) are lost.
const longestReservation = 10 * time.Second

// Turn reserves an attempt of an endpoint with a Rate: wait is how long until it may be made (0 = now). When reserved is
// false nothing was reserved, and wait is when to ask again. ErrUnavailable.
func (h *Health) Turn(ctx context.Context, endpoint string, perSecond float64) (wait time.Duration, reserved bool, err error) {
	if perSecond <= 0 {
		return 0, true, nil
	}
	v, err := h.commands.run(ctx, rateScript, "wx:{ep:"+hashOf(endpoint)+"}:r", int64(1e6/perSecond), longestReservation.Milliseconds())
	if err != nil {
		return 0, false, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	list, ok := v.([]any)
	if !ok || len(list) != 2 {
		return 0, false, fmt.Errorf("%w: %w", ErrUnavailable, errReading)
	}
	ms, _ := list[0].(int64)
	taken, _ := list[1].(int64)
	if wait = time.Duration(ms) * time.Millisecond; taken == 0 {
		wait = min(wait, longestReservation)
	}
	return wait, taken == 1, nil
}
