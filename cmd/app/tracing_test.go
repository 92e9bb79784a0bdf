package app

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collectpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// receiver is an OTLP receiver that keeps what it is given.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*tracepb.Span
	raw   []byte
	paths []string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var in io.Reader = req.Body
		if req.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(in)
			if err != nil {
				t.Error(err)
				return
			}
			in = z
		}
		body, err := io.ReadAll(in)
		var got collectpb.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &got)
		}
		if err != nil {
			t.Error(err)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw, r.paths = append(r.raw, body...), append(r.paths, req.URL.Path)
		for _, rs := range got.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				r.spans = append(r.spans, ss.Spans...)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) traces() string { return "tracing: {endpoint: \"" + r.URL + "\"}\n" }

// named are the spans of a name.
func (r *receiver) named(name string) (out []*tracepb.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		if s.Name == name {
			out = append(out, s)
		}
	}
	return out
}

func (r *receiver) names() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		if !slices.Contains(out, s.Name) {
			out = append(out, s.Name)
		}
	}
	slices.Sort(out)
	return out
}

// attribute is what a span says under a name.
func attributeOf(s *tracepb.Span, key string) string {
	for _, kv := range s.Attributes {
		if kv.Key == key {
			if v := kv.Value.GetStringValue(); v != "" {
				return v
			}
			return strconv.FormatInt(kv.Value.GetIntValue(), 10)
		}
	}
	return ""
}

// hooks keeps the traceparent that each type of event came with.
type hooks struct {
	mu sync.Mutex
	of map[string]string
}

func (h *hooks) answer(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.of[r.Header.Get("Webhook-Id")] = r.Header.Get("Traceparent")
	w.WriteHeader(http.StatusNoContent)
}

// sendTraced posts a signed message with a traceparent.
func sendTraced(t *testing.T, addr, id, traceparent string) {
	t.Helper()
	secret, err := webhook.ParseSecret(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	body := []byte(`{"app":"shop","to":{"openid":"` + testUser + `"},"channel":"subscribe","template_id":"T1","data":{"thing1":"privatewords"}}`)
	status, answer := ask(t, http.MethodPost, "http://"+addr+"/v1/partners/orders/messages", http.Header{"Content-Type": {"application/json"},
		"Webhook-Id": {id}, "Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)}, "Traceparent": {traceparent},
		"Webhook-Signature": {webhook.Sign([]webhook.Secret{secret}, id, now, body)}}, body)
	if status != http.StatusAccepted {
		t.Fatalf("%d %s", status, answer)
	}
}

// One trace leads from a push to the webhooks it causes, another from a partner's request over WeChat to the webhook, and
// the caller's own trace is the one that goes on. Nothing of it tells who the user is, what is said, or a secret.
func TestOneTraceFromBeginningToEnd(t *testing.T) {
	eachRedis(t, func(t *testing.T, url string) {
		spans, heard := newReceiver(t), &hooks{of: map[string]string{}}
		w := newWorld(t, url)
		w.extra, w.answer = spans.traces(), heard.answer
		a := w.start()
		if status := push(t, a.config.Load(), a.PublicAddr(), testUser); status != http.StatusOK {
			t.Fatal(status)
		}
		eventually(t, "the push is told", func() bool { return w.toldOf(relay.EventPush) == 1 && w.toldOf(relay.EventSubscriptionAccepted) == 1 })
		const theirs = "4bf92f3577b34da6a3ce929d0e0e4736"
		sendTraced(t, a.PublicAddr(), "req-1", "00-"+theirs+"-00f067aa0ba902b7-01")
		eventually(t, "the message is told", func() bool { return w.toldOf("message.sent") == 1 })
		w.close(a) // at the latest now everything is exported

		want := []string{relay.SpanDelivery, relay.SpanFollow, relay.SpanRequest, relay.SpanPush, relay.SpanSend, relay.SpanWeChat}
		slices.Sort(want)
		if diff := cmp.Diff(want, spans.names()); diff != "" {
			t.Fatalf("spans (-want +got):\n%s", diff)
		}
		one := func(name string) *tracepb.Span {
			t.Helper()
			got := spans.named(name)
			if len(got) != 1 {
				t.Fatalf("%d spans %q, want 1", len(got), name)
			}
			return got[0]
		}
		pushed, request, sent := one(relay.SpanPush), one(relay.SpanRequest), one(relay.SpanSend)
		if len(pushed.ParentSpanId) != 0 {
			t.Error("a push follows from nothing")
		}
		if got := hex.EncodeToString(request.TraceId) + " " + hex.EncodeToString(request.ParentSpanId); got != theirs+" 00f067aa0ba902b7" {
			t.Errorf("the request's span is of %s", got)
		}
		if !bytes.Equal(sent.TraceId, request.TraceId) || !bytes.Equal(sent.ParentSpanId, request.SpanId) {
			t.Error("the send does not follow from the request")
		}
		calls := slices.DeleteFunc(spans.named(relay.SpanWeChat), func(s *tracepb.Span) bool { return !strings.HasSuffix(attributeOf(s, "path"), "/subscribe/send") })
		if len(calls) != 1 || !bytes.Equal(calls[0].ParentSpanId, sent.SpanId) {
			t.Errorf("calls of WeChat's send: %v", calls)
		}
		if got := one(relay.SpanFollow); !bytes.Equal(got.TraceId, pushed.TraceId) {
			t.Error("what follows a push is of its trace")
		}
		attempts := spans.named(relay.SpanDelivery)
		for _, s := range attempts {
			from := map[string]*tracepb.Span{relay.EventPush: pushed, relay.EventSubscriptionAccepted: pushed, "message.sent": sent}[attributeOf(s, "type")]
			if from == nil || !bytes.Equal(s.TraceId, from.TraceId) {
				t.Errorf("the delivery of %s is of another trace", attributeOf(s, "type"))
			}
			header := "00-" + hex.EncodeToString(s.TraceId) + "-" + hex.EncodeToString(s.SpanId) + "-01"
			if got := heard.of[attributeOf(s, "webhook_id")]; got != header {
				t.Errorf("the endpoint was sent the traceparent %q, want %q", got, header)
			}
		}
		if len(attempts) != 3 {
			t.Errorf("%d deliveries traced, want 3", len(attempts))
		}
		for key, want := range map[string]string{"app": "shop", "partner": "orders", "channel": "subscribe", "errcode": "0", "state": "sent"} {
			if got := attributeOf(sent, key); got != want {
				t.Errorf("send: %s is %q, want %q", key, got, want)
			}
		}
		if got := attributeOf(request, "route") + " " + attributeOf(request, "status"); got != "/v1/partners/:partner/messages 202" {
			t.Errorf("request: %s", got)
		}
		for _, private := range []string{testUser, testSecret, testToken, testAESKey, "appsecret", "privatewords", "access_token"} {
			if bytes.Contains(spans.raw, []byte(private)) {
				t.Errorf("spans tell %q", private)
			}
		}
		if diff := cmp.Diff("/v1/traces", spans.paths[0]); diff != "" {
			t.Error(diff)
		}
	})
}

// A trace that is not recorded leaves no mark: not at the receiver, in what is queued, or at the endpoint.
func TestWhatIsNotRecordedIsNotPassedOn(t *testing.T) {
	for name, c := range map[string]struct {
		sample, traceparent string
		none                []string // spans there are none of
		plain               int      // webhooks without a traceparent: of push.received, subscription.accepted, message.sent
	}{
		"nothing is sampled":         {"0", "", []string{relay.SpanPush, relay.SpanFollow, relay.SpanRequest, relay.SpanSend, relay.SpanDelivery}, 3},
		"the caller does not record": {"1", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", []string{relay.SpanRequest, relay.SpanSend}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			spans, heard := newReceiver(t), &hooks{of: map[string]string{}}
			w := newWorld(t, "embedded://")
			w.extra, w.answer = "tracing: {endpoint: \""+spans.URL+"\", sample: "+c.sample+"}\n", heard.answer
			a := w.start()
			push(t, a.config.Load(), a.PublicAddr(), testUser)
			eventually(t, "the push is told", func() bool { return w.toldOf(relay.EventPush) == 1 && w.toldOf(relay.EventSubscriptionAccepted) == 1 })
			sendTraced(t, a.PublicAddr(), "req-1", c.traceparent)
			eventually(t, "the message is told", func() bool { return w.toldOf("message.sent") == 1 })
			w.close(a)
			for _, name := range c.none {
				if got := spans.named(name); len(got) > 0 {
					t.Errorf("%d spans %q", len(got), name)
				}
			}
			plain := 0
			for _, traceparent := range heard.of {
				if traceparent == "" {
					plain++
				}
			}
			if plain != c.plain {
				t.Errorf("%d webhooks without a traceparent, want %d: %v", plain, c.plain, heard.of)
			}
		})
	}
}

// A receiver that is away costs a line in the log, and neither events nor the time of a stop.
func TestAReceiverThatIsAwayCostsNothing(t *testing.T) {
	w := newWorld(t, "embedded://")
	refusing := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusTeapot) }))
	defer refusing.Close()
	w.extra = "tracing: {endpoint: \"" + refusing.URL + "\"}\n"
	a := w.start()
	for i := range 3 {
		push(t, a.config.Load(), a.PublicAddr(), testUser[:len(testUser)-1]+strconv.Itoa(i))
	}
	eventually(t, "they are told", func() bool { return w.toldOf(relay.EventPush) == 3 })
	began := time.Now()
	w.close(a)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the stop took %s, past its grace", took)
	}
	if !w.log.has("traces not exported") {
		t.Error("nothing in the log says that spans were lost")
	}
}

// Failures are told once in a while, with how many there were.
func TestFailuresOfExportsAreLoggedNowAndThen(t *testing.T) {
	l := &lines{}
	log, _, end := NewLog(l, config.Log{Level: "debug", Format: "json"})
	e := &exporter{log: log}
	for range 1000 {
		e.fail(io.ErrUnexpectedEOF)
	}
	end()
	if n := strings.Count(l.String(), "traces not exported"); n != 1 {
		t.Errorf("%d lines of 1000 failures, want 1", n)
	}
}

// Without an endpoint there is nothing: no tracer, no loop, and the journeys are given no function to call.
func TestNoEndpointNoTracing(t *testing.T) {
	got, err := newTracing(config.Tracing{Sample: 1}, "test", nil)
	if err != nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
	w := newWorld(t, "embedded://")
	heard := &hooks{of: map[string]string{}}
	w.answer = heard.answer
	a := w.start()
	if a.tracing != nil || a.assembled.Load().relay.Traced() {
		t.Error("something is traced")
	}
	push(t, a.config.Load(), a.PublicAddr(), testUser)
	sendTraced(t, a.PublicAddr(), "req-1", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	eventually(t, "the message is told", func() bool { return w.toldOf("message.sent") == 1 })
	w.close(a)
	for id, got := range heard.of {
		if got != "" {
			t.Errorf("%s came with the traceparent %q", id, got)
		}
	}
}

func TestWhereSpansArePosted(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://127.0.0.1:4318":              "http://127.0.0.1:4318/v1/traces",
		"https://otel.example.com/":          "https://otel.example.com/v1/traces",
		"https://otel.example.com/in/traces": "https://otel.example.com/in/traces",
	} {
		if got := spansURL(endpoint); got != want {
			t.Errorf("%s: %s, want %s", endpoint, got, want)
		}
	}
}

// A span's own work adds nothing to what is handed on when the trace is not recorded.
func TestATraceThatIsNotRecordedStaysSo(t *testing.T) {
	tr, err := newTracing(config.Tracing{Endpoint: "http://127.0.0.1:1", Sample: 0}, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close(context.Background())
	ctx, s := tr.span(t.Context(), "", relay.SpanPush)
	if s != nil {
		t.Fatal("recorded")
	}
	if _, s = tr.span(ctx, "", relay.SpanSend); s != nil {
		t.Error("what follows from it is recorded")
	}
}
