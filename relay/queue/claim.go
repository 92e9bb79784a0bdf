package queue

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	maxClaim      = 128     // jobs of one group in one turn of one site
	maxClaimBytes = 4 << 20 // of bodies and notes in one answer
)

// job is a job in hand, with what its verdict must say.
type job struct {
	Claimed
	shard  int
	token  string // proves that the verdict is the holder's
	serial string
	shared string // name of the shared part of its body
	keep   string // ms
	due    string // us: where it stood
	tags   string
	// expires is in ms, "" = never
	expires string
	lasts   bool // it expires as it would at its end
	replies bool // its note is the replies of the change that commits it

	group *group
	lane  *laneState
	begun bool // it has a slot; guarded by scheduler.mu, as is
	out   bool // it is not in hand any more
}

// claimer is a site's side of claiming. Only the loop of Run touches it.
type claimer struct {
	claims  uint64    // number of the next claim; it grows only when its answer came
	unsure  []*group  // that claim may have claimed for them already
	out     bool      // a call is in flight
	fails   int       // in a row
	retryAt time.Time // not before
}

// request is what one call asks of one site.
type request struct {
	site     *site
	at       time.Time
	beats    []beat
	look     bool    // after lapsed leases and expired parking, on every shard
	verdicts []*item // that go along
	groups   []want
}

type beat struct {
	group *group
	shard int
}

type want struct {
	group  *group
	places int
	lanes  map[string]int // how many more, of the lanes that have something in hand
	shards []int
}

// answered is what a request brought.
type answered struct {
	lost []beat
	left []leftover
	jobs []*job

	committed string // what became of the verdicts
}

// leftover is work that is left: in a lane, due at a time, or (neither) not looked at.
type leftover struct {
	group *group
	shard int
	lane  string
	due   time.Time
}

// ask carries a request to Redis and reads the answer.
func (q *Queue) ask(ctx context.Context, w *request) (answered, error) {
	args := w.args(q)
	res, err := q.turns.send(ctx, q.rdb, w.site.key, args)
	clear(args)
	if err != nil {
		return answered{}, unavailable(err)
	}
	t, err := q.read(res)
	if err != nil {
		return answered{}, unavailable(err)
	}
	return t, nil
}

// args writes a request as turn.lua reads it.
func (w *request) args(q *Queue) []any {
	v := &w.site.verdicts
	a := append(v.args[:0], make([]any, head+1)...)
	if len(w.verdicts) > 0 {
		a = v.write(q, a, w.verdicts, true)
	}
	a[head] = len(a) - head + 1
	a = append(a, q.caller, strconv.FormatUint(w.site.claims, 10), maxClaimBytes, len(w.beats))
	for _, b := range w.beats {
		a = append(a, Prefix(b.shard), b.group.session, b.group.conf.Lease.Milliseconds())
	}
	if w.look {
		a = append(a, len(w.site.shards))
		for _, n := range w.site.shards {
			a = append(a, Prefix(n))
		}
	} else {
		a = append(a, 0)
	}
	a = append(a, len(w.groups))
	for _, g := range w.groups {
		a = append(a, g.group.name, g.group.session, g.group.conf.Lease.Milliseconds(), g.places, g.group.conf.PerLane+min(g.group.conf.Ahead, aheadLeast), len(g.lanes))
		for lane, free := range g.lanes {
			a = append(a, lane, free)
		}
		a = append(a, len(g.shards))
		for _, n := range g.shards {
			a = append(a, Prefix(n))
		}
	}
	v.args = a
	return a
}

// read takes claim.lua's answer apart.
func (q *Queue) read(res any) (t answered, err error) {
	defer func() { // Redis answers what our own script returns: anything else is a bug there or here
		if p := recover(); p != nil {
			err = fmt.Errorf("claim answered in an unknown form: %v", p)
		}
	}()
	parts := res.([]any)
	now, err := strconv.ParseInt(parts[0].(string), 10, 64)
	if err != nil {
		return t, err
	}
	lost, left, jobs := parts[1].([]any), parts[2].([]any), parts[3].([]any)
	t.committed = parts[4].(string)
	for i := 0; i+1 < len(lost); i += 2 {
		t.lost = append(t.lost, beat{q.sched.bySession(lost[i+1].(string)), shardOfPrefix(lost[i].(string))})
	}
	for i := 0; i+2 < len(left); i += 3 {
		l := leftover{group: q.sched.group(left[i].(string)), shard: shardOfPrefix(left[i+1].(string))}
		switch why := left[i+2].(string); why[0] {
		case 'm':
		case 'c':
			l.lane = why[1:]
		default:
			at, err := strconv.ParseFloat(why, 64)
			if err != nil {
				return t, err
			}
			l.due = time.Now().Add(time.Duration(int64(at)-now) * time.Microsecond)
		}
		t.left = append(t.left, l)
	}
	for i := 0; i+12 < len(jobs); i += 13 {
		var f [13]string
		for k := range f {
			f[k] = jobs[i+k].(string)
		}
		j, err := readJob(now, &f)
		if err != nil { // somebody else wrote it: it stays in hand as long as this process lives, the others go on
			q.o.OnError(fmt.Errorf("queue: job %s: %w", f[1], err))
			continue
		}
		t.jobs = append(t.jobs, j)
	}
	return t, nil
}

// readJob: prefix, id, due_us, token, m b n v a r s x f
func readJob(now int64, f *[13]string) (*job, error) {
	created, lane, keep, tags, err := readMeta(f[4])
	if err != nil {
		return nil, err
	}
	j := &job{Claimed: Claimed{ID: f[1], Lane: lane, Body: []byte(f[5]), Note: []byte(f[6]), Version: number(f[7]),
		Attempts: int(number(f[8])), Reclaims: int(number(f[9])), Created: created, Now: time.UnixMicro(now).UTC(), State: "leased"},
		shard: shardOfPrefix(f[0]), token: f[3], serial: f[10], keep: keep, due: f[2], tags: tags, expires: f[11], shared: f[12]}
	j.Expired = f[11] != "" && number(f[11])*1000 <= now
	return j, nil
}

// readMeta reads the field m: "created_us\nlane\nkeep_ms[\ntag...]"
func readMeta(m string) (created time.Time, lane, keep, tags string, err error) {
	us, rest, ok1 := strings.Cut(m, "\n")
	lane, rest, ok2 := strings.Cut(rest, "\n")
	keep, _, _ = strings.Cut(rest, "\n")
	at, err := strconv.ParseInt(us, 10, 64)
	if !ok1 || !ok2 || err != nil {
		return created, "", "", "", fmt.Errorf("a job with the head %q", m)
	}
	return time.UnixMicro(at).UTC(), lane, keep, rest[len(keep):], nil
}

// number reads what our scripts wrote; "" is 0.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		f, _ := strconv.ParseFloat(s, 64) // a score may come back as 1.7e+15
		return int64(f)
	}
	return n
}

func shardOfPrefix(p string) int { return int(p[5]-'0')*10 + int(p[6]-'0') }

// sessionOf reads the session from a token, "session.seq".
func sessionOf(token string) string {
	session, _, _ := strings.Cut(token, ".")
	return session
}
