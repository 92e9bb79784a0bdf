package ledger

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"
)

// Policy is what the operator decided about grants.
type Policy struct {
	Trust         string        // event: clients are only noted | client: events only prove | both (default): either grants, paired
	PairingWindow time.Duration // how far a client's word and WeChat's event about one tap may be apart; 0 = 60 s, negative = same second
	PopupReject   string        // keep (default) | clear
	UnprovenMax   int           // unproven credits a subscription may hold, at most 255; 0 = 3, negative = none. Not for trust client
}

// Subscription names a subscription, with what the caller knows about its template.
type Subscription struct {
	App, OpenID, TemplateID string
	Kind                    Kind          // "" and Unknown = keep what is known
	Every                   time.Duration // rate_limited: at most one message per Value in this time; 0 = keep what is known
	Value                   string        // rate_limited, Reserve only: the mandatory keyword's value
}

// Answer books WeChat's proven event about the user's answer: scene "popup" (subscribe_msg_popup_event) or "change"
// (subscribe_msg_change_event), status as SubscribeStatusString has it, at its CreateTime in Unix seconds (0: unknown,
// now). cause names the event: the same name again moves nothing.
func Answer(l Subscription, p Policy, status, scene, cause string, at int64) []string {
	what := causeNoted
	switch {
	case scene == "change" && strings.HasPrefix(status, "accept"):
		what = causeChangeAccept
	case scene == "change" && status == "reject":
		what = causeChangeReject
	case strings.HasPrefix(status, "accept"):
		what = causePopupAccept
	case status == "reject":
		what = causePopupReject
	}
	return []string{head(opAnswer, l, what, p.flags(), cause, max(at, 0), p.window()), l.user(), l.TemplateID}
}

// Report books what a client said wx.requestSubscribeMessage returned for the template. It may grant an unproven
// credit; cause names the report.
func Report(l Subscription, p Policy, value, cause string) []string {
	what := causeNoted
	switch {
	case strings.HasPrefix(value, "accept"):
		what = causeClientAccept
	case value == "reject":
		what = causeClientReject
	case value == "ban":
		what = causeClientBan
	case value == "filter":
		what = causeClientFilter
	}
	return p.word(l, what, cause)
}

// Setting books a client's wx.getSetting snapshot: the kept choice for the template, or "main_off", which closes the
// subscription. It never grants.
func Setting(l Subscription, p Policy, value, cause string) []string {
	what := causeNoted
	switch {
	case value == "main_off":
		what = causeSettingsOff
	case strings.HasPrefix(value, "accept"):
		what = causeSettingsAccept
	case value == "reject":
		what = causeSettingsReject
	}
	return p.word(l, what, cause)
}

// Reserve takes one credit for a message; refused with reply NoCredit or TooSoon. An open long-term subscription needs
// no credit, and with try none is needed at all: such a reservation costs nothing later. A message that holds a
// reservation, or whose credit was spent a few movements ago, agrees without moving.
func Reserve(l Subscription, messageID string, try bool) []string {
	value := ""
	if l.Value != "" {
		value = strconv.FormatUint(hash8(l.Value), 36)
	}
	flags := byte(0)
	if try {
		flags = 1
	}
	return []string{head(opReserve, l, 0, flags, messageID, l.every()), l.user(), l.TemplateID, messageID, value}
}

// Spend ends a reservation: WeChat took the message. It never refuses; without an open reservation nothing moves.
func Spend(l Subscription, messageID string) []string { return end(opSpend, l, 0, messageID) }

// Return ends a reservation: the message did not go, and its credit is free again, unless the user closed the
// subscription meanwhile. It never refuses; without an open reservation nothing moves.
func Return(l Subscription, messageID string) []string { return end(opReturn, l, 0, messageID) }

// Void ends a reservation and takes all that the subscription had, free and reserved by other messages: WeChat said
// 43101 (or 43107, as cause). The reservations of the other messages end; each must reserve again before it is sent. It
// never refuses; without an open reservation nothing moves, so that a repeat cannot take a credit granted since.
func Void(l Subscription, messageID, cause string) []string {
	what := causeWeChat43101
	if strings.HasSuffix(cause, "43107") {
		what = causeWeChat43107
	}
	return end(opVoid, l, what, messageID)
}

// SpentElsewhere books that WeChat took a message of the subscription which was not ours: one free credit is gone, if
// we count any. It never refuses; cause names WeChat's report, and the same name again moves nothing.
func SpentElsewhere(l Subscription, cause string) []string {
	return end(opElsewhere, l, causeSentElsewhere, cause)
}

// Forget deletes every subscription and the allowance of a user.
func Forget(app, openid string) []string {
	return []string{head(opForget, Subscription{}, 0, 0, ""), Subscription{App: app, OpenID: openid}.user()}
}

func end(op byte, l Subscription, what cause, messageID string) []string {
	return []string{head(op, l, what, 0, messageID), l.user(), l.TemplateID, messageID}
}

// word is what a client said.
func (p Policy) word(l Subscription, what cause, name string) []string {
	allowed := p.UnprovenMax
	if allowed == 0 {
		allowed = 3
	}
	if p.Trust == "client" {
		allowed = 255
	}
	return []string{head(opClient, l, what, p.flags(), name, 0, p.window(), int64(min(max(allowed, 0), 255))), l.user(), l.TemplateID}
}

func (p Policy) flags() (f byte) {
	if p.PopupReject == "clear" {
		f = 1
	}
	if p.Trust == "client" {
		f += 2
	}
	return f
}

// window is 1 + the pairing window in seconds; 0 says that clients are not believed.
func (p Policy) window() int64 {
	switch {
	case p.Trust == "event":
		return 0
	case p.PairingWindow == 0:
		return 61
	}
	return 1 + int64(max(p.PairingWindow, 0)/time.Second)
}

func (l Subscription) user() string { return l.App + ":" + l.OpenID }

func (l Subscription) every() int64 { return min(int64(max(l.Every, 0)/time.Second), 1<<31) }

// head is the first argument of an operation: what it is and all of its numbers, as the extension reads them.
func head(op byte, l Subscription, what cause, flags byte, name string, numbers ...int64) string {
	var buf [20]byte
	kind := byte('-')
	if k := kindNumber(l.Kind); k > 0 {
		kind = '0' + k
	}
	b := append(buf[:0], op, kind, 64+byte(what), '0'+flags)
	b = binary.BigEndian.AppendUint32(b, uint32(hash8(name)))
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	return string(b)
}

// hash8 is FNV-1a with a finish that lets every bit of the name touch every bit of the hash.
func hash8(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
