package gateway

import "net/http"

// Code is the stable name of an error.
type Code string

// The codes. Each has one status, one title and a page under /problems/.
const (
	Malformed        Code = "malformed"
	Unauthorized     Code = "unauthorized"
	SessionInvalid   Code = "session_invalid"
	CodeInvalid      Code = "code_invalid"
	NotAllowed       Code = "not_allowed"
	UserBlocked      Code = "user_blocked"
	NotFound         Code = "not_found"
	MethodNotAllowed Code = "method_not_allowed"
	NoCredit         Code = "no_credit"
	IDReused         Code = "id_reused"
	InProgress       Code = "in_progress"
	TooLate          Code = "too_late"
	AlreadyBound     Code = "already_bound"
	ManagedByConfig  Code = "managed_by_config"
	NoSession        Code = "no_session"
	TicketExpired    Code = "ticket_expired"
	ChannelRetired   Code = "channel_retired"
	TooLarge         Code = "too_large"
	InvalidMessage   Code = "invalid_message"
	InvalidRequest   Code = "invalid_request"
	RateLimited      Code = "rate_limited"
	WeChatError      Code = "wechat_error"
	WeChatConfig     Code = "wechat_config"
	Unavailable      Code = "unavailable"
	Internal         Code = "internal"
)

// Entry is what is written about a code, in problems and on its page.
type Entry struct {
	Code           Code
	Status         int
	Title, TitleZH string
	Detail         string // the `detail` of a problem that has nothing more particular to say
	Cure, CureZH   string
}

var entries = func() map[Code]*Entry {
	m := make(map[Code]*Entry, len(table))
	for i := range table {
		m[table[i].Code] = &table[i]
	}
	return m
}()

// table has every code in the order of their status.
var table = []Entry{
	{Malformed, http.StatusBadRequest, "The request cannot be read", "请求无法解析",
		"the body is not the JSON this route reads",
		"Send one JSON value in UTF-8 with the documented types; `errors` and `detail` say where reading stopped. Nothing was done.",
		"请发送一个 UTF-8 编码、字段类型与文档一致的 JSON；errors 与 detail 指出出错的位置。请求没有产生任何效果。"},
	{Unauthorized, http.StatusUnauthorized, "The signature proves nothing", "签名无效",
		"the partner, the signature or the timestamp is not right",
		"Sign with the partner's current secret over `id.timestamp.payload`; for routes other than POST messages and POST messages/batch the payload is `METHOD target`, a line feed, then the body. Check the clock: five minutes either way. For safety all causes look alike.",
		"请用合作方当前的密钥对 id.timestamp.payload 签名；除 POST messages 与 POST messages/batch 外，payload 为“方法 空格 请求目标 换行 正文”。请检查时钟，误差不得超过 5 分钟。出于安全考虑，各种原因的回答完全相同。"},
	{SessionInvalid, http.StatusUnauthorized, "The session is over", "会话无效或已过期",
		"the session is unknown or over",
		"Call wx.login and POST the code to login, then repeat the request with the new session as `Authorization: Bearer <session>`.",
		"请重新调用 wx.login，把 code 提交到 login，再用新的会话（Authorization: Bearer）重试。"},
	{CodeInvalid, http.StatusUnauthorized, "The login code is used or wrong", "登录凭证无效",
		"WeChat does not accept the code",
		"A code is good for one use within five minutes: call wx.login again and send the new one at once.",
		"code 五分钟内有效且只能用一次：请重新调用 wx.login 并立即提交新的 code。"},
	{NotAllowed, http.StatusForbidden, "Not given to this partner", "没有权限",
		"this partner is not given that app or that right",
		"The operator lists under `partners[].apps` and `partners[].allow` what a partner may do.",
		"合作方可用的应用与权限由运营者在配置 partners[].apps 与 partners[].allow 中列出。"},
	{UserBlocked, http.StatusForbidden, "WeChat blocks this user's login", "微信拦截了该用户的登录",
		"WeChat holds the user for a high risk (errcode 40226)",
		"Nothing to repeat: WeChat decides. The user can appeal inside WeChat.",
		"微信判定该用户风险等级高（errcode 40226），重试无效；用户可在微信内申诉。"},
	{NotFound, http.StatusNotFound, "Nothing there", "不存在",
		"nothing is there under this name",
		"Check the path, the method and the id; ended messages and deliveries are forgotten after the operator's retention time.",
		"请检查路径、方法与 id；已结束的消息和投递在保留期之后会被清除。"},
	{MethodNotAllowed, http.StatusMethodNotAllowed, "Not with this method", "不支持该请求方法",
		"this path exists, but not with this method; the header Allow lists its methods",
		"Use one of the methods in the header `Allow`.",
		"请使用响应头 Allow 中列出的方法。"},
	{NoCredit, http.StatusConflict, "The user has no subscription left", "用户没有剩余的订阅次数",
		"the user has no subscription left for this template",
		"Ask the user again with wx.requestSubscribeMessage, or send with `no_credit: hold` to wait for the next accept. With `Retry-After` the template may only be sent so often: repeat then.",
		"请用 wx.requestSubscribeMessage 再次征得用户同意，或以 no_credit: hold 等待用户下一次同意。带 Retry-After 时是该模板的下发频率限制，请到时再发。"},
	{IDReused, http.StatusConflict, "This webhook-id stands for another request", "webhook-id 已用于另一个请求",
		"the same webhook-id came before with another method, path or body",
		"One id for one request: repeat a request exactly as it was, or use a new id.",
		"一个 webhook-id 只能对应一个请求：重试时请原样重发，新请求请使用新的 id。"},
	{InProgress, http.StatusConflict, "The first request with this id is still in hand", "相同 id 的请求仍在处理中",
		"the same request is being answered right now",
		"Wait for `Retry-After` and repeat the request unchanged: you will get the first one's answer.",
		"请等待 Retry-After 所示的秒数后原样重试，届时会得到第一次请求的结果。"},
	{TooLate, http.StatusConflict, "Too late for that", "为时已晚",
		"it is already on its way or at its end",
		"Only what is scheduled, held or queued can be cancelled; only what is buried or ended can be replayed. Read its state again.",
		"只有处于 scheduled、held 或 queued 的消息可以取消，只有已结束或已埋葬的投递可以重放。请重新查询其状态。"},
	{AlreadyBound, http.StatusConflict, "Bound to somebody else", "已绑定到其他用户",
		"the user or the openid is bound to somebody else",
		"DELETE the old binding first, then bind again with a new ticket.",
		"请先删除原有的绑定，再用新的 ticket 重新绑定。"},
	{NoSession, http.StatusConflict, "The user has to log in again", "用户需要重新登录",
		"no session_key is kept for this user, or not the one in use",
		"Have the mini-program call wx.login and POST the code to login, then repeat the request with data that was got after it.",
		"请让小程序重新调用 wx.login 并把 code 提交到 login，然后用此后取得的数据重试。"},
	{ManagedByConfig, http.StatusConflict, "The endpoint stands in the config", "该端点由配置文件管理",
		"this endpoint stands in the operator's config and is changed there",
		"It can be read, tested, enabled and disabled here. Ask the operator to change it, or make an endpoint of another id.",
		"在这里可以查看、测试、启用和停用该端点。如需修改请联系运维人员，或使用其他 id 新建端点。"},
	{TicketExpired, http.StatusGone, "The ticket is used or over", "ticket 已使用或已过期",
		"the ticket is unknown, used or over",
		"Tickets are good once, for ten minutes: have the partner's system make a new one.",
		"ticket 十分钟内有效且只能用一次：请让合作方系统重新生成。"},
	{ChannelRetired, http.StatusGone, "WeChat has retired this channel", "微信已下线该消息通道",
		"WeChat has retired this channel (errcode 45103, 45109)",
		"Send by `subscribe` instead; repeating does not help.",
		"请改用 subscribe（订阅消息）；重试无效。"},
	{TooLarge, http.StatusRequestEntityTooLarge, "Too large", "内容过大",
		"the body or the batch is larger than the operator allows",
		"Split it; the limits are `limits.body`, `limits.proxy_body` and `limits.batch`.",
		"请拆分后再发送；上限由配置 limits.body、limits.proxy_body 与 limits.batch 决定。"},
	{InvalidMessage, http.StatusUnprocessableEntity, "The message would be refused", "消息不合规",
		"WeChat would refuse this message; every fault is listed in errors",
		"Mend the fields listed in `errors`. Nothing was reserved or queued.",
		"请按 errors 中列出的字段逐一修改。没有占用订阅次数，也没有进入队列。"},
	{InvalidRequest, http.StatusUnprocessableEntity, "The request does not fit", "请求参数有误",
		"fields are missing, unknown or do not fit; every fault is listed in errors",
		"Mend the fields listed in `errors`; unknown fields are faults, so check their spelling.",
		"请按 errors 中列出的字段逐一修改；未知字段也视为错误，请检查拼写。"},
	{RateLimited, http.StatusTooManyRequests, "Too many requests", "请求过于频繁",
		"more requests than allowed in this time",
		"Wait for `Retry-After` and repeat. With an `errcode` the limit is WeChat's (45009 per day, 45011 per minute), without one it is ours.",
		"请等待 Retry-After 所示的秒数后重试。带 errcode 时是微信的限额（45009 按日，45011 按分钟），否则是本网关的限额。"},
	{Internal, http.StatusInternalServerError, "A fault of the gateway", "网关内部错误",
		"this is a fault of the gateway; it is in the operator's log under the request_id",
		"Repeat the request under the same webhook-id; if it stays, give the operator the `request_id`.",
		"请以相同的 webhook-id 重试；若仍失败，请把 request_id 告知运营者。"},
	{WeChatError, http.StatusBadGateway, "WeChat refused or did not answer", "微信拒绝或未应答",
		"WeChat refused the call",
		"`errcode`, `errmsg` and `rid` are WeChat's own words; -1 and timeouts are worth repeating later.",
		"errcode、errmsg 与 rid 是微信的原话；-1 与超时可稍后重试。"},
	{WeChatConfig, http.StatusBadGateway, "The operator must act at WeChat", "需要运营者处理微信侧配置",
		"WeChat refuses this app until its operator acts",
		"For the operator: 40013 and 40125 are a wrong appid or secret, 40164 is an IP missing from the allow-list of the WeChat console; `wxrelay check` names the cause and the cure.",
		"运营者须知：40013、40125 为 appid 或 secret 错误，40164 为出口 IP 不在微信公众平台白名单；运行 wxrelay check 可得到原因与解决办法。"},
	{Unavailable, http.StatusServiceUnavailable, "Not available right now", "服务暂不可用",
		"the gateway cannot take this right now",
		"Wait for `Retry-After` and repeat under the same webhook-id: nothing is done twice.",
		"请等待 Retry-After 所示的秒数后以相同的 webhook-id 重试，不会重复执行。"},
}
