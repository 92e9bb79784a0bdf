package queue

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// held is a change that parks its job when the till is empty.
func held(q *Queue, park string, room *ParkLimit) Change {
	id := q.NewID("j", 5)
	note := q.NewID("n", 5)
	return Change{Shard: 5, Operations: []Operation{{"till", []string{"pay"}}}, Behind: park, ParkLimit: room,
		Jobs:    []Job{{ID: id, Lane: "a:b", Serial: "s", Keep: time.Hour}},
		Refused: []Job{{ID: note, Lane: "other"}, {ID: id, Lane: "a:b", Serial: "s", Park: park, Note: []byte("waits"), Keep: time.Hour}}}
}

func parked(t *testing.T, q *Queue, name string) (ids []string) {
	t.Helper()
	recs, _, err := q.Parked(t.Context(), 5, name, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		ids = append(ids, r.ID)
	}
	return ids
}

// Who comes while others are parked waits behind them, whatever the till has.
func TestBehindThoseThatWait(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Extensions: []Extension{till}})
		first := held(q, "p", nil)
		if res := commit(t, q, first); !res.Refused || !cmp.Equal(res.Replies, []string{"empty"}) {
			t.Fatalf("%+v", res)
		}
		commit(t, q, Change{Shard: 5, Operations: []Operation{{"till", []string{"give"}}}})
		second := held(q, "p", nil)
		if res := commit(t, q, second); !res.Refused || !cmp.Equal(res.Replies, []string{Behind}) {
			t.Fatalf("%+v", res)
		}
		gone := held(q, "p", nil)
		gone.Refused = nil
		if res := commit(t, q, gone); !res.Refused {
			t.Fatalf("%+v", res)
		}
		if _, err := q.Get(t.Context(), gone.Jobs[0].ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("refused without another way, and put: %v", err)
		}
		if res := commit(t, q, held(q, "elsewhere", nil)); res.Refused || coins(t, rdb, 5) != 0 {
			t.Errorf("%+v: nobody waits there", res)
		}
		if diff := cmp.Diff([]string{first.Jobs[0].ID, second.Jobs[0].ID}, parked(t, q, "p")); diff != "" {
			t.Error(diff)
		}
		for _, id := range parked(t, q, "p") {
			commit(t, q, Change{Shard: 5, Edit: &Edit{ID: id, Version: -1, To: End}})
		}
		commit(t, q, Change{Shard: 5, Operations: []Operation{{"till", []string{"give"}}}})
		if res := commit(t, q, held(q, "p", nil)); res.Refused {
			t.Errorf("%+v: nobody waits any more", res)
		}
	})
}

// Of a crowd so many are parked as may be, over all names, however many come at once; who leaves makes room.
func TestRoomBoundsACrowd(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Extensions: []Extension{till}})
		var mu sync.Mutex
		var in, out []Change
		var wg sync.WaitGroup
		for i := range 30 {
			c := held(q, fmt.Sprint("p", i%4), &ParkLimit{Set: "user", Most: 3})
			wg.Go(func() {
				res := q.Commit(t.Context(), c)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case errors.Is(res.Err, ErrFull):
					out = append(out, c)
				case res.Err == nil && res.Refused:
					in = append(in, c)
				default:
					t.Errorf("%+v", res)
				}
			})
		}
		wg.Wait()
		if len(in) != 3 || len(out) != 27 {
			t.Fatalf("%d in, %d out", len(in), len(out))
		}
		for _, c := range out {
			for _, j := range c.Refused {
				if _, err := q.Get(t.Context(), j.ID); !errors.Is(err, ErrNotFound) {
					t.Errorf("no room, and put: %v", err)
				}
			}
		}
		if res := commit(t, q, held(q, "p0", &ParkLimit{Set: "another", Most: 3})); !res.Refused {
			t.Errorf("%+v: of another crowd", res)
		}
		commit(t, q, Change{Shard: 5, Edit: &Edit{ID: in[0].Jobs[0].ID, Version: -1, To: Ready}})
		again := held(q, "p0", &ParkLimit{Set: "user", Most: 3})
		again.Once = "once"
		commit(t, q, again)
		full := held(q, "p0", &ParkLimit{Set: "user", Most: 3})
		full.Once = "full"
		for range 2 { // what had no room has not happened: its once name is free
			if err := q.Commit(t.Context(), full).Err; !errors.Is(err, ErrFull) {
				t.Errorf("%v", err)
			}
		}
		if ttl := rdb.PTTL(t.Context(), Prefix(5)+"k:user").Val(); ttl < 37*24*time.Hour-time.Minute {
			t.Errorf("the set is forgotten in %v, before its jobs", ttl)
		}
	})
}

// Of those with one key only the newest is parked; the others are due, each once, with the note they were parked with.
func TestRoomIsGivenUpToTheSameKey(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Extensions: []Extension{till}})
		room := func(key string) *ParkLimit { return &ParkLimit{Set: "user", Most: 4, Key: key} }
		other, elsewhere := held(q, "p", room("other")), held(q, "elsewhere", room("k"))
		commit(t, q, other)
		commit(t, q, elsewhere)
		var mu sync.Mutex
		replaced := map[string]int{}
		var wg sync.WaitGroup
		for range 20 {
			c := held(q, "p", room("k"))
			wg.Go(func() {
				res := q.Commit(t.Context(), c)
				if res.Err != nil || !res.Refused {
					t.Errorf("%+v", res)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, id := range res.Replaced {
					replaced[id]++
				}
			})
		}
		wg.Wait()
		left := parked(t, q, "p")
		if len(replaced) != 19 || len(left) != 2 || left[0] != other.Jobs[0].ID || replaced[left[1]] != 0 {
			t.Fatalf("%d gave way, left %v", len(replaced), left)
		}
		if at := parked(t, q, "elsewhere"); !slices.Equal(at, []string{elsewhere.Jobs[0].ID}) {
			t.Errorf("under another name: %v", at)
		}
		for id, n := range replaced {
			r := get(t, q, id)
			if n != 1 || r.State != "ready" || string(r.Note) != "waits" || r.Park != "" {
				t.Errorf("gave way %d times: %+v", n, r)
			}
			if err := q.Commit(t.Context(), Change{Shard: 5, Edit: &Edit{ID: id, Version: 0, To: Ready}}).Err; !errors.Is(err, ErrStale) {
				t.Errorf("released by who saw it parked: %v", err)
			}
		}
		newest := held(q, "p", room("k"))
		if res := commit(t, q, newest); !slices.Equal(res.Replaced, left[1:]) || !cmp.Equal(res.Replies, []string{Behind}) {
			t.Errorf("%+v", res)
		}
		if err := q.Commit(t.Context(), newest).Err; !errors.Is(err, ErrExists) {
			t.Errorf("the same again: %v", err)
		}
	})
}

func TestRoomIsForAJobThatParks(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		c := Change{ParkLimit: &ParkLimit{Set: "user", Most: 1}, Jobs: []Job{{ID: q.NewID("j", 0), Lane: "a", Park: "p"}}}
		if err := q.Commit(t.Context(), c).Err; !errors.Is(err, ErrID) {
			t.Error(err)
		}
	})
}
