package ledger

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/testredis"
)

var eachRedis = testredis.Each

// bookScript runs the extension as relay/queue does: many moves in one script, each answering for itself.
//
// KEYS[1] prefix. ARGV[1] time in ms, then per move: number of arguments, arguments. Returns "1reply" or "0reply" per move.
var bookScript = redis.NewScript(bookScriptText)

var bookScriptText = `
local extension = (function() ` + Lua + `
end)()
local out, i = {}, 2
while ARGV[i] do
  local n = tonumber(ARGV[i])
  local ok, reply = extension(KEYS[1], ARGV[1], ARGV, i, n)
  i = i + n + 1
  out[#out + 1] = (ok and '1' or '0') .. reply
end
return out`

const (
	testPrefix = "wx:{s07}:"
	testBegin  = 1_700_000_000 // Unix s
)

// bench is an account under test: moves at a time the test says.
type bench struct {
	t   testing.TB
	rdb redis.UniversalClient
	now int64 // Unix s
	p   Policy
	l   Subscription
}

func newBench(t testing.TB, rdb redis.UniversalClient) *bench {
	return &bench{t: t, rdb: rdb, now: testBegin, l: Subscription{App: "shop", OpenID: "oABCDEFGHIJKLMNOPQRSTUVWXYZ01", TemplateID: "tpl-1", Kind: OneTime}}
}

func (b *bench) raw(moves ...[]string) []string {
	args := []any{b.now * 1000}
	for _, m := range moves {
		args = append(args, len(m))
		for _, a := range m {
			args = append(args, a)
		}
	}
	out, err := bookScript.Run(context.Background(), b.rdb, []string{testPrefix}, args...).StringSlice()
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// book runs one operation that must be agreed to.
func (b *bench) book(args []string) Reply {
	out := b.raw(args)[0]
	if out[0] != '1' {
		b.t.Fatalf("%q refused: %s", args, out[1:])
	}
	r, err := ParseReply(out[1:])
	if err != nil {
		b.t.Fatalf("%q: %v", out, err)
	}
	return r
}

// refused runs one operation and gives the reason it was refused for, "" when it was not.
func (b *bench) refused(args []string) string {
	out := b.raw(args)[0]
	if out[0] == '1' {
		return ""
	}
	return out[1:]
}

func (b *bench) ledger() *Ledger {
	return New(b.rdb, func(string, string) string { return testPrefix })
}

func (b *bench) line() Statement {
	st, err := b.ledger().Get(context.Background(), b.l.App, b.l.OpenID, b.l.TemplateID)
	if err != nil {
		b.t.Fatal(err)
	}
	return st
}

// show is a reply as the tables write it.
func show(r Reply) string {
	return fmt.Sprintf("%d %d %d %s", r.Delta, r.Credits, r.Reserved, r.Status)
}

func (b *bench) pass(d time.Duration) { b.now += int64(d / time.Second) }
