package wechat

import (
	"context"

	oamessage "github.com/silenceper/wechat/v2/officialaccount/message"

	"github.com/silenceper/wechat/v2/miniprogram/message"
	"github.com/silenceper/wechat/v2/miniprogram/subscribe"
)

// Channel is a way to reach a user.
type Channel string

// The channels of the contract. template and uniform are withdrawn by WeChat (45103, 45109).
const (
	ChannelSubscribe       Channel = "subscribe"
	ChannelCustomerService Channel = "customer_service"
	ChannelOATemplate      Channel = "oa_template"
	ChannelTemplate        Channel = "template"
	ChannelUniform         Channel = "uniform"
)

// Payload types of the SDK under our roof, so that rooms which build a message need not know the SDK.
type (
	SubscribeMessage   = subscribe.Message
	DataItem           = subscribe.DataItem
	UniformMessage     = subscribe.UniformMessage
	CustomerMessage    = message.CustomerMessage
	OATemplateMessage  = oamessage.TemplateMessage
	OATemplateDataItem = oamessage.TemplateDataItem
)

// TemplateMessage is the withdrawn mini-program template message, which the SDK does not have.
// https://developers.weixin.qq.com/miniprogram/dev/api-backend/open-api/template-message/templateMessage.send.html
type TemplateMessage struct {
	ToUser          string               `json:"touser"`
	TemplateID      string               `json:"template_id"`
	Page            string               `json:"page,omitempty"`
	FormID          string               `json:"form_id"`
	Data            map[string]*DataItem `json:"data"`
	EmphasisKeyword string               `json:"emphasis_keyword,omitempty"`
}

// Receipt is WeChat's acceptance. MsgID is exact, above 2^53 too; "" where WeChat gives none (customer_service).
type Receipt struct{ MsgID string }

// Send posts one message. body is one of the payload types above (pointer or value) or json.RawMessage, and is posted
// without HTML escaping. A token refusal is healed and repeated once (WeChat rejected the call, so it is safe);
// nothing else is ever repeated here. Errors: *APIError (a -1 leaves the outcome unknown), ErrNoAnswer (outcome
// unknown), ErrNotLeft (nothing was sent; *TokenError is one), ErrBody, ErrUnknownApp. Ask for ErrNotLeft first.
func (c *Client) Send(ctx context.Context, app string, ch Channel, body any) (Receipt, error) {
	return Receipt{}, ErrUnknownApp
}
