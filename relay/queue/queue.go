// Package queue owns the durable work queue on Redis.
package queue

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// MaxBody is the largest Body, in bytes.
const MaxBody = 1 << 20

// What a change or a look-up may answer. Test with errors.Is.
var (
	ErrTaken       = errors.New("queue: once only, and it happened before")
	ErrExists      = errors.New("queue: a job of this id exists")
	ErrStale       = errors.New("queue: the job changed meanwhile")
	ErrInHand      = errors.New("queue: the job is in a worker's hand")
	ErrNotFound    = errors.New("queue: not found")
	ErrID          = errors.New("queue: malformed id")
	ErrShards      = errors.New("queue: the number of shards cannot change")
	ErrUnavailable = errors.New("queue: Redis does not answer")
	ErrTooLarge    = errors.New("queue: too large")
	ErrRider       = errors.New("queue: a rider failed")
)

// Options are decided once, at Open.
type Options struct {
	Shards     int           // 1..64, default 16; written to Redis at first start, another number later is ErrShards
	Riders     []Rider       // other rooms' Lua
	Lease      time.Duration // how long a silent worker keeps its jobs, default 60s; renewed every Lease/6
	BuriedKeep time.Duration // how long buried jobs are kept for replay, default 30 days
	Grace      time.Duration // how long Run waits for handlers when its context ends, default 20s
	OnError    func(error)   // told of every failure the loops survive; may be nil
	PerShard   bool          // one script call carries one shard only; always so on a cluster
}

// Rider is Lua of another room that takes part in a change.
//
// Lua is a chunk that returns function(prefix, now_ms, args) -> ok, reply. args is an array of strings. ok = false refuses
// the change, and the rider must not have written anything then.
type Rider struct{ Name, Lua string }

// Queue is safe for concurrent use.
type Queue struct {
	rdb redis.UniversalClient
	o   Options
}

// Open connects to the queue kept in rdb.
func Open(ctx context.Context, rdb redis.UniversalClient, o Options) (*Queue, error) {
	if o.Shards == 0 {
		o.Shards = 16
	}
	return &Queue{rdb: rdb, o: o}, nil
}

// Commit makes a change happen wholly or not at all.
func (q *Queue) Commit(ctx context.Context, c Change) Result { return Result{Err: ErrUnavailable} }

// Handle names the handler of a group of lanes. Call it before Run.
func (q *Queue) Handle(group string, g Group, h Handler) {}

// Run works until ctx ends.
func (q *Queue) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Get reads one job.
func (q *Queue) Get(ctx context.Context, id string) (Record, error) { return Record{}, ErrNotFound }

// List reads the jobs under a tag, newest first; shard -1 is all of them, merged. next is "" at the end.
func (q *Queue) List(ctx context.Context, tag string, shard int, cursor string, n int) (recs []Record, next string, err error) {
	return nil, "", nil
}

// Parked reads the jobs parked under a name, oldest first. next is "" at the end.
func (q *Queue) Parked(ctx context.Context, shard int, name, cursor string, n int) (recs []Record, next string, err error) {
	return nil, "", nil
}

// Lookup reads what a Name stands for, or ErrNotFound.
func (q *Queue) Lookup(ctx context.Context, shard int, name string) (string, error) {
	return "", ErrNotFound
}

// Pause keeps a lane, on every shard, from being claimed for d or until Resume.
func (q *Queue) Pause(ctx context.Context, lane string, d time.Duration) error { return nil }

// Resume ends a pause.
func (q *Queue) Resume(ctx context.Context, lane string) error { return nil }

// Depths counts the jobs of every lane, over all shards.
func (q *Queue) Depths(ctx context.Context) ([]Depth, error) { return nil, nil }

// LastTurn is when the claim loop last heard from Redis; zero before the first time.
func (q *Queue) LastTurn() time.Time { return time.Time{} }
