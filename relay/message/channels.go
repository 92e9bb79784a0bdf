package message

import (
	"encoding/json"
	"slices"
)

// With a list of channels, what differs from the message's own fields stands under the channel's name: the fields of
// its channel only. What is not given there is the message's own.

// SubscribeFields are what a list of channels may say for this one alone.
type SubscribeFields struct {
	TemplateID       *string `json:"template_id"`
	Page             *string `json:"page"`
	Data             Data    `json:"data"`
	Lang             *string `json:"lang"`
	MiniprogramState *string `json:"miniprogram_state"`
	Truncate         *bool   `json:"truncate"`
}

// CustomerServiceFields are what a list of channels may say for this one alone.
type CustomerServiceFields struct {
	MsgType         *string         `json:"msgtype"`
	Text            json.RawMessage `json:"text"`
	Image           json.RawMessage `json:"image"`
	Link            json.RawMessage `json:"link"`
	MiniprogramPage json.RawMessage `json:"miniprogrampage"`
}

// OATemplateFields are what a list of channels may say for this one alone.
type OATemplateFields struct {
	App         *string         `json:"app"` // the official account, when the message is by a mini-program
	TemplateID  *string         `json:"template_id"`
	Page        *string         `json:"page"` // a message of the account leads where url and miniprogram say
	Data        Data            `json:"data"`
	URL         *string         `json:"url"`
	Miniprogram json.RawMessage `json:"miniprogram"`
}

// TemplateFields are what a list of channels may say for this one alone.
type TemplateFields struct {
	TemplateID      *string `json:"template_id"`
	Page            *string `json:"page"`
	Data            Data    `json:"data"`
	FormID          *string `json:"form_id"`
	EmphasisKeyword *string `json:"emphasis_keyword"`
	Color           *string `json:"color"`
}

// UniformFields are what a list of channels may say for this one alone.
type UniformFields struct {
	WeappTemplateMsg json.RawMessage `json:"weapp_template_msg"`
	MpTemplateMsg    json.RawMessage `json:"mp_template_msg"`
}

// AliasOrFields is what stands under `template`: a string is an alias of the config, an object the fields of that
// channel.
type AliasOrFields struct {
	Alias  string
	Fields *TemplateFields
}

func (t *AliasOrFields) readJSON(d *decoder, depth int) {
	switch {
	case d.null():
	case d.s[d.i] == '{':
		t.Fields = new(TemplateFields)
		d.into(t.Fields, 0, depth)
	default:
		t.Alias, _ = d.stringOf(depth)
	}
}

func give[T any](to *T, v *T) {
	if v != nil {
		*to = *v
	}
}

func giveRaw(to *json.RawMessage, v json.RawMessage) {
	if present(v) != nil {
		*to = v
	}
}

// giveData: the channel's keywords stand in the place of the message's, not among them.
func giveData(to *Data, v Data) {
	if v != nil {
		*to = v
	}
}

// forChannel is the message as one channel has it.
func (q Request) forChannel(ch string) Request {
	switch ch {
	case ChannelSubscribe:
		if p := q.Subscribe; p != nil {
			give(&q.TemplateID, p.TemplateID)
			give(&q.Page, p.Page)
			giveData(&q.Data, p.Data)
			give(&q.Lang, p.Lang)
			give(&q.MiniprogramState, p.MiniprogramState)
			give(&q.Truncate, p.Truncate)
		}
	case ChannelCustomerService:
		if p := q.CustomerService; p != nil {
			give(&q.MsgType, p.MsgType)
			giveRaw(&q.Text, p.Text)
			giveRaw(&q.Image, p.Image)
			giveRaw(&q.Link, p.Link)
			giveRaw(&q.MiniprogramPage, p.MiniprogramPage)
		}
	case ChannelOATemplate:
		if p := q.OATemplate; p != nil {
			give(&q.App, p.App)
			give(&q.TemplateID, p.TemplateID)
			giveData(&q.Data, p.Data)
			give(&q.URL, p.URL)
			giveRaw(&q.Miniprogram, p.Miniprogram)
		}
	case ChannelTemplate:
		if p := q.Template.Fields; p != nil {
			give(&q.TemplateID, p.TemplateID)
			give(&q.Page, p.Page)
			giveData(&q.Data, p.Data)
			give(&q.FormID, p.FormID)
			give(&q.EmphasisKeyword, p.EmphasisKeyword)
			give(&q.Color, p.Color)
		}
	case ChannelUniform:
		if p := q.Uniform; p != nil {
			giveRaw(&q.WeappTemplateMsg, p.WeappTemplateMsg)
			giveRaw(&q.MpTemplateMsg, p.MpTemplateMsg)
		}
	}
	return q
}

// checkForeign notes what only channels could use that are not asked for: nobody would ever read it. With a list of
// channels, what one of them uses may stand by the others.
func (q *Request) checkForeign(f *Issues, asked []string) {
	for _, ch := range asked {
		if !slices.Contains(Channels, ch) {
			return // noted by Build; whose fields these are cannot be said
		}
	}
	for _, c := range []struct {
		field   string
		given   bool
		channel string
	}{
		{"subscribe", q.Subscribe != nil, ChannelSubscribe},
		{"customer_service", q.CustomerService != nil, ChannelCustomerService},
		{"msgtype", q.MsgType != "", ChannelCustomerService},
		{"text", present(q.Text) != nil, ChannelCustomerService},
		{"image", present(q.Image) != nil, ChannelCustomerService},
		{"link", present(q.Link) != nil, ChannelCustomerService},
		{"miniprogrampage", present(q.MiniprogramPage) != nil, ChannelCustomerService},
		{"oa_template", q.OATemplate != nil, ChannelOATemplate},
		{"url", q.URL != "", ChannelOATemplate},
		{"miniprogram", present(q.Miniprogram) != nil, ChannelOATemplate},
		{"template", q.Template.Fields != nil, ChannelTemplate},
		{"form_id", q.FormID != "", ChannelTemplate},
		{"emphasis_keyword", q.EmphasisKeyword != "", ChannelTemplate},
		{"color", q.Color != "", ChannelTemplate},
		{"uniform", q.Uniform != nil, ChannelUniform},
		{"weapp_template_msg", present(q.WeappTemplateMsg) != nil, ChannelUniform},
		{"mp_template_msg", present(q.MpTemplateMsg) != nil, ChannelUniform},
	} {
		if c.given && !slices.Contains(asked, c.channel) {
			f.Add(c.field, "belongs to the channel "+c.channel+", which is not asked for")
		}
	}
	if !slices.Contains(asked, ChannelSubscribe) { // it uses all that channels share
		q.checkShared(f, asked)
	}
}

func (q *Request) checkShared(f *Issues, asked []string) {
	blame := func(given bool, field, reason string) {
		if given {
			f.Add(field, reason)
		}
	}
	const only = "belongs to the channel subscribe, which is not asked for"
	blame(q.Lang != "", "lang", only)
	blame(q.MiniprogramState != "", "miniprogram_state", only)
	blame(q.Truncate, "truncate", only)
	if slices.Contains(asked, ChannelOATemplate) || slices.Contains(asked, ChannelTemplate) {
		return // they use the others; a page beside oa_template is let be (see OATemplateFields)
	}
	const none = "belongs to the channels subscribe, oa_template and template, none of which is asked for"
	blame(q.Template.Alias != "", "template", none)
	blame(q.TemplateID != "", "template_id", none)
	blame(q.Page != "", "page", none)
	blame(len(q.Data) > 0, "data", none)
}
