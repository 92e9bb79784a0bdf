// Package app owns the order in which the gateway is put together and taken apart: it turns a config into the packages'
// options, joins the packages, and opens the listeners; Close does the same backwards. It holds no rule of the product.
//
//	Start -> listeners open, answering 503 -> Redis answers -> packages joined, requests served
//	                                `-> Redis does not answer: asked again until it does; /readyz is red meanwhile
//	Close -> nothing new is taken -> what is in hand is finished or given back -> listeners and Redis closed
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/gateway"
	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// Options is what is not the operator's to decide.
type Options struct {
	Log     *zap.Logger // nil = as the config says, on Stderr
	Stderr  io.Writer   // nil = os.Stderr
	Version string
}

// App is a running gateway.
type App struct {
	log     *zap.Logger
	level   *zap.AtomicLevel // nil when the log is not ours
	endLog  func()
	version string

	config      atomic.Pointer[config.Config]
	startConfig *config.Config // what stays in force of it until a restart
	reload      sync.Mutex     // one Reload at a time

	rdb       redis.UniversalClient
	endRedis  func() error
	metrics   *metrics
	tracing   *tracing // nil = off
	collector *collector
	keys      *keyring
	door      *callback.Handler
	sender    *webhook.Sender
	wechat    *wechat.Client
	assembled atomic.Pointer[assembled]   // nil until Redis has been there once
	teller    atomic.Pointer[relay.Relay] // tells partners of alerts; there before the first token is asked for
	started   time.Time
	openErr   atomic.Pointer[error] // why it is not there yet

	public, admin         *http.Server
	connections           connections // of the public listener
	adminConnections      connections
	guesses               gateway.Guesses // wrong admin passwords
	publicAddr, adminAddr net.Addr
	gate, adminHandler    swap // what the two listeners serve now
	faultLines, pushLines sampler
	queueLines            sampler
	refusedLines          sampler

	ready    chan struct{} // closed once the packages are joined
	failed   chan error    // the one thing that ended it before Close
	stopping atomic.Bool
	work     sync.WaitGroup
	life     context.Context // of everything that loops
	endLife  context.CancelFunc
	closing  sync.Once
	closed   chan struct{}
	closeErr error
}

// swap is a handler that can be replaced while requests run.
type swap struct{ h atomic.Pointer[http.Handler] }

func (s *swap) set(h http.Handler) { s.h.Store(&h) }

func (s *swap) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*s.h.Load()).ServeHTTP(w, r) }

// openWait bounds the first attempt to reach Redis: Start does not return earlier when it is about to be there.
const openWait = 5 * time.Second

// Start puts the gateway together and returns when its doors are open. A Redis that is away is a normal event: Start
// returns all the same, the doors answer 503 and /readyz is red until it is there (Ready). ctx bounds the start only.
// A fault of the config is a config.Faults; whatever had been started is taken apart again.
func Start(ctx context.Context, c *config.Config, o Options) (_ *App, err error) {
	p, err := planOf(c)
	if err != nil {
		return nil, err
	}
	a := &App{log: o.Log, endLog: func() {}, version: o.Version, keys: p.keys, started: time.Now(),
		ready: make(chan struct{}), failed: make(chan error, 1), closed: make(chan struct{}), endRedis: func() error { return nil }}
	if a.log == nil {
		if o.Stderr == nil {
			o.Stderr = os.Stderr
		}
		log, level, end := NewLog(o.Stderr, c.Log)
		a.log, a.level, a.endLog = log, &level, end
	}
	a.life, a.endLife = context.WithCancel(context.Background())
	a.config.Store(c)
	a.startConfig = c
	defer func() {
		if err != nil {
			_ = a.takeApart(context.Background()) // err says what is wrong
			a.endLog()
		}
	}()
	if a.rdb, a.endRedis, err = OpenRedis(c.Redis.URL); err != nil {
		return nil, err
	}
	redisLines.to.Store(a.log.Named("redis"))
	a.collector = newCollector(a.rdb)
	a.metrics = newMetrics(o.Version, a.collector)
	a.rdb.AddHook(redisWatch{a.metrics.redisErrors})
	if a.tracing, err = newTracing(c.Tracing, o.Version, a.log); err != nil {
		return nil, err
	}
	if err = a.edges(c, p); err != nil {
		return nil, err
	}
	if err = a.listen(ctx, c, p); err != nil {
		return nil, err
	}
	a.remarks(c)
	if err = a.enter(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// edges makes the parts that work before Redis has answered.
func (a *App) edges(c *config.Config, p *plan) (err error) {
	seal, unseal := a.keys.at(tokenPlace)
	a.wechat, err = wechat.New(a.rdb, wechat.Options{BaseURL: c.WeChat.BaseURL, Fallback: c.WeChat.FallbackURL, Timeout: c.WeChat.Timeout,
		BodyLimit: int64(c.Limits.ProxyBody), Apps: p.wechat, Encrypt: seal, Decrypt: unseal, OnCall: a.called, OnAlert: a.alert,
		OnChange: a.tokenChanged})
	if err != nil {
		return err
	}
	a.sender = webhook.NewSender(webhook.SenderOptions{AllowPrivate: c.AllowPrivateEndpoints, Version: a.version})
	a.door, err = callback.NewHandler(p.callback, a.hear, callback.HandlerOptions{BodyLimit: int64(c.Limits.Body),
		OnResult: a.heard, OnError: a.misheard})
	return err
}

// called counts an exchange with WeChat's API, and adds it to the trace of who asked.
func (a *App) called(ctx context.Context, app, path string, errcode int, took time.Duration) {
	a.metrics.call(app, path, errcode, took)
	if a.tracing != nil {
		a.tracing.called(ctx, app, path, errcode, took)
	}
}

// errNotYet answers while the packages are not joined; WeChat pushes again.
var errNotYet = errors.New("not ready: Redis has not been there yet")

func (a *App) hear(ctx context.Context, p *callback.Push) ([]byte, error) {
	r := a.assembled.Load()
	if r == nil {
		return nil, errNotYet
	}
	return r.relay.Accept(ctx, p)
}

// heard counts what the door itself decided; a push that reached the journeys is counted by them, as accepted, duplicate
// or not_stored.
func (a *App) heard(app, event, result string) {
	switch result {
	case callback.ResultTaken, callback.ResultReplied, callback.ResultFailed:
		if a.assembled.Load() != nil {
			return
		}
	}
	a.metrics.push(app, event, result)
}

func (a *App) misheard(app string, err error) {
	if held, ok := a.pushLines.allow(time.Now()); ok {
		a.log.Warn("push not taken", zap.String("app", app), zap.Error(err), zap.Int64("not_logged_before", held))
	}
}

// alert is told by the token keeper that an app needs its operator; the app's partners are told too, once there is a
// queue to tell them by.
func (a *App) alert(app string, err error) {
	a.metrics.alerts.WithLabelValues(app).Inc()
	if r := a.teller.Load(); r != nil {
		r.AlertApp(app, err)
		return
	}
	var api *wechat.APIError
	if errors.As(err, &api) {
		a.log.Error("app needs its operator", zap.String("app", app), zap.Int("errcode", api.Code), zap.String("errmsg", api.Msg),
			zap.String("rid", api.RID), zap.String("cure", api.Cure()), zap.String("cure_zh", api.CureZH()))
		return
	}
	a.log.Warn("token trouble", zap.String("app", app), zap.Error(err))
}

// tokenChanged writes the audit line of a token's change, once there is a relay.
func (a *App) tokenChanged(app string, change wechat.TokenChange) {
	a.metrics.tokenChanges.WithLabelValues(a.metrics.apps.or(app), change.Cause).Inc()
	if r := a.teller.Load(); r != nil {
		r.TokenChanged(app, change)
	}
}

// remarks says what an operator would want to have been told.
func (a *App) remarks(c *config.Config) {
	if Embedded(c.Redis.URL) {
		a.log.Warn("redis.url is embedded://: everything is kept in this process and LOST at its exit; for trying things out only")
	}
	if len(c.AllowPrivateEndpoints) > 0 {
		a.log.Info("endpoints may have addresses in these networks, by plain http too", zap.Stringers("allow_private_endpoints", c.AllowPrivateEndpoints))
	}
	if c.MasterKey.IsZero() {
		a.log.Warn("no master_key: access tokens and session keys lie in Redis as they are")
	}
	for _, id := range c.AgelessApps() {
		a.log.Warn("push.max_age is 0: a recorded push that is replayed after 24 h counts again", zap.String("app", id))
	}
	for _, name := range c.UnknownEnv() {
		a.log.Warn("environment variable sets nothing, is it misspelt?", zap.String("name", name))
	}
}

// enter joins the packages now, or, when Redis is away, as soon as it is there (decision 2).
func (a *App) enter(ctx context.Context) error {
	first, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	err := a.join(first)
	if err == nil {
		return nil
	}
	if !errors.Is(err, queue.ErrUnavailable) {
		return err
	}
	a.openErr.Store(&err)
	a.log.Error("Redis is not there yet: until it is, WeChat is answered 500 and pushes again, everybody else 503", zap.Stringer("redis", a.config.Load().Redis.URL),
		zap.String("reason", Refusal(err)))
	a.work.Add(1)
	go func() {
		defer a.work.Done()
		if err := a.await(); err != nil {
			a.fail(err)
		}
	}()
	return nil
}

// await tries again, half a second apart at first, five at last.
func (a *App) await() error {
	wait := 500 * time.Millisecond
	for {
		select {
		case <-a.life.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, 5*time.Second)
		ctx, cancel := context.WithTimeout(a.life, openWait)
		err := a.join(ctx)
		cancel()
		if err == nil {
			return nil
		}
		if !errors.Is(err, queue.ErrUnavailable) {
			return err
		}
		if last := a.openErr.Swap(&err); last == nil || (*last).Error() != err.Error() {
			a.log.Error("Redis is still not there", zap.String("reason", Refusal(err)))
		}
	}
}

// fail ends the app for a reason of its own.
func (a *App) fail(err error) {
	select {
	case a.failed <- err:
	default:
	}
}

// PublicAddr is where WeChat, mini-programs and partners are answered, with the port that was really taken.
func (a *App) PublicAddr() string { return a.publicAddr.String() }

// AdminAddr is where operators are answered.
func (a *App) AdminAddr() string { return a.adminAddr.String() }

// Ready is closed once Redis has been there and the packages are joined.
func (a *App) Ready() <-chan struct{} { return a.ready }

// Failed gives the error that ended the app before it was closed, such as another number of shards than Redis knows.
func (a *App) Failed() <-chan error { return a.failed }

// Run starts a gateway, waits for ctx to end or for it to fail, and closes it. running, when not nil, is called once
// the doors are open.
func Run(ctx context.Context, c *config.Config, o Options, running func(*App)) error {
	a, err := Start(ctx, c, o)
	if err != nil {
		return err
	}
	if running != nil {
		running(a)
	}
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-a.failed:
		a.log.Error("cannot go on", zap.Error(failure))
	}
	return errors.Join(failure, a.Close(context.Background()))
}

// address says which door could not be opened.
func address(door, addr string, err error) error { return fmt.Errorf("%s %s: %w", door, addr, err) }
