package webhook

import (
	"context"
	"crypto/sha256"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/testredis"
)

// BenchmarkInbox runs Begin + Keep of 64 callers, in turns with the baseline: the same two commands, each on its own
// round trip. It prints what ours takes as a share of that. Run it with WXRELAY_TEST_REDIS.
func BenchmarkIdempotencyStore(b *testing.B) {
	rdb := testredis.Real(b) // an in-process Redis would measure itself
	ctx := context.Background()
	inbox := NewIdempotencyStore(rdb)
	body := []byte(strings.Repeat("x", 400))
	var ids atomic.Int64
	company := func() error {
		id := strconv.FormatInt(ids.Add(1), 10)
		v, err := inbox.Begin(ctx, "p", id, sha256.Sum256([]byte(id)))
		if err != nil {
			return err
		}
		return v.Keep(ctx, Answer{Status: 202, Body: body})
	}
	alone := func() error {
		id := strconv.FormatInt(ids.Add(1), 10)
		key, mark := idempotencyKey("p", id), newMark(sha256.Sum256([]byte(id)))
		if err := rdb.SetArgs(ctx, key, mark, redis.SetArgs{Mode: "NX", Get: true, TTL: inProgress}).Err(); err != redis.Nil {
			return err
		}
		return keepScript.Run(ctx, rdb, []string{key}, mark, body, Remembered.Milliseconds()).Err()
	}
	const callers, share = 64, 50
	measure := func(pair func() error) time.Duration {
		start := time.Now()
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range share {
					if err := pair(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	var ours, theirs time.Duration
	rounds := 0
	for b.Loop() {
		theirs += measure(alone)
		ours += measure(company)
		rounds++
	}
	b.ReportMetric(float64(rounds*callers*share)/ours.Seconds(), "pairs/s")
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "of-alone")
	b.ReportMetric(0, "ns/op")
}
