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

// attempt is one entry of a delivery's note.
type attempt struct {
	At     int64  `json:"t"` // Unix milliseconds
	Status int    `json:"s,omitempty"`
	Took   int64  `json:"d"` // milliseconds
	Err    string `json:"e,omitempty"`
	Answer string `json:"a,omitempty"` // the first bytes of it
}

// deliveryNote is what changes about a delivery.
type deliveryNote struct {
	Attempts []attempt `json:"a"`
	Replays  int       `json:"r,omitempty"`
	Total    int       `json:"n"` // attempts ever, over replays
}

const (
	maxAttemptsKept = 20
	maxAnswerKept   = 1 << 10
	maxHeld         = 200_000        // deliveries of a disabled endpoint; the oldest go first
	maxBenched      = 72 * time.Hour // how old a delivery gets behind an endpoint that stays benched: its own retries would take as long
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
	var note deliveryNote
	if len(c.Note) > 0 {
		if err := json.Unmarshal(c.Note, &note); err != nil {
			note = deliveryNote{}
		}
	}
	e, ok := r.endpoint(env.Partner, env.Endpoint)
	if !ok {
		return queue.Bury("endpoint_removed", c.Note)
	}
	key := e.HealthKey()
	pass, err := r.health.Gate(ctx, key)
	switch {
	case err != nil: // Redis is away: nothing is known about the endpoint, and nothing could be noted after a post
		return queue.Snooze(time.Second, c.Note)
	case pass.Disabled && c.Expired:
		return queue.Bury("held_too_long", c.Note)
	case pass.Disabled:
		return queue.ParkAgain(parkedFor(env.Partner, env.Endpoint), time.Time{}, c.Note).AtMost(maxHeld / r.q.Shards())
	case pass.Wait > 0 && note.Replays == 0 && c.Now.Sub(c.Created) > maxBenched:
		return queue.Bury("exhausted", c.Note)
	case pass.Wait > 0: // all that waits for the endpoint waits with it
		if err := r.q.Pause(ctx, c.Lane, pass.Wait); err != nil {
			return queue.Snooze(pass.Wait, c.Note)
		}
		return queue.GiveBack()
	}
	out := r.sender.Deliver(ctx, webhook.Attempt{Endpoint: e, ID: env.ID, Type: env.Type, Payload: payload, Number: note.Total + 1, Replay: note.Replays > 0})
	if ctx.Err() != nil && out.Kind != webhook.Delivered {
		return queue.Snooze(0, c.Note) // we are shutting down: it was our own cut, not the endpoint's fault
	}
	note.Total++
	note.Attempts = append(note.Attempts, attempt{At: c.Now.UnixMilli(), Status: out.Status, Took: out.Took.Milliseconds(), Err: out.Err,
		Answer: string(out.Body[:min(len(out.Body), maxAnswerKept)])})
	if over := len(note.Attempts) - maxAttemptsKept; over > 0 {
		note.Attempts = note.Attempts[over:]
	}
	r.observeDelivery(env, c.ID, out, note.Total)
	var jobs []queue.Job
	if out.Kind != webhook.Blocked { // a blocked address is our rule, it says nothing about the endpoint
		tr, err := r.health.Note(ctx, key, out)
		if err != nil {
			r.log.Warn("endpoint health not noted", zap.String("partner", env.Partner), zap.String("endpoint", env.Endpoint), zap.Error(err))
		}
		jobs = r.tellHealth(c.ID, env, tr, out, c.Now)
	}
	with := queue.Change{Jobs: jobs}
	switch out.Kind {
	case webhook.Delivered:
		return queue.Done(encode(note)).With(with)
	case webhook.Gone:
		return queue.Bury("gone", encode(note)).With(with)
	case webhook.Blocked:
		return queue.Bury("blocked", encode(note)).With(with)
	}
	d, more := webhook.NextDelay(c.Attempts+1, out, rand.Float64())
	if !more {
		return queue.Bury("exhausted", encode(note)).With(with)
	}
	return queue.Retry(d, encode(note), reasonOf(out)).With(with)
}

func parkedFor(partner, endpoint string) string { return "e/" + partner + "/" + endpoint }

func reasonOf(out webhook.Outcome) string {
	if out.Status != 0 {
		return "status " + strconv.Itoa(out.Status)
	}
	return out.Err
}

func (r *Relay) endpoint(partner, id string) (webhook.Endpoint, bool) {
	for _, e := range r.rules.Load().Partners[partner].Endpoints {
		if e.ID == id {
			return e, true
		}
	}
	return webhook.Endpoint{}, false
}

// tellHealth tells the partner's other endpoints what became of this one.
func (r *Relay) tellHealth(job string, env envelope, tr webhook.Transition, out webhook.Outcome, now time.Time) []queue.Job {
	var typ string
	switch tr {
	case webhook.Benched:
		typ = EventEndpointBenched
	case webhook.Disabled:
		typ = EventEndpointDisabled
	case webhook.Recovered:
		typ = EventEndpointRecovered
	default:
		return nil
	}
	shard, err := queue.ShardOf(job)
	if err != nil {
		return nil
	}
	r.log.Warn(typ, zap.String("partner", env.Partner), zap.String("endpoint", env.Endpoint), zap.Int("status", out.Status), zap.String("error", out.Err))
	data := EndpointEvent{Endpoint: env.Endpoint, Reason: some(out.Err)}
	if out.Status != 0 {
		data.Status = &out.Status
	}
	return r.tell(telling{shard: shard, partner: env.Partner, not: env.Endpoint, typ: typ, at: now, data: data})
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
