package relay

import (
	"context"
	"encoding/json"
	"testing"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/callback"
)

// Where nothing is traced, the places on the way of every push, request, message and delivery cost a look at a pointer.
func TestTracingThatIsOffAllocatesNothing(t *testing.T) {
	r, ctx := &Relay{}, t.Context()
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" // queued while it was on
	push := &callback.Push{App: "shop", Raw: []byte("<xml></xml>")}
	if n := testing.AllocsPerRun(100, func() {
		ctx, span := r.BeginSpan(ctx, "", SpanPush)
		if span != nil || r.traceOf(ctx) != "" || r.Traced() {
			t.Error("something is traced")
		}
		if _, span = r.resume(ctx, "", SpanSend); span != nil {
			t.Error("something is resumed")
		}
		if _, span = r.resume(ctx, traceparent, SpanDelivery); span != nil {
			t.Error("something is resumed")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	if n := testing.AllocsPerRun(100, func() { encodePush(push, "") }); n > 1 {
		t.Errorf("%v allocations for the body of a job, want 1", n)
	}
}

// What was queued by a version that knew no traces is read, and what carries none is stored as that version did.
func TestStoredFormsWithoutATraceAreAsTheyWere(t *testing.T) {
	push := &callback.Push{App: "shop", Raw: []byte("<xml>a b</xml>")}
	if got := string(encodePush(push, "")); got != "shop\n<xml>a b</xml>" {
		t.Errorf("%q", got)
	}
	for _, trace := range []string{"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"} {
		app, got, raw, err := decodePush(encodePush(push, trace))
		if app != "shop" || got != trace || string(raw) != string(push.Raw) || err != nil {
			t.Errorf("%q %q %q %v", app, got, raw, err)
		}
	}
	const old = `{"p":"orders","e":"main","i":"evt_1","t":"push.received","a":"shop"}`
	var env envelope
	if err := json.Unmarshal([]byte(old), &env); err != nil || env.Trace != "" {
		t.Errorf("%+v %v", env, err)
	}
	if got := string(encode(env)); got != old {
		t.Errorf("%s, want %s", got, old)
	}
	var b bindingJob
	const oldBinding = `{"p":"orders","a":"shop","u":"u-1","o":"o-1","s":"1"}`
	if err := json.Unmarshal([]byte(oldBinding), &b); err != nil || string(encode(b)) != oldBinding {
		t.Errorf("%+v %v", b, err)
	}
}

// The trace of an event's cause stands in its envelope, whatever the event is.
func TestAnEventCarriesTheTraceOfItsCause(t *testing.T) {
	for _, tl := range []notification{{typ: EventPush, trace: "tp", data: PushReceived{}}, {typ: "message.sent", trace: "tp", data: &Message{ID: "msg_1"}}} {
		if got := tl.envelope("evt_1").Trace; got != "tp" {
			t.Errorf("%s: %q", tl.typ, got)
		}
	}
}

// A span belongs to the context it was begun in: what is queued on its behalf carries its traceparent.
func TestWhatIsQueuedCarriesTheSpanAtWork(t *testing.T) {
	var parents []string
	r := &Relay{observe: Observer{Span: func(ctx context.Context, parent, name string) (context.Context, *Span) {
		parents = append(parents, parent)
		if name == "not recorded" {
			return ctx, nil
		}
		return ctx, &Span{Traceparent: "of " + name, End: func(bool, ...zap.Field) {}}
	}}}
	ctx, _ := r.BeginSpan(t.Context(), "theirs", SpanRequest)
	if got := r.traceOf(ctx); got != "of "+SpanRequest {
		t.Errorf("%q", got)
	}
	if got := r.traceOf(t.Context()); got != "" {
		t.Errorf("outside of it: %q", got)
	}
	if none, span := r.BeginSpan(t.Context(), "", "not recorded"); span != nil || r.traceOf(none) != "" {
		t.Error("what is not recorded is passed on")
	}
	if _, span := r.resume(t.Context(), "", SpanSend); span != nil {
		t.Error("work without a trace begins none")
	}
	if len(parents) != 2 || parents[0] != "theirs" {
		t.Errorf("%q", parents)
	}
}
