package queue

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// put puts jobs with the given lanes on shard 1 and returns their ids.
func put(t *testing.T, q *Queue, jobs ...Job) []string {
	t.Helper()
	var out []string
	for i := range jobs {
		jobs[i].ID = q.NewID("job", 1)
		out = append(out, jobs[i].ID)
	}
	commit(t, q, Change{Shard: 1, Jobs: jobs})
	return out
}

func several(n int, j Job) []Job { return slices.Repeat([]Job{j}, n) }

func TestClaimInOrderAndOnlyWhatHasASlot(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		q.Handle("g", Group{Concurrency: 3}, never)
		want := put(t, q, several(5, Job{Lane: "g:a", Body: []byte("b"), Note: []byte("n")})...)
		first := claimed(t, q)
		if diff := cmp.Diff(want[:3], ids(first)); diff != "" {
			t.Error(diff)
		}
		if again := claimed(t, q); len(again) > 0 {
			t.Errorf("claimed %d without a slot", len(again))
		}
		judge(t, q, first[1], Done(nil))
		second := claimed(t, q)
		if diff := cmp.Diff(want[3:4], ids(second)); diff != "" {
			t.Error(diff)
		}
		if j := second[0]; string(j.Body) != "b" || string(j.Note) != "n" || j.Lane != "g:a" || j.State != "leased" || j.Now.Before(j.Created) || j.Created.IsZero() {
			t.Errorf("%+v", j.Claimed)
		}
	})
}

func TestClaimLeavesOtherGroupsAlone(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		q.Handle("g", Group{}, never)
		q.Handle("gg", Group{}, never)
		want := put(t, q, Job{Lane: "g"}, Job{Lane: "gg:a"}, Job{Lane: "h:g"})
		if diff := cmp.Diff(want[:2], ids(claimed(t, q))); diff != "" {
			t.Error(diff)
		}
	})
}

// A lane with a million jobs gets no more turns than one with three.
func TestClaimRoundRobin(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		q.Handle("g", Group{Concurrency: 1}, never)
		put(t, q, several(50, Job{Lane: "g:bulk"})...)
		put(t, q, several(3, Job{Lane: "g:a"})...)
		put(t, q, several(3, Job{Lane: "g:b"})...)
		count := map[string]int{}
		for range 9 {
			j := claimed(t, q)[0]
			count[j.Lane]++
			judge(t, q, j, Done(nil))
		}
		if diff := cmp.Diff(map[string]int{"g:bulk": 3, "g:a": 3, "g:b": 3}, count); diff != "" {
			t.Error(diff)
		}
	})
}

// One turn is shared, and what one lane leaves the others get.
func TestClaimSharesATurn(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		q.Handle("g", Group{Concurrency: 9}, never)
		put(t, q, several(50, Job{Lane: "g:bulk"})...)
		put(t, q, several(50, Job{Lane: "g:a"})...)
		put(t, q, several(1, Job{Lane: "g:b"})...)
		count := map[string]int{}
		for _, j := range claimed(t, q) {
			count[j.Lane]++
		}
		if count["g:b"] != 1 || count["g:bulk"] < 3 || count["g:a"] < 3 || len(count) != 3 {
			t.Errorf("shared %v", count)
		}
	})
}

// More backlogged lanes than a turn looks at: each is served, the one that waited longest first.
func TestClaimRoundRobinOverManyLanes(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Shards: 2})
		q.Handle("g", Group{Concurrency: 1}, never)
		for i := range 300 {
			put(t, q, several(2, Job{Lane: fmt.Sprintf("g:%03d", i)})...)
		}
		served := map[string]int{}
		for range 300 {
			j := claimed(t, q)[0]
			served[j.Lane]++
			judge(t, q, j, Done(nil))
		}
		if len(served) != 300 {
			t.Errorf("%d of 300 lanes were served in 300 turns", len(served))
		}
	})
}

func TestClaimPerLane(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		q.Handle("g", Group{Concurrency: 8, PerLane: 2}, never)
		put(t, q, several(9, Job{Lane: "g:a"})...)
		put(t, q, several(9, Job{Lane: "g:b"})...)
		first := claimed(t, q)
		count := map[string]int{}
		for _, j := range first {
			count[j.Lane]++
		}
		if diff := cmp.Diff(map[string]int{"g:a": 2, "g:b": 2}, count); diff != "" {
			t.Error(diff)
		}
		if n := len(claimed(t, q)); n != 0 {
			t.Errorf("%d more", n)
		}
		judge(t, q, first[0], Done(nil))
		if got := claimed(t, q); len(got) != 1 || got[0].Lane != first[0].Lane {
			t.Errorf("got %v", ids(got))
		}
	})
}

// Slots narrows one lane while it runs, and no other; what it freed again is worked on without a wait.
func TestSlots(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		q.Handle("g", Group{Concurrency: 20, PerLane: 8}, never)
		q.Slots("nobody:a", 1)
		q.Slots("g:a", 3)
		put(t, q, several(20, Job{Lane: "g:a"})...)
		put(t, q, several(20, Job{Lane: "g:b"})...)
		first := claimed(t, q)
		count := func(jobs []*job, lane string) (n int) {
			for _, j := range jobs {
				if j.Lane == lane {
					n++
				}
			}
			return n
		}
		if a, b := count(first, "g:a"), count(first, "g:b"); a != 3 || b != 8 {
			t.Errorf("%d and %d in hand, want 3 and 8", a, b)
		}
		q.Slots("g:a", 0) // at least one, and what is in hand stays there
		if got := claimed(t, q); len(got) != 0 {
			t.Errorf("%d beyond the slots", len(got))
		}
		q.Slots("g:a", 5)
		if got := claimed(t, q); len(got) != 2 || count(got, "g:a") != 2 {
			t.Errorf("%v after two slots more", ids(got))
		}
		q.Slots("g:a", 100)
		if got := claimed(t, q); count(got, "g:a") != 3 || len(q.sched.groups[0].slots) != 0 {
			t.Errorf("%v, want what Group.PerLane leaves", ids(got))
		}
	})
}

// Nobody else has to come for a lane that may have more in hand than before.
func TestSlotsRouse(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		held := make(chan struct{})
		var inHand atomic.Int64
		q.Handle("g", Group{Concurrency: 8}, func(context.Context, *Claimed) Verdict {
			inHand.Add(1)
			<-held
			return Done(nil)
		})
		q.Slots("g:a", 1)
		start(t, q)
		t.Cleanup(func() { close(held) })
		put(t, q, several(4, Job{Lane: "g:a"})...)
		eventually(t, "one is in hand", func() bool { return inHand.Load() == 1 })
		eventually(t, "the rest is known to wait for a slot", func() bool {
			q.sched.mu.Lock()
			defer q.sched.mu.Unlock()
			return q.sched.groups[0].lane("g:a").waiting != 0
		})
		q.Slots("g:a", 3)
		eventually(t, "two more", func() bool { return inHand.Load() == 3 })
	})
}

func TestClaimIsFairToShards(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Shards: 4})
		q.Handle("g", Group{Concurrency: 1}, never)
		for shard := range 4 {
			for range 20 {
				commit(t, q, Change{Shard: shard, Jobs: []Job{{ID: q.NewID("j", shard), Lane: "g"}}})
			}
		}
		count := map[int]int{}
		for turn := range 40 {
			s := q.sites[0]
			w := q.sched.request(s, time.Now(), true, true, turn)
			tr, err := q.ask(t.Context(), w)
			if err != nil {
				t.Fatal(err)
			}
			s.claims++
			s.unsure = nil
			count[tr.jobs[0].shard]++
		}
		if diff := cmp.Diff(map[int]int{0: 10, 1: 10, 2: 10, 3: 10}, count); diff != "" {
			t.Error(diff)
		}
	})
}

func TestPause(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{Lease: 24 * time.Hour})
	q.Handle("g", Group{}, never)
	want := put(t, q, Job{Lane: "g:a"}, Job{Lane: "g:b"}, Job{Lane: "g:a"})
	if err := q.Pause(t.Context(), "g:a", time.Hour); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want[1:2], ids(claimed(t, q))); diff != "" {
		t.Error(diff)
	}
	c.pass(time.Hour - time.Second)
	if got := claimed(t, q); len(got) > 0 {
		t.Error("claimed from a paused lane")
	}
	c.pass(time.Second)
	if diff := cmp.Diff([]string{want[0], want[2]}, ids(claimed(t, q))); diff != "" {
		t.Error(diff)
	}
	want = put(t, q, Job{Lane: "g:a"})
	if err := q.Pause(t.Context(), "g:a", time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := q.Resume(t.Context(), "g:a"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, ids(claimed(t, q))); diff != "" {
		t.Error(diff)
	}
}

func TestDue(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{Lease: 24 * time.Hour})
	q.Handle("g", Group{}, never)
	jobs := put(t, q, Job{Lane: "g", Due: c.now.Add(time.Minute)}, Job{Lane: "g", After: 30 * time.Second},
		Job{Lane: "g", Due: c.now.Add(-time.Hour)}, Job{Lane: "g", Due: c.now.Add(time.Minute), Expires: c.now.Add(45 * time.Second)})
	for _, step := range []struct {
		pass    time.Duration
		want    []string
		expired bool
	}{
		{0, []string{jobs[2]}, false},
		{29_999 * time.Millisecond, nil, false},
		{time.Millisecond, []string{jobs[1]}, false},
		{15 * time.Second, []string{jobs[3]}, true},
		{15 * time.Second, []string{jobs[0]}, false},
	} {
		c.pass(step.pass)
		got := claimed(t, q)
		if diff := cmp.Diff(step.want, ids(got)); diff != "" {
			t.Errorf("after %v: %s", step.pass, diff)
		}
		for _, j := range got {
			if j.Expired != step.expired {
				t.Errorf("%s: expired %v", j.ID, j.Expired)
			}
		}
	}
}

// A retry does not jump over the time the job expires at.
func TestExpiresBeforeTheRetry(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{Lease: 24 * time.Hour})
	q.Handle("g", Group{}, never)
	put(t, q, Job{Lane: "g", Expires: c.now.Add(time.Minute)})
	judge(t, q, claimed(t, q)[0], Retry(time.Hour, nil, "500"))
	c.pass(59 * time.Second)
	if got := claimed(t, q); len(got) > 0 {
		t.Error("too soon")
	}
	c.pass(time.Second)
	if got := claimed(t, q); len(got) != 1 || !got[0].Expired || got[0].Attempts != 1 {
		t.Errorf("got %v", got)
	}
}

func TestParkedJobsExpire(t *testing.T) {
	c := clock(t)
	q := open(t, c.rdb, Options{Lease: 24 * time.Hour})
	q.Handle("g", Group{}, never)
	jobs := put(t, q, Job{Lane: "g", Park: "p"}, Job{Lane: "g", Park: "p", Expires: c.now.Add(time.Hour)}, Job{Lane: "g", Park: "p", Expires: c.now.Add(2 * time.Hour)})
	parked := func() []string {
		t.Helper()
		recs, next, err := q.Parked(t.Context(), 1, "p", "", 10)
		if err != nil || next != "" {
			t.Fatal(next, err)
		}
		var out []string
		for _, r := range recs {
			out = append(out, r.ID)
		}
		return out
	}
	if diff := cmp.Diff(jobs, parked()); diff != "" {
		t.Error(diff)
	}
	c.pass(time.Hour)
	got := claimed(t, q)
	if diff := cmp.Diff(jobs[1:2], ids(got)); diff != "" || !got[0].Expired {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{jobs[0], jobs[2]}, parked()); diff != "" {
		t.Error(diff)
	}
	judge(t, q, got[0], ParkAgain("q", time.Time{}, nil)) // keeps its own expiry, which has passed
	if got = claimed(t, q); len(got) != 1 || got[0].ID != jobs[1] {
		t.Fatalf("got %v", ids(got))
	}
	judge(t, q, got[0], ParkAgain("q", c.now.Add(3*time.Hour), nil))
	c.pass(90 * time.Minute)
	if diff := cmp.Diff(jobs[2:3], ids(claimed(t, q))); diff != "" {
		t.Error(diff)
	}
	c.pass(90 * time.Minute)
	if got = claimed(t, q); len(got) != 1 || got[0].ID != jobs[1] || !got[0].Expired {
		t.Errorf("got %v", ids(got))
	}
	if diff := cmp.Diff(jobs[:1], parked()); diff != "" {
		t.Error(diff)
	}
}

// At most one of a serial in hand; the others wait in order and stand in nobody's way.
func TestSerial(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		q.Handle("g", Group{Concurrency: 100}, never)
		ann, ben, none := Job{Lane: "g:a", Serial: "ann"}, Job{Lane: "g:a", Serial: "ben"}, Job{Lane: "g:a"}
		high := Job{Lane: "g:high", Serial: "ann"}
		jobs := put(t, q, ann, ann, none, ann, ben, none, ben, high)
		first := claimed(t, q)
		if diff := cmp.Diff([]string{jobs[0], jobs[2], jobs[4], jobs[5]}, ids(first)); diff != "" {
			t.Fatal(diff)
		}
		if r := get(t, q, jobs[1]); r.State != "ready" || r.Due.IsZero() {
			t.Errorf("%+v", r)
		}
		depths, err := q.Depths(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		count := map[string]int64{}
		for _, d := range depths {
			count[d.Lane+" "+d.State] = d.Count
		}
		if diff := cmp.Diff(map[string]int64{"g:a ready": 3, "g:a leased": 4, "g:high ready": 1}, count); diff != "" {
			t.Error(diff)
		}
		if got := claimed(t, q); len(got) > 0 {
			t.Errorf("two of a serial: %v", ids(got))
		}
		commit(t, q, Change{Shard: 1, Edit: &Edit{ID: jobs[1], Version: 0, To: End}}) // cancelled while it waits in line
		hand := first[0]
		for _, step := range []struct {
			verdict Verdict
			want    string
		}{
			{Bury("x", nil), jobs[3]},
			{GiveBack(), jobs[3]}, // it stands where it stood
			{Retry(time.Hour, nil, ""), jobs[7]},
		} {
			judge(t, q, hand, step.verdict)
			got := claimed(t, q)
			if diff := cmp.Diff([]string{step.want}, ids(got)); diff != "" {
				t.Fatal(diff)
			}
			hand = got[0]
		}
		judge(t, q, hand, Done(nil))
		judge(t, q, first[2], Done(nil))
		if diff := cmp.Diff(jobs[6:7], ids(claimed(t, q))); diff != "" {
			t.Error(diff)
		}
		if keys := rdb.Keys(t.Context(), Prefix(1)+"s:*").Val(); len(keys) > 0 {
			t.Errorf("lines left: %v", keys)
		}
		if got := rdb.HKeys(t.Context(), Prefix(1)+"y").Val(); !slices.Equal(got, []string{"ben"}) {
			t.Errorf("held: %v", got)
		}
	})
}
