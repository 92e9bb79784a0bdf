package wechat

import "sort"

// Reaction is what to do about an errcode.
type Reaction string

// The reactions. Only retry, serial, wait, form_id and the two quotas may come again by themselves.
const (
	ReactionNone        Reaction = "none"         // 0, and refusals without consequence (typing indicator)
	ReactionRetry       Reaction = "retry"        // WeChat is busy: again with backoff, few times; a send's outcome is unknown
	ReactionToken       Reaction = "token"        // the token is dead; this package has healed and retried once already
	ReactionPermanent   Reaction = "permanent"    // this request will never do
	ReactionLedger      Reaction = "ledger"       // final, and what we believed about credit or allowance was wrong
	ReactionBanned      Reaction = "banned"       // final, what the line held is worth nothing, and the operator must act
	ReactionConfig      Reaction = "config"       // the operator must act; pause the app
	ReactionQuotaDay    Reaction = "quota_day"    // until the next day (Beijing) or clear_quota
	ReactionQuotaMinute Reaction = "quota_minute" // until the next minute
	ReactionSerial      Reaction = "serial"       // another send to this openid is in flight: again shortly, one at a time
	ReactionFormID      Reaction = "form_id"      // legacy: this form id will not do, take the next
	ReactionRetired     Reaction = "retired"      // WeChat withdrew this API
	ReactionWait        Reaction = "wait"         // something that comes by itself is not there yet: again later, nothing was done
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
func Lookup(code int) Errcode {
	if row, ok := byCode[code]; ok {
		return row
	}
	return Errcode{
		Code: code, Name: "unknown", Reaction: ReactionUnknown, Doc: docGlobal,
		Meaning: "a code this table does not know", MeaningZH: "本表未收录的错误码",
		Cure:   "read WeChat's message and look the rid up (openapi/rid/get); report the code so that it gets a row",
		CureZH: "查看 errmsg，用 rid 调 openapi/rid/get 查询；请反馈该错误码以便收录",
	}
}

// Errcodes returns the whole table, by code.
func Errcodes() []Errcode {
	rows := append([]Errcode(nil), errcodes...)
	sort.Slice(rows, func(i, j int) bool { return rows[i].Code < rows[j].Code })
	return rows
}

var byCode = func() map[int]Errcode {
	m := make(map[int]Errcode, len(errcodes))
	for _, row := range errcodes {
		if _, twice := m[row.Code]; twice {
			panic("wechat: errcode listed twice: " + row.Name)
		}
		m[row.Code] = row
	}
	return m
}()

// Where WeChat documents the codes. Pages move; the host and the page names have been stable.
const (
	docs        = "https://developers.weixin.qq.com"
	docGlobal   = docs + "/doc/oplatform/Return_codes/Return_code_descriptions_new.html"
	docSend     = docs + "/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_sendmessage"
	docTemplate = docs + "/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_addwxanewtemplate"
	docCard     = docs + "/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_setusernotify"
	docLegacy   = docs + "/miniprogram/dev/api-backend/open-api/template-message/templateMessage.send.html"
	docKF       = docs + "/miniprogram/dev/server/API/kf-mgnt/kf-message/api_sendcustommessage"
	docTyping   = docs + "/miniprogram/dev/server/API/kf-mgnt/kf-message/api_typing"
	docMedia    = docs + "/miniprogram/dev/server/API/kf-mgnt/kf-message/api_uploadtempmedia"
	docOA       = docs + "/doc/service/api/notify/template/api_sendtemplatemessage.md"
	docToken    = docs + "/miniprogram/dev/server/API/mp-access-token/api_getaccesstoken"
	docStable   = docs + "/miniprogram/dev/server/API/mp-access-token/api_getstableaccesstoken"
	docIP       = docs + "/doc/oplatform/developers/basic_func/ip_whitelist.md"
	docQuota    = docs + "/miniprogram/dev/server/API/openApi-mgnt/api_getapiquota"
	docClear    = docs + "/miniprogram/dev/server/API/openApi-mgnt/api_clearquota"
	docRID      = docs + "/miniprogram/dev/server/API/openApi-mgnt/api_getridinfo"
	docCheck    = docs + "/miniprogram/dev/server/API/openApi-mgnt/api_callbackcheck"
	docThird    = docs + "/doc/oplatform/openApi/ticket-token/api_getauthorizeraccesstoken.html"
	docLogin    = docs + "/miniprogram/dev/server/API/user-login/api_code2session"
	docSession  = docs + "/miniprogram/dev/server/API/user-login/api_checksessionkey"
	docReset    = docs + "/miniprogram/dev/server/API/user-login/api_resetusersessionkey"
	docPaid     = docs + "/miniprogram/dev/server/API/user-info/basic-info/api_getpaidunionid"
	docSign     = docs + "/miniprogram/dev/server/getting_started/api_signature.html"
	docDomain   = docs + "/doc/service/Basic_Information/Interface_field_description.html"
)
