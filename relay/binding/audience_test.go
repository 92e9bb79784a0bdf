package binding

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/testredis"
)

func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%06d", prefix, i)
	}
	return out
}

// all reads an audience page by page.
func all(t *testing.T, b *Book, partner, name string, page int) []string {
	t.Helper()
	a, err := b.Audience(t.Context(), partner, name)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	after := ""
	for {
		got, err := b.Members(t.Context(), partner, a, after, page)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			return out
		}
		out = append(out, got...)
		after = got[len(got)-1]
	}
}

func TestAudienceIsWhatWasPutAndPatched(t *testing.T) {
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		b, ctx := New(rdb, Sealer{}), t.Context()
		a, err := b.PutAudience(ctx, "orders", Audience{Name: "shipping", App: "shop", TemplateID: "T", Users: true}, []string{"bob", "ann", "ann"})
		if err != nil || a.Total != 2 || !a.Users || a.App != "shop" || a.TemplateID != "T" || a.UpdatedAt.IsZero() {
			t.Fatalf("%+v %v", a, err)
		}
		if _, err := b.Audience(ctx, "others", "shipping"); !errors.Is(err, ErrNotFound) {
			t.Errorf("another partner sees it: %v", err)
		}
		a, err = b.PatchAudience(ctx, "orders", "shipping", []string{"cid", "ann", "dan"}, []string{"bob", "nobody", "dan"})
		if err != nil || a.Total != 2 {
			t.Fatalf("%+v %v", a, err)
		}
		if diff := cmp.Diff([]string{"ann", "cid"}, all(t, b, "orders", "shipping", 1)); diff != "" {
			t.Error(diff)
		}
		big := names("u", 2500)
		if a, err = b.PatchAudience(ctx, "orders", "shipping", big, []string{"ann"}); err != nil || a.Total != 2501 {
			t.Fatalf("%+v %v", a, err)
		}
		if got := all(t, b, "orders", "shipping", 1000); len(got) != 2501 || got[0] != "cid" {
			t.Errorf("%d members, first %q", len(got), got[0])
		}
		if _, err := b.PatchAudience(ctx, "orders", "none", []string{"x"}, nil); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
		if a, err = b.PutAudience(ctx, "orders", Audience{Name: "empty", App: "shop"}, nil); err != nil || a.Total != 0 {
			t.Errorf("%+v %v", a, err)
		}
		list, err := b.Audiences(ctx, "orders")
		if err != nil || len(list) != 2 || list[0].Name != "empty" || list[1].Name != "shipping" {
			t.Errorf("%+v %v", list, err)
		}
		if _, err := b.DeleteAudience(ctx, "orders", "shipping"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.DeleteAudience(ctx, "orders", "shipping"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
}

func TestAudienceHasItsBound(t *testing.T) {
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		b, ctx := New(rdb, Sealer{}), t.Context()
		full := Audience{Name: "all", App: "shop"}
		if _, err := b.PutAudience(ctx, "orders", full, names("o", AudienceMembers+1)); !errors.Is(err, ErrAudienceLarge) {
			t.Fatal(err)
		}
		if a, err := b.PutAudience(ctx, "orders", full, names("o", AudienceMembers)); err != nil || a.Total != AudienceMembers {
			t.Fatalf("%+v %v", a, err)
		}
		if _, err := b.PatchAudience(ctx, "orders", "all", []string{"one more"}, nil); !errors.Is(err, ErrAudienceLarge) {
			t.Error(err)
		}
		if a, err := b.PatchAudience(ctx, "orders", "all", []string{"one more"}, []string{"o000000"}); err != nil || a.Total != AudienceMembers {
			t.Errorf("%+v %v", a, err)
		}
	})
}

// A reader of one page sees the members of one moment: all of the old ones or all of the new ones.
func TestAudienceIsReplacedAtOnce(t *testing.T) {
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		b, ctx := New(rdb, Sealer{}), t.Context()
		old, fresh := names("a", 1500), names("b", 1500)
		if _, err := b.PutAudience(ctx, "orders", Audience{Name: "x", App: "shop"}, old); err != nil {
			t.Fatal(err)
		}
		done, cancel := context.WithCancel(ctx)
		var reading sync.WaitGroup
		reading.Go(func() {
			for done.Err() == nil {
				a, err := b.Audience(ctx, "orders", "x")
				if err != nil || a.Total != 1500 {
					t.Errorf("%+v %v", a, err)
					return
				}
				got, err := b.Members(ctx, "orders", a, "", 2000)
				if err != nil || len(got) != 0 && !slices.Equal(got, old) && !slices.Equal(got, fresh) { // 0: replaced between the two reads
					t.Errorf("%d members, %v", len(got), err)
					return
				}
			}
		})
		for i := range 10 {
			if _, err := b.PutAudience(ctx, "orders", Audience{Name: "x", App: "shop"}, [][]string{fresh, old}[i%2]); err != nil {
				t.Error(err)
			}
		}
		cancel()
		reading.Wait()
	})
}

func TestSnapshotStaysAsItWas(t *testing.T) {
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		b, ctx := New(rdb, Sealer{}), t.Context()
		put := func(members ...string) {
			t.Helper()
			if _, err := b.PutAudience(ctx, "orders", Audience{Name: "x", App: "shop"}, members); err != nil {
				t.Fatal(err)
			}
		}
		put("ann", "bob")
		if a, err := b.Snapshot(ctx, "orders", "x", "aud_1", time.Hour); err != nil || a.Total != 2 {
			t.Fatalf("%+v %v", a, err)
		}
		put("cid")
		if _, err := b.Snapshot(ctx, "orders", "x", "aud_1", time.Hour); err != nil { // after a crash, say
			t.Fatal(err)
		}
		got, err := b.SnapshotMembers(ctx, "orders", "aud_1", "", 10)
		if diff := cmp.Diff([]string{"ann", "bob"}, got); err != nil || diff != "" {
			t.Error(err, diff)
		}
		if err := b.ForgetMember(ctx, "orders", "shop", "ann", ""); err != nil {
			t.Fatal(err)
		}
		if got, err = b.SnapshotMembers(ctx, "orders", "aud_1", "", 10); err != nil || !slices.Equal(got, []string{"bob"}) {
			t.Errorf("%v %v", got, err)
		}
		if err := b.DropSnapshot(ctx, "orders", "aud_1"); err != nil {
			t.Fatal(err)
		}
		if got, err = b.SnapshotMembers(ctx, "orders", "aud_1", "", 10); err != nil || len(got) != 0 {
			t.Errorf("%v %v", got, err)
		}
	})
}

func TestSomebodyForgottenIsInNoAudience(t *testing.T) {
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		b, ctx := New(rdb, Sealer{}), t.Context()
		for _, a := range []Audience{{Name: "users", App: "shop", Users: true}, {Name: "openids", App: "shop"}, {Name: "elsewhere", App: "other"}} {
			if _, err := b.PutAudience(ctx, "orders", a, []string{"u-1", "oAnn", "else"}); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.ForgetMember(ctx, "orders", "shop", "oAnn", "u-1"); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][]string{"users": {"else", "oAnn"}, "openids": {"else", "u-1"}, "elsewhere": {"else", "oAnn", "u-1"}} {
			if got := all(t, b, "orders", name, 10); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
			if a, err := b.Audience(ctx, "orders", name); err != nil || a.Total != len(want) {
				t.Errorf("%s: %+v %v", name, a, err)
			}
		}
	})
}
