package relay

import (
	"context"
	"time"
)

// EndpointHealth is what an operator's metrics show of one endpoint.
type EndpointHealth struct {
	Partner, Endpoint string
	State             string // healthy benched probing disabled
	Pending, Held     int64
	Oldest            time.Duration // since the oldest of those was put; 0 = nothing waits
}

// EndpointHealths lists every endpoint.
func (r *Relay) EndpointHealths(ctx context.Context) ([]EndpointHealth, error) {
	b, err := r.backlogNow(ctx)
	if err != nil {
		return nil, err
	}
	var out []EndpointHealth
	for _, p := range r.rules.Load().Partners {
		for _, e := range p.Endpoints {
			how, err := r.health.Of(ctx, e.HealthKey())
			if err != nil {
				return nil, err
			}
			w := b.of[endpointKey{e.Partner, e.ID}]
			h := EndpointHealth{Partner: e.Partner, Endpoint: e.ID, State: how.State, Pending: w.pending, Held: w.held}
			if !w.oldest.IsZero() {
				h.Oldest = time.Since(w.oldest)
			}
			out = append(out, h)
		}
	}
	return out, nil
}
