package wechat

import (
	"context"
	"sync"
	"time"
)

// TemplateCache knows each app's templates as WeChat lists them. What could not be fetched is not known, and nothing is
// refused on its account. Safe for concurrent use.
type TemplateCache struct {
	fetch func(ctx context.Context, app string) ([]Template, error)

	mu     sync.RWMutex
	names  []string // of the apps whose lists Run keeps fresh
	apps   map[string]*templateList
	doubts map[string]time.Time // when a send that was answered 40037 last had an app's list fetched

	one   sync.Mutex    // one fetch at a time: the list is small and rarely asked for
	wake  chan struct{} // there is an app whose list nobody fetched yet
	asked chan struct{} // closed when every app's list is there, or did not come in a second
}

type templateList struct {
	byID map[string]Template
	at   time.Time // of the last good fetch
	try  time.Time // of the last attempt
}

// NewTemplateCache makes a cache over [Client.Templates], or what stands in for it.
func NewTemplateCache(fetch func(ctx context.Context, app string) ([]Template, error)) *TemplateCache {
	return &TemplateCache{fetch: fetch, wake: make(chan struct{}, 1), asked: make(chan struct{})}
}

const (
	templatesFresh = 10 * time.Minute
	templatesRetry = 15 * time.Second // an unknown id, or a fetch that failed, asks again no sooner
	templatesAgain = time.Minute      // the timer at most, of a list that did not come
)

func (t *TemplateCache) list(app string) *templateList {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.apps[app]
}

// Known returns a template of the list as it is now. It never waits.
func (t *TemplateCache) Known(app, id string) (Template, bool) {
	l := t.list(app)
	if l == nil {
		return Template{}, false
	}
	tpl, ok := l.byID[id]
	return tpl, ok
}

// List returns the list as it is now, in no order. It never waits.
func (t *TemplateCache) List(app string) []Template {
	l := t.list(app)
	if l == nil {
		return nil
	}
	out := make([]Template, 0, len(l.byID))
	for _, tpl := range l.byID {
		out = append(out, tpl)
	}
	return out
}

// Listed tells whether the app's list is known, so that an id that is not on it may be refused. It never waits.
func (t *TemplateCache) Listed(app string) bool {
	l := t.list(app)
	return l != nil && !l.at.IsZero()
}

// Get returns a template; known tells whether the list is one to refuse by. An id that is missing from a list older
// than templatesRetry is looked for at WeChat once more, so that a new template works at once.
func (t *TemplateCache) Get(ctx context.Context, app, id string) (tpl Template, ok, known bool) {
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
func (t *TemplateCache) refresh(ctx context.Context, app string) *templateList {
	t.one.Lock()
	defer t.one.Unlock()
	return t.fetchNow(ctx, app)
}

// insist asks WeChat however lately it was asked, unless that was after since.
func (t *TemplateCache) insist(ctx context.Context, app string, since time.Time) *templateList {
	t.one.Lock()
	defer t.one.Unlock()
	if l := t.list(app); l != nil && !l.try.After(since) {
		t.put(app, &templateList{byID: l.byID, at: l.at})
	}
	return t.fetchNow(ctx, app)
}

// fetchNow is called by whom holds the lock.
func (t *TemplateCache) fetchNow(ctx context.Context, app string) *templateList {
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
		next.at, next.byID = next.try, make(map[string]Template, len(got))
		for _, tpl := range got {
			next.byID[tpl.ID] = tpl
		}
	}
	t.put(app, next)
	return next
}

// beside asks WeChat without waiting for it, unless it was asked a moment ago or is being asked.
func (t *TemplateCache) beside(app string) {
	if l := t.list(app); l != nil && time.Since(l.try) < templatesRetry || !t.one.TryLock() {
		return
	}
	go func() {
		defer t.one.Unlock()
		t.fetchNow(context.Background(), app)
	}()
}

// Expect looks for a template that WeChat's event names and no list has, beside the work: it is new, and its type
// decides how it counts.
func (t *TemplateCache) Expect(app, id string) {
	if _, ok := t.Known(app, id); !ok && id != "" {
		t.beside(app)
	}
}

// Doubt fetches the list anew beside the work: a send by this app was answered 40037, so it names a template that is
// gone, or is of another kind now. A thousand such sends ask once in templatesRetry.
func (t *TemplateCache) Doubt(app string) {
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

func (t *TemplateCache) put(app string, l *templateList) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.apps == nil {
		t.apps = map[string]*templateList{}
	}
	t.apps[app] = l
}

// SetApps names the apps whose lists Run keeps. Lists of new ones are fetched now, not at the next tick.
func (t *TemplateCache) SetApps(names []string) {
	t.mu.Lock()
	t.names = names
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Run fetches every app's list now and keeps it fresh until ctx ends. One that could not be fetched is asked for
// again, after a second at first and then ever later, at last every minute.
func (t *TemplateCache) Run(ctx context.Context) {
	began, open, again := time.Now(), true, time.Second
	select {
	case <-t.wake: // the first pass takes in what it is about
	default:
	}
	for {
		wait, missing := templatesFresh, false
		t.mu.RLock()
		names := t.names
		t.mu.RUnlock()
		for _, name := range names {
			l := t.list(name)
			switch {
			case l == nil || !l.at.IsZero() && time.Since(l.at) >= templatesFresh:
				l = t.refresh(ctx, name)
			case l.at.IsZero():
				l = t.insist(ctx, name, time.Now())
			}
			if missing = missing || l.at.IsZero(); !l.at.IsZero() {
				wait = min(wait, max(templatesFresh-time.Since(l.at), templatesAgain))
			}
		}
		if open && (!missing || time.Since(began) >= time.Second) {
			close(t.asked)
			open = false
		}
		if missing {
			wait, again = min(wait, again), min(2*again, templatesAgain)
		} else {
			again = time.Second
		}
		tick := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.wake:
		case <-tick.C:
		}
		tick.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// Asked is closed when Run has every app's list, or has asked again a second later. A push that is booked before
// that may count as a credit what is long-term.
func (t *TemplateCache) Asked() <-chan struct{} { return t.asked }
