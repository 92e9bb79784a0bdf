package relay

import (
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// What the servers need of the packages behind the journeys, under the names they have there.
type (
	Queue            = queue.Queue
	WeChatClient     = wechat.Client
	Health           = webhook.Health
	Condition        = webhook.Condition
	Verifier         = webhook.Verifier
	Secret           = webhook.Secret
	Claim            = webhook.Claim
	Cause            = webhook.Cause
	IdempotencyStore = webhook.IdempotencyStore
	Answer           = webhook.Answer
)

// CauseSecret and CausePayload are values of Cause.
const (
	CauseSecret  = webhook.CauseSecret
	CausePayload = webhook.CausePayload
)

// ErrNotLeft and ErrNotPassable are why a call to WeChat was not made: see [wechat.ErrNotLeft] and [wechat.ErrBody].
var (
	ErrNotLeft     = wechat.ErrNotLeft
	ErrNotPassable = wechat.ErrBody
)

// ReadClaim reads who signed a request: see [webhook.ReadClaim].
var ReadClaim = webhook.ReadClaim
