package app

import (
	"errors"
	"reflect"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/config"
)

// Reload takes another config over while running: apps, partners, rules, limits, the admin password, the log level.
// What needs a restart keeps its old value and is logged. A config the packages refuse (config.Faults) changes nothing.
func (a *App) Reload(c *config.Config) error {
	a.reload.Lock()
	defer a.reload.Unlock()
	p, err := planOf(c)
	if err != nil {
		return err
	}
	before, err := planOf(a.config.Load())
	if err != nil {
		return err
	}
	if err := a.door.SetApps(p.callback); err != nil {
		return err
	}
	if err := a.wechat.SetApps(p.wechat); err != nil {
		_ = a.door.SetApps(before.callback) // they were in force a moment ago
		return err
	}
	a.sender.Allow(c.AllowPrivateEndpoints)
	if r := a.assembled.Load(); r != nil {
		r.relay.SetRules(p.rules)
		r.rules.Store(&p.rules)
		r.gate.SetLimits(p.limits)
	}
	if a.level != nil {
		setLevel(*a.level, c.Log.Level)
	}
	a.config.Store(c)
	a.setAdmin(c)
	a.metrics.reloads.WithLabelValues("applied").Inc()
	a.log.Info("config reloaded", zap.Int("apps", len(c.Apps)), zap.Int("partners", len(c.Partners)))
	for _, path := range needRestart(a.startConfig, c) {
		a.log.Warn("needs a restart to take effect", zap.String("key", path))
	}
	return nil
}

// Refuse logs a new config that is not taken over.
func (a *App) Refuse(err error) {
	a.metrics.reloads.WithLabelValues("refused").Inc()
	a.log.Error("config not reloaded, the old one stays", zap.Strings("faults", faultLines(err)))
}

func faultLines(err error) []string {
	var faults config.Faults
	if !errors.As(err, &faults) {
		return []string{err.Error()}
	}
	lines := make([]string, len(faults))
	for i := range faults {
		lines[i] = faults[i].String()
	}
	return lines
}

// needRestart lists what is only read at the start and was another then: nothing, once it is set back.
func needRestart(start, now *config.Config) (paths []string) {
	for _, f := range []struct {
		path string
		same bool
	}{
		{"listen", start.Listen == now.Listen},
		{"admin.listen", start.Admin.Listen == now.Admin.Listen},
		{"shutdown_grace", start.ShutdownGrace == now.ShutdownGrace},
		{"redis.url", start.Redis.URL.Equal(now.Redis.URL)},
		{"redis.shards", start.Redis.Shards == now.Redis.Shards},
		{"wechat", start.WeChat == now.WeChat},
		{"queue.lease", start.Queue.Lease == now.Queue.Lease},
		{"limits.body", start.Limits.Body == now.Limits.Body},
		{"limits.proxy_body", start.Limits.ProxyBody == now.Limits.ProxyBody},
		{"master_key", start.MasterKey.Equal(now.MasterKey) && reflect.DeepEqual(start.MasterKeyPrevious, now.MasterKeyPrevious)},
		{"retention.buried", start.Retention.Buried == now.Retention.Buried},
		{"tracing", start.Tracing == now.Tracing},
		{"log.format", start.Log.Format == now.Log.Format},
	} {
		if !f.same {
			paths = append(paths, f.path)
		}
	}
	return paths
}
