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

// job is a claimed job with what its verdict must say.
type job struct {
	Claimed
	shard  int
	token  string // proves that the verdict is the holder's
	serial string
	group  *group // of the slot it is in
	out    bool   // of its slot again; guarded by hands.mu
	keep   string // ms
	due    string // us: where it stood
	tags   string
	// expires is in ms, "" = never
	expires string
}

// claimer is a site's side of claiming. Only the loop of Run touches it.
type claimer struct {
	turns   uint64    // number of the next claim; it grows only when its answer came
	unsure  []*group  // that claim may have claimed for them already
	out     bool      // a call is in flight
	fails   int       // in a row
	retryAt time.Time // not before
}

// wish is what one turn asks of one site.
type wish struct {
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
	slots  int
	lanes  map[string]int // slots free in the lanes that have something in hand
	shards []int
}

// turned is what a turn brought.
type turned struct {
	lost []beat
	left []leftover
	jobs []*job

	committed string // what became of the verdicts
}

type leftover struct {
	group *group
	shard int
	why   byte // m, c, or d: due at
	due   time.Time
}

// turn carries a wish to Redis and reads the answer.
func (q *Queue) turn(ctx context.Context, w *wish) (turned, error) {
	args := w.args(q)
	res, err := q.turns.send(ctx, q.rdb, w.site.key, args)
	clear(args)
	if err != nil {
		return turned{}, unavailable(err)
	}
	t, err := q.read(res)
	if err != nil {
		return turned{}, unavailable(err)
	}
	return t, nil
}

// args writes a wish as turn.lua reads it.
func (w *wish) args(q *Queue) []any {
	v := &w.site.verdicts
	a := append(v.args[:0], make([]any, head+1)...)
	if len(w.verdicts) > 0 {
		a = v.write(q, a, w.verdicts, true)
	}
	a[head] = len(a) - head + 1
	a = append(a, q.caller, strconv.FormatUint(w.site.turns, 10), maxClaimBytes, len(w.beats))
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
		a = append(a, g.group.name, g.group.session, g.group.conf.Lease.Milliseconds(), g.slots, g.group.conf.PerLane, len(g.lanes))
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
func (q *Queue) read(res any) (t turned, err error) {
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
		t.lost = append(t.lost, beat{q.hands.bySession(lost[i+1].(string)), shardOfPrefix(lost[i].(string))})
	}
	for i := 0; i+2 < len(left); i += 3 {
		l := leftover{group: q.hands.group(left[i].(string)), shard: shardOfPrefix(left[i+1].(string))}
		switch why := left[i+2].(string); why {
		case "m", "c":
			l.why = why[0]
		default:
			at, err := strconv.ParseFloat(why, 64)
			if err != nil {
				return t, err
			}
			l.why, l.due = 'd', time.Now().Add(time.Duration(int64(at)-now)*time.Microsecond)
		}
		t.left = append(t.left, l)
	}
	for i := 0; i+11 < len(jobs); i += 12 {
		var f [12]string
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

// readJob: prefix, id, due_us, token, m b n v a r s x
func readJob(now int64, f *[12]string) (*job, error) {
	created, lane, keep, tags, err := readMeta(f[4])
	if err != nil {
		return nil, err
	}
	j := &job{Claimed: Claimed{ID: f[1], Lane: lane, Body: []byte(f[5]), Note: []byte(f[6]), Version: number(f[7]),
		Attempts: int(number(f[8])), Reclaims: int(number(f[9])), Created: created, Now: time.UnixMicro(now).UTC(), State: "leased"},
		shard: shardOfPrefix(f[0]), token: f[3], serial: f[10], keep: keep, due: f[2], tags: tags, expires: f[11]}
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
