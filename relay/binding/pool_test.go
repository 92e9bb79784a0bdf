package binding

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/testredis"
)

func add(t *testing.T, b *Book, kind CredentialKind, id string, uses int) bool {
	t.Helper()
	added, err := b.AddCredential(context.Background(), "shop", "oAnn", Credential{Kind: kind, ID: id, Uses: uses})
	if err != nil {
		t.Fatal(err)
	}
	return added
}

// take returns the id, or "" when the pool is empty.
func take(t *testing.T, b *Book, kind CredentialKind, holder string) string {
	t.Helper()
	c, err := b.Take(context.Background(), "shop", "oAnn", kind, holder)
	if err != nil && !errors.Is(err, ErrEmpty) {
		t.Fatal(err)
	}
	return c.ID
}

func sequence(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPoolRules(t *testing.T) {
	ctx := context.Background()
	rules := map[string]func(t *testing.T, b *Book){
		"oldest first, each once": func(t *testing.T, b *Book) {
			for _, id := range []string{"f1", "f2", "f3"} {
				add(t, b, FormID, id, 0)
			}
			got := ""
			for n := range 4 {
				got += take(t, b, "", fmt.Sprint("m", n)) + " "
			}
			sequence(t, got, "f1 f2 f3  ")
		},
		"a repeated report adds nothing, used or not": func(t *testing.T, b *Book) {
			if !add(t, b, FormID, "f1", 1) || add(t, b, FormID, "f1", 1) {
				t.Error("added")
			}
			take(t, b, "", "m1")
			if add(t, b, FormID, "f1", 1) {
				t.Error("a used one was added again")
			}
			sequence(t, take(t, b, "", "m2"), "")
		},
		"a prepay_id has as many uses as said": func(t *testing.T, b *Book) {
			add(t, b, PrepayID, "prepay_id=wx1", 3)
			add(t, b, FormID, "f1", 1)
			got := ""
			for n := range 5 {
				got += take(t, b, "", fmt.Sprint("m", n)) + " "
			}
			sequence(t, got, "wx1 wx1 wx1 f1  ")
		},
		"by kind": func(t *testing.T, b *Book) {
			add(t, b, PrepayID, "wx1", 1)
			add(t, b, FormID, "f1", 1)
			sequence(t, take(t, b, FormID, "m1")+take(t, b, FormID, "m2")+take(t, b, PrepayID, "m3"), "f1wx1")
		},
		"the same message takes the same one": func(t *testing.T, b *Book) {
			add(t, b, FormID, "f1", 1)
			add(t, b, FormID, "f2", 1)
			sequence(t, take(t, b, "", "m1")+take(t, b, "", "m1")+take(t, b, "", "m2")+take(t, b, "", "m1"), "f1f1f2f1")
		},
		"given back is usable again, in its old place": func(t *testing.T, b *Book) {
			add(t, b, FormID, "f1", 1)
			add(t, b, FormID, "f2", 1)
			take(t, b, "", "m1")
			for range 3 { // once is enough; more gives nothing more
				if err := b.GiveBack(ctx, "shop", "oAnn", "m1"); err != nil {
					t.Fatal(err)
				}
			}
			sequence(t, take(t, b, "", "m2")+take(t, b, "", "m3")+take(t, b, "", "m4"), "f1f2")
		},
		"spoiled is gone with all its uses, and the next follows": func(t *testing.T, b *Book) {
			add(t, b, PrepayID, "wx1", 3)
			add(t, b, FormID, "f1", 1)
			take(t, b, "", "m1")
			take(t, b, "", "m2")
			if err := b.Spoil(ctx, "shop", "oAnn", "m1"); err != nil {
				t.Fatal(err)
			}
			if err := b.GiveBack(ctx, "shop", "oAnn", "m2"); err != nil { // m2 held the same one
				t.Fatal(err)
			}
			sequence(t, take(t, b, "", "m1")+take(t, b, "", "m3"), "f1")
		},
		"nothing held, nothing happens": func(t *testing.T, b *Book) {
			add(t, b, FormID, "f1", 1)
			if err := errors.Join(b.Spoil(ctx, "shop", "oAnn", "m1"), b.GiveBack(ctx, "shop", "oAnn", "m1")); err != nil {
				t.Fatal(err)
			}
			sequence(t, take(t, b, "", "m1"), "f1")
		},
		"any is what another could take": func(t *testing.T, b *Book) {
			want := func(want bool) {
				t.Helper()
				if got, err := b.Any(ctx, "shop", "oAnn"); err != nil || got != want {
					t.Errorf("any: %v %v", got, err)
				}
			}
			want(false)
			add(t, b, PrepayID, "p1", 2)
			take(t, b, "", "m1")
			want(true)
			take(t, b, "", "m2")
			want(false)
			if err := b.GiveBack(ctx, "shop", "oAnn", "m1"); err != nil {
				t.Fatal(err)
			}
			want(true)
		},
		"one user's are not another's": func(t *testing.T, b *Book) {
			add(t, b, FormID, "f1", 1)
			if _, err := b.Take(ctx, "shop", "oBob", "", "m1"); !errors.Is(err, ErrEmpty) {
				t.Error(err)
			}
			if _, err := b.Take(ctx, "mall", "oAnn", "", "m1"); !errors.Is(err, ErrEmpty) {
				t.Error(err)
			}
		},
		"bounded": func(t *testing.T, b *Book) {
			for n := range credentialsMax + 5 {
				add(t, b, FormID, fmt.Sprint("f", n), 1)
			}
			sequence(t, take(t, b, "", "m1"), "f5")
		},
		"what is none is refused": func(t *testing.T, b *Book) {
			for _, id := range []string{"", "the formId is a mock one", "requestFormId:fail", "requestFormId:fail timeout", "undefined", "null",
				"the formId is no longer available in develop or trial version", "prepay_id=", "f\x00", "é"} {
				if _, err := b.AddCredential(ctx, "shop", "oAnn", Credential{Kind: FormID, ID: id}); !errors.Is(err, ErrMock) {
					t.Errorf("%q: %v", id, err)
				}
			}
			if _, err := b.AddCredential(ctx, "shop", "oAnn", Credential{Kind: "other", ID: "f1"}); !errors.Is(err, ErrMock) {
				t.Error(err)
			}
		},
	}
	for rule, check := range rules {
		t.Run(rule, func(t *testing.T) {
			testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) { check(t, New(rdb, Sealer{})) })
		})
	}
}

func TestPoolInTime(t *testing.T) {
	s, rdb := testredis.InProcess(t)
	b := New(rdb, Sealer{})
	added := s.Now
	add(t, b, FormID, "f1", 1)
	s.Pass(3 * 24 * time.Hour)
	add(t, b, FormID, "f2", 1)
	c, err := b.Take(context.Background(), "shop", "oAnn", "", "m1")
	if err != nil || c.Kind != FormID || c.Uses != 0 || !c.Expires.Equal(added.Add(credentialTime)) {
		t.Fatalf("%+v %v", c, err)
	}
	if err := b.GiveBack(context.Background(), "shop", "oAnn", "m1"); err != nil {
		t.Fatal(err)
	}
	s.Pass(4 * 24 * time.Hour)
	sequence(t, take(t, b, "", "m2"), "f2") // f1 is 7 days old
	s.Pass(3 * 24 * time.Hour)
	sequence(t, take(t, b, "", "m3"), "")
	if keys := s.Keys(); len(keys) != 0 {
		t.Errorf("left behind: %q", keys)
	}
}

func TestPoolNeverGivesTwice(t *testing.T) {
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		replicas := []*Book{New(rdb, Sealer{}), New(rdb, Sealer{})}
		for n := range 30 {
			add(t, replicas[0], FormID, fmt.Sprint("f", n), 1)
		}
		var mu sync.Mutex
		given := map[string]int{}
		var wg sync.WaitGroup
		for n := range 50 {
			wg.Go(func() {
				c, err := replicas[n%2].Take(context.Background(), "shop", "oAnn", "", fmt.Sprint("m", n))
				if err != nil && !errors.Is(err, ErrEmpty) {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					given[c.ID]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(given) != 30 {
			t.Errorf("%d of 30 given", len(given))
		}
		for id, n := range given {
			if n != 1 {
				t.Errorf("%s given %d times", id, n)
			}
		}
	})
}

// A credential lets somebody be written to: it is not readable in Redis, where there is a key. One that an older version kept
// readable is still good.
func TestPoolIsSealed(t *testing.T) {
	ctx := context.Background()
	s, rdb := testredis.InProcess(t)
	b, at := New(rdb, gcm(t)), openidTag("shop", "oAnn")
	for range 2 {
		add(t, b, FormID, "form-secret", 1)
	}
	for _, key := range s.Keys() {
		fields, err := s.HKeys(key)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fields {
			if strings.Contains(f+s.HGet(key, f), "form-secret") {
				t.Errorf("%s: %q", key, f)
			}
		}
	}
	s.HSet(at+"p", "of-old", fmt.Sprintf("form_id,1,1,%d,0", s.Now.Add(time.Hour).UnixMilli()))
	for _, want := range []string{"of-old", "form-secret"} {
		if c, err := b.Take(ctx, "shop", "oAnn", "", "for "+want); err != nil || c.ID != want {
			t.Errorf("%+v %v, want %s", c, err, want)
		}
	}
	if any, err := b.Any(ctx, "shop", "oAnn"); any || err != nil {
		t.Error("the same form_id twice in the pool", err)
	}
}
