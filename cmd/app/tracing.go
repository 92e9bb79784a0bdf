package app

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/relay"
)

// tracing records spans and exports them over OTLP/HTTP. Nothing of it waits for the receiver: spans gather in a bounded memory,
// and what does not fit there is dropped.
type tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	exporter *exporter
}

const (
	exportTimeout  = 5 * time.Second  // one export
	exportPatience = 20 * time.Second // repeats of one that a receiver cannot take now
	flushPatience  = 3 * time.Second  // at the end, if the grace leaves that much
	spansWaiting   = 4096
	spanLines      = time.Minute // between two lines about exports that fail
)

// newTracing is nil when no receiver is configured: then there is no tracer, exporter or loop.
func newTracing(c config.Tracing, version string, log *zap.Logger) (*tracing, error) {
	if c.Endpoint == "" {
		return nil, nil
	}
	out, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(spansURL(c.Endpoint)), otlptracehttp.WithTimeout(exportTimeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 5 * time.Second, MaxElapsedTime: exportPatience}))
	if err != nil {
		return nil, fmt.Errorf("tracing.endpoint: %w", err)
	}
	t := &tracing{exporter: &exporter{SpanExporter: out, log: log}}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(t.exporter, sdktrace.WithMaxQueueSize(spansWaiting), sdktrace.WithExportTimeout(exportPatience)),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.Sample))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "wxrelay"), attribute.String("service.version", version))))
	t.tracer = t.provider.Tracer("github.com/wxrelay/wxrelay")
	return t, nil
}

// spansURL is where spans are posted: an address without a path is a receiver's, whose path for them is a fixed one.
// https://opentelemetry.io/docs/specs/otlp/#otlphttp-request
func spansURL(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || strings.Trim(u.Path, "/") != "" {
		return endpoint
	}
	u.Path = "/v1/traces"
	return u.String()
}

// kinds are the spans that are not internal.
var kinds = map[string]trace.SpanKind{
	relay.SpanPush:     trace.SpanKindServer,
	relay.SpanRequest:  trace.SpanKindServer,
	relay.SpanFollow:   trace.SpanKindConsumer,
	relay.SpanSend:     trace.SpanKindConsumer,
	relay.SpanDelivery: trace.SpanKindClient,
	relay.SpanWeChat:   trace.SpanKindClient,
}

// span is [relay.Observer]'s Span.
func (t *tracing) span(ctx context.Context, parent, name string) (context.Context, *relay.Span) {
	if parent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
	}
	ctx, s := t.tracer.Start(ctx, name, trace.WithSpanKind(kinds[name]))
	if !s.IsRecording() {
		return ctx, nil
	}
	return ctx, &relay.Span{Traceparent: traceparent(s.SpanContext()), End: func(failed bool, fields ...zap.Field) {
		s.SetAttributes(attributes(fields)...)
		if failed {
			s.SetStatus(codes.Error, "")
		}
		s.End()
	}}
}

// called adds an exchange with WeChat's API, which is over, to the recorded trace that ctx is of.
func (t *tracing) called(ctx context.Context, app, path string, errcode int, took time.Duration) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	now := time.Now()
	_, s := t.tracer.Start(ctx, relay.SpanWeChat, trace.WithSpanKind(kinds[relay.SpanWeChat]), trace.WithTimestamp(now.Add(-took)))
	s.SetAttributes(attribute.String("app", app), attribute.String("path", path), attribute.Int("errcode", errcode))
	if errcode != 0 {
		s.SetStatus(codes.Error, "")
	}
	s.End(trace.WithTimestamp(now))
}

// traceparent is the header of a recorded span.
// https://www.w3.org/TR/trace-context/#traceparent-header
func traceparent(c trace.SpanContext) string {
	id, span := c.TraceID(), c.SpanID()
	b := append(make([]byte, 0, 55), "00-"...)
	b = append(hex.AppendEncode(b, id[:]), '-')
	return string(append(hex.AppendEncode(b, span[:]), "-01"...))
}

// attributes are the texts and numbers of fields that say something.
func attributes(fields []zap.Field) []attribute.KeyValue {
	kv := make([]attribute.KeyValue, 0, len(fields))
	for i := range fields {
		switch f := &fields[i]; {
		case f.Type == zapcore.StringType && f.String != "":
			kv = append(kv, attribute.String(f.Key, f.String))
		case f.Type == zapcore.Int64Type:
			kv = append(kv, attribute.Int64(f.Key, f.Integer))
		}
	}
	return kv
}

// close exports what has gathered, as far as ctx lets it.
func (t *tracing) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushPatience)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.exporter.fail(err)
	}
}

// exporter logs failures itself, now and then: the library would tell them to a handler that all of the process shares.
type exporter struct {
	sdktrace.SpanExporter
	log    *zap.Logger
	mu     sync.Mutex
	logged time.Time
	lost   int // failures since the last line
}

// ExportSpans is sdktrace.SpanExporter's. What could not be exported is lost.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.fail(err)
	}
	return nil
}

func (e *exporter) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost++
	if time.Since(e.logged) < spanLines {
		return
	}
	e.log.Warn("traces not exported", zap.Error(err), zap.Int("failures", e.lost))
	e.logged, e.lost = time.Now(), 0
}
