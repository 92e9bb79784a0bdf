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

// Errcode is one row of the table: what a code means, where it comes from and what to do. Doc is a link to WeChat's page.
type Errcode struct {
	Code               int
	Name               string
	Meaning, MeaningZH string
	Cause, CauseZH     string
	Reaction           Reaction
	Cure, CureZH       string
	Doc                string
}

// does is what the gateway does about a code, by reaction: English, 中文.
var does = map[Reaction][2]string{
	ReactionNone:        {"nothing: it has no consequence", "不处理：没有影响"},
	ReactionRetry:       {"tries again with growing pauses, few times; a send only where the user cannot get it twice", "间隔递增地重试几次；下发仅在不会重复送达时重试"},
	ReactionToken:       {"fetches another access_token and repeats the call once", "换取新的 access_token 并重试一次"},
	ReactionPermanent:   {"fails the message, returns its credit, and does not repeat it", "消息失败，退回授权次数，不重试"},
	ReactionLedger:      {"fails the message and corrects the account of consent", "消息失败，并校正订阅账本"},
	ReactionBanned:      {"fails the message, voids the credits, and alerts the operator", "消息失败，授权次数作废，并告警"},
	ReactionConfig:      {"pauses the app, alerts the operator, and probes until it works", "暂停该应用并告警，定期探测直至恢复"},
	ReactionQuotaDay:    {"waits for the next day (Beijing time), and alerts the operator", "等到次日（北京时间），并告警"},
	ReactionQuotaMinute: {"slows down and goes on in the next minute", "降低速度，下一分钟继续"},
	ReactionSerial:      {"sends again shortly: one message to a user at a time", "稍后重试：同一用户逐条下发"},
	ReactionFormID:      {"drops this form_id and takes the next", "丢弃该 form_id，换用下一个"},
	ReactionRetired:     {"fails the message, and answers channel_retired to those after it", "消息失败，之后的同类请求返回 channel_retired"},
	ReactionWait:        {"tries again later: nothing was done", "稍后重试：微信未执行"},
	ReactionUnknown:     {"fails the message and alerts the operator", "消息失败并告警"},
}

// Does says what the gateway does about the code, in English and in Chinese.
func (e Errcode) Does() (en, zh string) {
	text := does[e.Reaction]
	return text[0], text[1]
}

// Lookup returns the row of a code; for one that is not in the table a row with ReactionUnknown.
func Lookup(code int) Errcode {
	if row, ok := byCode[code]; ok {
		return row
	}
	return Errcode{
		Code: code, Name: "unknown", Reaction: ReactionUnknown, Doc: docGlobal,
		Meaning: "a code this table does not know", MeaningZH: "本表未收录的错误码",
		Cause: "a new code, or one of an API this gateway does not know", CauseZH: "新增错误码，或本网关不了解的接口",
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
