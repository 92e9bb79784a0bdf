package queue

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
)

// putIn puts a job and takes it to a state by what the room's users do.
func putIn(t *testing.T, q *Queue, state string, keep time.Duration) (id string, hand *job) {
	t.Helper()
	id = q.NewID("job", 2)
	j := Job{ID: id, Lane: "g:l", Body: []byte("body"), Note: []byte("note"), Keep: keep, Tags: []string{"t"}}
	switch state {
	case "later":
		j.After = time.Hour
	case "parked":
		j.Park = "bay"
	}
	commit(t, q, Change{Shard: 2, Jobs: []Job{j}})
	switch state {
	case "leased", "ended", "buried":
		hand = claimed(t, q)[0]
	}
	switch state {
	case "ended":
		judge(t, q, hand, Done(nil))
	case "buried":
		judge(t, q, hand, Bury("bad", nil))
	}
	if r := get(t, q, id); r.State != state {
		t.Fatalf("state %s, want %s", r.State, state)
	}
	return id, hand
}

// TestEditFromEveryState: the machine of the package comment, edge by edge.
func TestEditFromEveryState(t *testing.T) {
	for _, from := range []string{"ready", "later", "parked", "leased", "ended", "buried"} {
		for to, name := range []string{"stay", "ready", "end", "later"} {
			t.Run(from+" to "+name, func(t *testing.T) {
				eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
					q := open(t, rdb, Options{})
					q.Handle("g", Group{}, never)
					id, _ := putIn(t, q, from, time.Hour)
					before := get(t, q, id)
					err := q.Commit(t.Context(), Change{Shard: 2, Edit: &Edit{ID: id, Version: before.Version, Note: []byte("new"), To: To(to), After: time.Minute}}).Err
					after := get(t, q, id)
					if from == "leased" {
						if err != ErrInHand {
							t.Errorf("got %v", err)
						}
						if diff := cmp.Diff(before, after); diff != "" {
							t.Error(diff)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					want := before
					want.Version++
					want.Note = []byte("new")
					switch To(to) {
					case Ready, End, Later:
						want.State = map[To]string{Ready: "ready", End: "ended", Later: "later"}[To(to)]
						want.Park = ""
						if from == "buried" && To(to) != End {
							want.Reason = ""
						}
					}
					ignore := cmpopts.IgnoreFields(Record{}, "Due", "Ended")
					if diff := cmp.Diff(want, after, ignore); diff != "" {
						t.Error(diff)
					}
					if (after.State == "ended" || after.State == "buried") == after.Ended.IsZero() || (after.State == "ready" || after.State == "later") == after.Due.IsZero() {
						t.Errorf("due %v, ended %v in %s", after.Due, after.Ended, after.State)
					}
					ttl := rdb.PTTL(t.Context(), Prefix(2)+"j:"+id).Val()
					if over := after.State == "ended" || after.State == "buried"; ttl <= 0 || !over && ttl < idleLife-time.Minute {
						t.Errorf("%s, but expires in %v", after.State, ttl)
					}
					wantClaimed := 0
					if after.State == "ready" {
						wantClaimed = 1
					}
					if got := claimed(t, q); len(got) != wantClaimed || len(got) > 0 && string(got[0].Note) != "new" {
						t.Errorf("claimed %v", ids(got))
					}
				})
			})
		}
	}
}

func TestEditComparesTheVersion(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Extensions: []Extension{till}})
		q.Handle("g", Group{}, never)
		id, _ := putIn(t, q, "parked", time.Hour)
		edit := func(version int64, note string) error {
			return q.Commit(t.Context(), Change{Shard: 2, Once: note, Operations: []Operation{{"till", []string{"give"}}},
				Edit: &Edit{ID: id, Version: version, Note: []byte(note)}}).Err
		}
		if err := edit(0, "a"); err != nil {
			t.Fatal(err)
		}
		if err := edit(0, "b"); err != ErrStale {
			t.Errorf("got %v", err)
		}
		if err := edit(-1, "c"); err != nil {
			t.Errorf("got %v", err)
		}
		if r := get(t, q, id); r.Version != 2 || string(r.Note) != "c" {
			t.Errorf("%+v", r)
		}
		if n := coins(t, rdb, 2); n != 2 {
			t.Errorf("%d coins: a stale edit moved one", n)
		}
		if err := q.Commit(t.Context(), Change{Shard: 2, Once: "b"}).Err; err != nil {
			t.Errorf("a stale edit took its name: %v", err)
		}
	})
}

// A held message is released only with its credit.
func TestEditThatAnOperationRefuses(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Extensions: []Extension{till}})
		q.Handle("g", Group{}, never)
		id, _ := putIn(t, q, "parked", 0)
		c := Change{Shard: 2, Edit: &Edit{ID: id, Version: 0, To: Ready}, Operations: []Operation{{"till", []string{"pay"}}}}
		if res := commit(t, q, c); !res.Refused {
			t.Fatalf("%+v", res)
		}
		if r := get(t, q, id); r.State != "parked" || r.Version != 0 || r.Park != "bay" {
			t.Errorf("%+v", r)
		}
		commit(t, q, Change{Shard: 2, Operations: []Operation{{"till", []string{"give"}}}})
		if res := commit(t, q, c); res.Refused {
			t.Fatalf("%+v", res)
		}
		if r := get(t, q, id); r.State != "ready" {
			t.Errorf("%+v", r)
		}
	})
}

func TestVerdicts(t *testing.T) {
	for name, tc := range map[string]struct {
		v    Verdict
		keep time.Duration
		want Record // State "" = forgotten
	}{
		"done":             {Done([]byte("new")), time.Hour, Record{State: "ended", Note: []byte("new"), Version: 1}},
		"done, note kept":  {Done(nil), time.Hour, Record{State: "ended", Note: []byte("note"), Version: 1}},
		"done, note gone":  {Done([]byte{}), time.Hour, Record{State: "ended", Note: []byte{}, Version: 1}},
		"done, forgotten":  {Done([]byte("new")), 0, Record{}},
		"retry":            {Retry(time.Minute, []byte("new"), "500"), 0, Record{State: "later", Note: []byte("new"), Version: 1, Attempts: 1, Reason: "500"}},
		"retry at once":    {Retry(0, nil, "500"), 0, Record{State: "ready", Note: []byte("note"), Version: 1, Attempts: 1, Reason: "500"}},
		"snooze":           {Snooze(time.Minute, []byte("new")), 0, Record{State: "later", Note: []byte("new"), Version: 1}},
		"bury":             {Bury("gone", []byte("new")), 0, Record{State: "buried", Note: []byte("new"), Version: 1, Reason: "gone"}},
		"park again":       {ParkAgain("bay 2", time.Time{}, []byte("new")), 0, Record{State: "parked", Note: []byte("new"), Version: 1, Park: "bay 2"}},
		"give back":        {GiveBack(), 0, Record{State: "ready", Note: []byte("note")}},
		"a zero verdict":   {Verdict{}, 0, Record{State: "ready", Note: []byte("note")}},
		"a handler panics": {Verdict{kind: lapse, after: time.Minute}, 0, Record{State: "later", Note: []byte("note"), Reclaims: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
				q := open(t, rdb, Options{})
				q.Handle("g", Group{}, never)
				id, j := putIn(t, q, "leased", tc.keep)
				if tc.v.kind == "" {
					tc.v.kind = giveBack
				}
				judge(t, q, j, tc.v)
				got, err := q.Get(t.Context(), id)
				if tc.want.State == "" {
					if err != ErrNotFound {
						t.Errorf("still there: %+v, %v", got, err)
					}
					onlyForEver(t, rdb)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				want := tc.want
				want.ID, want.Lane, want.Body, want.Created = id, "g:l", []byte("body"), got.Created
				if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Record{}, "Due", "Ended")); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// onlyForEver checks R-6 on a queue whose jobs are all forgotten: what is left expires, or is a lane or the shard count.
func onlyForEver(t *testing.T, rdb redis.UniversalClient) {
	t.Helper()
	for _, k := range rdb.Keys(t.Context(), "*").Val() {
		if k == shardsKey || strings.Contains(k, "}:g:") || strings.HasSuffix(k, "}:gs") || strings.HasSuffix(k, "}:z") {
			continue
		}
		if ttl := rdb.PTTL(t.Context(), k).Val(); ttl <= 0 {
			t.Errorf("%s stays for ever", k)
		}
	}
}

// With: consequences happen with the verdict, and an answered send is never undone by them.
func TestVerdictWith(t *testing.T) {
	pay, give, broken := Operation{"till", []string{"pay"}}, Operation{"till", []string{"give"}}, Operation{"till", []string{"break"}}
	type want struct {
		State  string // of the job
		Coins  int
		Put    string // which consequence is there
		Errors int
	}
	for name, tc := range map[string]struct {
		change func(c *Change, q *Queue, other string)
		want   want
	}{
		"all of it":           {func(c *Change, _ *Queue, _ string) { c.Operations = []Operation{give} }, want{"ended", 1, "job", 0}},
		"once taken":          {func(c *Change, _ *Queue, _ string) { c.Once = "before" }, want{"ended", 0, "none", 0}},
		"refused":             {func(c *Change, _ *Queue, _ string) { c.Operations = []Operation{pay} }, want{"ended", 0, "refused", 0}},
		"an extension breaks": {func(c *Change, _ *Queue, _ string) { c.Operations, c.Refused = []Operation{broken}, nil }, want{"ended", 0, "none", 3}},
		"a job exists":        {func(c *Change, _ *Queue, o string) { c.Jobs = append(c.Jobs, Job{ID: o, Lane: "a"}) }, want{"ended", 0, "job", 0}},
		"an edit": {func(c *Change, _ *Queue, o string) { c.Edit = &Edit{ID: o, Version: 0, Note: []byte("by the way")} },
			want{"ended", 0, "job", 0}},
		"an edit that is stale": {func(c *Change, _ *Queue, o string) { c.Once, c.Edit = "x", &Edit{ID: o, Version: 7} }, want{"later", 0, "none", 0}},
		"it cannot be": {func(c *Change, _ *Queue, o string) { c.Jobs = append(c.Jobs, Job{ID: "?"}) },
			want{"buried", 0, "none", 1}},
	} {
		t.Run(name, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
				errs := 0
				q := open(t, rdb, Options{Extensions: []Extension{till}, OnError: func(error) { errs++ }})
				q.Handle("g", Group{}, never)
				other, _ := putIn(t, q, "parked", 0)
				id, j := putIn(t, q, "leased", time.Hour)
				commit(t, q, Change{Shard: 2, Once: "before"})
				job, refused := q.NewID("job", 2), q.NewID("ref", 2)
				c := Change{Jobs: []Job{{ID: job, Lane: "a"}}, Refused: []Job{{ID: refused, Lane: "a"}}}
				tc.change(&c, q, other)
				judge(t, q, j, Done([]byte("end")).With(c))
				got := want{State: get(t, q, id).State, Coins: coins(t, rdb, 2), Put: "none", Errors: errs}
				if _, err := q.Get(t.Context(), job); err == nil {
					got.Put = "job"
				}
				if _, err := q.Get(t.Context(), refused); err == nil {
					got.Put = "refused"
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Error(diff)
				}
				if r := get(t, q, other); r.State != "parked" || string(r.Body) != "body" {
					t.Errorf("the other job: %+v", r)
				}
				if c.Once == "x" {
					commit(t, q, Change{Shard: 2, Once: "x"}) // what did not happen took no name
				}
			})
		})
	}
}

func TestReplayCountsAttemptsAgain(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		q.Handle("g", Group{}, never)
		id, j := putIn(t, q, "leased", time.Hour)
		judge(t, q, j, Retry(0, nil, "1"))
		j = claimed(t, q)[0]
		if j.Attempts != 1 {
			t.Errorf("%d attempts", j.Attempts)
		}
		judge(t, q, j, Bury("exhausted", nil))
		commit(t, q, Change{Shard: 2, Edit: &Edit{ID: id, Version: 2, To: Ready}})
		j = claimed(t, q)[0]
		if j.Attempts != 0 || j.Version != 3 || string(j.Body) != "body" {
			t.Errorf("%+v", j)
		}
	})
}

// An edit may take the expiry away: what waited for so long at most has what it waited for.
func TestEditMakesLasting(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{})
	q.Handle("g", Group{}, never)
	for _, lasting := range []bool{false, true} {
		id := q.NewID("j", 0)
		commit(t, q, Change{Jobs: []Job{{ID: id, Lane: "g", Park: "p", Expires: c.now.Add(time.Hour)}}})
		commit(t, q, Change{Edit: &Edit{ID: id, Version: 0, Note: []byte("n"), To: Later, After: 3 * time.Hour, Lasting: lasting}})
		c.pass(2 * time.Hour)
		got := claimed(t, q)
		if lasting && len(got) != 0 || !lasting && (len(got) != 1 || !got[0].Expired) {
			t.Fatalf("lasting %v: after two hours %d", lasting, len(got))
		}
		if !lasting {
			judge(t, q, got[0], Done(nil))
			continue
		}
		c.pass(2 * time.Hour)
		if got := claimed(t, q); len(got) != 1 || got[0].Expired || string(got[0].Note) != "n" {
			t.Errorf("%+v", got)
		}
	}
}
