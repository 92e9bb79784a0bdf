package wechat

// Reaction is what to do about an errcode.
type Reaction string

const (
	ReactionNone        Reaction = "none"         // 0, and refusals without consequence (typing indicator)
	ReactionRetry       Reaction = "retry"        // WeChat is busy: again with backoff, few times; a send's outcome is unknown
	ReactionToken       Reaction = "token"        // the token is dead; this package has healed and retried once already
	ReactionPermanent   Reaction = "permanent"    // this request will never do
	ReactionLedger      Reaction = "ledger"       // final, and what we believed about credit or allowance was wrong
	ReactionConfig      Reaction = "config"       // the operator must act; pause the app
	ReactionQuotaDay    Reaction = "quota_day"    // until the next day (Beijing) or clear_quota
	ReactionQuotaMinute Reaction = "quota_minute" // until the next minute
	ReactionSerial      Reaction = "serial"       // another send to this openid is in flight: again shortly, one at a time
	ReactionFormID      Reaction = "form_id"      // legacy: this form id will not do, take the next
	ReactionRetired     Reaction = "retired"      // WeChat withdrew this API
	ReactionWait        Reaction = "wait"         // something WeChat brings by itself is missing: again later
	ReactionUnknown     Reaction = "unknown"      // not in the table: final and loud
)

// Errcode is one row of the table: what a code means and what to do. Doc is a link to WeChat's page.
type Errcode struct {
	Code               int
	Name               string
	Meaning, MeaningZH string
	Reaction           Reaction
	Cure, CureZH       string
	Doc                string
}

// Lookup returns the row of a code; for one that is not in the table a row with ReactionUnknown.
func Lookup(code int) Errcode { return Errcode{Code: code, Reaction: ReactionUnknown} }

// Errcodes returns the whole table, by code.
func Errcodes() []Errcode { return nil }
