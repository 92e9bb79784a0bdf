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

	mu     sync.RWMutex
	apps   map[string]*templateList
	doubts map[string]time.Time // when a send that was told 40037 last had an app's list fetched

	one   sync.Mutex    // one fetch at a time: the list is small and rarely asked for
	wake  chan struct{} // there is an app whose list nobody fetched yet
	asked chan struct{} // closed when every app's list is there, or did not come in a second
}

type templateList struct {
	byID map[string]wechat.Template
	at   time.Time // of the last good fetch
	try  time.Time // of the last attempt
}

const (
	templatesFresh = 10 * time.Minute
	templatesRetry = 15 * time.Second // an unknown id, or a fetch that failed, asks again no sooner
	templatesAgain = time.Minute      // the timer at most, of a list that did not come
)

func (t *templates) list(app string) *templateList {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.apps[app]
}

// kind of a template, "" when unknown: the ledger then keeps what it knows. It never waits.
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
		if ok && time.Since(l.at) >= templatesFresh {
			t.beside(app) // who knows the template does not wait for WeChat to confirm it
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

// insist asks WeChat however lately it was asked, unless that was after since.
func (t *templates) insist(ctx context.Context, app string, since time.Time) *templateList {
	t.one.Lock()
	defer t.one.Unlock()
	if l := t.list(app); l != nil && !l.try.After(since) {
		t.put(app, &templateList{byID: l.byID, at: l.at})
	}
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
	t.put(app, next)
	return next
}

// beside asks WeChat without waiting for it, unless it was asked a moment ago or is being asked.
func (t *templates) beside(app string) {
	if l := t.list(app); l != nil && time.Since(l.try) < templatesRetry || !t.one.TryLock() {
		return
	}
	go func() {
		defer t.one.Unlock()
		t.fetchNow(context.Background(), app)
	}()
}

// meet has a template that WeChat's event names and no list has looked for: it is new, and its kind decides how it counts.
func (t *templates) meet(app, id string) {
	if t.kind(app, id) == "" && id != "" {
		t.beside(app)
	}
}

// doubt fetches the list anew beside the work: a send by this app was told 40037, so it names a template that is gone, or
// is of another kind now. A thousand such sends ask once in templatesRetry.
func (t *templates) doubt(app string) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.doubts[app]; ok && now.Sub(last) < templatesRetry {
		return
	}
	if t.doubts == nil {
		t.doubts = map[string]time.Time{}
	}
	t.doubts[app] = now
	go t.insist(context.Background(), app, now)
}

func (t *templates) put(app string, l *templateList) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.apps == nil {
		t.apps = map[string]*templateList{}
	}
	t.apps[app] = l
}

// stir has the lists of apps that came into the config fetched now, not at the next tick.
func (t *templates) stir() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// SyncTemplates fetches every app's list now and keeps it fresh until ctx ends. One that could not be fetched is asked for
// again, after a second at first and then ever later, at last every minute.
func (r *Relay) SyncTemplates(ctx context.Context) {
	began, told, again := time.Now(), false, time.Second
	select {
	case <-r.templates.wake: // the first pass takes in what it is about
	default:
	}
	for {
		wait, missing := templatesFresh, false
		for name := range r.rules.Load().Apps {
			l := r.templates.list(name)
			switch {
			case l == nil || !l.at.IsZero() && time.Since(l.at) >= templatesFresh:
				l = r.templates.refresh(ctx, name)
			case l.at.IsZero():
				l = r.templates.insist(ctx, name, time.Now())
			}
			if missing = missing || l.at.IsZero(); !l.at.IsZero() {
				wait = min(wait, max(templatesFresh-time.Since(l.at), templatesAgain))
			}
		}
		if !told && (!missing || time.Since(began) >= time.Second) {
			close(r.templates.asked)
			told = true
		}
		if missing {
			wait, again = min(wait, again), min(2*again, templatesAgain)
		} else {
			again = time.Second
		}
		tick := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-r.templates.wake:
		case <-tick.C:
		}
		tick.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// TemplatesAsked is closed when SyncTemplates has every app's list, or has asked again a second later. A push that is booked before that may count
// as a credit what is long-term.
func (r *Relay) TemplatesAsked() <-chan struct{} { return r.templates.asked }

// kind of a template: as the operator says, else as WeChat lists it; "" when unknown.
func (r *Relay) kind(app, id string) ledger.Kind {
	if c, ok := r.rules.Load().Apps[app].Counts[id]; ok {
		return c.Kind
	}
	return r.templates.kind(app, id)
}

// as is a statement with the kind that the operator says, or that WeChat's list tells where the line does not know it yet.
func (r *Relay) as(st ledger.Statement) ledger.Statement {
	if c, ok := r.rules.Load().Apps[st.App].Counts[st.TemplateID]; ok {
		return st.As(c.Kind)
	}
	if st.Kind == "" || st.Kind == ledger.Unknown {
		return st.As(r.templates.kind(st.App, st.TemplateID))
	}
	return st
}
