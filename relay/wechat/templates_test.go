package wechat

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Who asks for a template that is known never waits for WeChat, however old the list: a silent WeChat, or another item of
// the same batch with a template nobody knows, keeps nobody.
func TestAKnownTemplateNeverWaits(t *testing.T) {
	silent, asked := make(chan struct{}), make(chan struct{}, 8)
	lists := NewTemplateCache(func(ctx context.Context, _ string) ([]Template, error) {
		asked <- struct{}{}
		<-silent
		return []Template{{ID: "new"}, {ID: "old", Title: "changed"}}, nil
	})
	long := time.Now().Add(-time.Hour)
	lists.apps = map[string]*templateList{"shop": {byID: map[string]Template{"old": {ID: "old"}}, at: long, try: long}}
	unknown := make(chan bool)
	go func() {
		_, ok, _ := lists.Get(t.Context(), "shop", "new")
		unknown <- ok
	}()
	<-asked // it holds the line to WeChat
	for range 3 {
		if tpl, ok, known := lists.Get(t.Context(), "shop", "old"); !ok || !known || tpl.Title != "" {
			t.Fatalf("%+v %v %v", tpl, ok, known)
		}
	}
	close(silent)
	if !<-unknown {
		t.Error("the new template was not found")
	}
	if tpl, _, _ := lists.Get(t.Context(), "shop", "old"); tpl.Title != "changed" || len(asked) != 0 {
		t.Errorf("%+v, asked %d times more", tpl, len(asked))
	}
}

// A send that is answered 40037 has the list fetched anew, once however many there are; what WeChat lists then is what counts.
func TestDoubtAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, typ := 0, 2
		lists := NewTemplateCache(func(context.Context, string) ([]Template, error) {
			asked++
			return []Template{{ID: "T", Type: typ}}, nil
		})
		lists.refresh(t.Context(), "shop")
		typ = 3
		for range 100 {
			lists.Doubt("shop")
		}
		synctest.Wait()
		if k, _ := lists.Known("shop", "T"); k.Type != 3 || asked != 2 {
			t.Errorf("%+v after %d calls", k, asked)
		}
		time.Sleep(templatesRetry)
		lists.Doubt("shop")
		lists.Doubt("other")
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
		lists := NewTemplateCache(func(context.Context, string) ([]Template, error) {
			asked++
			return []Template{{ID: "T", Type: 3}}, nil
		})
		lists.put("shop", &templateList{at: time.Now(), try: time.Now()})
		lists.Expect("shop", "T")
		synctest.Wait()
		if asked != 0 {
			t.Error("asked within the pause")
		}
		time.Sleep(templatesRetry)
		for range 10 {
			lists.Expect("shop", "T")
			synctest.Wait()
		}
		if k, _ := lists.Known("shop", "T"); k.Type != 3 || asked != 1 {
			t.Errorf("%+v after %d calls", k, asked)
		}
	})
}

// Who waits for the lists is let go when all are there, or when one that failed was asked for again.
func TestTemplatesAsked(t *testing.T) {
	for name, fails := range map[string]int{"at once": 0, "the second time": 1, "never": 1000} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lists := NewTemplateCache(func(context.Context, string) ([]Template, error) {
					if fails--; fails >= 0 {
						return nil, errors.New("away")
					}
					return []Template{{ID: "T", Type: 3}}, nil
				})
				lists.SetApps([]string{"shop"})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				began := time.Now()
				failed := fails > 0
				go lists.Run(ctx)
				<-lists.Asked()
				if took := time.Since(began); failed != (took >= time.Second) || took > 2*time.Second {
					t.Errorf("after %v", took)
				}
				if _, known := lists.Known("shop", "T"); known != lists.Listed("shop") || known != (name != "never") {
					t.Errorf("known: %t", known)
				}
			})
		})
	}
}

// The timer keeps the lists of all apps fresh, takes in an app that a reload brought at once, and asks for a list that did
// not come again soon.
func TestTemplatesAreKeptFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		asked, away := map[string]int{}, true
		count := func(app string) int { mu.Lock(); defer mu.Unlock(); return asked[app] }
		lists := NewTemplateCache(func(_ context.Context, app string) ([]Template, error) {
			mu.Lock()
			defer mu.Unlock()
			asked[app]++
			if app == "new" && away {
				return nil, errors.New("away")
			}
			return nil, nil
		})
		lists.SetApps([]string{"shop"})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go lists.Run(ctx)
		<-lists.Asked()
		synctest.Wait()
		if n := count("shop"); n != 1 {
			t.Fatalf("shop was asked for %d times at the start", n)
		}
		time.Sleep(time.Minute)
		lists.SetApps([]string{"shop", "new"})
		synctest.Wait()
		if n := count("new"); n != 1 {
			t.Fatalf("the new app was asked for %d times", n)
		}
		for _, wait := range []int{1, 2, 4, 8, 16} {
			time.Sleep(time.Duration(wait) * time.Second)
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
