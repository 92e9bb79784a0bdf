package webhook

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// The breaker's figures.
const (
	benchAfter   = 10               // failures in a row, or
	benchShare   = 70               // percent of at least
	benchOutOf   = 10               // outcomes
	benchWindow  = 5 * time.Minute  // so young
	windowSlots  = 10               // it forgets in steps of this many
	benchFirst   = 30 * time.Second // doubling while probes fail, up to
	benchLongest = 10 * time.Minute //
	probesToPass = 2                // in a row
	probeTime    = 45 * time.Second // a probe without an outcome for so long is given up: its process died
	probeWait    = time.Second      // of those who find a probe in flight
	healthKept   = 30 * 24 * time.Hour
	lookAgain    = time.Second // how old this process's own view may be
	viewsKept    = 4096
)

// The states as Redis has them; healthy is the absence of one.
const (
	stateOpen = "open" // benched
	stateHalf = "half" // probing
	stateOff  = "off"  // disabled
)

// Health knows which endpoints are benched or disabled, over all replicas.
//
//	healthy --10 in a row, or 70 % of >= 10 in 5 min fail--> benched --30 s ... 10 min--> probing
//	   ^                                                        ^                           |  |
//	   |                                                        +----- a probe fails -------+  |
//	   +-------------------------- two probes in a row pass -----------------------------------+
//	any --410, Disable--> disabled --Enable, or 30 days of silence--> healthy
//
// A healthy endpoint costs at most one command a second and process: its successes are counted here and reported
// together (DECISIONS.md 5).
type Health struct {
	commands *pipeliner
	now      func() time.Time // for this process's own view only; the scripts ask Redis

	mu    sync.Mutex
	views map[string]*view
}

// view is what this process knows about one endpoint.
type view struct {
	mu         sync.Mutex
	at         time.Time // when it was read; zero = read again
	until      time.Time // waiting until then, then ask; zero = go
	disabled   bool
	clean      bool // healthy, and no failure since the last success
	unreported int  // successes not in Redis yet
}

// NewHealth keeps it in rdb.
func NewHealth(rdb redis.UniversalClient) *Health {
	return &Health{commands: &pipeliner{rdb: rdb}, now: time.Now, views: map[string]*view{}}
}

// Transition is what an outcome changed.
type Transition string

// The transitions.
const (
	NoTransition Transition = ""
	Benched      Transition = "benched"
	Recovered    Transition = "recovered"
	Disabled     Transition = "disabled"
)

// The states of a Condition.
const (
	Healthy = "healthy"
	Open    = "benched"
	Probing = "probing"
	Off     = "disabled"
)

// Condition is what is known about one endpoint.
type Condition struct {
	State    string    // healthy benched probing disabled
	Until    time.Time // benched: when it is probed
	Since    time.Time // benched or disabled since; zero when healthy
	Failures int       // in a row
	Reason   string    // why it is benched or disabled
	Plan     string    // given to Enable and not yet carried out
}

// Pass says whether a delivery may go.
type Pass struct {
	Wait     time.Duration // 0 = go
	Disabled bool
	Probe    bool // the endpoint is benched and this delivery is its probe
}

// Note counts one outcome and says what it changed; exactly one caller over all replicas gets a change. Blocked is
// our own refusal and says nothing about the endpoint. ErrUnavailable.
func (h *Health) Note(ctx context.Context, endpoint string, o Outcome) (Transition, error) {
	good, bad, gone := 0, 0, 0
	switch o.Kind {
	case Delivered:
		good = 1
	case Failed:
		bad = 1
	case Gone:
		gone = 1
	default:
		return NoTransition, nil
	}
	v := h.view(endpoint)
	v.mu.Lock()
	if good == 1 && v.clean && h.now().Sub(v.at) < lookAgain {
		v.unreported++
		v.mu.Unlock()
		return NoTransition, nil
	}
	if h.now().Sub(v.at) < benchWindow/windowSlots { // older ones would count as today's
		good += v.unreported
	}
	v.unreported = 0
	v.mu.Unlock()
	r, err := h.run(ctx, noteScript, endpoint, good, bad, gone, o.Err)
	if err != nil {
		return NoTransition, err
	}
	v.update(h.now(), r)
	return r.changed, nil
}

// Gate says how long a delivery to this endpoint must wait (0 = go) without spending an attempt, and whether the
// endpoint is disabled. While benched it lets one probe through at a time, over all replicas: the caller that may go must
// deliver and Note. What it says about the others may be a second old. ErrUnavailable.
func (h *Health) Gate(ctx context.Context, endpoint string) (p Pass, err error) {
	v := h.view(endpoint)
	now := h.now()
	v.mu.Lock()
	waiting := !v.until.IsZero()
	if now.Sub(v.at) < lookAgain && (!waiting || now.Before(v.until)) {
		if waiting {
			p.Wait = v.until.Sub(now)
		}
		p.Disabled = v.disabled
		v.mu.Unlock()
		return p, nil
	}
	at, until := v.at, v.until
	if !at.IsZero() { // while this caller asks, the others go by the old view
		v.at = now
		if waiting {
			v.until = now.Add(probeWait)
		}
	}
	v.mu.Unlock()
	r, err := h.run(ctx, gateScript, endpoint)
	if err != nil {
		v.mu.Lock()
		v.at, v.until = at, until
		v.mu.Unlock()
		return Pass{}, err
	}
	v.update(now, r)
	return Pass{Wait: r.wait, Disabled: r.state == stateOff, Probe: r.probe}, nil
}

// Enable forgets everything held against the endpoint: it is healthy, also when it was benched. plan is kept until Settle for
// whoever carries it out. ErrUnavailable.
func (h *Health) Enable(ctx context.Context, endpoint, plan string) (Transition, error) {
	return h.set(ctx, endpoint, "enable", plan)
}

// Settle forgets a plan that is carried out, if it is still the one. ErrUnavailable.
func (h *Health) Settle(ctx context.Context, endpoint, plan string) error {
	_, err := h.set(ctx, endpoint, "settle", plan)
	return err
}

// Disable has every delivery wait until Enable. ErrUnavailable.
func (h *Health) Disable(ctx context.Context, endpoint, why string) (Transition, error) {
	return h.set(ctx, endpoint, "disable", why)
}

// Probe ends a bench's wait: the next delivery is a probe. ErrUnavailable.
func (h *Health) Probe(ctx context.Context, endpoint string) error {
	_, err := h.set(ctx, endpoint, "probe", "")
	return err
}

func (h *Health) set(ctx context.Context, endpoint, what, text string) (Transition, error) {
	r, err := h.run(ctx, setScript, endpoint, what, text)
	h.mu.Lock()
	delete(h.views, endpoint)
	h.mu.Unlock()
	return r.changed, err
}

// Of reads one endpoint's condition. ErrUnavailable.
func (h *Health) Of(ctx context.Context, endpoint string) (Condition, error) {
	r, err := h.run(ctx, readScript, endpoint)
	if err != nil {
		return Condition{}, err
	}
	c := Condition{State: Healthy, Failures: r.failures, Reason: r.why, Plan: r.plan}
	if r.state != "" {
		c.Since = r.since
	}
	switch r.state {
	case stateOpen:
		c.State, c.Until = Open, r.now.Add(r.wait)
	case stateHalf:
		c.State = Probing
	case stateOff:
		c.State = Off
	}
	return c, nil
}

func (h *Health) view(endpoint string) *view {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.views[endpoint]
	if v == nil {
		if len(h.views) >= viewsKept { // endpoints come and go; what is lost is looked up again
			clear(h.views)
		}
		v = &view{}
		h.views[endpoint] = v
	}
	return v
}

func (v *view) update(now time.Time, r reading) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.at, v.disabled, v.clean = now, r.state == stateOff, r.state == "" && r.failures == 0
	v.until = time.Time{}
	switch {
	case r.probe:
		v.until = now.Add(probeWait) // for the others; the prober knows its own answer
	case r.wait > 0:
		v.until = now.Add(r.wait)
	case r.state == stateHalf: // the next probe may go at once
		v.at = time.Time{}
	}
}

// reading is what a script says.
type reading struct {
	state      string
	wait       time.Duration
	failures   int
	changed    Transition
	probe      bool
	since, now time.Time
	why, plan  string
}

var errReading = errors.New("health script answered in another form")

func (h *Health) run(ctx context.Context, script *redis.Script, endpoint string, args ...any) (reading, error) {
	v, err := h.commands.run(ctx, script, healthKey(endpoint), args...)
	if err != nil {
		return reading{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	list, ok := v.([]any)
	if !ok || len(list) != 9 {
		return reading{}, fmt.Errorf("%w: %w", ErrUnavailable, errReading)
	}
	state, _ := list[0].(string)
	changed, _ := list[3].(string)
	var n [7]int64
	for i := range n {
		n[i], _ = list[i].(int64)
	}
	r := reading{state: state, wait: time.Duration(n[1]) * time.Millisecond, failures: int(n[2]), changed: Transition(changed),
		probe: n[4] == 1, now: time.UnixMilli(n[6])}
	r.why, _ = list[7].(string)
	r.plan, _ = list[8].(string)
	if n[5] > 0 {
		r.since = time.UnixMilli(n[5])
	}
	return r, nil
}

func healthKey(endpoint string) string { return "wx:{ep:" + hashOf(endpoint) + "}:h" }
