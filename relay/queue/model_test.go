package queue

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// imagined is a job as the model has it.
type imagined struct {
	id, lane, serial, state    string
	due                        time.Time // of ready and later
	expires, till              time.Time // till: when a parked one expires that has no time of its own
	keep                       time.Duration
	ended                      time.Time
	note                       string
	version                    int64
	attempts, reclaims, worker int
	hand                       *job
}

// world is the model: plain Go, one shard, the same clock.
type world struct {
	jobs  map[string]*imagined
	onces map[string]time.Time
	now   time.Time
}

const (
	modelLease  = time.Minute
	modelBuried = 3 * time.Hour
)

func (w *world) held(serial string) bool {
	for _, j := range w.jobs {
		if serial != "" && j.state == "leased" && j.serial == serial {
			return true
		}
	}
	return false
}

func (w *world) wait(j *imagined, at time.Time) {
	if !j.expires.IsZero() && at.After(j.expires) {
		at = j.expires
	}
	if at.Before(w.now) {
		at = w.now
	}
	j.due, j.state = at, "waits"
}

// forget drops what Redis has dropped by now.
func (w *world) forget() {
	for id, j := range w.jobs {
		if j.state == "ended" && !w.now.Before(j.ended.Add(j.keep)) || j.state == "buried" && !w.now.Before(j.ended.Add(modelBuried)) {
			delete(w.jobs, id)
		}
	}
}

func (w *world) state(j *imagined) string {
	if j.state != "waits" {
		return j.state
	}
	if j.due.After(w.now) {
		return "later"
	}
	return "ready"
}

// sweep is what a worker's turn does before it claims: silent workers lose their jobs, parked jobs expire.
func (w *world) sweep(alive func(worker int) bool) (late []imagined) {
	for _, j := range w.jobs {
		switch {
		case j.state == "leased" && !alive(j.worker):
			late = append(late, *j)
			j.reclaims++
			j.hand = nil
			j.due, j.state = w.now, "waits"
		case j.state == "parked" && !cmp.Or(j.expires, j.till).After(w.now):
			j.due, j.state, j.expires = w.now, "waits", w.now
		}
	}
	return late
}

// TestModel does random things to a queue and to the model, and compares every job after each.
func TestModel(t *testing.T) {
	if err := flag.Set("rapid.nofailfile", "true"); err != nil { // the seed in the output is enough, the tree stays clean
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		c := clock(t)
		defer c.Miniredis.Close()
		o := Options{Shards: 1, Lease: modelLease, BuriedKeep: modelBuried, OnError: func(err error) { rt.Errorf("OnError: %v", err) }}
		var qs []*Queue
		for range 2 {
			q, err := Open(t.Context(), c.rdb, o)
			if err != nil {
				rt.Fatal(err)
			}
			q.Handle("g", Group{Concurrency: 4, PerLane: 3}, never)
			qs = append(qs, q)
		}
		w := &world{jobs: map[string]*imagined{}, onces: map[string]time.Time{}, now: c.now}
		beat := make([]time.Time, 2)
		pick := func(rt *rapid.T, ok func(*imagined) bool) *imagined {
			var all []*imagined
			for _, j := range w.jobs {
				if ok(j) {
					all = append(all, j)
				}
			}
			if len(all) == 0 {
				rt.Skip("none")
			}
			slices.SortFunc(all, func(a, b *imagined) int { return cmp.Compare(a.id, b.id) })
			return rapid.SampledFrom(all).Draw(rt, "job")
		}
		minutes := rapid.Map(rapid.IntRange(0, 5), func(n int) time.Duration { return time.Duration(n) * 10 * time.Second })
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				m := &imagined{id: qs[0].NewID("j", 0), lane: rapid.SampledFrom([]string{"g:a", "g:b", "h:a"}).Draw(rt, "lane"),
					serial: rapid.SampledFrom([]string{"", "", "s", "t"}).Draw(rt, "serial"), keep: minutes.Draw(rt, "keep"), note: "put"}
				j := Job{ID: m.id, Lane: m.lane, Serial: m.serial, Keep: m.keep, Note: []byte("put"), Tags: []string{"t"}}
				if rapid.Bool().Draw(rt, "expires") {
					m.expires = w.now.Add(30*time.Second + minutes.Draw(rt, "expires in"))
					j.Expires = m.expires
				}
				change := Change{Jobs: []Job{j}, Once: rapid.SampledFrom([]string{"", "x", "y"}).Draw(rt, "once"), OnceFor: time.Minute}
				switch how := rapid.SampledFrom([]string{"now", "after", "due", "park"}).Draw(rt, "how"); how {
				case "now":
					w.wait(m, w.now)
				case "after":
					change.Jobs[0].After = minutes.Draw(rt, "after")
					w.wait(m, w.now.Add(change.Jobs[0].After))
				case "due":
					change.Jobs[0].Due = w.now.Add(minutes.Draw(rt, "due") - 20*time.Second)
					w.wait(m, change.Jobs[0].Due)
				case "park":
					change.Jobs[0].Park = "p"
					m.state, m.till = "parked", w.now.Add(modelBuried)
				}
				err := qs[0].Commit(t.Context(), change).Err
				if until, ok := w.onces[change.Once]; ok && change.Once != "" && w.now.Before(until) {
					if err != ErrTaken {
						rt.Fatalf("once %q again: %v", change.Once, err)
					}
					return
				}
				if err != nil {
					rt.Fatal(err)
				}
				w.onces[change.Once] = w.now.Add(time.Minute)
				w.jobs[m.id] = m
			},
			"claim": func(rt *rapid.T) {
				n := rapid.IntRange(0, 1).Draw(rt, "worker")
				beat[n] = w.now // its lease is renewed with the turn, even a lapsed one if nobody noticed
				for i := range qs[n].sched.group("g").beatAt {
					qs[n].sched.group("g").beatAt[i] = time.Time{}
				}
				got := claimed(t, qs[n])
				late := w.sweep(func(worker int) bool { return w.now.Before(beat[worker].Add(modelLease)) })
				mine := map[string]int{}
				for _, j := range w.jobs {
					if j.hand != nil && j.worker == n {
						mine[j.lane]++
						mine[""]++
					}
				}
				for _, j := range got {
					m := w.jobs[j.ID]
					switch {
					case m == nil:
						rt.Fatalf("claimed %s, which is forgotten", j.ID)
					case w.state(m) != "ready" || m.lane[0] != 'g' || w.held(m.serial):
						rt.Fatalf("claimed %s, which is %s in %s, serial %q held: %v", j.ID, w.state(m), m.lane, m.serial, w.held(m.serial))
					case j.Expired != (!m.expires.IsZero() && !m.expires.After(w.now)):
						rt.Fatalf("%s expired: %v", j.ID, j.Expired)
					case j.Attempts != m.attempts || j.Reclaims != m.reclaims || j.Version != m.version || string(j.Note) != m.note:
						rt.Fatalf("claimed %+v, want %+v", j.Claimed, m)
					}
					m.state, m.worker, m.hand = "leased", n, j
					mine[m.lane]++
					mine[""]++
					beat[n] = w.now
				}
				if mine["g:a"] > 3 || mine["g:b"] > 3 || mine[""] > 4 {
					rt.Fatalf("in hand: %v", mine)
				}
				for _, m := range late { // the word of the silent comes too late
					judge(t, qs[m.worker], m.hand, Done([]byte("late")))
				}
				for _, m := range w.jobs { // and nothing that could have been claimed was left
					if w.state(m) == "ready" && m.lane[0] == 'g' && !w.held(m.serial) && mine[""] < 4 && mine[m.lane] < 3 {
						rt.Fatalf("%s in %s was left although %v", m.id, m.lane, mine)
					}
				}
			},
			"finish": func(rt *rapid.T) {
				m := pick(rt, func(j *imagined) bool { return j.hand != nil })
				j, q := m.hand, qs[m.worker]
				note := rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "note")
				var b []byte
				if note != "" {
					b = []byte(note)
				}
				after := minutes.Draw(rt, "after")
				kind := rapid.SampledFrom([]string{"done", "retry", "snooze", "bury", "park", "give back"}).Draw(rt, "verdict")
				if kind != "give back" {
					m.version++
					if note != "" {
						m.note = note
					}
				}
				m.hand = nil
				switch kind {
				case "done":
					judge(t, q, j, Done(b))
					m.state, m.ended = "ended", w.now
					if m.keep == 0 {
						delete(w.jobs, m.id)
					}
				case "retry":
					judge(t, q, j, Retry(after, b, "r"))
					m.attempts++
					w.wait(m, w.now.Add(after))
				case "snooze":
					judge(t, q, j, Snooze(after, b))
					w.wait(m, w.now.Add(after))
				case "bury":
					judge(t, q, j, Bury("r", b))
					m.state, m.ended = "buried", w.now
				case "park":
					judge(t, q, j, ParkAgain("p", time.Time{}, b))
					m.state, m.till = "parked", w.now.Add(modelBuried)
				case "give back":
					judge(t, q, j, GiveBack())
					m.state = "waits" // due when it was
				}
			},
			"edit": func(rt *rapid.T) {
				m := pick(rt, func(j *imagined) bool { return true })
				e := &Edit{ID: m.id, Version: m.version + int64(rapid.IntRange(-1, 0).Draw(rt, "version")), To: To(rapid.IntRange(0, 3).Draw(rt, "to")),
					After: minutes.Draw(rt, "after"), Note: []byte(rapid.SampledFrom([]string{"e", "f"}).Draw(rt, "note"))}
				if e.Version == -1 {
					e.Version = m.version + 5
				}
				err := qs[1].Commit(t.Context(), Change{Edit: e}).Err
				switch {
				case m.state == "leased":
					if err != ErrInHand {
						rt.Fatalf("edit in hand: %v", err)
					}
					return
				case e.Version != m.version:
					if err != ErrStale {
						rt.Fatalf("edit of version %d at %d: %v", e.Version, m.version, err)
					}
					return
				case err != nil:
					rt.Fatal(err)
				}
				m.version++
				m.note = string(e.Note)
				switch e.To {
				case Ready:
					m.attempts = 0
					if w.state(m) != "ready" {
						m.state, m.due = "waits", w.now
					}
				case Later:
					w.wait(m, w.now.Add(e.After))
				case End:
					if m.keep == 0 {
						delete(w.jobs, m.id)
					} else if m.state != "ended" {
						m.state, m.ended = "ended", w.now
					}
				}
			},
			"pass": func(rt *rapid.T) {
				c.pass(rapid.SampledFrom([]time.Duration{time.Second, 11 * time.Second, 31 * time.Second, 61 * time.Second, time.Hour}).Draw(rt, "time"))
				w.now = c.now
				w.forget()
			},
			"": func(rt *rapid.T) { w.compare(t, rt, qs[0]) },
		})
	})
}

// compare checks every job, the listing and the depths against the model.
func (w *world) compare(t *testing.T, rt *rapid.T, q *Queue) {
	want, got := map[string]string{}, map[string]string{}
	depths := map[string]int64{}
	for id, m := range w.jobs {
		want[id] = fmt.Sprint(w.state(m), m.note, m.version, m.attempts, m.reclaims)
		if s := w.state(m); s != "ended" {
			depths[m.lane+" "+s]++
		}
	}
	recs, _, err := q.List(t.Context(), "t", 0, "", 10000)
	if err != nil {
		rt.Fatal(err)
	}
	for _, r := range recs {
		got[r.ID] = fmt.Sprint(r.State, string(r.Note), r.Version, r.Attempts, r.Reclaims)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		rt.Fatalf("jobs: %s", diff)
	}
	ds, err := q.Depths(t.Context())
	if err != nil {
		rt.Fatal(err)
	}
	counted := map[string]int64{}
	for _, d := range ds {
		counted[d.Lane+" "+d.State] = d.Count
	}
	if diff := gocmp.Diff(depths, counted); diff != "" {
		rt.Fatalf("depths: %s", diff)
	}
	if _, err := q.Get(t.Context(), q.NewID("j", 0)); !errors.Is(err, ErrNotFound) {
		rt.Fatal(err)
	}
}
