package ledger

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/testredis"
)

// BenchmarkGrant prints what the extension costs a real Redis (WXRELAY_TEST_REDIS), in its CPU-seconds per 100,000
// moves, above the same script calls with a extension that does nothing: popup accepts on subscriptions that exist, and
// a send's reserve and spend.
func BenchmarkGrant(b *testing.B) {
	rdb := testredis.Real(b)
	const users, batch = 20_000, 64
	load(b, rdb, 0, users, 6, bookScript)
	nothing := redis.NewScript(strings.Replace(bookScriptText, Lua, `return function() return true, '' end`, 1))
	accept := func(n, round int) [][]string {
		l := Subscription{App: "shop", OpenID: openIDOf(n), TemplateID: "zun-LzcQyW-edafCVvzPkK4de2Rllr1fFpw2A_x0oXE", Kind: OneTime}
		return [][]string{Answer(l, Policy{}, "accept", "popup", fmt.Sprintf("push:%d:%d", round, n), 1_700_000_100+int64(round))}
	}
	send := func(n, round int) [][]string {
		l := Subscription{App: "shop", OpenID: openIDOf(n), TemplateID: "zun-LzcQyW-edafCVvzPkK4de2Rllr1fFpw2A_x0oXE", Kind: OneTime}
		id := fmt.Sprintf("msg_07%d:%d", round, n)
		return [][]string{Reserve(l, id, false), Spend(l, id)}
	}
	cost := func(s *redis.Script, moves func(n, round int) [][]string, round int) float64 {
		before, count := cpuSeconds(b, rdb), 0
		for from := 0; from < users; from += batch * 16 {
			for shard := range 16 {
				args := []any{"1700000200000"}
				for n := from; n < min(from+batch*16, users); n++ {
					if n%16 == shard {
						for _, m := range moves(n, round) {
							args = put(args, m)
							count++
						}
					}
				}
				if err := s.Run(context.Background(), rdb, []string{fmt.Sprintf("wx:{s%02d}:", shard)}, args...).Err(); err != nil {
					b.Fatal(err)
				}
			}
		}
		return (cpuSeconds(b, rdb) - before) / float64(count) * 100_000
	}
	for _, c := range []struct {
		name  string
		moves func(n, round int) [][]string
	}{{"accept", accept}, {"reserve+spend", send}} {
		b.Run(c.name, func(b *testing.B) {
			var with, without float64
			round := 0
			for b.Loop() {
				round++
				without += cost(nothing, c.moves, round)
				with += cost(bookScript, c.moves, round)
			}
			b.ReportMetric((with-without)/float64(round), "extension-CPU-s/100k")
			b.ReportMetric(without/float64(round), "script-CPU-s/100k")
			b.ReportMetric(0, "ns/op")
		})
	}
}
