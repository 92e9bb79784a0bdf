package queue

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// benchRedis is the server of WXRELAY_BENCH_REDIS: give it one of its own, with AOF as in production.
func benchRedis(b *testing.B) *redis.Client {
	url := os.Getenv("WXRELAY_BENCH_REDIS")
	if url == "" {
		b.Skip("WXRELAY_BENCH_REDIS is not set")
	}
	o, err := redis.ParseURL(url)
	if err != nil {
		b.Fatal(err)
	}
	rdb := redis.NewClient(o)
	b.Cleanup(func() { rdb.Close() })
	if err := rdb.FlushDB(b.Context()).Err(); err != nil {
		b.Fatal(err)
	}
	return rdb
}

// redisCPU is what Redis used so far, in seconds, user and system.
func redisCPU(b *testing.B, rdb *redis.Client) float64 {
	info, err := rdb.Info(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	sum := 0.0
	s := bufio.NewScanner(strings.NewReader(info))
	for s.Scan() {
		k, v, _ := strings.Cut(strings.TrimSpace(s.Text()), ":")
		if k == "used_cpu_sys" || k == "used_cpu_user" {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				b.Fatal(err)
			}
			sum += f
		}
	}
	return sum
}

// flat64 runs f b.N times on 64 goroutines and reports Redis' CPU-seconds per 100,000.
func flat64(b *testing.B, rdb *redis.Client, f func(i int)) {
	var next atomic.Int64
	b.ReportAllocs()
	before, ours := redisCPU(b, rdb), ourCPU()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= b.N; i = int(next.Add(1)) {
				f(i)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric((redisCPU(b, rdb)-before)/float64(b.N)*1e5, "redisCPUs/100k")
	b.ReportMetric((ourCPU()-ours)/float64(b.N)*1e5, "goCPUs/100k")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "/s")
}

// ourCPU is what this process used so far, in seconds.
func ourCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

func must(b *testing.B, err error) {
	if err != nil {
		b.Error(err)
	}
}

// BenchmarkCommit: a push as the product makes it, without an extension: a once-name and a job of 1 KB.
func BenchmarkCommit(b *testing.B) {
	for _, perShard := range []bool{false, true} {
		b.Run(fmt.Sprintf("new/per-shard=%v", perShard), func(b *testing.B) {
			rdb := benchRedis(b)
			q, err := Open(b.Context(), rdb, Options{PerShard: perShard})
			must(b, err)
			body := []byte(strings.Repeat("x", 1024))
			flat64(b, rdb, func(i int) {
				shard := i % 16
				must(b, q.Commit(b.Context(), Change{Shard: shard, Once: "p/" + strconv.Itoa(i), OnceFor: time.Hour,
					Jobs: []Job{{ID: q.NewID("psh", shard), Lane: "push:shop", Body: body}}}).Err)
			})
			t := q.Tally()
			b.ReportMetric(float64(t.Changes)/float64(t.Calls), "changes/call")
		})
	}
	b.Run("duplicate", func(b *testing.B) {
		rdb := benchRedis(b)
		q, err := Open(b.Context(), rdb, Options{})
		must(b, err)
		body := []byte(strings.Repeat("x", 1024))
		for i := range 16 {
			must(b, q.Commit(b.Context(), Change{Shard: i, Once: "p"}).Err)
		}
		flat64(b, rdb, func(i int) {
			shard := i % 16
			if err := q.Commit(b.Context(), Change{Shard: shard, Once: "p", OnceFor: time.Hour,
				Jobs: []Job{{ID: q.NewID("psh", shard), Lane: "push:shop", Body: body}}}).Err; err != ErrTaken {
				b.Error(err)
			}
		})
	})
}

// BenchmarkIdlePush is one commit at a time: what group commit costs when there is no group.
func BenchmarkIdlePush(b *testing.B) {
	rdb := benchRedis(b)
	q, err := Open(b.Context(), rdb, Options{})
	must(b, err)
	n := 0
	for _, via := range []string{"ping", "commit"} {
		b.Run(via, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				n++
				i := n
				if via == "ping" {
					must(b, rdb.Ping(b.Context()).Err())
				} else {
					must(b, q.Commit(b.Context(), Change{Shard: i % 16, Once: strconv.Itoa(i), OnceFor: time.Minute}).Err)
				}
			}
		})
	}
}

// BenchmarkDrain claims and finishes a backlog of 1 KB jobs whose handler does nothing.
func BenchmarkDrain(b *testing.B) {
	rdb := benchRedis(b)
	q, err := Open(b.Context(), rdb, Options{})
	must(b, err)
	body := []byte(strings.Repeat("x", 1024))
	flat64(b, rdb, func(i int) {
		shard := i % 16
		must(b, q.Commit(b.Context(), Change{Shard: shard, Jobs: []Job{{ID: q.NewID("psh", shard), Lane: "push:shop", Body: body}}}).Err)
	})
	var n atomic.Int64
	ctx, cancel := context.WithCancel(b.Context())
	q.Handle("push", Group{Concurrency: 256}, func(context.Context, *Claimed) Verdict {
		if n.Add(1) == int64(b.N) {
			cancel()
		}
		return Done(nil)
	})
	before, ours := redisCPU(b, rdb), ourCPU()
	b.ResetTimer()
	b.StartTimer()
	must(b, q.Run(ctx))
	b.StopTimer()
	b.ReportMetric((redisCPU(b, rdb)-before)/float64(b.N)*1e5, "redisCPUs/100k")
	b.ReportMetric((ourCPU()-ours)/float64(b.N)*1e5, "goCPUs/100k")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "/s")
}

// BenchmarkBoth puts jobs at a fixed rate while they are claimed and finished: what a job costs in a running gateway.
func BenchmarkBoth(b *testing.B) {
	for _, rate := range []int{1000, 8000} {
		b.Run(strconv.Itoa(rate), func(b *testing.B) {
			rdb := benchRedis(b)
			q, err := Open(b.Context(), rdb, Options{})
			must(b, err)
			var n atomic.Int64
			done := make(chan struct{})
			q.Handle("push", Group{Concurrency: 256}, func(context.Context, *Claimed) Verdict {
				if n.Add(1) == int64(b.N) {
					close(done)
				}
				return Done(nil)
			})
			ctx, cancel := context.WithCancel(b.Context())
			over := make(chan error, 1)
			go func() { over <- q.Run(ctx) }()
			body := []byte(strings.Repeat("x", 1024))
			before, ours := redisCPU(b, rdb), ourCPU()
			b.ResetTimer()
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			var wg sync.WaitGroup
			begin := time.Now()
			for put := 0; put < b.N; {
				<-tick.C
				for due := min(b.N, int(time.Since(begin).Seconds()*float64(rate))+1); put < due; put++ {
					wg.Go(func() {
						shard := put % 16
						must(b, q.Commit(b.Context(), Change{Shard: shard, Jobs: []Job{{ID: q.NewID("psh", shard), Lane: "push:shop", Body: body}}}).Err)
					})
				}
			}
			wg.Wait()
			<-done
			b.StopTimer()
			b.ReportMetric((redisCPU(b, rdb)-before)/float64(b.N)*1e5, "redisCPUs/100k")
			b.ReportMetric((ourCPU()-ours)/float64(b.N)*1e5, "goCPUs/100k")
			cancel()
			must(b, <-over)
		})
	}
}
