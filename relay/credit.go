package relay

import (
	"errors"
	"slices"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// Two channels need something of the user's before WeChat is asked: subscribe a credit of the line, customer_service one
// message of the allowance. Both are booked by operations in the queue's scripts, so that they move with the message or not at all. The
// other channels need nothing here (a legacy form_id lies in the pool of package binding).

// Extensions are the Lua of other packages that takes part in the queue's changes: what queue.Open must be given for the journeys to work.
func Extensions() []queue.Extension {
	return []queue.Extension{{Name: ledger.ExtensionName, Lua: ledger.Lua}, {Name: ledger.AllowanceExtension, Lua: ledger.AllowanceLua},
		{Name: binding.CountExtension, Lua: binding.CountLua}, {Name: binding.EraseExtension, Lua: binding.EraseLua}}
}

// ErrNoAllowance: the user has not written lately, or was answered as often as WeChat allows.
var ErrNoAllowance = errors.New("the user has not written lately, or was answered as often as WeChat allows")

func operation(args []string) queue.Operation {
	return queue.Operation{Extension: ledger.ExtensionName, Args: args}
}

func allowance(args []string) queue.Operation {
	return queue.Operation{Extension: ledger.AllowanceExtension, Args: args}
}

// needs tells whether a channel needs a credit or an allowance.
func needs(channel string) bool {
	return channel == ChannelSubscribe || channel == ChannelCustomerService
}

// reserve takes what channel n of the chain needs. It may refuse, and agrees again for the same message.
func (d *draft) reserve(n int, id string) []queue.Operation {
	try := d.NoCredit == "try"
	switch d.Channels[n] {
	case ChannelSubscribe:
		return []queue.Operation{operation(ledger.Reserve(d.subscription(), id, try))}
	case ChannelCustomerService:
		return []queue.Operation{allowance(ledger.TakeAllowance(d.App, d.OpenID, id, try))}
	}
	return nil
}

// spend: WeChat took the message.
func (d *draft) spend(s *progress, id string) []queue.Operation {
	switch d.Channels[s.Channel] {
	case ChannelSubscribe:
		return []queue.Operation{operation(ledger.Spend(d.subscription(), id))}
	case ChannelCustomerService:
		return []queue.Operation{allowance(ledger.UseAllowance(d.App, d.OpenID, id))}
	}
	return nil
}

// giveBack: the message did not go. Of a message that holds nothing, nothing moves.
func (d *draft) giveBack(s *progress, id string) []queue.Operation {
	switch d.Channels[s.Channel] {
	case ChannelSubscribe:
		return []queue.Operation{operation(ledger.Return(d.subscription(), id))}
	case ChannelCustomerService:
		return []queue.Operation{allowance(ledger.ReturnAllowance(d.App, d.OpenID, id))}
	}
	return nil
}

// void: WeChat says that there is nothing left, whatever we believed.
func (d *draft) void(s *progress, id, cause string) []queue.Operation {
	switch d.Channels[s.Channel] {
	case ChannelSubscribe:
		return []queue.Operation{operation(ledger.Void(d.subscription(), id, cause))}
	case ChannelCustomerService:
		return []queue.Operation{allowance(ledger.EndAllowance(d.App, d.OpenID))}
	}
	return nil
}

// parkName is where messages wait until the user gives what channel n needs.
func (d *draft) parkName(n int) string {
	if d.Channels[n] == ChannelCustomerService {
		return allowancePark(d.App, d.OpenID)
	}
	return subscriptionPark(d.subscription())
}

func subscriptionPark(l ledger.Subscription) string {
	return "l/" + l.App + "/" + l.OpenID + "/" + l.TemplateID
}

func allowancePark(app, openid string) string { return "a/" + app + "/" + openid }

// waitsOn is the channel at which a message with no_credit: hold waits: the first that needs something; -1 = none.
func (d *draft) waitsOn() int {
	if d.NoCredit != "hold" {
		return -1
	}
	return slices.IndexFunc(d.Channels, needs)
}

// triggerOf is what an act of the user allows customer service to send.
func triggerOf(app App, ev *callback.Event) (ledger.Trigger, bool) {
	official := app.Kind == wechat.KindOfficialAccount
	switch {
	case ev.MsgType == "":
	case ev.MsgType != "event":
		return ledger.TriggerMessage, true
	case ev.Event == wxEnter:
		return ledger.TriggerEnter, true
	case official && (ev.Event == wxFollow || ev.Event == "SCAN" || ev.Event == "CLICK"):
		return ledger.TriggerTouch, true
	}
	return ledger.Trigger{}, false
}
