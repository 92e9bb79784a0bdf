package gateway

import (
	"strings"
	"testing"
)

func TestRequestID(t *testing.T) {
	a, b := requestID(""), requestID("")
	if a == b || len(a) != 20 || !plain(a) {
		t.Errorf("fresh ids %q %q", a, b)
	}
	if got := requestID("abc-1.2:3"); got != "abc-1.2:3" {
		t.Errorf("a plain id became %q", got)
	}
	for _, odd := range []string{"a b", "a\r\nX: y", strings.Repeat("a", 65), "é", "a\"b"} {
		got := requestID(odd)
		if got == odd || !plain(got) || len(got) > 64 || got != requestID(odd) {
			t.Errorf("%q became %q", odd, got)
		}
	}
}
