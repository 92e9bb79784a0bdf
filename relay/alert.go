package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// alerts remembers what an app's operator was told, so that a fault that every message meets is told once.
type alerts struct {
	mu   sync.Mutex
	told map[alertKey]time.Time
}

type alertKey struct {
	app  string
	code int
}

// first tells whether this fault of this app was not told within alertSilence.
func (a *alerts) first(app string, code int, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := alertKey{app, code}
	if at, ok := a.told[k]; ok && now.Sub(at) < alertSilence {
		return false
	}
	if a.told == nil {
		a.told = map[alertKey]time.Time{}
	}
	a.told[k] = now
	return true
}

// AlertApp tells what the token keeper noticed: the log at once, and the app's partners when WeChat said something that
// has a cure. It is for wechat.Options.OnAlert, which must not wait, so the event is queued on the side.
func (r *Relay) AlertApp(app string, cause error) {
	r.log.Error("app needs its operator", zap.String("app", app), zap.Error(cause))
	var config *wechat.ConfigError
	if !errors.As(cause, &config) {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		shard := r.q.Shard(app, "")
		if jobs := r.alert(shard, app, config.API, time.Now()); len(jobs) > 0 {
			if res := r.q.Commit(ctx, queue.Change{Shard: shard, Jobs: jobs}); res.Err != nil {
				r.log.Warn("alert not queued", zap.String("app", app), zap.Error(res.Err))
			}
		}
	}()
}
