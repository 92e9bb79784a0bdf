package relay

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// alertSilence is the time in which the same fault of the same app is told once.
const alertSilence = time.Hour

// alerts remembers what this process told an app's operator, so that Redis is not asked by every message that meets a fault.
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

// forget lets a fault be told again that could not be told.
func (a *alerts) forget(app string, code int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.told, alertKey{app, code})
}

// alert tells an app's partners and the log what its operator must do. It is a change of its own, on the app's shard, under a
// name that is taken for alertSilence: replicas, restarts and shards tell it once.
func (r *Relay) alert(app string, api *wechat.APIError, now time.Time) {
	if !r.alerts.first(app, api.Code, now) {
		return
	}
	e := wechat.Lookup(api.Code)
	r.log.Error("app needs its operator", zap.String("app", app), zap.Int("errcode", api.Code), zap.String("errmsg", api.Msg), zap.String("rid", api.RID), zap.String("cure", api.Cure()))
	shard := r.q.Shard(app, "")
	jobs := r.tell(telling{shard: shard, app: app, typ: EventAlert, at: now, data: Alert{App: app, Errcode: &api.Code, Errmsg: some(api.Msg),
		RID: some(api.RID), Meaning: e.Meaning, MeaningZH: e.MeaningZH, Cure: api.Cure(), CureZH: api.CureZH()}})
	if len(jobs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	res := r.q.Commit(ctx, queue.Change{Shard: shard, Once: "alert/" + app + "/" + strconv.Itoa(api.Code), OnceFor: alertSilence, Jobs: jobs})
	if res.Err != nil && !errors.Is(res.Err, queue.ErrTaken) {
		r.alerts.forget(app, api.Code)
		r.log.Warn("alert not queued", zap.String("app", app), zap.Error(res.Err))
	}
}

// AlertApp tells what the token keeper noticed: the log at once, and the app's partners when WeChat said something that
// has a cure. It is for wechat.Options.OnAlert, which must not wait, so the event is queued on the side.
func (r *Relay) AlertApp(app string, cause error) {
	r.log.Error("app needs its operator", zap.String("app", app), zap.Error(cause))
	var config *wechat.ConfigError
	if !errors.As(cause, &config) {
		return
	}
	go r.alert(app, config.API, time.Now())
}
