package relay

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// Who asks for a template that is known never waits for WeChat, however old the list: a silent WeChat, or another item of
// the same batch with a template nobody knows, keeps nobody.
func TestAKnownTemplateNeverWaits(t *testing.T) {
	silent, asked := make(chan struct{}), make(chan struct{}, 8)
	lists := &templates{fetch: func(ctx context.Context, _ string) ([]wechat.Template, error) {
		asked <- struct{}{}
		<-silent
		return []wechat.Template{{ID: "new"}, {ID: "old", Title: "changed"}}, nil
	}}
	long := time.Now().Add(-time.Hour)
	lists.apps = map[string]*templateList{"shop": {byID: map[string]wechat.Template{"old": {ID: "old"}}, at: long, try: long}}
	unknown := make(chan bool)
	go func() {
		_, ok, _ := lists.get(t.Context(), "shop", "new")
		unknown <- ok
	}()
	<-asked // it holds the line to WeChat
	for range 3 {
		if tpl, ok, known := lists.get(t.Context(), "shop", "old"); !ok || !known || tpl.Title != "" {
			t.Fatalf("%+v %v %v", tpl, ok, known)
		}
	}
	close(silent)
	if !<-unknown {
		t.Error("the new template was not found")
	}
	if tpl, _, _ := lists.get(t.Context(), "shop", "old"); tpl.Title != "changed" || len(asked) != 0 {
		t.Errorf("%+v, asked %d times more", tpl, len(asked))
	}
}

// A send that is told 40037 has the list fetched anew, once however many there are; what WeChat lists then is what counts.
func TestDoubtAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, typ := 0, 2
		lists := &templates{fetch: func(context.Context, string) ([]wechat.Template, error) {
			asked++
			return []wechat.Template{{ID: "T", Type: typ}}, nil
		}}
		lists.refresh(t.Context(), "shop")
		typ = 3
		for range 100 {
			lists.doubt("shop")
		}
		synctest.Wait()
		if k := lists.kind("shop", "T"); k != ledger.LongTerm || asked != 2 {
			t.Errorf("%q after %d calls", k, asked)
		}
		time.Sleep(templatesRetry)
		lists.doubt("shop")
		lists.doubt("other")
		synctest.Wait()
		if asked != 4 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// WeChat's event may name a template that is newer than the list: it is looked for beside the work, not at every event.
func TestANewTemplateIsLookedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		lists := &templates{fetch: func(context.Context, string) ([]wechat.Template, error) {
			asked++
			return []wechat.Template{{ID: "T", Type: 3}}, nil
		}}
		lists.put("shop", &templateList{at: time.Now(), try: time.Now()})
		lists.meet("shop", "T")
		synctest.Wait()
		if asked != 0 {
			t.Error("asked within the pause")
		}
		time.Sleep(templatesRetry)
		for range 10 {
			lists.meet("shop", "T")
			synctest.Wait()
		}
		if k := lists.kind("shop", "T"); k != ledger.LongTerm || asked != 1 {
			t.Errorf("%q after %d calls", k, asked)
		}
	})
}

// Who waits for the lists is let go when all are there, or when one that failed was asked for again.
func TestTemplatesAsked(t *testing.T) {
	for name, fails := range map[string]int{"at once": 0, "the second time": 1, "never": 1000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &Relay{}
				r.templates.wake, r.templates.asked = make(chan struct{}, 1), make(chan struct{})
				r.templates.fetch = func(context.Context, string) ([]wechat.Template, error) {
					if fails--; fails >= 0 {
						return nil, errors.New("away")
					}
					return []wechat.Template{{ID: "T", Type: 3}}, nil
				}
				r.SetRules(Rules{Apps: map[string]App{"shop": {}}})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began := time.Now()
				failed := fails > 0
				go r.SyncTemplates(ctx)
				<-r.TemplatesAsked()
				if took := time.Since(began); failed != (took >= time.Second) || took > 2*time.Second {
					t.Errorf("after %v", took)
				}
				if known := r.kind("shop", "T") != ""; known != (name != "never") {
					t.Errorf("known: %t", known)
				}
			})
		})
	}
}

// The timer keeps the lists of all apps fresh, takes in an app that a reload brought at once, and asks for a list that did
// not come again soon.
func TestSyncTemplates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked, away := map[string]int{}, true
		count := func(app string) int { mu.Lock(); defer mu.Unlock(); return asked[app] }
		r := &Relay{}
		r.templates.wake, r.templates.asked = make(chan struct{}, 1), make(chan struct{})
		r.templates.fetch = func(_ context.Context, app string) ([]wechat.Template, error) {
			mu.Lock()
			defer mu.Unlock()
			asked[app]++
			if app == "new" && away {
				return nil, errors.New("away")
			}
			return nil, nil
		}
		r.SetRules(Rules{Apps: map[string]App{"shop": {}}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.SyncTemplates(ctx)
		<-r.TemplatesAsked()
		synctest.Wait()
		if n := count("shop"); n != 1 {
			t.Fatalf("shop was asked for %d times at the start", n)
		}
		time.Sleep(time.Minute)
		r.SetRules(Rules{Apps: map[string]App{"shop": {}, "new": {}}})
		synctest.Wait()
		if n := count("new"); n != 1 {
			t.Fatalf("the new app was asked for %d times", n)
		}
		for _, wait := range []time.Duration{1, 2, 4, 8, 16} { // seconds
			time.Sleep(wait * time.Second)
		}
		synctest.Wait()
		if n, m := count("new"), count("shop"); n != 6 || m != 1 {
			t.Fatalf("after half a minute: new %d, shop %d", n, m)
		}
		mu.Lock()
		away = false
		asked["new"] = 1
		mu.Unlock()
		time.Sleep(templatesAgain)
		synctest.Wait()
		if n, m := count("new"), count("shop"); n != 2 || m != 1 {
			t.Fatalf("after a minute more: new %d, shop %d", n, m)
		}
		time.Sleep(templatesFresh)
		synctest.Wait()
		if n, m := count("new"), count("shop"); n != 3 || m != 2 {
			t.Fatalf("after ten minutes more: new %d, shop %d", n, m)
		}
	})
}
