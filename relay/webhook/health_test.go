package webhook

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/testredis"
)

var (
	good  = Outcome{Kind: Delivered, Status: 200}
	bad   = Outcome{Kind: Failed, Status: 500}
	gone  = Outcome{Kind: Gone, Status: 410}
	block = Outcome{Kind: Blocked}
)

// note tells outcomes and returns the last transition.
func note(t *testing.T, h *Health, endpoint string, list ...Outcome) Transition {
	t.Helper()
	var tr Transition
	for _, o := range list {
		var err error
		if tr, err = h.Note(context.Background(), endpoint, o); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

func gate(t *testing.T, h *Health, endpoint string) (time.Duration, bool) {
	t.Helper()
	p, err := h.Gate(context.Background(), endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return p.Wait, p.Disabled
}

func times(n int, o Outcome) []Outcome {
	list := make([]Outcome, n)
	for i := range list {
		list[i] = o
	}
	return list
}

func condition(t *testing.T, h *Health, endpoint string) Condition {
	t.Helper()
	c, err := h.Of(context.Background(), endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestHealthRules(t *testing.T) {
	mixed := func(n int, pattern ...Outcome) []Outcome {
		var list []Outcome
		for i := range n {
			list = append(list, pattern[i%len(pattern)])
		}
		return list
	}
	tests := []struct {
		rule string
		list []Outcome
		want Transition
		then string
	}{
		{"nine failures in a row", times(9, bad), NoTransition, "healthy"},
		{"ten failures in a row", times(10, bad), Benched, "benched"},
		{"the eleventh tells nobody again", times(11, bad), NoTransition, "benched"},
		{"a success in between breaks the row", append(append(times(5, good), times(9, bad)...), append(times(6, good), times(9, bad)...)...), NoTransition, "healthy"},
		{"70 percent of ten", []Outcome{good, bad, bad, good, bad, bad, good, bad, bad, bad}, Benched, "benched"},
		{"60 percent of ten", []Outcome{good, bad, bad, good, bad, bad, good, bad, bad, good}, NoTransition, "healthy"},
		{"every failure of nine", mixed(9, bad, bad, bad, good), NoTransition, "healthy"},
		{"two failures of three, for long", mixed(300, good, bad, bad), NoTransition, "healthy"},
		{"a good last one never benches", append(times(9, bad), good), NoTransition, "healthy"},
		{"410", []Outcome{good, gone}, Disabled, "disabled"},
		{"410 again", []Outcome{gone, gone}, NoTransition, "disabled"},
		{"410 when benched", append(times(10, bad), gone), Disabled, "disabled"},
		{"disabled stays disabled", []Outcome{gone, good, bad, good}, NoTransition, "disabled"},
		{"blocked is our own refusal", times(30, block), NoTransition, "healthy"},
		{"a late success does not end the bench", append(times(10, bad), good, good), NoTransition, "benched"},
	}
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		for i, tt := range tests {
			t.Run(tt.rule, func(t *testing.T) {
				h := NewHealth(rdb)
				key := fmt.Sprint("p/e/", i)
				if got := note(t, h, key, tt.list...); got != tt.want {
					t.Errorf("transition %q, want %q", got, tt.want)
				}
				other := NewHealth(rdb) // another replica
				c := condition(t, other, key)
				if c.State != tt.then {
					t.Errorf("condition %+v, want %s", c, tt.then)
				}
				for _, replica := range []*Health{h, other} {
					wait, disabled := gate(t, replica, key)
					if disabled != (tt.then == "disabled") || (wait > 0) != (tt.then == "benched") || wait > benchFirst {
						t.Errorf("gate: %v, %v", wait, disabled)
					}
				}
				if tt.then != "healthy" && c.Since.IsZero() {
					t.Error("nobody knows since when")
				}
			})
		}
		t.Run("disabled and back", func(t *testing.T) {
			ctx, key := context.Background(), "p/x"
			h, other := NewHealth(rdb), NewHealth(rdb)
			set := func(want Transition) func(Transition, error) {
				return func(tr Transition, err error) {
					t.Helper()
					if err != nil || tr != want {
						t.Fatalf("%q, %v; want %q", tr, err, want)
					}
				}
			}
			note(t, h, key, Outcome{Kind: Gone, Err: "status 410"})
			if c := condition(t, h, key); c.State != "disabled" || c.Reason != "status 410" || c.Since.IsZero() {
				t.Errorf("%+v", c)
			}
			set(Recovered)(h.Enable(ctx, key, "since 5"))
			set(NoTransition)(other.Enable(ctx, key, "drop")) // healthy already: the later plan holds
			if wait, disabled := gate(t, h, key); wait > 0 || disabled {
				t.Errorf("gate: %v, %v", wait, disabled)
			}
			if c := condition(t, h, key); c != (Condition{State: "healthy", Plan: "drop"}) {
				t.Errorf("%+v", c)
			}
			if err := h.Settle(ctx, key, "since 5"); err != nil { // not the plan any more
				t.Fatal(err)
			}
			note(t, h, key, times(10, bad)...)
			if c := condition(t, h, key); c.State != "benched" || c.Plan != "drop" {
				t.Errorf("%+v", c)
			}
			set(Recovered)(h.Enable(ctx, key, ""))
			set(Disabled)(h.Disable(ctx, key, "by the operator"))
			set(NoTransition)(other.Disable(ctx, key, "again"))
			if c := condition(t, other, key); c.State != "disabled" || c.Reason != "by the operator" || c.Plan != "" {
				t.Errorf("%+v", c)
			}
			set(Recovered)(h.Enable(ctx, key, "all"))
			if err := h.Settle(ctx, key, "all"); err != nil {
				t.Fatal(err)
			}
			if n := rdb.Exists(ctx, healthKey(key)).Val(); n != 0 {
				t.Error("a healthy endpoint without a plan leaves a key")
			}
		})
		t.Run("Probe ends a bench", func(t *testing.T) {
			ctx, key, h := context.Background(), "p/y", NewHealth(rdb)
			note(t, h, key, times(10, bad)...)
			for range 2 { // also when a probe is in flight already
				if err := h.Probe(ctx, key); err != nil {
					t.Fatal(err)
				}
				if p, err := h.Gate(ctx, key); err != nil || p.Wait != 0 || !p.Probe {
					t.Fatalf("%+v, %v", p, err)
				}
			}
			note(t, h, key, good)
			gate(t, h, key)
			if tr := note(t, h, key, good); tr != Recovered {
				t.Errorf("%q", tr)
			}
		})
		t.Run("everything expires", func(t *testing.T) {
			for _, k := range rdb.Keys(context.Background(), "*").Val() {
				if ttl := rdb.PTTL(context.Background(), k).Val(); ttl <= 0 {
					t.Errorf("%s never expires", k)
				}
			}
		})
	})
}

// clocked is a replica whose own clock is the sandbox's.
func clocked(s *testredis.Clocked, rdb redis.UniversalClient) *Health {
	h := NewHealth(rdb)
	h.now = func() time.Time { return s.Now }
	return h
}

func TestHealthProbing(t *testing.T) {
	s, rdb := testredis.InProcess(t)
	h, other := clocked(s, rdb), clocked(s, rdb)
	const key = "p/main"
	if tr := note(t, h, key, times(10, bad)...); tr != Benched {
		t.Fatalf("%q", tr)
	}
	// While benched everybody waits, until the bench ends, and longer and longer as probes fail.
	for i, bench := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute} {
		if wait, _ := gate(t, h, key); wait != bench {
			t.Fatalf("bench %d: wait %v, want %v", i, wait, bench)
		}
		s.Pass(bench - time.Millisecond)
		if wait, _ := gate(t, other, key); wait != time.Millisecond {
			t.Fatalf("bench %d: a moment before its end: %v", i, wait)
		}
		s.Pass(time.Millisecond)
		through := 0
		for range 5 {
			for _, replica := range []*Health{h, other} {
				if wait, _ := gate(t, replica, key); wait == 0 {
					through++
				} else if wait > probeWait {
					t.Errorf("wait %v for a probe", wait)
				}
			}
		}
		if through != 1 {
			t.Fatalf("bench %d: %d probes at once", i, through)
		}
		if c := condition(t, other, key); c.State != "probing" {
			t.Errorf("%+v", c)
		}
		if tr := note(t, h, key, bad); tr != NoTransition {
			t.Errorf("a failed probe tells %q", tr)
		}
	}
	s.Pass(10 * time.Minute)
	if wait, _ := gate(t, h, key); wait != 0 {
		t.Fatalf("first probe waits %v", wait)
	}
	if tr := note(t, h, key, good); tr != NoTransition {
		t.Errorf("one probe is not enough: %q", tr)
	}
	if wait, _ := gate(t, h, key); wait != 0 {
		t.Fatalf("second probe waits %v", wait)
	}
	if wait, _ := gate(t, other, key); wait == 0 {
		t.Error("a third one beside the second")
	}
	if tr := note(t, h, key, good); tr != Recovered {
		t.Errorf("%q", tr)
	}
	s.Pass(lookAgain)
	for _, replica := range []*Health{h, other} {
		if wait, _ := gate(t, replica, key); wait != 0 {
			t.Errorf("recovered, and waits %v", wait)
		}
	}
	// The next bench is a short one again.
	note(t, h, key, times(10, bad)...)
	if wait, _ := gate(t, h, key); wait != benchFirst {
		t.Errorf("wait %v", wait)
	}
}

func TestHealthProberDies(t *testing.T) {
	s, rdb := testredis.InProcess(t)
	h, other := clocked(s, rdb), clocked(s, rdb)
	note(t, h, "p/e", times(10, bad)...)
	s.Pass(benchFirst)
	if wait, _ := gate(t, h, "p/e"); wait != 0 {
		t.Fatal("no probe")
	}
	s.Pass(probeTime - time.Second)
	if wait, _ := gate(t, other, "p/e"); wait == 0 {
		t.Error("a second probe beside a living one")
	}
	s.Pass(time.Second)
	if wait, _ := gate(t, other, "p/e"); wait != 0 {
		t.Error("nobody probes after the prober died")
	}
}

func TestHealthWindowForgets(t *testing.T) {
	s, rdb := testredis.InProcess(t)
	h := clocked(s, rdb)
	note(t, h, "p/e", bad, bad, bad, good, bad, bad, bad, good)
	s.Pass(benchWindow + benchWindow/windowSlots)
	// The old 6 of 8 count no more: 7 of 10 are needed anew.
	if tr := note(t, h, "p/e", good, bad, good, bad, good, bad, bad, bad, good); tr != NoTransition {
		t.Errorf("%q", tr)
	}
	s.Pass(healthKept + time.Second)
	if c := condition(t, h, "p/e"); c.Failures != 0 || len(s.Keys()) != 0 {
		t.Errorf("%+v after a month of silence", c)
	}
}

// A healthy endpoint is not Redis' business at every delivery, and what was not told yet is told with the next failure.
func TestHealthIsCheapWhenHealthy(t *testing.T) {
	s, rdb := testredis.InProcess(t)
	h := clocked(s, rdb)
	before := s.CommandCount()
	for range 1000 {
		gate(t, h, "p/e")
		note(t, h, "p/e", good)
	}
	if n := s.CommandCount() - before; n > 30 {
		t.Errorf("%d commands for 1000 deliveries", n)
	}
	s.Pass(2 * time.Second)
	note(t, h, "p/e", times(9, bad)...)
	note(t, h, "p/e", good)
	if tr := note(t, h, "p/e", times(9, bad)...); tr != NoTransition {
		t.Errorf("18 failures beside 1000 successes: %q", tr)
	}
}

func TestHealthOneCallerLearnsOfAChange(t *testing.T) {
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		replicas := []*Health{NewHealth(rdb), NewHealth(rdb)}
		var mu sync.Mutex
		told := 0
		var wg sync.WaitGroup
		for i := range 60 {
			wg.Go(func() {
				tr, err := replicas[i%2].Note(context.Background(), "p/e", bad)
				if err != nil {
					t.Error(err)
				}
				if tr == Benched {
					mu.Lock()
					told++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if told != 1 {
			t.Errorf("%d callers were told", told)
		}
	})
}

func TestHealthWithoutRedis(t *testing.T) {
	s, _ := testredis.InProcess(t)
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1, DialerRetries: 1})
	defer rdb.Close()
	h := clocked(s, rdb)
	gate(t, h, "p/e")
	s.Close()
	if wait, disabled := gate(t, h, "p/e"); wait != 0 || disabled {
		t.Error("the view of a second ago is forgotten")
	}
	s.Now = s.Now.Add(2 * time.Second)
	ctx := context.Background()
	if _, err := h.Gate(ctx, "p/e"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Gate: %v", err)
	}
	if _, err := h.Note(ctx, "p/e", bad); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Note: %v", err)
	}
	if _, err := h.Enable(ctx, "p/e", ""); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Enable: %v", err)
	}
	if _, err := h.Of(ctx, "p/e"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Of: %v", err)
	}
}

func BenchmarkHealthyDelivery(b *testing.B) {
	_, rdb := testredis.InProcess(b)
	h := NewHealth(rdb)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		h.Gate(ctx, "p/e")
		h.Note(ctx, "p/e", good)
	}
}
