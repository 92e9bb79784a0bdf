package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/gateway/console"
)

// metrics is what /metrics shows. Labels come from the config or from small sets; whatever the outside can make up is
// bounded, so that nobody can grow our memory or the operator's.
type metrics struct {
	registry *prometheus.Registry

	pushes      *prometheus.CounterVec   // app, event, result
	sends       *prometheus.CounterVec   // app, channel, errcode, outcome
	calls       *prometheus.CounterVec   // app, path, errcode
	callSeconds *prometheus.HistogramVec // path
	alerts      *prometheus.CounterVec   // app
	deliveries  *prometheus.CounterVec   // partner, result
	delivery    *prometheus.HistogramVec // result
	dropped     *prometheus.CounterVec   // partner
	redisErrors *prometheus.CounterVec   // kind
	queueErrors prometheus.Counter
	faults      *prometheus.CounterVec // route
	reloads     *prometheus.CounterVec // result

	refusedSignatures  *prometheus.CounterVec // partner, cause
	droppedConnections prometheus.Counter

	requests       *prometheus.CounterVec   // route, method, status
	requestSeconds *prometheus.HistogramVec // route
	movements      *prometheus.CounterVec   // app, cause
	replayed       *prometheus.CounterVec   // partner
	tokenChanges   *prometheus.CounterVec   // app, cause
	adminChanges   *prometheus.CounterVec   // result

	history console.History // the same outcomes over time, for the console

	apps, events, codes, paths, routes, causes bounded
}

func newMetrics(version string, collector *collector) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "wxrelay", Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "wxrelay", Name: name, Help: help,
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15}}, labels)
	}
	m := &metrics{
		registry:    prometheus.NewRegistry(),
		pushes:      counter("pushes_total", "Requests at the callback door by what came of them.", "app", "event", "result"),
		sends:       counter("sends_total", "Messages by the outcome of a send.", "app", "channel", "errcode", "outcome"),
		calls:       counter("wechat_calls_total", "Exchanges with WeChat's API; 700001 did not leave, 700002 got no answer.", "app", "path", "errcode"),
		callSeconds: histogram("wechat_call_seconds", "How long an exchange with WeChat's API took.", "path"),
		alerts:      counter("app_alerts_total", "Times an app asked for its operator.", "app"),
		deliveries:  counter("deliveries_total", "Attempts to tell a partner.", "partner", "result"),
		delivery:    histogram("delivery_seconds", "How long an attempt to tell a partner took.", "result"),
		dropped:     counter("deliveries_dropped_total", "Deliveries that were dropped because too many waited for an endpoint that takes none.", "partner"),
		redisErrors: counter("redis_errors_total", "Redis commands that failed.", "kind"),
		queueErrors: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "wxrelay", Name: "queue_errors_total",
			Help: "Failures the queue's loops survived."}),
		faults:            counter("faults_total", "Requests that failed for a reason of ours.", "route"),
		refusedSignatures: counter("signatures_refused_total", "Partner requests whose signature proves nothing, by cause: partner, headers, id, skew, secret, payload.", "partner", "cause"),
		droppedConnections: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "wxrelay", Name: "connections_dropped_total",
			Help: "Connections closed because there were too many, idle ones first."}),
		requests:       counter("http_requests_total", "Answers at the public address.", "route", "method", "status"),
		requestSeconds: histogram("http_request_seconds", "How long an answer at the public address took.", "route"),
		movements:      counter("consent_movements_total", "Subscriptions that a user's answer moved, by cause.", "app", "cause"),
		replayed:       counter("replayed_deliveries_total", "Deliveries that replays of many have queued again.", "partner"),
		tokenChanges:   counter("token_changes_total", "Changes of access tokens by cause: first, renewed, healed, forced, reported, refused.", "app", "cause"),
		adminChanges:   counter("admin_changes_total", "Requests at the operators' address that change something: done or refused.", "result"),
		reloads:        counter("config_reloads_total", "Times a changed config was taken over or refused.", "result"),
		apps:           bounded{most: 256}, events: bounded{most: 200}, codes: bounded{most: 300}, paths: bounded{most: 100}, routes: bounded{most: 100}, causes: bounded{most: 50},
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "wxrelay", Name: "build_info", Help: "1; the version is the label."}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	for _, result := range []string{"applied", "refused"} {
		m.reloads.WithLabelValues(result)
	}
	m.registry.MustRegister(m.pushes, m.sends, m.calls, m.callSeconds, m.alerts, m.deliveries, m.delivery, m.dropped, m.redisErrors,
		m.queueErrors, m.faults, m.reloads, m.refusedSignatures, m.droppedConnections, m.tokenChanges, m.adminChanges, m.requests, m.requestSeconds, m.movements, m.replayed, build, collector,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 8 * time.Second})
}

func (m *metrics) push(app, event, result string) {
	event = m.events.or(event)
	m.pushes.WithLabelValues(m.apps.or(app), event, result).Inc()
	m.history.Push(app, event, result, time.Now())
}

func (m *metrics) send(app, channel string, errcode int, outcome string) {
	m.sends.WithLabelValues(app, channel, m.codes.or(strconv.Itoa(errcode)), outcome).Inc()
	m.history.Message(app, channel, outcome, time.Now())
}

func (m *metrics) call(app, path string, errcode int, took time.Duration) {
	path = m.paths.or(path)
	m.calls.WithLabelValues(app, path, m.codes.or(strconv.Itoa(errcode))).Inc()
	m.callSeconds.WithLabelValues(path).Observe(took.Seconds())
}

func (m *metrics) deliver(partner, result string, took time.Duration) {
	m.deliveries.WithLabelValues(partner, result).Inc()
	m.delivery.WithLabelValues(result).Observe(took.Seconds())
	m.history.Delivery(partner, result, took, time.Now())
}

// serve counts an answer at the public address. Methods are those of routes, or "other".
func (m *metrics) serve(route, method string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	m.requestSeconds.WithLabelValues(route).Observe(took.Seconds())
}

func (m *metrics) move(app, cause string) {
	m.movements.WithLabelValues(app, m.causes.or(cause)).Inc()
}

func (m *metrics) replay(partner string, deliveries int) {
	m.replayed.WithLabelValues(partner).Add(float64(deliveries))
}

func (m *metrics) drop(partner string, deliveries int) {
	m.dropped.WithLabelValues(partner).Add(float64(deliveries))
}

// bounded lets the first values through and calls the rest "other".
type bounded struct {
	most int
	mu   sync.RWMutex
	seen map[string]bool
}

func (b *bounded) or(value string) string {
	b.mu.RLock()
	known := b.seen[value]
	b.mu.RUnlock()
	if known {
		return value
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(value) > 64 || len(b.seen) >= b.most && !b.seen[value] {
		return "other"
	}
	if b.seen == nil {
		b.seen = map[string]bool{}
	}
	b.seen[strings.Clone(value)] = true
	return value
}

// redisWatch counts what fails at Redis; a key that is not there and a script that is not loaded yet are no failures.
type redisWatch struct{ errors *prometheus.CounterVec }

func (w redisWatch) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			w.errors.WithLabelValues("dial").Inc()
		}
		return conn, err
	}
}

func (w redisWatch) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if !greeting(cmd) {
			w.count(err)
		}
		return err
	}
}

func (w redisWatch) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if len(cmds) > 0 && !greeting(cmds[0]) {
			w.count(err)
		}
		return err
	}
}

// greeting is what the library says on a new connection; older servers refuse some of it, and nothing comes of that.
func greeting(cmd redis.Cmder) bool { return cmd.Name() == "client" || cmd.Name() == "hello" }

func (w redisWatch) count(err error) {
	var reply redis.Error
	var netErr net.Error
	switch {
	case err == nil, errors.Is(err, redis.Nil), redis.HasErrorPrefix(err, "NOSCRIPT"), errors.Is(err, context.Canceled):
		return
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		w.errors.WithLabelValues("timeout").Inc()
	case errors.As(err, &reply):
		w.errors.WithLabelValues("reply").Inc()
	default:
		w.errors.WithLabelValues("connection").Inc()
	}
}
