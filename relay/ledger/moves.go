package ledger

import "time"

// RiderName is the name the queue knows this room's Lua by.
const RiderName = "ledger"

// Lua is the rider.
var Lua = `return function(prefix, now_ms, args) return true, "" end`

// Policy is what the operator decided about grants.
type Policy struct {
	Trust         string        // event | client | both (default)
	PairingWindow time.Duration // how far a client's word and WeChat's event about one tap may be apart; default 60 s
	PopupReject   string        // keep (default) | clear
	UnprovenMax   int           // unproven credits a line may hold; default 3, negative = none
}

// Line names a line, with what the caller knows about its template.
type Line struct {
	App, OpenID, TemplateID string
	Kind                    Kind          // "" = keep what is known
	Every                   time.Duration // rate_limited: at most one message per Value in this time; 0 = keep what is known
	Value                   string        // rate_limited, Reserve only: the mandatory keyword's value
}

// Answer books WeChat's proven event about the user's answer.
func Answer(l Line, p Policy, status, scene, cause string, at int64) []string { return nil }

// Report books what a client said wx.requestSubscribeMessage returned.
func Report(l Line, p Policy, value, cause string) []string { return nil }

// Setting books a client's wx.getSetting snapshot.
func Setting(l Line, p Policy, value, cause string) []string { return nil }

// Reserve takes one credit for a message; refused with reply NoCredit.
func Reserve(l Line, messageID string, try bool) []string { return nil }

// Spend ends a reservation: WeChat took the message.
func Spend(l Line, messageID string) []string { return nil }

// Return ends a reservation: the message did not go.
func Return(l Line, messageID string) []string { return nil }

// Void ends a reservation and zeroes the line: WeChat said 43101.
func Void(l Line, messageID, cause string) []string { return nil }

// Forget deletes every line of a user; the reply lists the template ids, read by ParseForgotten.
func Forget(app, openid string) []string { return nil }

// SetKind books only what is known about a template; it moves no credit.
func SetKind(l Line) []string { return nil }

// NoCredit is the reply of a refused Reserve; TooSoon that of a rate-limited line within its period.
const (
	NoCredit = "no_credit"
	TooSoon  = "too_soon"
)

// Reply is what one move answered.
type Reply struct {
	Delta, Credits, Reserved int
	Status, Kind             string
	Changed                  bool
	Cause                    string
	LongTerm                 bool
}

// ParseReply reads the reply of any move but Forget.
func ParseReply(s string) (Reply, error) { return Reply{}, nil }

// ParseForgotten reads the reply of Forget.
func ParseForgotten(s string) []string { return nil }
