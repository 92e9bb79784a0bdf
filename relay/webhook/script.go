package webhook

import (
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed health.lua
	healthLua string
	//go:embed health_note.lua
	healthNoteLua string
	//go:embed health_gate.lua
	healthGateLua string
	//go:embed health_set.lua
	healthSetLua string
	//go:embed health_read.lua
	healthReadLua string
	//go:embed registry_set.lua
	registrySetLua string
	//go:embed rate.lua
	rateLua string
	//go:embed answer_keep.lua
	answerKeepLua string
	//go:embed answer_drop.lua
	answerDropLua string
)

var (
	noteScript        = redis.NewScript(healthConstants() + healthLua + healthNoteLua)
	gateScript        = redis.NewScript(healthConstants() + healthLua + healthGateLua)
	readScript        = redis.NewScript(healthConstants() + healthLua + healthReadLua)
	setScript         = redis.NewScript(healthConstants() + healthLua + healthSetLua)
	registrySetScript = redis.NewScript(registrySetLua)
	rateScript        = redis.NewScript(rateLua)
	keepScript        = redis.NewScript(answerKeepLua)
	dropScript        = redis.NewScript(answerDropLua)
)

// healthConstants gives the scripts the circuit breaker's figures; times are in ms.
func healthConstants() string {
	var b strings.Builder
	for _, c := range []struct {
		name  string
		value any
	}{
		{"PROBE_WAIT", probeWait}, {"PROBE_TIME", probeTime}, {"PROBES", probesToPass}, {"KEPT", healthKept},
		{"FIRST", benchFirst}, {"LONGEST", benchLongest}, {"SLOT", benchWindow / windowSlots}, {"SLOTS", windowSlots},
		{"AFTER", benchAfter}, {"OUT_OF", benchOutOf}, {"SHARE", benchShare},
	} {
		if d, ok := c.value.(time.Duration); ok {
			c.value = d.Milliseconds()
		}
		fmt.Fprintf(&b, "local %s = %d\n", c.name, c.value)
	}
	return b.String()
}
