package app

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/gateway"
	"github.com/wxrelay/wxrelay/gateway/console"
	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// listWait bounds how long the doors wait for the apps' template lists.
const listWait = 2 * time.Second

// assembled is what exists once Redis has answered.
type assembled struct {
	queue   *queue.Queue
	wechat  *wechat.Client
	relay   *relay.Relay
	gate    *gateway.Handler
	console *console.Console
	rules   atomic.Pointer[relay.Rules]
	opened  time.Time
}

// join opens the queue, joins the packages over it, starts their loops, and lets the listeners serve.
// queue.ErrUnavailable: Redis is away, nothing has happened; anything else is final.
func (a *App) join(ctx context.Context) error {
	a.reload.Lock() // the config must not change between reading it here and the packages being assembled for Reload
	defer a.reload.Unlock()
	c := a.config.Load()
	p, err := planOf(c)
	if err != nil {
		return err
	}
	q, err := queue.Open(ctx, a.rdb, queue.Options{
		Shards: c.Redis.Shards, Extensions: relay.Extensions(),
		Lease: c.Queue.Lease, BuriedKeep: c.Retention.Buried, OnError: a.queueTrouble,
		Grace: max(patienceOf(c.ShutdownGrace).loops, 1), // 0 would be its default
	})
	if err != nil {
		return err
	}
	r := &assembled{queue: q, wechat: a.wechat, opened: time.Now()}
	health := webhook.NewHealth(a.rdb)
	sealer := binding.Sealer{Seal: a.keys.Seal, Unseal: a.keys.Unseal}
	observe := relay.Observer{Push: a.metrics.push, Send: a.metrics.send, Delivery: a.metrics.deliver, Dropped: a.metrics.drop,
		Moved: a.metrics.move, Replayed: a.metrics.replay}
	if a.tracing != nil {
		observe.Span = a.tracing.span
	}
	r.relay = relay.New(relay.Dependencies{
		Queue: q, Ledger: ledger.New(a.rdb, q.PrefixOf), WeChat: a.wechat, Sender: a.sender, Health: health,
		Bindings: binding.New(a.rdb, sealer), Sealer: sealer, Log: a.log,
		Registry: webhook.NewRegistry(a.rdb, webhook.Sealer{Seal: a.keys.Seal, Unseal: a.keys.Unseal}),
		Observe:  observe,
	}, p.rules)
	r.rules.Store(&p.rules)
	if err := r.relay.LoadEndpoints(ctx); err != nil { // before the first event: it would not reach them
		return fmt.Errorf("%w: %w", queue.ErrUnavailable, err)
	}
	r.relay.Register()
	r.gate = gateway.Public(gateway.Options{Relay: r.relay, Callback: a.door, Limits: p.limits,
		Answers: webhook.NewIdempotencyStore(a.rdb).Sealed(a.keys.Seal, a.keys.Unseal),
		Version: a.version, Served: a.metrics.serve, Fault: a.fault, Refused: a.refusedSignature, Stopping: a.stopping.Load})
	r.console = console.New(console.Options{Relay: r.relay, Ready: a.checks, Audit: a.audited, History: &a.metrics.history,
		Fault: func(path string, err error) { a.fault("", "console "+path, err) }, Version: a.version})

	a.teller.Store(r.relay)
	a.loop("queue", q.Run)
	a.loop("tokens", func(ctx context.Context) error { a.wechat.Run(ctx); return nil })
	a.loop("endpoints", func(ctx context.Context) error { r.relay.SyncEndpoints(ctx); return nil })
	a.loop("lag", func(ctx context.Context) error { a.watchLag(ctx, r.relay); return nil })
	a.loop("templates", func(ctx context.Context) error { r.relay.SyncTemplates(ctx); return nil })
	listed, done := context.WithTimeout(ctx, listWait)
	defer done()
	select { // the first pushes are booked by what WeChat lists, if it is quick
	case <-r.relay.TemplatesAsked():
	case <-listed.Done():
	case <-a.life.Done():
	}
	a.assembled.Store(r)
	a.collector.assembled.Store(r)
	a.gate.set(r.gate)
	a.setAdmin(a.config.Load())
	close(a.ready)
	a.log.Info("serving", zap.String("public", a.PublicAddr()), zap.String("admin", a.AdminAddr()), zap.Stringer("redis", c.Redis.URL),
		zap.Int("shards", q.Shards()), zap.Int("apps", len(p.rules.Apps)), zap.Int("partners", len(p.rules.Partners)))
	return nil
}

// loop runs one of the packages' loops for the app's life. None of them ends on its own; one that does ends the app.
func (a *App) loop(name string, run func(context.Context) error) {
	a.work.Add(1)
	go func() {
		defer a.work.Done()
		if err := run(a.life); err != nil && a.life.Err() == nil {
			a.fail(err)
		} else if err != nil {
			a.log.Warn("a loop ended badly", zap.String("loop", name), zap.Error(err))
		}
	}()
}

// queueTrouble counts and logs what the queue's loops survive.
func (a *App) queueTrouble(err error) {
	a.metrics.queueErrors.Inc()
	if held, ok := a.queueLines.allow(time.Now()); ok {
		a.log.Error("queue", zap.Error(err), zap.Int64("not_logged_before", held))
	}
}

// lagEvery is how often the console's history notes how long the oldest job has been due.
const lagEvery = 15 * time.Second

// watchLag notes the lag for the console's plots until ctx ends. While Redis is away it notes nothing.
func (a *App) watchLag(ctx context.Context, r *relay.Relay) {
	tick := time.NewTicker(lagEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			lanes, err := r.Lanes(ctx)
			if err != nil {
				continue // counted where it happened
			}
			var lag time.Duration
			for _, lane := range lanes {
				lag = max(lag, lane.Oldest)
			}
			a.metrics.history.Lag(lag, now)
		}
	}
}
