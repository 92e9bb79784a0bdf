package queue

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A lane that cannot be written costs neither the verdict nor what came with it: the consequences become jobs, and are done
// when the lane is whole again.
func TestConsequencesAreNotLost(t *testing.T) {
	for name, whole := range map[string]bool{"each for itself": false, "what belongs together": true} {
		t.Run(name, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
				q := open(t, rdb, Options{Extensions: []Extension{till}, OnError: func(error) {}})
				q.Handle("g", Group{}, never)
				q.Handle(consequenceGroup, Group{}, consequence)
				bad := Prefix(2) + "q:bad:1"
				rdb.Set(t.Context(), bad, "no lane", 0)
				id, j := putIn(t, q, "leased", time.Hour)
				fine, broken := q.NewID("job", 2), q.NewID("job", 2)
				c := Change{Jobs: []Job{{ID: broken, Lane: "bad:1"}, {ID: fine, Lane: "a"}}, Names: []Name{{"n", "v", time.Minute}}}
				if whole {
					c.Once = "once"
				}
				judge(t, q, j, Done([]byte("end")).With(c))
				if r := get(t, q, id); r.State != "ended" || string(r.Note) != "end" {
					t.Fatalf("the verdict: %+v", r)
				}
				there := func() (out [3]bool) {
					_, err := q.Get(t.Context(), broken)
					out[0] = err == nil
					_, err = q.Get(t.Context(), fine)
					out[1] = err == nil
					_, err = q.Lookup(t.Context(), 2, "n")
					out[2] = err == nil
					return out
				}
				try := func() (n int) {
					for _, j := range claimed(t, q) {
						if j.group.name == consequenceGroup {
							judge(t, q, j, consequence(t.Context(), &j.Claimed))
							n++
						}
					}
					return n
				}
				want := 3
				if whole {
					want = 1
				}
				if n := try(); n != want {
					t.Fatalf("%d consequences, want %d", n, want)
				}
				if got := there(); !whole && !(got[1] && got[2]) {
					t.Fatalf("one broken lane holds the others back: %v", got)
				}
				rdb.Del(t.Context(), bad)
				for _, lane := range rdb.Keys(t.Context(), Prefix(2)+"q:consequence:*").Val() { // its pause is over
					for _, m := range rdb.ZRange(t.Context(), lane, 0, -1).Val() {
						rdb.ZAdd(t.Context(), lane, redis.Z{Score: 1, Member: m})
					}
				}
				rdb.ZAdd(t.Context(), Prefix(2)+"g:"+consequenceGroup, redis.Z{Score: 1, Member: consequenceGroup + ":g"})
				if n := try(); n != 1 {
					t.Fatalf("%d consequences wait for the lane, want 1", n)
				}
				if got := there(); got != [3]bool{true, true, true} {
					t.Fatalf("not done: broken lane's job, other job, name: %v", got)
				}
			})
		})
	}
}
