package ledger

import (
	_ "embed"
	"fmt"
	"regexp"
	"strconv"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed state.lua
	stateLua string
	//go:embed answers.lua
	answersLua string
	//go:embed messages.lua
	messagesLua string
	//go:embed extension.lua
	extensionLua string
	//go:embed allowance.lua
	allowanceLua string
	//go:embed read.lua
	readLua string
)

// ExtensionName and AllowanceExtension are the names by which the queue knows Lua and AllowanceLua.
const (
	ExtensionName      = "ledger"
	AllowanceExtension = "allowance"
)

// Lua is the extension for the operations on subscriptions: a chunk that returns function(prefix, now_ms, A, o, n) ->
// ok, reply, as relay/queue wants it. Most calls of a queue's script carry no operation of it, so its functions are
// made at the first one.
var Lua = constants("local function begin()\n" + stateLua + answersLua + messagesLua + extensionLua + "end\n" +
	"local account\nreturn function(P, now_ms, A, o)\n  if not account then account = begin() end\n  return account(P, now_ms, A, o)\nend\n")

// AllowanceLua is the extension for the operations on allowances.
var AllowanceLua = constants(allowanceLua)

var readSubscriptions = redis.NewScript(constants(readLua))

// Operations, as the first byte of their arguments.
const (
	opAnswer    = 'a'
	opClient    = 'c'
	opReserve   = 'r'
	opSpend     = 's'
	opReturn    = 'b'
	opVoid      = 'v'
	opElsewhere = 'x'
	opForget    = 'f'

	allowGrant  = "g"
	allowTake   = "t"
	allowReturn = "b"
	allowUse    = "s"
	allowEnd    = "z"
)

// Keys below a shard's prefix; state.lua and allowance.lua say what they hold.
const (
	keyUser      = "l:"
	keyRates     = "lv:"
	keyAllowance = "la:"
	keyCodes     = "lt:code"
	keyIDs       = "lt:id"
)

// Bounds of what one user's hash may hold, in fields: a subscription has one or two. A client can name any template; an
// account of WeChat's has 50 at most, of which an event is about one.
const (
	clientFields    = 128
	eventFields     = 512
	clientTemplates = 4096 // of a shard: beyond it no client's word makes one more known
)

// constants writes the values of Go's constants into Lua, as literals: a local of the same meaning costs at each use.
func constants(lua string) string {
	says := ""
	for _, s := range causeStatus {
		says += "\\" + strconv.Itoa(s)
	}
	values := map[string]string{
		"KEY_USER": quote(keyUser), "KEY_RATES": quote(keyRates), "KEY_ALLOWANCE": quote(keyAllowance), "KEY_CODES": quote(keyCodes),
		"KEY_IDS": quote(keyIDs), "ALLOW_GRANT": quote(allowGrant), "ALLOW_TAKE": quote(allowTake), "ALLOW_RETURN": quote(allowReturn),
		"ALLOW_USE": quote(allowUse), "ALLOW_END": quote(allowEnd), "NO_ALLOWANCE": quote(NoAllowance), "SAYS": "'" + says + "'",
	}
	for name, n := range map[string]int{
		"OP_ANSWER": opAnswer, "OP_CLIENT": opClient, "OP_RESERVE": opReserve, "OP_SPEND": opSpend, "OP_RETURN": opReturn, "OP_VOID": opVoid,
		"OP_ELSEWHERE": opElsewhere, "OP_FORGET": opForget,
		"POPUP_ACCEPT": int(causePopupAccept), "CLIENT_ACCEPT": int(causeClientAccept), "CHANGE_REJECT": int(causeChangeReject),
		"SENT": int(causeSent), "RETURNED": int(causeReturned), "SETTINGS_ACCEPT": int(causeSettingsAccept), "SETTINGS_OFF": int(causeSettingsOff),
		"LATE_ACCEPT": int(causeLateAccept), "MOVED": moved, "FREE": free, "PAIRED": paired, "RECORD": recordSize, "NEAR": 5 * recordSize,
		"ALL": 6 * recordSize, "LONG_TERM": int(kindNumber(LongTerm)), "RATE_LIMITED": int(kindNumber(RateLimited)), "ACCEPTED": statusAccepted,
		"CLIENT_FIELDS": clientFields, "EVENT_FIELDS": eventFields, "CLIENT_TEMPLATES": clientTemplates,
	} {
		values[name] = strconv.Itoa(n)
	}
	return constantName.ReplaceAllStringFunc(lua, func(name string) string {
		if v, ok := values[name]; ok {
			return v
		}
		return name
	})
}

var constantName = regexp.MustCompile(`\b[A-Z][A-Z_]+\b`)

func quote(s string) string { return fmt.Sprintf("'%s'", s) }
