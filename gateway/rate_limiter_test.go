package gateway

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestRateLimiterLetsTheBurstGoAndThenTheRate(t *testing.T) {
	m, r, now := newRateLimiter(), Rate{PerSecond: 5, Burst: 10}, time.Unix(1_700_000_000, 0)
	for i := range 10 {
		if wait := m.take("ann", r, now); wait != 0 {
			t.Fatalf("request %d of the burst waits %s", i, wait)
		}
	}
	wait := m.take("ann", r, now)
	if wait != 200*time.Millisecond {
		t.Errorf("the 11th waits %s, want 200ms", wait)
	}
	if m.take("bob", r, now) != 0 {
		t.Error("another name is not its own")
	}
	if m.take("ann", r, now.Add(wait-1)) == 0 {
		t.Error("allowed before the wait was over")
	}
	if m.take("ann", r, now.Add(wait)) != 0 {
		t.Error("refused after the wait was over")
	}
	allowed := 0 // refusals must not push the allowance away
	for ms := range 10_000 {
		if m.take("ann", r, now.Add(time.Second+time.Duration(ms)*time.Millisecond)) == 0 {
			allowed++
		}
	}
	if allowed < 50 || allowed > 55 {
		t.Errorf("%d in 10 s, want some 50 and what was saved up", allowed)
	}
	if m.take("free", Rate{}, now) != 0 {
		t.Error("no rate is no limit")
	}
}

func TestRateLimiterStaysBoundedInAFlood(t *testing.T) {
	m, r, now := newRateLimiter(), Rate{PerSecond: 1, Burst: 1}, time.Unix(1_700_000_000, 0)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 150_000 {
				m.take(fmt.Sprintf("%d/%d", w, i), r, now)
			}
		})
	}
	wg.Wait()
	for i := range m.parts {
		if n := len(m.parts[i].full); n > maxNames {
			t.Fatalf("part %d holds %d names, at most %d", i, n, maxNames)
		}
	}
	later := now.Add(time.Hour) // every allowance is whole: the next newcomer sweeps
	for i := range 600_000 {
		m.take(fmt.Sprintf("later/%d", i), r, later)
	}
	for i := range m.parts {
		if n := len(m.parts[i].full); n > maxNames {
			t.Fatalf("part %d holds %d names, at most %d", i, n, maxNames)
		}
	}
}
