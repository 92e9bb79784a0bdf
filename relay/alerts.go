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

// alertKey is a fault of an app: an errcode, or what else it is about.
type alertKey struct{ app, fault string }

// first tells whether this fault of this app was not told within alertSilence.
func (a *alerts) first(app, fault string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := alertKey{app, fault}
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
func (a *alerts) forget(app, fault string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.told, alertKey{app, fault})
}

// alert tells an app's partners and the log what its operator must do.
func (r *Relay) alert(app string, api *wechat.APIError, now time.Time) {
	e := wechat.Lookup(api.Code)
	data := Alert{App: app, Errcode: &api.Code, Errmsg: some(api.Msg), RID: some(api.RID), Meaning: e.Meaning, MeaningZH: e.MeaningZH,
		Cure: api.Cure(), CureZH: api.CureZH()}
	if r.notifyAlert(app, strconv.Itoa(api.Code), data, now) {
		r.log.Error("app needs its operator", zap.String("app", app), zap.Int("errcode", api.Code), zap.String("errmsg", api.Msg), zap.String("rid", api.RID), zap.String("cure", api.Cure()))
	}
}

// notifyAlert queues an alert for an app's partners; first is false when it was told within alertSilence. It is a change of its
// own, on the app's shard, under a name that is taken for that time: replicas, restarts and shards tell it once.
func (r *Relay) notifyAlert(app, fault string, data Alert, now time.Time) (first bool) {
	if !r.alerts.first(app, fault, now) {
		return false
	}
	shard := r.q.Shard(app, "")
	jobs := r.notify(notification{shard: shard, app: app, typ: EventAlert, at: now, data: data})
	if len(jobs) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	res := r.q.Commit(ctx, queue.Change{Shard: shard, Once: "alert/" + app + "/" + fault, OnceFor: alertSilence, Jobs: jobs})
	if res.Err != nil && !errors.Is(res.Err, queue.ErrTaken) {
		r.alerts.forget(app, fault)
		r.log.Warn("alert not queued", zap.String("app", app), zap.Error(res.Err))
	}
	return true
}
