package relay

import (
	"context"
	"sync"
	"time"

	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// templates knows each app's templates as WeChat lists them. What could not be fetched is not known, and nothing is
// refused on its account.
type templates struct {
	fetch func(ctx context.Context, app string) ([]wechat.Template, error)

	mu   sync.RWMutex
	apps map[string]*templateList

	one sync.Mutex // one fetch at a time: the list is small and rarely asked for
}

type templateList struct {
	byID map[string]wechat.Template
	at   time.Time // of the last good fetch
	try  time.Time // of the last attempt
}

const (
	templatesFresh = 10 * time.Minute
	templatesRetry = 15 * time.Second // an unknown id, or a fetch that failed, asks again no sooner
)

func (t *templates) list(app string) *templateList {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.apps[app]
}

// kind of a template, "" when unknown: the ledger then keeps what it knows.
func (t *templates) kind(app, id string) ledger.Kind {
	l := t.list(app)
	if l == nil {
		return ""
	}
	tpl, ok := l.byID[id]
	if !ok {
		return ""
	}
	return kindOf(tpl.Type)
}

// kindOf reads WeChat's `type`: 2 is one-time, 3 long-term.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_getwxapubnewtemplate
func kindOf(typ int) ledger.Kind {
	switch typ {
	case 2:
		return ledger.OneTime
	case 3:
		return ledger.LongTerm
	}
	return ""
}

// get returns a template; known tells whether the list is one to refuse by. An id that is missing from a list older than
// templatesRetry is looked for at WeChat once more, so that a new template works at once.
func (t *templates) get(ctx context.Context, app, id string) (tpl wechat.Template, ok, known bool) {
	if l := t.list(app); l != nil {
		tpl, ok = l.byID[id]
		asked := time.Since(l.try) < templatesRetry
		if ok && time.Since(l.at) >= templatesFresh && !asked && t.one.TryLock() {
			go func() { // who knows the template does not wait for WeChat to confirm it
				defer t.one.Unlock()
				t.fetchNow(context.WithoutCancel(ctx), app)
			}()
		}
		if ok || asked {
			return tpl, ok, !l.at.IsZero()
		}
	}
	l := t.refresh(ctx, app)
	tpl, ok = l.byID[id]
	return tpl, ok, !l.at.IsZero()
}

// refresh asks WeChat, at most once per templatesRetry and app.
func (t *templates) refresh(ctx context.Context, app string) *templateList {
	t.one.Lock()
	defer t.one.Unlock()
	return t.fetchNow(ctx, app)
}

// fetchNow is called by whom holds the lock.
func (t *templates) fetchNow(ctx context.Context, app string) *templateList {
	old := t.list(app)
	if old != nil && time.Since(old.try) < templatesRetry {
		return old
	}
	next := &templateList{try: time.Now()}
	if old != nil {
		next.byID, next.at = old.byID, old.at
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if got, err := t.fetch(ctx, app); err == nil {
		next.at, next.byID = next.try, make(map[string]wechat.Template, len(got))
		for _, tpl := range got {
			next.byID[tpl.ID] = tpl
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.apps == nil {
		t.apps = map[string]*templateList{}
	}
	t.apps[app] = next
	return next
}

// forget makes the next question ask WeChat again: a send was told 40037.
func (t *templates) forget(app string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.apps[app]; l != nil {
		t.apps[app] = &templateList{byID: l.byID, at: l.at}
	}
}

// SyncTemplates fetches every app's list now and keeps it fresh until ctx ends.
func (r *Relay) SyncTemplates(ctx context.Context) {
	tick := time.NewTicker(templatesFresh)
	defer tick.Stop()
	for {
		for name := range r.rules.Load().Apps {
			r.templates.refresh(ctx, name)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
