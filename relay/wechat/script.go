package wechat

import (
	_ "embed" // the scripts
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// changesKept is how many changes of a token are remembered.
const changesKept = 20

// constants are given to the scripts in the place of their names.
var constants = strings.NewReplacer(
	"HASH_KEPT", "172800000", // 2 days in ms: an app that nobody uses is forgotten
	"LOG_KEPT", "2592000000", // 30 days in ms
	"LOG_LENGTH", fmt.Sprint(changesKept),
)

var (
	//go:embed token.lua
	tokenLua string
	//go:embed token_lease.lua
	leaseLua string
	//go:embed token_store.lua
	storeLua string
	//go:embed token_fail.lua
	failLua string
	//go:embed token_report.lua
	reportLua string
	//go:embed token_force.lua
	forceLua string
	//go:embed token_read.lua
	readLua string
	//go:embed grant.lua
	grantLua string
	//go:embed quota.lua
	quotaLua string
)

var (
	leaseScript  = tokenScript(leaseLua)
	storeScript  = tokenScript(storeLua)
	failScript   = tokenScript(failLua)
	reportScript = tokenScript(reportLua)
	forceScript  = tokenScript(forceLua)
	readScript   = tokenScript(readLua)
	grantScript  = redis.NewScript(grantLua)
	quotaScript  = redis.NewScript(quotaLua)
)

func tokenScript(body string) *redis.Script {
	return redis.NewScript(constants.Replace(tokenLua) + constants.Replace(body))
}
