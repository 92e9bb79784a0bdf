package webhook

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// schedule is the wait before each repeated attempt: ten of them, 46.7 hours in all.
var schedule = [...]time.Duration{
	5 * time.Second, 30 * time.Second,
	2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	1 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

const (
	jitter        = 0.2           // of each wait, either way
	maxRetryAfter = 6 * time.Hour // the longest Retry-After that is honoured
)

// NextDelay is the wait before the next attempt after failures failed ones (1 = the first has failed); rnd in [0,1)
// makes the jitter. A partner's Retry-After lengthens the wait, never shortens it. more is false when there is to be
// no further attempt: after the tenth repeat, or when the outcome is final. Then it is buried.
func NextDelay(failures int, o Outcome, rnd float64) (d time.Duration, more bool) {
	if o.Kind != Failed || failures > len(schedule) {
		return 0, false
	}
	d = schedule[max(failures, 1)-1]
	d += time.Duration(float64(d) * jitter * (2*rnd - 1))
	return max(d, min(o.RetryAfter, maxRetryAfter)), true
}

// retryAfter reads Retry-After (seconds, also with a fraction, or a date by the partner's own clock), at most maxRetryAfter.
// https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if d, ok := seconds(v); ok {
		return d
	}
	until, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if theirs, err := http.ParseTime(h.Get("Date")); err == nil {
		now = theirs
	}
	return min(max(until.Sub(now), 0), maxRetryAfter)
}

// maxSecondsLen is the longest number that can be meant as seconds; a longer one is a mistake and no hint.
const maxSecondsLen = 19

// seconds reads digits with at most one decimal point between them, as some frameworks write their limits: "11.5".
func seconds(v string) (time.Duration, bool) {
	whole, fraction, point := strings.Cut(v, ".")
	if !digits(whole) || len(v) > maxSecondsLen || point && !digits(fraction) {
		return 0, false
	}
	f, err := strconv.ParseFloat(v, 64)
	return time.Duration(min(f, maxRetryAfter.Seconds()) * float64(time.Second)), err == nil
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
