package queue

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// page reads a listing to its end, n at a time.
func pages(t *testing.T, n int, read func(cursor string, n int) ([]Record, string, error)) (out []string) {
	t.Helper()
	cursor := ""
	for range 1000 {
		recs, next, err := read(cursor, n)
		if err != nil {
			t.Fatal(err)
		}
		if len(recs) > n {
			t.Fatalf("%d on a page of %d", len(recs), n)
		}
		for _, r := range recs {
			out = append(out, r.ID)
		}
		if next == "" {
			return out
		}
		cursor = next
	}
	t.Fatal("a listing without an end")
	return nil
}

func TestList(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		var all, odd, seven []string
		for i := range 60 {
			shard := i % 16
			if i >= 40 { // several of one moment
				shard = 7
			}
			j := Job{ID: q.NewID("j", shard), Lane: "g", Tags: []string{"all", fmt.Sprint("shard ", shard)}, Body: fmt.Append(nil, i)}
			if i%2 == 1 {
				j.Tags = append(j.Tags, "odd")
				odd = append(odd, j.ID)
			}
			if shard == 7 {
				seven = append(seven, j.ID)
			}
			all = append(all, j.ID)
			commit(t, q, Change{Shard: shard, Jobs: []Job{j}})
		}
		for _, s := range [][]string{all, odd, seven} {
			slices.Reverse(s)
		}
		for name, tc := range map[string]struct {
			tag   string
			shard int
			want  []string
		}{
			"all":               {"all", -1, all},
			"odd":               {"odd", -1, odd},
			"one shard":         {"all", 7, seven},
			"of its own":        {"shard 7", -1, seven},
			"nothing":           {"nothing", -1, nil},
			"nothing of a tag":  {"shard 7", 3, nil},
			"a tag with a star": {"shard *", -1, nil},
		} {
			for _, n := range []int{1, 7, 60, 100} {
				got := pages(t, n, func(c string, n int) ([]Record, string, error) { return q.List(t.Context(), tc.tag, tc.shard, c, n) })
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("%s, %d a page: %s", name, n, diff)
				}
			}
		}
	})
}

// Jobs put in one script have one time; a page may end between any two of them.
// TestSearch: a page is filled past what does not fit, whatever stands in between.
func TestSearch(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		q.Handle("g", Group{}, never)
		var odd, parked []string
		var at []time.Time
		for i := range 1500 { // several steps of a search on each shard
			shard := i % 2
			j := Job{ID: q.NewID("j", shard), Lane: "g", Tags: []string{"all"}, Keep: time.Hour, Body: fmt.Appendf(nil, `{"n":"%d"}`+"\nx%d", i, i)}
			if i%500 == 7 {
				j.Body = fmt.Appendf(nil, `{"n":"odd"}`+"\nodd one")
				odd = append(odd, j.ID)
			}
			if i%500 == 8 {
				j.Park = "bay"
				parked = append(parked, j.ID)
			}
			commit(t, q, Change{Shard: shard, Jobs: []Job{j}})
			if i%500 == 7 {
				at = append(at, get(t, q, j.ID).Created)
			}
		}
		all := []Listed{{"all", -1}}
		reversed := func(s []string) []string { s = slices.Clone(s); slices.Reverse(s); return s }
		for name, c := range map[string]struct {
			q    Query
			want []string
		}{
			"newest":        {Query{Of: all, Contains: []string{`"odd"`}}, reversed(odd)},
			"oldest":        {Query{Of: all, Contains: []string{`"odd"`}, Oldest: true}, odd},
			"second line":   {Query{Of: all, Contains: []string{"odd one"}}, nil},
			"both":          {Query{Of: all, Contains: []string{`"odd"`}, State: "parked"}, nil},
			"state":         {Query{Of: all, State: "parked"}, reversed(parked)},
			"since":         {Query{Of: all, Contains: []string{`"odd"`}, Since: at[1]}, reversed(odd[1:])},
			"until":         {Query{Of: all, Contains: []string{`"odd"`}, Until: at[1]}, reversed(odd[:2])},
			"oldest of one": {Query{Of: all, Contains: []string{`"odd"`}, Since: at[1], Until: at[1], Oldest: true}, odd[1:2]},
			"one shard":     {Query{Of: []Listed{{"all", 0}}, Contains: []string{`"odd"`}}, nil},
		} {
			for _, n := range []int{1, 2, 100} {
				got := pages(t, n, func(cursor string, n int) ([]Record, string, error) { return q.Search(t.Context(), c.q, cursor, n) })
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("%s, %d a page: %s", name, n, diff)
				}
			}
		}
		waiting := pages(t, 100, func(cursor string, n int) ([]Record, string, error) {
			return q.Search(t.Context(), Query{Of: all, State: "waiting"}, cursor, n)
		})
		if len(waiting) != 1497 {
			t.Errorf("%d wait", len(waiting))
		}
	})
}

func TestListOfOneMoment(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		want := put(t, q, several(25, Job{Lane: "g", Tags: []string{"t"}, Park: "p"})...)
		got := pages(t, 4, func(c string, n int) ([]Record, string, error) { return q.Parked(t.Context(), -1, "p", c, n) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		slices.Reverse(want)
		got = pages(t, 4, func(c string, n int) ([]Record, string, error) { return q.List(t.Context(), "t", 1, c, n) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestListRefusesAForeignCursor(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		for _, c := range []string{"x", "1~", "~j_01", "1~j_01\n", "-~" + q.NewID("j", 1)} {
			if _, _, err := q.List(t.Context(), "t", -1, c, 10); !errors.Is(err, ErrID) {
				t.Errorf("%q: %v", c, err)
			}
		}
		if _, _, err := q.List(t.Context(), "t", 16, "", 10); !errors.Is(err, ErrID) {
			t.Errorf("shard 16: %v", err)
		}
		if _, err := q.Get(t.Context(), "j_99"+q.NewID("j", 1)[4:]); err != ErrID {
			t.Errorf("shard 99: %v", err)
		}
		if _, err := q.Lookup(t.Context(), 99, "n"); err != ErrID {
			t.Errorf("shard 99: %v", err)
		}
	})
}

// what ended is forgotten when its time is over, and its listings with it.
func TestRetention(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{Shards: 2, Lease: 10000 * time.Hour, BuriedKeep: 48 * time.Hour, Extensions: []Extension{till}})
	q.Handle("g", Group{Concurrency: 200}, never)
	for i := range 100 {
		commit(t, q, Change{Shard: 1, Once: fmt.Sprint("o", i), OnceFor: time.Hour, Names: []Name{{fmt.Sprint("n", i), "v", time.Hour}},
			Jobs: []Job{{ID: q.NewID("j", 1), Lane: "g", Serial: fmt.Sprint(i), Tags: []string{"t", fmt.Sprint("t", i)}, Keep: 24 * time.Hour}}})
		c.pass(time.Millisecond)
	}
	jobs := claimed(t, q)
	for i, j := range jobs {
		switch i % 3 {
		case 0:
			judge(t, q, j, Done(nil))
		case 1:
			judge(t, q, j, Bury("bad", nil))
		case 2:
			judge(t, q, j, ParkAgain("p", c.now.Add(time.Hour), nil))
		}
	}
	count := func() int {
		return len(pages(t, 50, func(cur string, n int) ([]Record, string, error) { return q.List(t.Context(), "t", -1, cur, n) }))
	}
	if n := count(); n != 100 {
		t.Errorf("%d listed", n)
	}
	c.pass(25 * time.Hour)
	if n := count(); n != 66 {
		t.Errorf("%d listed after 25 h, want the 33 buried and 33 parked", n)
	}
	for _, j := range claimed(t, q) { // parked ones that expired
		if !j.Expired {
			t.Errorf("%+v", j.Claimed)
		}
		judge(t, q, j, Done(nil))
	}
	c.pass(24 * time.Hour)
	if n := count(); n != 0 {
		t.Errorf("%d listed after 49 h", n)
	}
	if d, err := q.Depths(t.Context()); err != nil || len(d) > 0 {
		t.Errorf("%v, %v", d, err)
	}
	c.pass(100 * 24 * time.Hour)
	onlyForEver(t, c.rdb)
}

// A tag that gets a new job every so often does not grow for ever.
func TestTagsAreTrimmed(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{Lease: 10000 * time.Hour, Shards: 2})
	q.Handle("g", Group{Concurrency: 200}, never)
	top := int64(0)
	for range 300 {
		put(t, q, several(4, Job{Lane: "g", Tags: []string{"t"}, Keep: time.Hour})...)
		for _, j := range claimed(t, q) {
			judge(t, q, j, Done(nil))
		}
		c.pass(time.Minute + time.Microsecond) // 240 are alive at a time
		top = max(top, c.rdb.ZCard(t.Context(), Prefix(1)+"t:t").Val())
	}
	if top > 800 {
		t.Errorf("grew to %d", top)
	}
}

func TestDepths(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{Lease: 24 * time.Hour})
	q.Handle("g", Group{Concurrency: 2}, never)
	put(t, q, Job{Lane: "g:a", Park: "p"}, Job{Lane: "g:b"}, Job{Lane: "g:b"}, Job{Lane: "other", After: time.Hour})
	hand := claimed(t, q)
	judge(t, q, hand[0], Bury("bad", nil))
	for shard := range 3 {
		commit(t, q, Change{Shard: shard, Jobs: []Job{{ID: q.NewID("j", shard), Lane: "g:a"}}})
		c.pass(time.Minute)
	}
	got, err := q.Depths(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Depth{
		{"g:a", "parked", 1, 0}, {"g:a", "ready", 3, 3 * time.Minute}, {"g:b", "buried", 1, 0}, {"g:b", "leased", 1, 0}, {"other", "later", 1, 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
