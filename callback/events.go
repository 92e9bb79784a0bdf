package callback

// Event is what a push says, whatever the format and shape it came in. Texts are WeChat's own; ids are kept as texts,
// because they outgrow 2^53 and are not always numbers. A field WeChat did not send is empty, a family that does not
// fit is nil.
type Event struct {
	ToUserName   string `json:",omitempty"` // the account's original id (gh_...)
	FromUserName string `json:",omitempty"` // usually the openid; for platform notices an account of WeChat's own
	// OpenID is whom the push is about: the openid in the body where an event carries one (user_authorization_*, service
	// cards, payments), otherwise FromUserName; empty when no user is named.
	OpenID     string `json:",omitempty"`
	CreateTime int64  `json:",omitempty"` // Unix seconds at WeChat
	MsgType    string `json:",omitempty"` // "event", or the kind of message: text, image, miniprogrampage, voice ...
	Event      string `json:",omitempty"` // as WeChat spells it: subscribe_msg_popup_event, TEMPLATESENDJOBFINISH ...
	MsgID      string `json:",omitempty"` // MsgId, MsgID or msgid of the push itself
	// Doubtful is a message that is not well-formed or says something twice, as text does that a user made to look like
	// fields (WeChat has been seen to leave "]]>" in CDATA as it is). Only what its first fields say is here:
	// ToUserName, FromUserName, CreateTime, MsgType and Event, or InfoType. The rest may be a user's words: nothing
	// should be booked for it.
	Doubtful bool `json:",omitempty"`

	// Subscribes are the entries of subscribe_msg_popup_event, subscribe_msg_change_event and subscribe_msg_sent_event,
	// of mini-programs and official accounts alike.
	// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/subscribe-message.html
	// https://developers.weixin.qq.com/doc/service/guide/product/subscription_messages/push.md
	Subscribes []Subscribe `json:",omitempty"`

	// Status is the outcome in TEMPLATESENDJOBFINISH: "success", "failed:user block", "failed: system failed". The
	// spacing differs by source: compare by prefix (strings.HasPrefix).
	// https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Template_Message_Interface.html
	Status string `json:",omitempty"`
	// SessionFrom says where user_enter_tempsession came from.
	// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/customer-message/receive.html
	SessionFrom string `json:",omitempty"`
	// EventKey and Ticket come with an official account's subscribe, SCAN, CLICK and VIEW events.
	// https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Receiving_event_pushes.html
	EventKey string `json:",omitempty"`
	Ticket   string `json:",omitempty"`

	Message       *Message       `json:",omitempty"`
	Authorization *Authorization `json:",omitempty"`
	Card          *Card          `json:",omitempty"`
	Punish        *Punish        `json:",omitempty"`
	MediaCheck    *MediaCheck    `json:",omitempty"`
	Trade         *Trade         `json:",omitempty"`
	Payment       *Payment       `json:",omitempty"`
	Component     *Component     `json:",omitempty"`
}

// Subscribe is one template's entry in a subscribe event.
type Subscribe struct {
	TemplateID  string `json:",omitempty"`
	Status      string `json:",omitempty"` // SubscribeStatusString: accept or reject (popup), reject (change)
	PopupScene  string `json:",omitempty"` // popup: 0 in the mini-program, 1 H5, 2 article
	MsgID       string `json:",omitempty"` // sent: equals the msgid the send returned
	ErrorCode   string `json:",omitempty"` // sent: "0" is success
	ErrorStatus string `json:",omitempty"` // sent: "success" or WeChat's reason
}

// Message is what a user wrote: text, image, miniprogrampage (customer service), and the kinds only official accounts
// get (voice, video, shortvideo, location, link).
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/customer-message/receive.html
// https://developers.weixin.qq.com/doc/service/guide/product/message/Receiving_standard_messages.html
type Message struct {
	Content      string `json:",omitempty"`
	PicURL       string `json:",omitempty"`
	MediaID      string `json:",omitempty"`
	ThumbMediaID string `json:",omitempty"`
	ThumbURL     string `json:",omitempty"`
	Title        string `json:",omitempty"`
	AppID        string `json:",omitempty"`
	PagePath     string `json:",omitempty"`
	VoiceFormat  string `json:",omitempty"` // Format of a voice message: amr, speex
	Recognition  string `json:",omitempty"`
	LocationX    string `json:",omitempty"` // latitude
	LocationY    string `json:",omitempty"` // longitude
	Scale        string `json:",omitempty"`
	Label        string `json:",omitempty"`
	Description  string `json:",omitempty"`
	URL          string `json:",omitempty"`
}

// Authorization is what user_authorization_revoke, user_authorization_cancellation and user_info_modified tell: the
// user took back consent, closed the account, or had the profile cleaned. FromUserName is WeChat's own account there.
// https://developers.weixin.qq.com/doc/service/en/guide/h5/authorization_change.html
type Authorization struct {
	OpenID     string `json:",omitempty"`
	AppID      string `json:",omitempty"`
	RevokeInfo string `json:",omitempty"` // "1".."20" mini-program, "201".. official account: what was taken back
	PluginID   string `json:",omitempty"`
	OpenPID    string `json:",omitempty"`
}

// Card is notify_service_msg_send_result: a service card's message that could not be sent. FailRet: -10001 system,
// -10002 content check, -1003 template not added, -1004 user rejects, -1005 too frequent.
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/subscribe-message-2.html
type Card struct {
	OpenID     string `json:",omitempty"`
	NotifyCode string `json:",omitempty"`
	NotifyType string `json:",omitempty"`
	CardStatus string `json:",omitempty"`
	FailRet    string `json:",omitempty"`
	FailMsg    string `json:",omitempty"`
}

// Punish is wxa_punish_event. EventType: 1 warned, 2 function banned, 3 delisted, 4 account banned, 5 (by another
// page 10) page banned. Detail is JSON in a text, of another shape per type.
// https://developers.weixin.qq.com/miniprogram/dev/framework/security.html (事件通知/平台通知/小程序违规处罚信息通知)
type Punish struct {
	EventType      string   `json:",omitempty"`
	PunishID       string   `json:",omitempty"`
	AppID          string   `json:",omitempty"`
	PunishTime     int64    `json:",omitempty"` // Unix seconds
	IllegalReason  string   `json:",omitempty"`
	IllegalContent []string `json:",omitempty"` // documented as a text, shown as an array: both come as a list here
	Detail         string   `json:",omitempty"`
	RuleURL        string   `json:",omitempty"`
	RuleName       string   `json:",omitempty"`
	AdjustGuideURL string   `json:",omitempty"`
}

// MediaCheck is wxa_media_check: the late verdict on a picture or sound.
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/sec-center/sec-check/mediaCheckAsync.html
type MediaCheck struct {
	AppID   string       `json:",omitempty"`
	TraceID string       `json:",omitempty"`
	Version string       `json:",omitempty"`
	Suggest string       `json:",omitempty"` // result.suggest: risky, pass, review
	Label   string       `json:",omitempty"` // result.label
	Errcode string       `json:",omitempty"`
	Errmsg  string       `json:",omitempty"`
	Detail  []MediaGrade `json:",omitempty"`
}

// MediaGrade is one strategy's opinion within a [MediaCheck].
type MediaGrade struct {
	Strategy string `json:",omitempty"`
	Errcode  string `json:",omitempty"`
	Suggest  string `json:",omitempty"`
	Label    string `json:",omitempty"`
	Prob     string `json:",omitempty"`
}

// Trade is trade_manage_order_settlement, trade_manage_remind_shipping and trade_manage_remind_access_api. Times are
// Unix seconds.
// https://developers.weixin.qq.com/miniprogram/dev/platform-capabilities/business-capabilities/order-shipping/order-shipping.html
type Trade struct {
	TransactionID           string `json:",omitempty"`
	MerchantID              string `json:",omitempty"`
	SubMerchantID           string `json:",omitempty"`
	MerchantTradeNo         string `json:",omitempty"`
	PayTime                 int64  `json:",omitempty"`
	ShippedTime             int64  `json:",omitempty"`
	EstimatedSettlementTime int64  `json:",omitempty"`
	ConfirmReceiveMethod    string `json:",omitempty"` // 1 automatic, 2 by hand
	ConfirmReceiveTime      int64  `json:",omitempty"`
	SettlementTime          int64  `json:",omitempty"`
	Msg                     string `json:",omitempty"`
}

// Payment is a virtual payment's event: xpay_* (flat) and minigame_* (wrapped in MiniGame, with the content as JSON
// text in Payload). What stands in Payload is read into the same fields. Prices are in fen.
// https://developers.weixin.qq.com/miniprogram/dev/platform-capabilities/business-capabilities/virtual-payment.html
// https://developers.weixin.qq.com/minigame/dev/guide/open-ability/virtual-payment/event.html
type Payment struct {
	OpenID        string `json:",omitempty"`
	OutTradeNo    string `json:",omitempty"`
	Env           string `json:",omitempty"` // 0 live, 1 sandbox
	ProductID     string `json:",omitempty"` // GoodsInfo
	ZoneID        string `json:",omitempty"` // GoodsInfo
	Quantity      int64  `json:",omitempty"` // GoodsInfo or CoinInfo
	OrigPrice     int64  `json:",omitempty"` // GoodsInfo or CoinInfo
	ActualPrice   int64  `json:",omitempty"` // GoodsInfo or CoinInfo
	Attach        string `json:",omitempty"` // GoodsInfo or CoinInfo
	OrderSource   string `json:",omitempty"` // GoodsInfo
	MchOrderNo    string `json:",omitempty"` // WeChatPayInfo
	TransactionID string `json:",omitempty"` // WeChatPayInfo
	PaidTime      int64  `json:",omitempty"` // WeChatPayInfo, Unix seconds
	IsMock        bool   `json:",omitempty"` // a push from the console's test button: check the fields, do nothing
	Payload       string `json:",omitempty"` // the text PayEventSig signs
	PayEventSig   string `json:",omitempty"`
}

// Component is what WeChat tells a third-party platform; the push has InfoType in place of MsgType and Event.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/ThirdParty/token/component_verify_ticket.html
type Component struct {
	InfoType                     string `json:",omitempty"` // component_verify_ticket, authorized, updateauthorized, unauthorized ...
	AppID                        string `json:",omitempty"` // the platform's own
	ComponentVerifyTicket        string `json:",omitempty"`
	AuthorizerAppID              string `json:",omitempty"`
	AuthorizationCode            string `json:",omitempty"`
	AuthorizationCodeExpiredTime int64  `json:",omitempty"` // Unix seconds
	PreAuthCode                  string `json:",omitempty"`
}
