package console

import (
	"math"
	"slices"
	"sync"
	"time"
)

// History counts what this process did, by the minute, for one day, and keeps the latest happenings for the live tail. It is
// bounded: some 400 KB however much happens. The zero History is ready; its methods are safe for concurrent use.
type History struct {
	mu      sync.Mutex
	minutes [minutesKept]minute
	tail    [tailKept]Happening
	last    uint64               // number of the newest happening
	pushes  map[string]time.Time // app -> its last push
}

const (
	minutesKept = 24 * 60
	tailKept    = 200
	appsKept    = 10_000
)

// minute is what happened in one minute.
type minute struct {
	at                        int64 // Unix minute; another one = empty
	pushes, pushErrors        int
	sends, sendErrors         int
	deliveries, deliveryFails int
	took                      [len(tookBounds) + 1]int // deliveries by how long the partner took
	lag                       time.Duration            // the longest seen
}

// tookBounds are the upper bounds of the counted delivery times.
var tookBounds = [...]time.Duration{5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second}

// Happening is one line of the live tail.
type Happening struct {
	Number uint64    `json:"number"`
	At     time.Time `json:"at"`
	Kind   string    `json:"kind"` // push | message | delivery
	Who    string    `json:"who"`  // the app, or the partner
	What   string    `json:"what"` // WeChat's event, the channel
	Result string    `json:"result"`
	Bad    bool      `json:"bad"`
}

// of is the present minute's counters; the caller holds the lock.
func (h *History) of(now time.Time) *minute {
	at := now.Unix() / 60
	m := &h.minutes[at%minutesKept]
	if m.at != at {
		*m = minute{at: at}
	}
	return m
}

// add keeps a happening; the caller holds the lock.
func (h *History) add(x Happening) {
	h.last++
	x.Number = h.last
	h.tail[h.last%tailKept] = x
}

// Push counts a push by its result: accepted, duplicate, or what was wrong.
func (h *History) Push(app, event, result string, now time.Time) {
	bad := result != "accepted" && result != "duplicate"
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.of(now)
	m.pushes++
	if bad {
		m.pushErrors++
	} else if len(h.pushes) < appsKept || !h.pushes[app].IsZero() {
		if h.pushes == nil {
			h.pushes = map[string]time.Time{}
		}
		h.pushes[app] = now
	}
	h.add(Happening{At: now, Kind: "push", Who: app, What: event, Result: result, Bad: bad})
}

// Message counts a message's new state; what is no state is left out. Those that WeChat took count as sent, those it did not
// as errors.
func (h *History) Message(app, channel, state string, now time.Time) {
	if !slices.Contains(messageStates, state) {
		return
	}
	bad := state == "failed" || state == "refused" || state == "unknown"
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case bad:
		h.of(now).sendErrors++
	case state == "sent":
		h.of(now).sends++
	}
	h.add(Happening{At: now, Kind: "message", Who: app, What: channel, Result: state, Bad: bad})
}

// Delivery counts an attempt to tell a partner.
func (h *History) Delivery(partner, result string, took time.Duration, now time.Time) {
	bad := result != "delivered"
	i, _ := slices.BinarySearch(tookBounds[:], took)
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.of(now)
	m.deliveries++
	m.took[i]++
	if bad {
		m.deliveryFails++
	}
	h.add(Happening{At: now, Kind: "delivery", Who: partner, Result: result, Bad: bad})
}

// Lag notes how long the oldest job that is due has waited.
func (h *History) Lag(lag time.Duration, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.of(now)
	m.lag = max(m.lag, lag)
}

// LastPush is when an app's last good push came to this process; the zero time when none did.
func (h *History) LastPush(app string) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pushes[app]
}

// Tail returns what happened after a number, the oldest first, at most the latest 200, and how many were missed.
func (h *History) Tail(after uint64) (list []Happening, missed uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if after > h.last { // of another process, or of before a restart
		after = 0
	}
	from := after
	if h.last > tailKept && from < h.last-tailKept {
		from = h.last - tailKept
		if after > 0 {
			missed = from - after
		}
	}
	for n := from + 1; n <= h.last; n++ {
		list = append(list, h.tail[n%tailKept])
	}
	return list, missed
}

// Series is the counters over time, one value for each step in every list: what was counted from At on, for Step seconds.
type Series struct {
	Range          string    `json:"range"`        // hour | day
	Step           int       `json:"step_seconds"` //
	At             []int64   `json:"at"`           // Unix seconds
	Pushes         []int     `json:"pushes"`
	PushErrors     []int     `json:"push_errors"`
	Sends          []int     `json:"sends"`
	SendErrors     []int     `json:"send_errors"`
	Deliveries     []int     `json:"deliveries"`
	DeliveryErrors []int     `json:"delivery_errors"`
	P99            []float64 `json:"p99_seconds"` // of deliveries; 0 = there were none
	Lag            []float64 `json:"lag_seconds"` // the longest
}

// Series sums the counters up: the last hour by the minute, or the last day by the quarter of an hour.
func (h *History) Series(day bool, now time.Time) Series {
	s, steps, each := Series{Range: "hour", Step: 60}, 60, int64(1)
	if day {
		s, steps, each = Series{Range: "day", Step: 900}, 96, 15
	}
	end := now.Unix()/60 + 1
	end += (each - end%each) % each // a whole step, the present one included
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range steps {
		from := end - int64(steps-i)*each
		var sum minute
		for at := from; at < from+each; at++ {
			m := &h.minutes[at%minutesKept]
			if m.at != at {
				continue
			}
			sum.pushes += m.pushes
			sum.pushErrors += m.pushErrors
			sum.sends += m.sends
			sum.sendErrors += m.sendErrors
			sum.deliveries += m.deliveries
			sum.deliveryFails += m.deliveryFails
			sum.lag = max(sum.lag, m.lag)
			for j, n := range m.took {
				sum.took[j] += n
			}
		}
		s.At = append(s.At, from*60)
		s.Pushes, s.PushErrors = append(s.Pushes, sum.pushes), append(s.PushErrors, sum.pushErrors)
		s.Sends, s.SendErrors = append(s.Sends, sum.sends), append(s.SendErrors, sum.sendErrors)
		s.Deliveries, s.DeliveryErrors = append(s.Deliveries, sum.deliveries), append(s.DeliveryErrors, sum.deliveryFails)
		s.P99, s.Lag = append(s.P99, sum.p99().Seconds()), append(s.Lag, sum.lag.Seconds())
	}
	return s
}

// p99 is the bound below which 99 of 100 deliveries were answered.
func (m *minute) p99() time.Duration {
	rank, seen := int(math.Ceil(float64(m.deliveries)*0.99)), 0
	if rank == 0 {
		return 0
	}
	for i, n := range m.took {
		if seen += n; seen >= rank {
			return tookBounds[min(i, len(tookBounds)-1)]
		}
	}
	return 0
}
