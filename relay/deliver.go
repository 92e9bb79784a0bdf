package relay

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// deliveryNote is what changes about a delivery.
type deliveryNote struct {
	Attempts  []attempt `json:"a"`
	Replays   int       `json:"r,omitempty"`
	Total     int       `json:"n"`           // attempts ever, over replays
	Lapses    int       `json:"l,omitempty"` // leases that had lapsed at the last attempt
	Held      bool      `json:"h,omitempty"` // it waited for its endpoint to be enabled
	Missing   int64     `json:"m,omitempty"` // Unix ms: its endpoint is not there since
	Turn      int64     `json:"t,omitempty"` // Unix ms: when its turn under the endpoint's rate is
	Cancelled string    `json:"c,omitempty"` // why it was cancelled
	// ReplayedAt (Unix ms) and ReplayedBy (the replay of many) are of the last replay.
	ReplayedAt int64  `json:"ra,omitempty"`
	ReplayedBy string `json:"rb,omitempty"`
}

const (
	maxLapses       = 5               // leases that lapse in a row: the delivery itself is what kills
	removedPatience = 5 * time.Minute // another replica may know the endpoint already, or still
	removedPause    = 20 * time.Second
	turnLate        = 2 * time.Second // a turn is used until then
)

// deliverOne posts one event to one endpoint once and judges the answer. At least once: a crash after the post and before
// the verdict posts it again under the same webhook-id.
func (r *Relay) deliverOne(ctx context.Context, c *queue.Claimed) queue.Verdict {
	env, payload, err := openEnvelope(c.Body)
	if err != nil {
		return queue.Bury("malformed", c.Note)
	}
	if payload, err = r.decrypted(c.ID, env, payload); err != nil {
		return queue.Bury("encrypted with another master key", c.Note)
	}
	d := &delivering{r: r, c: c, env: env}
	if len(c.Note) > 0 && json.Unmarshal(c.Note, &d.note) != nil {
		d.note = deliveryNote{}
	}
	if verdict, over := d.over(); over {
		return verdict
	}
	e, ok, err := r.known(ctx, env.Partner, env.Endpoint)
	switch {
	case err != nil:
		return queue.Snooze(time.Second, c.Note)
	case !ok:
		return d.missing()
	}
	d.e, d.note.Missing = e, 0
	verdict, probe, wait := d.gate(ctx)
	if wait {
		return verdict
	}
	out := d.attempt(ctx, payload)
	if ctx.Err() != nil && out.Kind != webhook.Delivered {
		return queue.Snooze(0, c.Note) // we are shutting down: it was our own cut, not the endpoint's fault
	}
	return d.judge(ctx, out, probe)
}

// delivering is one delivery that a worker holds.
type delivering struct {
	r    *Relay
	c    *queue.Claimed
	env  envelope
	e    webhook.Endpoint
	note deliveryNote
}

// attempt posts the payload, in a span of the trace the event belongs to.
func (d *delivering) attempt(ctx context.Context, payload []byte) webhook.Outcome {
	a := webhook.Attempt{Endpoint: d.e, ID: d.env.ID, Type: d.env.Type, Payload: payload, Number: d.note.Total + 1, Replay: d.note.Replays > 0}
	ctx, span := d.r.resume(ctx, d.env.Trace, SpanDelivery)
	if span == nil {
		return d.r.sender.Deliver(ctx, a)
	}
	a.Traceparent = span.Traceparent
	out := d.r.sender.Deliver(ctx, a)
	span.End(out.Kind != webhook.Delivered, zap.String("app", d.env.App), zap.String("partner", d.env.Partner), zap.String("endpoint", d.env.Endpoint),
		zap.String("webhook_id", d.env.ID), zap.String("type", d.env.Type), zap.Int("attempt", a.Number), zap.String("result", string(out.Kind)), zap.Int("status", out.Status))
	return out
}

// over ends a delivery whose time is over, whatever its endpoint does.
func (d *delivering) over() (queue.Verdict, bool) {
	c, note := d.c, &d.note
	switch {
	case c.Reclaims-note.Lapses >= maxLapses:
		note.Lapses = c.Reclaims
		d.r.log.Error("delivery buried: whoever had it in hand died", zap.String("delivery", c.ID), zap.String("type", d.env.Type), zap.Int("times", maxLapses))
		return queue.Bury("poison", encode(note)), true
	case d.env.Until != 0 && note.Replays == 0 && c.Now.UnixMilli() >= d.env.Until:
		return queue.Bury("expired", encode(note)), true
	case c.Expired && note.Held:
		note.Cancelled = reasonTooLong
		return queue.Done(encode(note)), true
	case c.Expired && note.Replays == 0, note.Replays > 0 && c.Now.UnixMilli()-note.ReplayedAt > pendingLife.Milliseconds():
		return queue.Bury("exhausted", encode(note)), true
	}
	return queue.Verdict{}, false
}

// missing waits a while for an endpoint that another replica may know, and then ends its delivery.
func (d *delivering) missing() queue.Verdict {
	now := d.c.Now.UnixMilli()
	if d.note.Missing == 0 {
		d.note.Missing = now
	}
	if now-d.note.Missing < removedPatience.Milliseconds() && !d.r.removing(endpointKey{d.env.Partner, d.env.Endpoint}) {
		return queue.Snooze(removedPause, encode(d.note))
	}
	d.note.Cancelled = reasonRemoved
	return queue.Done(encode(d.note))
}

// gate asks whether the attempt may be made now; wait is true when the verdict says what to do instead. A test event goes to
// an endpoint in any state, and says nothing about it but as a probe.
func (d *delivering) gate(ctx context.Context) (verdict queue.Verdict, probe, wait bool) {
	r, c, test := d.r, d.c, d.env.Type == EventEndpointTest
	key := d.e.HealthKey()
	pass, err := r.health.Gate(ctx, key)
	switch {
	case err != nil: // Redis is away: nothing is known about the endpoint, and nothing could be noted after a post
		return queue.Snooze(time.Second, c.Note), false, true
	case test:
		return verdict, pass.Probe, false
	case pass.Disabled:
		return d.hold(), false, true
	case pass.Wait > time.Second:
		r.rest(ctx, d.e, pass.Wait)
		return queue.GiveBack(), false, true
	case pass.Wait > 0:
		return queue.Snooze(pass.Wait, c.Note), false, true
	}
	if now := c.Now.UnixMilli(); d.e.Rate > 0 && !pass.Probe && !(d.note.Turn != 0 && now >= d.note.Turn && now < d.note.Turn+turnLate.Milliseconds()) {
		pause, reserved, err := r.health.Turn(ctx, key, d.e.Rate)
		if err != nil {
			return queue.Snooze(time.Second, c.Note), false, true
		}
		if pause > 0 {
			d.note.Turn = 0
			if reserved {
				d.note.Turn = now + pause.Milliseconds()
			}
			return queue.Snooze(pause, encode(d.note)), false, true
		}
	}
	return verdict, pass.Probe, false
}

// hold has a delivery wait until its endpoint is enabled, as long as buried ones are kept.
func (d *delivering) hold() queue.Verdict {
	d.note.Held, d.note.Turn = true, 0
	rules := d.r.rules.Load()
	return queue.ParkAgain(parkedFor(d.env.Partner, d.env.Endpoint), d.c.Created.Add(rules.KeepBuried), encode(d.note)).AtMost(rules.HeldPerEndpoint)
}

// rest keeps a benched endpoint's lane from being claimed: what waits spends neither attempts nor claims.
func (r *Relay) rest(ctx context.Context, e webhook.Endpoint, d time.Duration) {
	if err := r.q.Pause(ctx, deliverLane(e.Partner, e.ID), d); err != nil {
		r.log.Warn("lane not paused", zap.String("partner", e.Partner), zap.String("endpoint", e.ID), zap.Error(err))
	}
}

// judge turns the outcome of an attempt into a verdict.
func (d *delivering) judge(ctx context.Context, out webhook.Outcome, probe bool) queue.Verdict {
	r, c := d.r, d.c
	d.record(out)
	r.observeDelivery(d.env, c.ID, out, d.note.Total)
	with := queue.Change{Jobs: d.tellOutcome(ctx, out, probe)}
	switch out.Kind {
	case webhook.Delivered:
		return queue.Done(encode(d.note)).With(with)
	case webhook.Gone:
		if d.env.Type != EventEndpointTest {
			return d.hold().With(with)
		}
	case webhook.Blocked, webhook.Unfit:
		return queue.Bury(string(out.Kind), encode(d.note)).With(with)
	}
	if d.env.Type == EventEndpointTest { // who asked for it looks at its outcome
		return queue.Bury(reasonOf(out), encode(d.note)).With(with)
	}
	delay, more := webhook.NextDelay(c.Attempts+1, out, rand.Float64())
	switch {
	case !more:
		return queue.Bury("exhausted", encode(d.note)).With(with)
	case probe: // it stood for the whole backlog: the attempt is not one of its own
		return queue.Snooze(delay, encode(d.note)).With(with)
	}
	return queue.Retry(delay, encode(d.note), reasonOf(out)).With(with)
}

// tellOutcome notes what an outcome says about the endpoint, and makes the events of what it changed.
func (d *delivering) tellOutcome(ctx context.Context, out webhook.Outcome, probe bool) []queue.Job {
	r := d.r
	if out.Kind == webhook.Blocked || out.Kind == webhook.Unfit || d.env.Type == EventEndpointTest && !probe {
		return nil // our own rule, or a test: it says nothing about the endpoint
	}
	changed, err := r.health.Note(ctx, d.e.HealthKey(), out)
	if err != nil {
		r.log.Warn("endpoint health not noted", zap.String("partner", d.e.Partner), zap.String("endpoint", d.e.ID), zap.Error(err))
	}
	if changed == webhook.Recovered {
		if err := r.q.Resume(ctx, deliverLane(d.e.Partner, d.e.ID)); err != nil {
			r.log.Warn("lane not resumed", zap.String("partner", d.e.Partner), zap.String("endpoint", d.e.ID), zap.Error(err))
		}
		r.stirBacklog()
	}
	shard, err := queue.ShardOf(d.c.ID)
	if err != nil {
		return nil
	}
	return r.notifyHealth(shard, d.e.Partner, d.e.ID, changed, out, d.c.Now)
}

func reasonOf(out webhook.Outcome) string {
	if out.Status != 0 {
		return "status " + strconv.Itoa(out.Status)
	}
	return out.Err
}

// notifyHealth tells the partner's other endpoints what became of this one.
func (r *Relay) notifyHealth(shard int, partner, endpoint string, changed webhook.Transition, out webhook.Outcome, now time.Time) []queue.Job {
	data := EndpointEvent{Partner: partner, Endpoint: endpoint, State: string(changed), Reason: some(out.Err), Since: now.UTC()}
	var typ string
	switch changed {
	case webhook.Benched:
		typ = EventEndpointBenched
	case webhook.Disabled:
		typ = EventEndpointDisabled
	case webhook.Recovered:
		typ, data.State = EventEndpointRecovered, "healthy"
	default:
		return nil
	}
	if out.Status != 0 {
		data.Status = &out.Status
	}
	r.log.Warn(typ, zap.String("partner", partner), zap.String("endpoint", endpoint), zap.Int("status", out.Status), zap.String("error", out.Err))
	return r.notify(notification{shard: shard, partner: partner, not: endpoint, typ: typ, at: now, data: data})
}

func (r *Relay) observeDelivery(env envelope, id string, out webhook.Outcome, number int) {
	if f := r.observe.Delivery; f != nil {
		f(env.Partner, string(out.Kind), out.Took)
	}
	level := zap.DebugLevel
	if out.Kind != webhook.Delivered {
		level = zap.WarnLevel
	}
	line := r.log.Check(level, "delivery")
	if line == nil {
		return
	}
	line.Write(zap.String("partner", env.Partner), zap.String("endpoint", env.Endpoint), zap.String("delivery", id),
		zap.String("webhook_id", env.ID), zap.String("type", env.Type), zap.String("result", string(out.Kind)), zap.Int("status", out.Status),
		zap.Int("attempt", number), zap.Duration("took", out.Took), zap.String("error", out.Err))
}
