package binding

import (
	_ "embed"

	"github.com/redis/go-redis/v9"
)

// The scripts; each file says what its KEYS, ARGV and answer are.
var (
	//go:embed replace.lua
	replaceLua string
	//go:embed remove.lua
	removeLua string
	//go:embed enter.lua
	enterLua string
	//go:embed swap.lua
	swapLua string
	//go:embed note.lua
	noteLua string
	//go:embed forget.lua
	forgetLua string
	//go:embed ticket_issue.lua
	ticketIssueLua string
	//go:embed ticket_show.lua
	ticketShowLua string
	//go:embed ticket_use.lua
	ticketUseLua string
	//go:embed session_slide.lua
	sessionSlideLua string
	//go:embed session_end.lua
	sessionEndLua string
	//go:embed pool.lua
	poolLua string
	//go:embed audience_put.lua
	audiencePutLua string
	//go:embed audience_patch.lua
	audiencePatchLua string
	//go:embed audience_snapshot.lua
	audienceSnapshotLua string
	//go:embed audience_delete.lua
	audienceDeleteLua string
	//go:embed audience_forget.lua
	audienceForgetLua string

	replaceScript          = redis.NewScript(replaceLua)
	removeScript           = redis.NewScript(removeLua)
	enterScript            = redis.NewScript(enterLua)
	swapScript             = redis.NewScript(swapLua)
	noteScript             = redis.NewScript(noteLua)
	forgetScript           = redis.NewScript(forgetLua)
	issueScript            = redis.NewScript(ticketIssueLua)
	showScript             = redis.NewScript(ticketShowLua)
	useScript              = redis.NewScript(ticketUseLua)
	sessionSlideScript     = redis.NewScript(sessionSlideLua)
	sessionEndScript       = redis.NewScript(sessionEndLua)
	poolScript             = redis.NewScript(poolLua)
	audiencePutScript      = redis.NewScript(audiencePutLua)
	audiencePatchScript    = redis.NewScript(audiencePatchLua)
	audienceSnapshotScript = redis.NewScript(audienceSnapshotLua)
	audienceDeleteScript   = redis.NewScript(audienceDeleteLua)
	audienceForgetScript   = redis.NewScript(audienceForgetLua)
)
