// Package queue owns the durable work queue on Redis: where a job is, who has it in hand, and the one atomic step by
// which anything changes.
//
// That step is [Queue.Commit]. A [Change] happens wholly or not at all, on one shard, in one Lua script; Lua of other packages
// (an [Extension]) takes part in it. Changes that queue up while a script call is in flight travel together in the next one, and
// each answers for itself. A worker's verdict is such a change too.
//
//	        Park                    Due, After
//	 put ----------> parked    put -----------> later
//	  |                |  ^                       |  ^
//	  | at once        |  | ParkAgain         due |  | Retry, Snooze
//	  v                |  |                       v  |
//	ready <--- Edit Ready, Expires            (ready)|
//	  |                   |                          |
//	  |      claimed      |                          |     put, at once, by a process
//	  +-----------------> leased --------------------+ <-- that has a place for it
//	  ^                   |  |  |
//	  |  GiveBack         |  |  | Done          Keep over
//	  |  lease lapsed     |  |  +-----> ended ------------> forgotten
//	  |  (Reclaims+1)     |  | Bury                          ^
//	  +-------------------+  +--------> buried --------------+
//	                                               BuriedKeep over
//
// Edit takes whatever is not leased to ready (release, replay), later or ended. A job whose serial is in another hand is
// ready too; it stands in that serial's line instead of its lane, and nobody behind it waits for it.
//
// A job in hand is one that may have been acted upon. So a worker never claims more than it has free slots, but for what may be
// repeated ([Group].Ahead); a claim whose answer got lost is asked again and not made again; and a lease that lapses means:
// somebody died with it in hand.
//
// Times are Redis'. Every key begins with the shard's [Prefix]; lanes.lua lists them all. DECISIONS.md says why.
package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// MaxBody is the largest Body and the largest Note, in bytes.
const MaxBody = 1 << 20

// What a change or a look-up may answer. Test with errors.Is.
var (
	ErrTaken       = errors.New("queue: once only, and it happened before")
	ErrExists      = errors.New("queue: a job of this id exists")
	ErrStale       = errors.New("queue: the job changed meanwhile")
	ErrInHand      = errors.New("queue: the job is that a worker holds")
	ErrFull        = errors.New("queue: as many wait as may, see ParkLimit")
	ErrNotFound    = errors.New("queue: not found")
	ErrID          = errors.New("queue: malformed")
	ErrShards      = errors.New("queue: the number of shards cannot change")
	ErrUnavailable = errors.New("queue: Redis does not answer") // wraps the failure; the change may or may not have happened
	ErrTooLarge    = errors.New("queue: too large")
	ErrExtension   = errors.New("queue: an extension or a write failed") // only that change did not happen; see Operation
	ErrLeaseLost   = errors.New("queue: the lease lapsed, the job is another's")
)

// Options are decided once, at Open.
type Options struct {
	Shards     int           // 1..64, default 16; written to Redis at first start, another number later is ErrShards
	Extensions []Extension   // Lua of other packages
	Lease      time.Duration // how long a silent worker keeps its jobs, default 60s; renewed every Lease/6
	BuriedKeep time.Duration // how long buried jobs are kept for replay, default 30 days
	Grace      time.Duration // how long Run waits for handlers when its context ends, default 20s
	OnError    func(error)   // told of every failure the loops survive, from their goroutines; may be nil
	MaxWaiting int           // jobs that may wait in one lane over all shards, default 1,000,000; see Job.Drop
	PerShard   bool          // one script call carries one shard only; always so on a cluster
}

// Extension is Lua of another package that takes part in a change.
//
// Lua is a chunk that returns function(prefix, now_ms, A, o, n) -> ok, reply. Its n arguments are the strings A[o+1] to
// A[o+n], reply is a string.
// ok = false refuses the change, and the extension must not have written anything then: it checks, then writes.
type Extension struct{ Name, Lua string }

// Queue is safe for concurrent use.
type Queue struct {
	rdb        redis.UniversalClient
	o          Options
	caller     string // names this Queue in Redis
	extensions map[string]byte
	ids        mint

	turns, get, list, depths, pause *script // turns commits and claims

	apart  bool // one call carries one shard
	sites  []*site
	siteOf [64]*site

	sched    scheduler
	owed     sync.Once // registers consequenceGroup
	pool     pool
	lastTurn atomic.Int64
	gone     chan struct{} // closed when Run is over
	tally    tally
}

// Open connects to the queue kept in rdb, and writes the number of shards when it is the first.
func Open(ctx context.Context, rdb redis.UniversalClient, o Options) (*Queue, error) {
	if o.Shards == 0 {
		o.Shards = 16
	}
	if o.Shards < 1 || o.Shards > 64 {
		return nil, fmt.Errorf("%w: %d shards, must be 1 to 64", ErrShards, o.Shards)
	}
	for d, def := range map[*time.Duration]time.Duration{&o.Lease: time.Minute, &o.BuriedKeep: 30 * 24 * time.Hour, &o.Grace: 20 * time.Second} {
		if *d <= 0 {
			*d = def
		}
	}
	if o.MaxWaiting <= 0 {
		o.MaxWaiting = 1_000_000
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	q := &Queue{rdb: rdb, o: o, caller: randomName(), gone: make(chan struct{}), extensions: make(map[string]byte, len(o.Extensions))}
	q.sched.init(o.Shards)
	q.pool = pool{work: q.work, next: make(chan task)}
	var b strings.Builder
	b.WriteString("local extensions = {}\n")
	for i, r := range o.Extensions {
		q.extensions[r.Name] = byte(i + 1)
		fmt.Fprintf(&b, "extensions[%d] = (function()\n%s\nend)()\n", i+1, r.Lua)
	}
	q.turns = newScript(b.String(), commitLua+claimLua+turnLua)
	q.get, q.list = newScript("", getLua), newScript("", listLua)
	q.depths, q.pause = newScript("", depthsLua), newScript("", pauseLua)
	_, single := rdb.(*redis.Client)
	q.divide(!single || o.PerShard)
	if err := q.agree(ctx); err != nil {
		return nil, err
	}
	return q, nil
}

// shardsKey keeps the number of shards, for ever.
const shardsKey = "wx:{queue}:shards"

func (q *Queue) agree(ctx context.Context) error {
	if err := q.rdb.SetNX(ctx, shardsKey, q.o.Shards, 0).Err(); err != nil {
		return unavailable(err)
	}
	n, err := q.rdb.Get(ctx, shardsKey).Int()
	if err != nil {
		return unavailable(err)
	}
	if n != q.o.Shards {
		return fmt.Errorf("%w: this Redis was started with %d, the config says %d; set it back, or start over on an empty Redis", ErrShards, n, q.o.Shards)
	}
	for _, s := range q.sites { // an empty commit: the extensions' Lua compiles, and the scripts are loaded
		if _, err := q.turns.run(ctx, q.rdb, s.key, "0", q.caller, "0", "0", "0", "0"); err != nil {
			return unavailable(err)
		}
	}
	return nil
}

// site is what one script call may carry: all shards of a single Redis, one shard of a cluster (DECISIONS.md 2).
type site struct {
	q          *Queue
	key        string // prefix of its first shard: the routing key of its calls
	shards     []int
	committers [2]committer
	verdicts   committer // those that leave with the next claim (DECISIONS.md 20)
	claimer
}

func (s *site) committer(it *item) *committer { return &s.committers[it.shard%len(s.committers)] }

func (q *Queue) divide(perShard bool) {
	q.apart = perShard
	if !perShard {
		q.sites = []*site{{q: q, key: Prefix(0)}}
	}
	for n := range q.o.Shards {
		if perShard {
			q.sites = append(q.sites, &site{q: q, key: Prefix(n)})
		}
		s := q.sites[len(q.sites)-1]
		s.shards = append(s.shards, n)
		q.siteOf[n] = s
	}
	for _, s := range q.sites {
		for i := range s.committers {
			s.committers[i].q, s.committers[i].caller = q, q.caller+"."+strconv.Itoa(i)
		}
		s.verdicts.q, s.verdicts.caller = q, q.caller+".v"
	}
}

// eachShard runs f for every shard at the same time; go-redis spreads them over its connections and nodes.
func (q *Queue) eachShard(f func(shard int) error) error { return each(q.o.Shards, f) }

func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }
