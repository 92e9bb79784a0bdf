// Package slow is the one switch of the tests that measure the wall clock, or take minutes: they need a quiet machine, and
// run with WXRELAY_SLOW=1 alone.
package slow

import (
	"os"
	"testing"
	"time"
)

// On tells whether they run.
func On() bool { return os.Getenv("WXRELAY_SLOW") == "1" }

// Only skips a test that is nothing without the clock.
func Only(t testing.TB) {
	t.Helper()
	if !On() {
		t.Skip("NOT RUN: it measures the wall clock; set WXRELAY_SLOW=1 on a quiet machine")
	}
}

// Within fails a test for what began longer ago than limit.
func Within(t testing.TB, began time.Time, limit time.Duration) {
	t.Helper()
	if took := time.Since(began); On() && took > limit {
		t.Errorf("took %v, longer than %v", took, limit)
	}
}
