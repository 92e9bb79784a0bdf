package relay

import (
	"context"

	"go.uber.org/zap"
)

// A trace follows one push or one partner request through the queue, to WeChat and to partners' endpoints. Within a process it
// travels in the context; between processes its W3C traceparent stands in what is queued: in a push's job, a draft, an
// envelope. It stands there only when the trace is recorded, so nothing is stored or begun while tracing is off.
// https://www.w3.org/TR/trace-context/

// Names of spans.
const (
	SpanPush     = "push"            // a proven push is made durable
	SpanFollow   = "follow push"     // what it asks for beyond being passed on
	SpanRequest  = "partner request" // a proven request of a partner
	SpanSend     = "send"            // one message that a worker holds
	SpanDelivery = "delivery attempt"
	SpanWeChat   = "wechat call" // one exchange with WeChat's API
)

// Span is a stretch of a recorded trace.
type Span struct {
	// Traceparent names the span to what follows from it.
	Traceparent string
	// End ends the span, once. Fields never are openids, secrets, tokens or texts of users.
	End func(failed bool, fields ...zap.Field)
}

// traceKey has the traceparent of the span at work in a context.
type traceKey struct{}

// Traced tells whether traces are recorded.
func (r *Relay) Traced() bool { return r.observe.Span != nil }

// BeginSpan begins a span that follows from parent, a traceparent; with "", or what is none, it follows from the span in ctx, or
// begins a trace. The span is nil when it is not recorded; then neither is what follows from the ctx that is returned.
func (r *Relay) BeginSpan(ctx context.Context, parent, name string) (context.Context, *Span) {
	if r.observe.Span == nil {
		return ctx, nil
	}
	ctx, span := r.observe.Span(ctx, parent, name)
	if span != nil {
		ctx = context.WithValue(ctx, traceKey{}, span.Traceparent)
	}
	return ctx, span
}

// resume begins the span of queued work that carries a traceparent. Work that carries none is of no recorded trace.
func (r *Relay) resume(ctx context.Context, parent, name string) (context.Context, *Span) {
	if parent == "" {
		return ctx, nil
	}
	return r.BeginSpan(ctx, parent, name)
}

// traceOf is the traceparent of the span in ctx, for what is queued on its behalf; "" = none.
func (r *Relay) traceOf(ctx context.Context) string {
	if r.observe.Span == nil {
		return ""
	}
	traceparent, _ := ctx.Value(traceKey{}).(string)
	return traceparent
}
