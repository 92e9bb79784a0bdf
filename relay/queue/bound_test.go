package queue

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/yuin/gopher-lua/parse"
)

// Every script parses alone, and says above it what its keys, arguments and answer are.
func TestLuaParses(t *testing.T) {
	files, err := filepath.Glob("*.lua")
	if err != nil || len(files) < 8 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse.Parse(strings.NewReader(string(src)), name); err != nil {
			t.Error(err)
		}
		head, _, _ := strings.Cut(string(src), "\nlocal ")
		for _, part := range []string{"-- " + name, "KEYS", "ARGV", "Returns"} {
			if name != "lanes.lua" && !strings.Contains(head, part) {
				t.Errorf("%s: no %q above it", name, part)
			}
		}
	}
}

// A lane has a most: its first job gives way where that is allowed, else the change does not happen.
func TestALaneHasAMost(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Shards: 2, MaxWaiting: 6})
		full := put(t, q, several(3, Job{Lane: "g:a", Keep: time.Hour})...)
		again := Change{Shard: 1, Once: "x", Jobs: []Job{{ID: q.NewID("j", 1), Lane: "g:a"}}}
		for range 2 { // what had no place has not happened: its once-name is free
			if err := q.Commit(t.Context(), again).Err; !errors.Is(err, ErrFull) {
				t.Errorf("%v", err)
			}
		}
		put(t, q, Job{Lane: "g:b"})
		last := put(t, q, Job{Lane: "g:a", Drop: true})[0]
		if r := get(t, q, full[0]); r.State != "ended" || r.Reason != "too_many" {
			t.Errorf("%+v", r)
		}
		q.Handle("g", Group{}, never)
		want := append(full[1:], last)
		var got []string
		for _, j := range claimed(t, q) {
			if j.Lane == "g:a" {
				got = append(got, j.ID)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// A park has a most: who was parked first comes to its handler as expired. What is parked without a time has one.
func TestAParkHasAMost(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{BuriedKeep: time.Hour, Lease: 24 * time.Hour})
	q.Handle("g", Group{}, never)
	all := put(t, q, several(4, Job{Lane: "g", Keep: time.Hour})...)
	for _, j := range claimed(t, q) {
		judge(t, q, j, ParkAgain("p", time.Time{}, nil).AtMost(3))
		c.pass(time.Millisecond)
	}
	first := claimed(t, q)
	if len(first) != 1 || first[0].ID != all[0] || !first[0].Expired {
		t.Fatalf("%v", ids(first))
	}
	c.pass(time.Hour)
	rest := claimed(t, q)
	if diff := cmp.Diff(all[1:], ids(rest)); diff != "" || !rest[0].Expired {
		t.Error(diff)
	}
}

// Where the keys of those in hand or of a serial are of another type, a claim takes nothing: every job is where it was.
func TestAClaimThatCannotWriteTakesNothing(t *testing.T) {
	for _, key := range []string{"h", "y", "z"} {
		t.Run(key, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
				q := open(t, rdb, Options{OnError: ignore})
				q.Handle("g", Group{}, never)
				want := append(put(t, q, several(3, Job{Lane: "g", Keep: time.Hour})...), put(t, q, Job{Lane: "g", Serial: "s", Keep: time.Hour})...)
				rdb.Set(t.Context(), Prefix(1)+key, "a string", 0)
				w := q.sched.request(q.sites[0], time.Now(), false, true, 0)
				if w == nil {
					q.sched.everywhere()
					w = q.sched.request(q.sites[0], time.Now(), false, true, 0)
				}
				if a, err := q.ask(context.Background(), w); err == nil {
					t.Errorf("%d jobs", len(a.jobs))
				}
				q.sched.again(w)
				rdb.Del(t.Context(), Prefix(1)+key)
				if diff := cmp.Diff(want, ids(claimed(t, q))); diff != "" {
					t.Error(diff)
				}
				if n := rdb.HLen(t.Context(), Prefix(1)+"h").Val(); n != 4 {
					t.Errorf("%d in hand", n)
				}
			})
		})
	}
}

// A push with more answers than a byte counts can be stored.
func TestAThousandOperations(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Extensions: []Extension{{Name: "count", Lua: `return function(P) return true, tostring(redis.call('INCR', P .. 'n')) end`}}})
		ops := make([]Operation, 1000)
		for i := range ops {
			ops[i].Extension = "count"
		}
		if res := commit(t, q, Change{Shard: 1, Operations: ops}); len(res.Replies) != 1000 || res.Replies[999] != "1000" {
			t.Errorf("%d replies", len(res.Replies))
		}
	})
}
