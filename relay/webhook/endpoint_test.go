package webhook

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/testredis"
)

func TestCheckHeaders(t *testing.T) {
	for name, good := range map[string]bool{"X-Key": true, "authorization": true, "webhook-id": false, "Webhook-Anything": false, "Host": false,
		"content-type": false, "Content-Length": false, "Connection": false, "Transfer-Encoding": false, "a b": false, "": false, "é": false} {
		if err := CheckHeader(name, "v"); (err == nil) != good || err != nil && !errors.Is(err, ErrHeader) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for value, good := range map[string]bool{"": true, "a\tb": true, "a\r\nWebhook-Id: x": false, "\x00": false, strings.Repeat("x", 1025): false} {
		if err := CheckHeader("X-Key", value); (err == nil) != good {
			t.Errorf("%q: %v", value, err)
		}
	}
	many := map[string]string{}
	for i := range 21 {
		many["X-"+strings.Repeat("a", i+1)] = ""
	}
	if err := CheckHeaders(many); !errors.Is(err, ErrHeader) {
		t.Error(err)
	}
}

func TestFilterPasses(t *testing.T) {
	event := func(field string) []string {
		return map[string][]string{"app": {"shop"}, "template_id": {"T1", "T2"}}[field]
	}
	for name, c := range map[string]struct {
		filter map[string][]string
		want   bool
	}{
		"none":                     {nil, true},
		"empty lists":              {map[string][]string{"app": nil}, true},
		"one of them":              {map[string][]string{"app": {"x", "shop"}}, true},
		"another":                  {map[string][]string{"app": {"x"}}, false},
		"one of several values":    {map[string][]string{"template_id": {"T2"}}, true},
		"all given ones must":      {map[string][]string{"app": {"shop"}, "template_id": {"T3"}}, false},
		"a field the event lacks":  {map[string][]string{"openid": {"o1"}}, true},
		"lacking beside a refusal": {map[string][]string{"openid": {"o1"}, "app": {"x"}}, false},
	} {
		if got := (Endpoint{Filter: c.filter}).Passes(event); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What an endpoint sets for itself is sent; its timeout bounds the attempt; an encoder's request replaces the signed one.
func TestDeliverAsTheEndpointSays(t *testing.T) {
	got := make(chan *http.Request, 3)
	bodies := make(chan string, 3)
	s, a, _ := partner(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- r.Clone(context.Background())
		bodies <- string(b)
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
		}
	}, SenderOptions{})
	a.Endpoint.Headers = map[string]string{"x-key": "k", "Webhook-Id": "forged"}
	o := s.Deliver(t.Context(), a)
	r := <-got
	<-bodies
	if o.Kind != Delivered || r.Header.Get("X-Key") != "k" || r.Header.Get("Webhook-Id") != a.ID || o.Request.Get("Webhook-Signature") != r.Header.Get("Webhook-Signature") {
		t.Errorf("%+v %v", o, r.Header)
	}
	a.Endpoint.Encode = func(payload []byte, _ time.Time) (Encoded, error) {
		return Encoded{Query: "signature=1", ContentType: "text/xml", Body: []byte("<xml/>")}, nil
	}
	o = s.Deliver(t.Context(), a)
	r = <-got
	if body := <-bodies; o.Kind != Delivered || body != "<xml/>" || r.URL.Query().Get("signature") != "1" || r.URL.Query().Get("k") != "v" ||
		r.Header.Get("Webhook-Signature") != "" || r.Header.Get("Content-Type") != "text/xml" {
		t.Errorf("%+v %q %v %v", o, body, r.URL, r.Header)
	}
	a.Endpoint.Encode = func([]byte, time.Time) (Encoded, error) { return Encoded{}, errors.New("cannot be written") }
	if o = s.Deliver(t.Context(), a); o.Kind != Unfit || o.Err != "cannot be written" {
		t.Errorf("%+v", o)
	}
	a.Endpoint.Encode, a.Endpoint.Timeout = nil, 50*time.Millisecond
	a.Endpoint.URL = strings.Replace(a.Endpoint.URL, "/hook", "/slow", 1)
	if o = s.Deliver(t.Context(), a); o.Kind != Failed || o.Err != "timed out" || o.Took > 5*time.Second {
		t.Errorf("%+v", o)
	}
}

// The registry keeps each endpoint under its revision, encrypted, and counts its changes; a partner's number is bounded.
func TestRegistry(t *testing.T) {
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		flip := func(b, aad []byte) ([]byte, error) {
			out := make([]byte, len(b))
			for i := range b {
				out[i] = b[i] ^ byte(len(aad)) ^ 0x55
			}
			return out, nil
		}
		g := NewRegistry(rdb, Sealer{Seal: flip, Unseal: flip})
		version := func() string {
			v, err := g.Version(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		first := version()
		set := func(revision int64, record string, want error) {
			t.Helper()
			s := Stored{Partner: "p", ID: "e", Revision: revision}
			if record != "" {
				s.Record = []byte(record)
			}
			if err := g.Set(ctx, s); !errors.Is(err, want) {
				t.Fatalf("revision %d: %v, want %v", revision, err, want)
			}
		}
		set(0, "secret one", nil)
		if version() == first {
			t.Error("the version stays")
		}
		set(0, "again", ErrStale)
		set(1, "secret two", nil)
		set(1, "late", ErrStale)
		list, unread, err := g.Of(ctx, []string{"p", "q"})
		if err != nil || len(unread) != 0 || len(list) != 1 || list[0].Revision != 2 || string(list[0].Record) != "secret two" {
			t.Errorf("%+v %v %v", list, unread, err)
		}
		if raw := rdb.HGet(ctx, registryKey("p"), "e").Val(); strings.Contains(raw, "secret") {
			t.Errorf("readable: %q", raw)
		}
		for i := range MaxEndpoints - 1 {
			if err := g.Set(ctx, Stored{Partner: "p", ID: string(rune('A'+i/26)) + string(rune('a'+i%26)), Record: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.Set(ctx, Stored{Partner: "p", ID: "over", Record: []byte("x")}); !errors.Is(err, ErrFull) {
			t.Errorf("%v", err)
		}
		set(2, "still changed", nil)
		set(3, "", nil)
		set(3, "", ErrStale)
	})
}

// Turns of a rate follow one another at its interval, over all processes; far ones are not reserved.
func TestTurns(t *testing.T) {
	s, rdb := testredis.InProcess(t)
	h, other := NewHealth(rdb), NewHealth(rdb)
	for i, want := range []time.Duration{0, 2 * time.Second, 4 * time.Second, 6 * time.Second, 8 * time.Second, 10 * time.Second} {
		replica := []*Health{h, other}[i%2]
		if wait, reserved, err := replica.Turn(t.Context(), "p/e", 0.5); err != nil || !reserved || wait != want {
			t.Errorf("%d: %v %v %v", i, wait, reserved, err)
		}
	}
	if wait, reserved, err := h.Turn(t.Context(), "p/e", 0.5); err != nil || reserved || wait != longestReservation {
		t.Errorf("beyond: %v %v %v", wait, reserved, err)
	}
	s.Pass(time.Hour)
	if n := len(rdb.Keys(t.Context(), "*").Val()); n != 0 {
		t.Errorf("%d keys are left", n)
	}
	if wait, reserved, err := h.Turn(t.Context(), "p/e", 0); err != nil || !reserved || wait != 0 {
		t.Errorf("no rate: %v %v %v", wait, reserved, err)
	}
}
