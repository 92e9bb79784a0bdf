package webhook

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestNextDelay(t *testing.T) {
	want := []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
		time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour}
	for i, d := range want {
		for _, c := range []struct {
			rnd  float64
			want time.Duration
		}{{0, d * 8 / 10}, {0.5, d}, {1, d * 12 / 10}} {
			got, more := NextDelay(i+1, Outcome{Kind: Failed}, c.rnd)
			if !more || got != c.want {
				t.Errorf("after %d failures, rnd %v: %v, %v; want %v", i+1, c.rnd, got, more, c.want)
			}
		}
	}
	tests := []struct {
		rule     string
		failures int
		o        Outcome
		want     time.Duration
		more     bool
	}{
		{"after the tenth repeat no more", 11, Outcome{Kind: Failed}, 0, false},
		{"far beyond", 1 << 30, Outcome{Kind: Failed}, 0, false},
		{"a hint lengthens", 1, Outcome{Kind: Failed, RetryAfter: time.Minute}, time.Minute, true},
		{"a hint never shortens", 6, Outcome{Kind: Failed, RetryAfter: time.Minute}, time.Hour, true},
		{"a hint counts up to 6 h", 1, Outcome{Kind: Failed, RetryAfter: 48 * time.Hour}, 6 * time.Hour, true},
		{"even where the schedule is longer", 10, Outcome{Kind: Failed, RetryAfter: 48 * time.Hour}, 24 * time.Hour, true},
		{"gone", 1, Outcome{Kind: Gone}, 0, false},
		{"blocked", 1, Outcome{Kind: Blocked}, 0, false},
		{"delivered", 1, Outcome{Kind: Delivered}, 0, false},
		{"no failure counted", 0, Outcome{Kind: Failed}, 5 * time.Second, true},
	}
	for _, tt := range tests {
		if d, more := NextDelay(tt.failures, tt.o, 0.5); d != tt.want || more != tt.more {
			t.Errorf("%s: %v, %v", tt.rule, d, more)
		}
	}
}

func TestRetryAfterIsRead(t *testing.T) {
	now := time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"7":                             7 * time.Second,
		"11.5":                          11500 * time.Millisecond,
		"0.25":                          250 * time.Millisecond,
		"21600":                         6 * time.Hour,
		"99999.9":                       6 * time.Hour,
		strings.Repeat("9", 400):        0,
		"Sun, 01 Mar 2026 09:31:00 GMT": time.Minute,
		"Sun, 01 Mar 2026 09:29:00 GMT": 0,
		"Sat, 07 Mar 2026 09:30:00 GMT": 6 * time.Hour,
		"-1":                            0,
		"1.":                            0,
		".5":                            0,
		"1.2.3":                         0,
		"1e3":                           0,
		"NaN":                           0,
		"Inf":                           0,
		"0x10":                          0,
		"soon":                          0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q is %s, want %s", value, got, want)
		}
	}
}

func TestWants(t *testing.T) {
	tests := []struct {
		pattern, event string
		want           bool
	}{
		{"message.sent", "message.sent", true},
		{"message.sent", "message.sent2", false},
		{"message.sent", "message", false},
		{"message.*", "message.sent", true},
		{"message.*", "message.sent.twice", true},
		{"message.*", "message", false},
		{"message.*", "message.", false},
		{"message.*", "messages.sent", false},
		{"*", "anything", true},
	}
	for _, tt := range tests {
		e := Endpoint{Events: []string{"other.type", tt.pattern}}
		if got := e.Wants(tt.event); got != tt.want {
			t.Errorf("%s, %s: %v", tt.pattern, tt.event, got)
		}
	}
	if (Endpoint{}).Wants("message.sent") {
		t.Error("an endpoint without patterns wants nothing")
	}
}

func TestCheckPattern(t *testing.T) {
	for p, ok := range map[string]bool{
		"*": true, "message.*": true, "message.sent": true, "a_1": true, "a.b.c.*": true,
		"": false, ".": false, ".*": false, "message.": false, ".sent": false, "message*": false, "*.sent": false,
		"message.*.x": false, "message.**": false, "**": false, "Message.Sent": false, "message sent": false, "a..b": false,
	} {
		err := CheckPattern(p)
		if (err == nil) != ok || err != nil && !errors.Is(err, ErrPattern) {
			t.Errorf("%q: %v", p, err)
		}
	}
}
