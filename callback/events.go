package callback

// Event is what a push says, whatever the format and shape it came in, as far as the gateway acts on it; [Fields] has all of it.
// Texts are WeChat's own; ids are kept as texts, because they outgrow 2^53 and are not always numbers. A field that WeChat did
// not send is empty, a family that does not fit is nil.
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
	RevokeInfo string `json:",omitempty"` // "1".."20" mini-program, "201".. official account: what was taken back
}

// Payment is what proves a virtual payment's event: xpay_* (flat) and minigame_* (wrapped in MiniGame, with the content as JSON
// text in Payload). What it says is in [Fields].
// https://developers.weixin.qq.com/miniprogram/dev/platform-capabilities/business-capabilities/virtual-payment.html
// https://developers.weixin.qq.com/minigame/dev/guide/open-ability/virtual-payment/event.html
type Payment struct {
	OpenID      string `json:",omitempty"` // of the event or of its Payload
	Payload     string `json:",omitempty"` // the text that PayEventSig signs
	PayEventSig string `json:",omitempty"`
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
