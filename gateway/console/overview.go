package console

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wxrelay/wxrelay/relay"
)

// Overview is the first page: what needs somebody, and what runs through the gateway.
type Overview struct {
	Frame  `json:"-"`
	Ready  bool         `json:"ready"`
	Checks []Check      `json:"checks"`
	Needs  []Need       `json:"needs"` // the worst first
	Lanes  []relay.Lane `json:"lanes"` // those that wait longest first, at most 50
	More   int          `json:"more_lanes"`
	Sums   Sums         `json:"last_hour"`
	Apps   int          `json:"apps"`
	Ends   int          `json:"endpoints"`
	Blind  bool         `json:"blind"` // Redis did not answer: needs and lanes are missing, not empty
	Day    bool         `json:"-"`     // the plots show a day
	Tail   Tail         `json:"-"`
}

// Sums is what the last hour had.
type Sums struct {
	Pushes         int     `json:"pushes"`
	PushErrors     int     `json:"push_errors"`
	Sends          int     `json:"sends"`
	SendErrors     int     `json:"send_errors"`
	Deliveries     int     `json:"deliveries"`
	DeliveryErrors int     `json:"delivery_errors"`
	P99            float64 `json:"p99_seconds"`
	Lag            float64 `json:"lag_seconds"`
}

// Need is one thing that somebody has to see to.
type Need struct {
	Kind   string     `json:"kind"` // disabled benched probing paused token lag buried
	Name   string     `json:"name"` // the endpoint, app or lane
	Link   string     `json:"link"`
	Bad    bool       `json:"bad"` // nothing goes on by itself
	Count  int64      `json:"count"`
	Until  *time.Time `json:"until"`
	Detail string     `json:"detail"`
	Code   *int       `json:"errcode"`
}

func (*Overview) template() string { return "overview" }

// lagWorth is from when on a lane that waits is worth somebody's look.
const lagWorth = time.Minute

const lanesShown = 50

func (c *Console) overview(r *http.Request) (page, error) {
	ctx, rules := r.Context(), c.o.Relay.Rules()
	p := &Overview{Ready: true, Checks: append([]Check{}, c.o.Ready(ctx)...), Needs: []Need{}, Lanes: []relay.Lane{}, Apps: len(rules.Apps),
		Day: r.URL.Query().Get("range") == "day"}
	for _, check := range p.Checks {
		p.Ready = p.Ready && check.OK
	}
	for _, partner := range rules.Partners {
		p.Ends += len(partner.Endpoints)
	}
	seen, err := c.attention.look(ctx, c.readAttention)
	if err != nil { // the checks above say why; a page without them would say less
		p.Blind = true
		c.o.Fault(r.URL.Path, err)
	} else {
		p.Needs, p.Lanes = seen.needs, seen.lanes
	}
	if p.More = len(p.Lanes) - lanesShown; p.More > 0 {
		p.Lanes = p.Lanes[:lanesShown]
	} else {
		p.More = 0
	}
	p.Sums = sumUp(c.o.History.Series(false, time.Now()))
	p.Tail = c.tailAfter(0)
	return p, nil
}

func sumUp(s Series) (sum Sums) {
	for i := range s.At {
		sum.Pushes += s.Pushes[i]
		sum.PushErrors += s.PushErrors[i]
		sum.Sends += s.Sends[i]
		sum.SendErrors += s.SendErrors[i]
		sum.Deliveries += s.Deliveries[i]
		sum.DeliveryErrors += s.DeliveryErrors[i]
		sum.P99, sum.Lag = max(sum.P99, s.P99[i]), max(sum.Lag, s.Lag[i])
	}
	return sum
}

// attention keeps what the first page says of endpoints and lanes for a while: with a thousand of them reading it anew each
// time would be slow.
type attention struct {
	mu   sync.Mutex
	at   time.Time
	last seen
	err  error
	done chan struct{} // closed when the reading that is under way ends; nil = none is
}

type seen struct {
	needs []Need
	lanes []relay.Lane
}

const (
	attentionFresh = 2 * time.Second
	attentionOld   = 30 * time.Second      // older than this is not shown
	attentionWait  = 30 * time.Millisecond // how long a page waits where it has an older reading
)

// look returns a fresh reading; where that takes long, the one before.
func (a *attention) look(ctx context.Context, read func(context.Context) (seen, error)) (seen, error) {
	a.mu.Lock()
	age := time.Since(a.at)
	if !a.at.IsZero() && age < attentionFresh {
		defer a.mu.Unlock()
		return a.last, a.err
	}
	if a.done == nil {
		a.done = make(chan struct{})
		apart := context.WithoutCancel(ctx) // others wait for it too
		go func(done chan struct{}) {
			within, cancel := context.WithTimeout(apart, 8*time.Second)
			defer cancel()
			s, err := read(within)
			a.mu.Lock()
			defer a.mu.Unlock()
			a.last, a.err, a.at, a.done = s, err, time.Now(), nil
			close(done)
		}(a.done)
	}
	done, old := a.done, !a.at.IsZero() && age < attentionOld && a.err == nil
	a.mu.Unlock()
	var patience <-chan time.Time
	if old {
		t := time.NewTimer(attentionWait)
		defer t.Stop()
		patience = t.C
	}
	select {
	case <-done:
	case <-patience:
	case <-ctx.Done():
		return seen{}, ctx.Err()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last, a.err
}

// readAttention looks at everything once.
func (c *Console) readAttention(ctx context.Context) (seen, error) {
	s := seen{needs: []Need{}}
	ends, err := c.o.Relay.EndpointHealths(ctx)
	if err != nil {
		return s, err
	}
	for _, e := range ends {
		if e.State == "healthy" {
			continue
		}
		s.needs = append(s.needs, Need{Kind: e.State, Name: e.Partner + "/" + e.Endpoint, Link: "/endpoints/" + e.Partner + "/" + e.Endpoint,
			Bad: e.State == "disabled", Count: e.Pending + e.Held})
	}
	for _, p := range c.o.Relay.Paused() {
		until := p.Until
		n := Need{Kind: "paused", Name: p.App, Link: "/apps/" + p.App, Bad: true, Until: &until, Detail: p.Channel, Code: p.Errcode}
		s.needs = append(s.needs, n)
	}
	now := time.Now()
	for name := range c.o.Relay.Rules().Apps {
		if _, ends, ok := c.o.Relay.HeldToken(name); ok && ends.Before(now) {
			s.needs = append(s.needs, Need{Kind: "token", Name: name, Link: "/apps/" + name, Bad: true, Until: &ends})
		}
	}
	if s.lanes, err = c.o.Relay.Lanes(ctx); err != nil {
		return s, err
	}
	for _, lane := range s.lanes {
		if lane.Oldest >= lagWorth {
			s.needs = append(s.needs, Need{Kind: "lag", Name: lane.Name, Link: "/#lanes", Count: lane.Ready, Detail: strconv.Itoa(int(lane.Oldest.Seconds()))})
		}
		if lane.Buried > 0 {
			s.needs = append(s.needs, Need{Kind: "buried", Name: lane.Name, Link: buriedLink(lane.Name), Count: lane.Buried})
		}
	}
	slices.SortStableFunc(s.needs, func(a, b Need) int {
		switch {
		case a.Bad == b.Bad:
			return strings.Compare(a.Kind+a.Name, b.Kind+b.Name)
		case a.Bad:
			return -1
		}
		return 1
	})
	slices.SortStableFunc(s.lanes, func(a, b relay.Lane) int { return int(min(max(b.Oldest-a.Oldest, -1), 1)) })
	return s, nil
}

func buriedLink(lane string) string {
	if name, ok := strings.CutPrefix(lane, "deliver:"); ok {
		return "/deliveries?state=buried&endpoint=" + name
	}
	return "/#lanes"
}

// HistoryPage is the counters over time. As a page it is of no use; as JSON it feeds the plots.
type HistoryPage struct {
	Frame `json:"-"`
	Series
}

func (*HistoryPage) template() string { return "history" }

func (c *Console) history(r *http.Request) (page, error) {
	return &HistoryPage{Series: c.o.History.Series(r.URL.Query().Get("range") == "day", time.Now())}, nil
}

// Tail is what happened last.
type Tail struct {
	Frame  `json:"-"`
	Items  []Happening `json:"items"` // the newest first
	Last   uint64      `json:"last"`  // to ask for what came after it
	Missed uint64      `json:"missed"`
}

func (*Tail) template() string { return "tail" }
func (*Tail) fragment()        {}

func (c *Console) tail(r *http.Request) (page, error) {
	after, _ := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	t := c.tailAfter(after)
	return &t, nil
}

func (c *Console) tailAfter(after uint64) Tail {
	list, missed := c.o.History.Tail(after)
	t := Tail{Items: []Happening{}, Missed: missed, Last: after}
	for i := len(list) - 1; i >= 0 && len(t.Items) < 30; i-- {
		t.Items = append(t.Items, list[i])
	}
	if len(list) > 0 {
		t.Last = list[len(list)-1].Number
	}
	return t
}
