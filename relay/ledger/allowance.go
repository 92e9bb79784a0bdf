package ledger

import (
	_ "embed"
	"strconv"
	"time"
)

// Customer service messages need no subscription but a word of the user: each trigger allows some messages for some
// time. Triggers do not add up; of two, the larger count and the later end hold.
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/customer-message/send.html

// NoAllowance is the reply of a refused [TakeAllowance].
const NoAllowance = "no_allowance"

// Trigger is what an act of the user allows.
type Trigger struct {
	Messages int
	For      time.Duration
}

// What WeChat's documents allow.
var (
	TriggerMessage = Trigger{5, 48 * time.Hour} // the user wrote
	TriggerEnter   = Trigger{2, time.Minute}    // the user opened the chat of a mini-program
	TriggerTouch   = Trigger{3, time.Minute}    // the user followed, scanned or tapped a menu of an official account
)

// GrantAllowance books a trigger at its time in Unix seconds (0: unknown, now).
func GrantAllowance(app, openid string, t Trigger, at int64) []string {
	return []string{allowGrant, Subscription{App: app, OpenID: openid}.user(), strconv.Itoa(t.Messages), strconv.FormatInt(t.For.Milliseconds(), 10),
		strconv.FormatInt(max(at, 0)*1000, 10)}
}

// TakeAllowance takes one message of the user's allowance; refused with reply NoAllowance, unless try. The same message
// takes one only.
func TakeAllowance(app, openid, messageID string, try bool) []string {
	flag := "0"
	if try {
		flag = "1"
	}
	return []string{allowTake, Subscription{App: app, OpenID: openid}.user(), messageID, flag}
}

// ReturnAllowance gives back what a message took: it did not go. It never refuses.
func ReturnAllowance(app, openid, messageID string) []string {
	return []string{allowReturn, Subscription{App: app, OpenID: openid}.user(), messageID}
}

// UseAllowance ends what a message took: it went. It never refuses.
func UseAllowance(app, openid, messageID string) []string {
	return []string{allowUse, Subscription{App: app, OpenID: openid}.user(), messageID}
}

// EndAllowance leaves nothing until the user's next trigger: WeChat said 45015 or 45047. It never refuses.
func EndAllowance(app, openid string) []string {
	return []string{allowEnd, Subscription{App: app, OpenID: openid}.user()}
}
