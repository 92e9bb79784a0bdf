package relay

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// EnableEndpoint ends that an endpoint is disabled or benched. plan says what becomes of the deliveries held meanwhile: all,
// since (those of events from since on; the others are cancelled), drop. They are seen to in the background.
func (r *Relay) EnableEndpoint(ctx context.Context, partner, id, plan string, since *time.Time) (Endpoint, error) {
	var f faults
	switch {
	case plan == "":
		plan = planAll
	case plan == planSince && since == nil:
		f.add("since", "is missing: from when on deliveries are sent")
	case plan == planSince:
		plan += ":" + strconv.FormatInt(since.UnixMilli(), 10)
	case plan != planAll && plan != planDrop:
		f.add("deliveries", "must be all, since or drop")
	}
	if since != nil && plan == planAll || since != nil && plan == planDrop {
		f.add("since", "is for deliveries: since")
	}
	if err := f.err("invalid_request"); err != nil {
		return Endpoint{}, err
	}
	e, ok, err := r.known(ctx, partner, id)
	if err != nil || !ok {
		return Endpoint{}, cmp.Or(err, ErrNotFound)
	}
	changed, err := r.health.Enable(ctx, e.HealthKey(), plan)
	if err != nil {
		return Endpoint{}, err
	}
	if err := r.q.Resume(ctx, deliverLane(partner, id)); err != nil {
		return Endpoint{}, err
	}
	r.audit(partner, id, "endpoint enabled", zap.String("deliveries", plan))
	r.announce(ctx, e, changed, "enabled", time.Now())
	r.stirBacklog()
	return r.Endpoint(ctx, partner, id)
}

// DisableEndpoint has the deliveries of an endpoint wait until it is enabled.
func (r *Relay) DisableEndpoint(ctx context.Context, partner, id string) (Endpoint, error) {
	e, ok, err := r.known(ctx, partner, id)
	if err != nil || !ok {
		return Endpoint{}, cmp.Or(err, ErrNotFound)
	}
	const why = "disabled on request"
	changed, err := r.health.Disable(ctx, e.HealthKey(), why)
	if err != nil {
		return Endpoint{}, err
	}
	r.audit(partner, id, "endpoint disabled")
	r.announce(ctx, e, changed, why, time.Now())
	return r.Endpoint(ctx, partner, id)
}

// ProbeEndpoint looks at a benched endpoint at once: the bench is over, and a test event is the probe.
func (r *Relay) ProbeEndpoint(ctx context.Context, partner, id string) (Delivery, error) {
	e, ok, err := r.known(ctx, partner, id)
	if err != nil || !ok {
		return Delivery{}, cmp.Or(err, ErrNotFound)
	}
	if err := r.health.Probe(ctx, e.HealthKey()); err != nil {
		return Delivery{}, err
	}
	if err := r.q.Resume(ctx, deliverLane(partner, id)); err != nil {
		return Delivery{}, err
	}
	r.audit(partner, id, "endpoint probed")
	return r.TestEndpoint(ctx, partner, id)
}

// TestEvent is the data of endpoint.test.
type TestEvent struct {
	Partner  string `json:"partner"`
	Endpoint string `json:"endpoint"`
}

// testLife is how long a test event is worth sending.
const testLife = 15 * time.Minute

// TestEndpoint sends an endpoint.test event to an endpoint, whatever it subscribes to, and disabled or not. It is tried once.
func (r *Relay) TestEndpoint(ctx context.Context, partner, id string) (Delivery, error) {
	e, ok, err := r.known(ctx, partner, id)
	if err != nil || !ok {
		return Delivery{}, cmp.Or(err, ErrNotFound)
	}
	if err := r.sender.CheckReach(ctx, e.URL); err != nil {
		return Delivery{}, &Invalid{Code: "invalid_request", Fields: []Field{{Field: "url", Reason: err.Error()}}}
	}
	shard, now := r.q.Shard(partner, id), time.Now()
	t := notification{shard: shard, partner: partner, typ: EventEndpointTest, at: now, data: TestEvent{partner, id}}
	job, err := r.delivery(e, envelope{ID: r.q.NewID("evt_", shard), Type: t.typ, Until: now.Add(testLife).UnixMilli(), Trace: r.traceOf(ctx)}, t.payload(), nil)
	if err != nil {
		return Delivery{}, err
	}
	if res := r.q.Commit(ctx, queue.Change{Shard: shard, Jobs: []queue.Job{job}}); res.Err != nil {
		return Delivery{}, res.Err
	}
	r.audit(partner, id, "endpoint tested")
	return r.Delivery(ctx, partner, job.ID)
}

// announce tells the partner's other endpoints what was done to this one; a failure is logged, since what was done is done.
func (r *Relay) announce(ctx context.Context, e webhook.Endpoint, changed webhook.Transition, why string, now time.Time) {
	if changed == webhook.NoTransition {
		return
	}
	shard := r.q.Shard(e.Partner, e.ID)
	jobs := r.notifyHealth(shard, e.Partner, e.ID, changed, webhook.Outcome{Err: why}, now)
	if len(jobs) == 0 {
		return
	}
	if res := r.q.Commit(ctx, queue.Change{Shard: shard, Jobs: jobs}); res.Err != nil {
		r.log.Warn("a change of an endpoint's state is not told", zap.String("partner", e.Partner), zap.String("endpoint", e.ID), zap.Error(res.Err))
	}
}

// audit writes who changed what; the operator's own name stands in the request's log line.
func (r *Relay) audit(partner, endpoint, what string, more ...zap.Field) {
	r.log.Info("audit", append([]zap.Field{zap.String("what", what), zap.String("partner", partner), zap.String("endpoint", endpoint)}, more...)...)
}

// KnownEndpoints are the endpoints of the rules and those of the registry beside them, by partner and id.
func KnownEndpoints(rules Rules, stored []webhook.Stored) (list []webhook.Endpoint) {
	for _, p := range rules.Partners {
		list = append(list, p.Endpoints...)
	}
	for _, s := range stored {
		var rec endpointRecord
		if _, config := endpointOf(rules.Partners[s.Partner], s.ID); config || json.Unmarshal(s.Record, &rec) != nil {
			continue
		}
		if e, err := rec.endpoint(s.Partner, s.ID, time.Now()); err == nil {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b webhook.Endpoint) int {
		return cmp.Or(strings.Compare(a.Partner, b.Partner), strings.Compare(a.ID, b.ID))
	})
	return list
}
