package ledger

import (
	"context"
	"flag"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/testredis"
)

var (
	memoryLines = flag.Int("subscriptions", 0, "subscriptions that TestMemoryPerLine loads into WXRELAY_TEST_REDIS (flushes the whole server); 0 = do not")
	memoryMoves = flag.Int("moves", 8, "movements per subscription that TestMemoryPerLine books, half of them accepts, half of them spends")
)

// memoryTarget is what a subscription with no open reservation and its last movements may cost, of Redis' used_memory,
// key and all.
const memoryTarget = 200

// TestMemoryPerLine loads users with one subscription each, over sixteen shards, through the extension, and prints what
// a subscription costs:
//
//	WXRELAY_TEST_REDIS=redis://127.0.0.1:6379/0 go test ./relay/ledger -run MemoryPerLine -v -subscriptions 1000000
func TestMemoryPerLine(t *testing.T) {
	if *memoryLines == 0 {
		t.Skip("asks for -subscriptions and WXRELAY_TEST_REDIS")
	}
	rdb := testredis.Real(t)
	ctx := context.Background()
	if err := rdb.FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	before, cpu := used(t, rdb), cpuSeconds(t, rdb)
	for from := 0; from < *memoryLines; from += 256 {
		load(t, rdb, from, min(from+256, *memoryLines), *memoryMoves, bookScript)
	}
	per := float64(used(t, rdb)-before) / float64(*memoryLines)
	t.Logf("%d subscriptions of %d movements: %.1f bytes of Redis per subscription, %.2f CPU-s per 100,000 movements", *memoryLines, *memoryMoves, per,
		(cpuSeconds(t, rdb)-cpu)/float64(*memoryLines**memoryMoves)*100_000)
	if enc := rdb.ObjectEncoding(ctx, "wx:{s01}:l:shop:"+openIDOf(1)).Val(); enc != "listpack" {
		t.Errorf("a user's subscriptions are a %s, not a listpack", enc)
	}
	if per > memoryTarget {
		t.Errorf("%.1f bytes per subscription, target %d", per, memoryTarget)
	}
	if err := rdb.FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
}

func openIDOf(n int) string { return fmt.Sprintf("o6bmjrPTlm6_2sgVt7hM%08d", n) }

// load books moves movements for each user in [from, to) of one script call: accept, reserve and spend, accept, ...
func load(t testing.TB, rdb redis.UniversalClient, from, to, moves int, s *redis.Script) {
	p := Policy{}
	for shard := range 16 {
		args := []any{time.Unix(1_700_000_000, 0).UnixMilli()}
		for n := from; n < to; n++ {
			if n%16 != shard {
				continue
			}
			l := Subscription{App: "shop", OpenID: openIDOf(n), TemplateID: "zun-LzcQyW-edafCVvzPkK4de2Rllr1fFpw2A_x0oXE", Kind: OneTime}
			for m := 0; m < moves; m += 2 {
				args = put(args, Answer(l, p, "accept", "popup", "push:"+strconv.Itoa(n)+":"+strconv.Itoa(m), 1_700_000_000+int64(m)))
				if m+1 < moves {
					id := "msg_07" + strconv.Itoa(n) + ":" + strconv.Itoa(m)
					args = put(put(args, Reserve(l, id, false)), Spend(l, id))
				}
			}
		}
		if err := s.Run(context.Background(), rdb, []string{fmt.Sprintf("wx:{s%02d}:", shard)}, args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func put(args []any, move []string) []any {
	args = append(args, len(move))
	for _, a := range move {
		args = append(args, a)
	}
	return args
}

func used(t testing.TB, rdb redis.UniversalClient) int {
	return int(infoNumber(t, rdb, "memory", `used_memory:(\d+)`))
}

func cpuSeconds(t testing.TB, rdb redis.UniversalClient) float64 {
	return infoNumber(t, rdb, "cpu", `used_cpu_user:([\d.]+)`) + infoNumber(t, rdb, "cpu", `used_cpu_sys:([\d.]+)`)
}

func infoNumber(t testing.TB, rdb redis.UniversalClient, section, pattern string) float64 {
	t.Helper()
	text, err := rdb.Info(context.Background(), section).Result()
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("INFO %s has no %s", section, pattern)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
