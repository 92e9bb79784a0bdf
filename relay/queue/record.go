package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Record is a job as it stands.
type Record struct {
	ID, Lane            string
	State               string // ready later parked leased ended buried
	Body, Note          []byte
	Version             int64 // grows with every verdict and edit; for Edit.Version
	Attempts, Reclaims  int
	Created, Due, Ended time.Time // Due: ready and later jobs; Ended: ended and buried ones; else zero
	Reason              string    // of the last Retry or Bury
	Park                string    // while parked: the name
}

// Get reads one job: ErrNotFound when there is none (or none any more), ErrID when no job can have that id.
func (q *Queue) Get(ctx context.Context, id string) (Record, error) {
	shard, err := ShardOf(id)
	if err != nil || shard >= q.o.Shards {
		return Record{}, ErrID
	}
	recs, err := q.fetch(ctx, shard, id)
	if err != nil {
		return Record{}, err
	}
	if len(recs) == 0 {
		return Record{}, ErrNotFound
	}
	return recs[0], nil
}

// fetch reads jobs of one shard; those that are gone are left out.
func (q *Queue) fetch(ctx context.Context, shard int, ids ...string) ([]Record, error) {
	argv := make([]any, len(ids))
	for i := range ids {
		argv[i] = ids[i]
	}
	res, err := q.get.run(ctx, q.rdb, Prefix(shard), argv...)
	if err != nil {
		return nil, unavailable(err)
	}
	flat, _ := res.([]any)
	recs := make([]Record, 0, len(ids))
	for i, id := range ids {
		var f [11]string
		for k := range f {
			if n := 11*i + k; n < len(flat) {
				f[k], _ = flat[n].(string)
			}
		}
		if f[0] == "" {
			continue
		}
		r, err := readRecord(id, &f)
		if err != nil {
			return nil, fmt.Errorf("queue: job %s: %w", id, err)
		}
		recs = append(recs, r)
	}
	return recs, nil
}

// readRecord: m b n v a r e w p state due_us
func readRecord(id string, f *[11]string) (Record, error) {
	created, lane, _, _, err := readMeta(f[0])
	if err != nil {
		return Record{}, err
	}
	r := Record{ID: id, Lane: lane, Body: []byte(f[1]), Note: []byte(f[2]), Version: number(f[3]), Attempts: int(number(f[4])),
		Reclaims: int(number(f[5])), Created: created, Reason: f[7], Park: f[8], State: f[9]}
	if f[6] != "" {
		r.Ended = time.UnixMilli(number(f[6])).UTC()
	}
	if f[10] != "" {
		r.Due = time.UnixMicro(number(f[10])).UTC()
	}
	return r, nil
}

// Lookup reads what a Name stands for, or ErrNotFound.
func (q *Queue) Lookup(ctx context.Context, shard int, name string) (string, error) {
	if shard < 0 || shard >= q.o.Shards {
		return "", ErrID
	}
	v, err := q.rdb.Get(ctx, Prefix(shard)+"n:"+name).Result()
	if errors.Is(err, redis.Nil) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", unavailable(err)
	}
	return v, nil
}
