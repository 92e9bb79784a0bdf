package app

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/relay/queue"
)

// collector is the part of /metrics that is read when it is asked for: the queue's depths, the tokens' ages, the pool.
// Depths cost Redis some work, so they are read at most once in depthsFresh however many scrape.
type collector struct {
	assembled atomic.Pointer[assembled] // nil while Redis has not been there yet
	rdb       redis.UniversalClient

	mu     sync.Mutex
	depths []queue.Depth
	readAt time.Time

	jobs, oldest, turn, age, left, conns         *prometheus.Desc
	endpointState, endpointWaits, endpointOldest *prometheus.Desc
}

const depthsFresh = 5 * time.Second

func newCollector(rdb redis.UniversalClient) *collector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("wxrelay_"+name, help, labels, nil)
	}
	return &collector{rdb: rdb,
		jobs:           d("queue_jobs", "Jobs by lane and state.", "lane", "state"),
		oldest:         d("queue_oldest_seconds", "The lag: how long the oldest ready job of a lane has been due.", "lane"),
		turn:           d("queue_turn_age_seconds", "Since the queue last turned; /readyz is red from 30 on."),
		age:            d("token_age_seconds", "Since the access_token in use was fetched.", "app"),
		left:           d("token_left_seconds", "Until the access_token in use ends.", "app"),
		endpointState:  d("endpoint_state", "1 for the state an endpoint is in: healthy, benched, probing or disabled.", "partner", "endpoint", "state"),
		endpointWaits:  d("endpoint_deliveries", "Deliveries that wait for an endpoint: pending or held.", "partner", "endpoint", "state"),
		endpointOldest: d("endpoint_oldest_seconds", "How long the oldest delivery of an endpoint has waited.", "partner", "endpoint"),
		conns:          d("redis_connections", "Connections of the pool.", "state"),
	}
}

// Describe is prometheus.Collector's.
func (v *collector) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{v.jobs, v.oldest, v.turn, v.age, v.left, v.conns, v.endpointState, v.endpointWaits, v.endpointOldest} {
		c <- d
	}
}

// Collect is prometheus.Collector's.
func (v *collector) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, x float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, x, labels...)
	}
	if s := v.rdb.PoolStats(); s != nil {
		gauge(v.conns, float64(s.TotalConns-s.IdleConns), "busy")
		gauge(v.conns, float64(s.IdleConns), "idle")
	}
	r := v.assembled.Load()
	if r == nil {
		return
	}
	if turn := r.queue.LastTurn(); !turn.IsZero() {
		gauge(v.turn, time.Since(turn).Seconds())
	}
	for _, d := range v.read(r.queue) {
		gauge(v.jobs, float64(d.Count), d.Lane, d.State)
		if d.State == "ready" {
			gauge(v.oldest, d.OldestAge.Seconds(), d.Lane)
		}
	}
	v.endpoints(r, gauge)
	for app := range r.rules.Load().Apps {
		if t, ok := r.wechat.Held(app); ok {
			gauge(v.age, time.Since(t.FetchedAt).Seconds(), app)
			gauge(v.left, time.Until(t.ExpiresAt).Seconds(), app)
		}
	}
}

// endpoints shows how each endpoint does; nothing while Redis is away.
func (v *collector) endpoints(r *assembled, gauge func(*prometheus.Desc, float64, ...string)) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	list, err := r.relay.EndpointHealths(ctx)
	if err != nil {
		return // counted where it happened
	}
	for _, e := range list {
		gauge(v.endpointState, 1, e.Partner, e.Endpoint, e.State)
		gauge(v.endpointWaits, float64(e.Pending), e.Partner, e.Endpoint, "pending")
		gauge(v.endpointWaits, float64(e.Held), e.Partner, e.Endpoint, "held")
		gauge(v.endpointOldest, e.Oldest.Seconds(), e.Partner, e.Endpoint)
	}
}

// read gives the depths, none while Redis is away.
func (v *collector) read(q *queue.Queue) []queue.Depth {
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.readAt) < depthsFresh {
		return v.depths
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	v.readAt = time.Now()
	v.depths, _ = q.Depths(ctx) // none rather than old ones: the error is counted where it happened
	return v.depths
}
