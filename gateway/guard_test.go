package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMeterLetsTheBurstGoAndThenTheRate(t *testing.T) {
	m, r, now := newMeter(), Rate{PerSecond: 5, Burst: 10}, time.Unix(1_700_000_000, 0)
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

func TestMeterStaysBoundedInAFlood(t *testing.T) {
	m, r, now := newMeter(), Rate{PerSecond: 1, Burst: 1}, time.Unix(1_700_000_000, 0)
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

func TestClientOf(t *testing.T) {
	for name, c := range map[string]struct {
		peer string
		xff  []string
		want string
	}{
		"public peer":                     {"203.0.113.9:4711", nil, "203.0.113.9"},
		"public peer cannot rename":       {"203.0.113.9:4711", []string{"198.51.100.1"}, "203.0.113.9"},
		"proxy on this machine":           {"127.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"proxy in a private net":          {"10.0.0.7:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"what the client wrote is naught": {"10.0.0.7:1", []string{"1.2.3.4, 198.51.100.1"}, "198.51.100.1"},
		"two proxies of ours":             {"10.0.0.7:1", []string{"1.2.3.4, 198.51.100.1, 192.168.3.4"}, "198.51.100.1"},
		"in two lines":                    {"10.0.0.7:1", []string{"1.2.3.4", "198.51.100.1", "192.168.3.4"}, "198.51.100.1"},
		"all private":                     {"10.0.0.7:1", []string{"192.168.3.5"}, "192.168.3.5"},
		"not an address":                  {"10.0.0.7:1", []string{"198.51.100.1, nonsense"}, "10.0.0.7"},
		"empty":                           {"10.0.0.7:1", []string{""}, "10.0.0.7"},
		"v6 counts by its net":            {"[2001:db8:1:2:3:4:5:6]:1", nil, "2001:db8:1:2::"},
		"v4 in v6":                        {"[::ffff:203.0.113.9]:1", nil, "203.0.113.9"},
		"zone":                            {"[fe80::1%eth0]:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"not a socket":                    {"pipe", nil, "pipe"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr, r.Header["X-Forwarded-For"] = c.peer, c.xff
			if got := clientOf(r); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

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

// slowly gives one byte at a time, as a body of unknown length.
type slowly struct{ r io.Reader }

func (s slowly) Read(p []byte) (int, error) { return s.r.Read(p[:1]) }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("reset by peer") }

func TestRead(t *testing.T) {
	const limit = 10_000
	body := bytes.Repeat([]byte("x"), limit)
	for name, c := range map[string]struct {
		from io.Reader
		code Code
		want int
	}{
		"empty":             {http.NoBody, "", 0},
		"at the limit":      {bytes.NewReader(body), "", limit},
		"chunked, at it":    {slowly{bytes.NewReader(body)}, "", limit},
		"announced past it": {bytes.NewReader(append(body, 'x')), TooLarge, 0},
		"chunked past it":   {slowly{bytes.NewReader(append(body, 'x'))}, TooLarge, 0},
		"broken off":        {broken{}, Malformed, 0},
		"endless":           {slowly{zeros{}}, TooLarge, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			got, release, err := read(w, httptest.NewRequest("POST", "/", c.from), limit)
			if c.code != "" {
				var f *fault
				if !errors.As(err, &f) || f.code != c.code {
					t.Fatalf("error %v, want %s", err, c.code)
				}
				return
			}
			if err != nil || len(got) != c.want {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			release()
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
