package queue

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed lanes.lua
	lanesLua string
	//go:embed commit.lua
	commitLua string
	//go:embed claim.lua
	claimLua string
	//go:embed turn.lua
	turnLua string
	//go:embed get.lua
	getLua string
	//go:embed list.lua
	listLua string
	//go:embed depths.lua
	depthsLua string
	//go:embed pause.lua
	pauseLua string
)

// noDue is the due time of what has none, in microseconds: the year 2255, and not +inf, which the in-process Redis' Lua
// cannot read.
const noDue = "9000000000000000"

// callRemembered is how long the answer to a call is known again.
const callRemembered = time.Hour

// constantsLua are the constants that Lua shares with Go.
var constantsLua = fmt.Sprintf("local NEVER, IDLE, REMEMBERED = '%s', %d, '%d'\nlocal DONE, RETRY, SNOOZE, BURY, PARK, GIVE_BACK, LAPSE = '%s', '%s', '%s', '%s', '%s', '%s', '%s'\n",
	noDue, idleLife.Milliseconds(), callRemembered.Milliseconds(), done, retry, snooze, bury, parkAgain, giveBack, lapse)

// script is Lua with its name in Redis' cache. Every one of ours has one key, a shard's prefix.
type script struct{ src, sha string }

// textLua makes a string of what pcall caught: Redis 7 raises tables, older ones and the in-process Redis strings.
const textLua = `local function text(e)
  if type(e) == 'table' then return tostring(e.err or e[1] or 'error') end
  return tostring(e)
end
`

func newScript(extensions, src string) *script {
	src = constantsLua + textLua + lanesLua + extensions + src
	sum := sha1.Sum([]byte(src))
	return &script{src: src, sha: hex.EncodeToString(sum[:])}
}

// cmd prepares a call by sha; args has [head] free places at its front.
func (s *script) cmd(ctx context.Context, key string, args []any) *redis.Cmd {
	args[0], args[1], args[2], args[3] = "evalsha", s.sha, 1, key
	return redis.NewCmd(ctx, args...)
}

// head is how many places of args [script.cmd] needs.
const head = 4

// send runs a prepared call. A Redis that does not know the script (restarted, flushed, failed over, another node) gets its
// text: a call that was refused with NOSCRIPT did nothing.
func (s *script) send(ctx context.Context, rdb redis.UniversalClient, key string, args []any) (any, error) {
	cmd := s.cmd(ctx, key, args)
	_ = rdb.Process(ctx, cmd)
	res, err := cmd.Result()
	if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		return s.eval(ctx, rdb, args)
	}
	return res, err
}

func (s *script) eval(ctx context.Context, rdb redis.UniversalClient, args []any) (any, error) {
	args[0], args[1] = "eval", s.src
	cmd := redis.NewCmd(ctx, args...)
	_ = rdb.Process(ctx, cmd)
	return cmd.Result()
}

func (s *script) run(ctx context.Context, rdb redis.UniversalClient, key string, argv ...any) (any, error) {
	return s.send(ctx, rdb, key, append(make([]any, head, head+len(argv)), argv...))
}
