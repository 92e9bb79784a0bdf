package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/gateway"
)

// What one connection may take. Pushes and partners' requests are small; calls passed on to WeChat carry up to
// limits.proxy_body and wait for WeChat's answer.
const (
	readHeader = 5 * time.Second
	readAll    = 10 * time.Second
	writeAll   = 60 * time.Second
	keepIdle   = 120 * time.Second
	maxHeader  = 16 << 10

	maxConnections      = 4096 // of the public listener: some 80 MB when all are idle
	maxAdminConnections = 256
)

// listen listens on both addresses and answers at both: the admin address fully, the public one with 503 until the
// packages are joined.
func (a *App) listen(ctx context.Context, c *config.Config, p *plan) error {
	var lc net.ListenConfig
	admin, err := lc.Listen(ctx, "tcp", c.Admin.Listen)
	if err != nil {
		return address("admin.listen", c.Admin.Listen, err)
	}
	public, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		_ = admin.Close()
		return address("listen", c.Listen, err)
	}
	a.publicAddr, a.adminAddr = public.Addr(), admin.Addr()
	a.gate.set(gateway.Public(gateway.Options{Callback: a.door, Limits: p.limits, Version: a.version, Served: a.metrics.serve, Fault: a.fault, Refused: a.refusedSignature,
		Stopping: func() bool { return true }}))
	a.setAdmin(c)
	quiet, err := zap.NewStdLogAt(a.log.Named("http"), zap.DebugLevel)
	if err != nil {
		return err
	}
	a.connections.most, a.connections.dropped = maxConnections, a.metrics.droppedConnections.Inc
	a.adminConnections.most = maxAdminConnections
	a.admin = &http.Server{Handler: &a.adminHandler, ReadHeaderTimeout: readHeader, ReadTimeout: readAll, IdleTimeout: keepIdle,
		MaxHeaderBytes: maxHeader, ErrorLog: quiet, ConnState: a.adminConnections.note}
	a.public = &http.Server{Handler: &a.gate, ReadHeaderTimeout: readHeader, ReadTimeout: readAll, WriteTimeout: writeAll,
		IdleTimeout: keepIdle, MaxHeaderBytes: maxHeader, ErrorLog: quiet, ConnState: a.connections.note}
	a.serve(a.admin, admin)
	a.serve(a.public, public)
	a.log.Info("listening", zap.String("public", a.PublicAddr()), zap.String("admin", a.AdminAddr()), zap.String("version", a.version))
	return nil
}

func (a *App) serve(s *http.Server, l net.Listener) {
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.fail(address("serving", l.Addr().String(), err))
		}
	}()
}

// setAdmin replaces the admin handler: with other users, or with the console once Redis is there.
func (a *App) setAdmin(c *config.Config) {
	var pages http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "Redis has not been there yet; /readyz says why.", http.StatusServiceUnavailable)
	})
	if r := a.assembled.Load(); r != nil {
		pages = r.console
	}
	a.adminHandler.set(gateway.Admin(gateway.AdminOptions{Ready: a.checks, Metrics: a.metrics.handler(), Console: pages, Users: adminUsers(c.Admin),
		TrustedProxies: c.TrustedProxies, Guesses: &a.guesses, Guessed: a.guessed, Audit: a.audit}))
}

// adminUsers is who may come in: admin.password with any name, and admin.users.
func adminUsers(c config.Admin) (out []gateway.AdminUser) {
	if !c.Password.IsZero() {
		out = append(out, gateway.AdminUser{Password: c.Password.Reveal()})
	}
	for _, u := range c.Users {
		out = append(out, gateway.AdminUser{Name: u.Name, Password: u.Password.Reveal(), Viewer: u.Role == "viewer"})
	}
	return out
}

// guessed writes down a wrong password; gateway.Guesses chooses which.
func (a *App) guessed(client string, wrong int) {
	if held, ok := a.refusedLines.allow(time.Now()); ok {
		a.log.Warn("wrong password at the admin address", zap.String("client", client), zap.Int("wrong_tries", wrong), zap.Int64("not_logged_before", held))
	}
}

// refusedSignature counts and logs what a partner is not told. The partner of the counter is one of the config, or
// "unknown".
func (a *App) refusedSignature(r gateway.Refusal) {
	partner := r.Partner
	if !r.Known {
		partner = "unknown"
	}
	a.metrics.refusedSignatures.WithLabelValues(partner, r.Cause).Inc()
	if held, ok := a.refusedLines.allow(time.Now()); ok {
		a.log.Warn("signature refused", zap.String("partner", r.Partner), zap.String("cause", r.Cause), zap.Float64("clock_skew_seconds", r.Skew.Seconds()),
			zap.String("client", r.Client), zap.String("request_id", r.RequestID), zap.Int64("not_logged_before", held))
	}
}

// maxPollAge is how long the queue may stand still before /readyz is red.
const maxPollAge = 30 * time.Second

// checks is what /readyz says. A gateway that stops is not ready, so that no new requests are sent its way.
func (a *App) checks(ctx context.Context) []gateway.Check {
	var out []gateway.Check
	if a.stopping.Load() {
		out = append(out, gateway.Check{Name: "serving", Detail: "stopping"})
	}
	ctx, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := Probe(ctx, a.rdb, a.config.Load().Redis.Shards); err != nil {
		out = append(out, gateway.Check{Name: "redis", Detail: Refusal(err)})
	} else {
		out = append(out, gateway.Check{Name: "redis", OK: true, Detail: "answers in " + time.Since(began).Round(10*time.Microsecond).String()})
	}
	return append(out, a.queueCheck())
}

func (a *App) queueCheck() gateway.Check {
	r := a.assembled.Load()
	if r == nil {
		detail := "not open yet"
		if err := a.openErr.Load(); err != nil {
			detail += ": Redis " + Refusal(*err)
		}
		return gateway.Check{Name: "queue", Detail: detail}
	}
	last, never := r.queue.LastTurn(), ""
	if last.IsZero() {
		last, never = r.opened, " (never yet)"
	}
	since := time.Since(last)
	return gateway.Check{Name: "queue", OK: since < maxPollAge, Detail: "last turned " + since.Round(time.Millisecond).String() + " ago" + never}
}

// fault logs an error whose answer says less than what happened.
func (a *App) fault(requestID, route string, err error) {
	a.metrics.faults.WithLabelValues(a.metrics.routes.or(route)).Inc()
	held, ok := a.faultLines.allow(time.Now())
	if !ok {
		return
	}
	a.log.Error("request failed", zap.String("request_id", requestID), zap.String("route", route), zap.Error(err), zap.Int64("not_logged_before", held))
}
