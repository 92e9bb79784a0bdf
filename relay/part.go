package relay

import (
	"encoding/json"
	"maps"
	"slices"
)

// With a list of channels, what differs from the message's own fields stands under the channel's name: its part. A part has
// the fields of its channel only; what it does not give is the message's own.

type subscribePart struct {
	TemplateID       *string                    `json:"template_id"`
	Page             *string                    `json:"page"`
	Data             map[string]json.RawMessage `json:"data"`
	Lang             *string                    `json:"lang"`
	MiniprogramState *string                    `json:"miniprogram_state"`
	Truncate         *bool                      `json:"truncate"`
}

type customerServicePart struct {
	MsgType         *string         `json:"msgtype"`
	Text            json.RawMessage `json:"text"`
	Image           json.RawMessage `json:"image"`
	Link            json.RawMessage `json:"link"`
	MiniprogramPage json.RawMessage `json:"miniprogrampage"`
}

type oaTemplatePart struct {
	App         *string                    `json:"app"` // the official account, when the message is by a mini-program
	TemplateID  *string                    `json:"template_id"`
	Page        *string                    `json:"page"` // a message of the account leads where url and miniprogram say
	Data        map[string]json.RawMessage `json:"data"`
	URL         *string                    `json:"url"`
	Miniprogram json.RawMessage            `json:"miniprogram"`
}

type templatePart struct {
	TemplateID      *string                    `json:"template_id"`
	Page            *string                    `json:"page"`
	Data            map[string]json.RawMessage `json:"data"`
	FormID          *string                    `json:"form_id"`
	EmphasisKeyword *string                    `json:"emphasis_keyword"`
	Color           *string                    `json:"color"`

	told faults // fields it does not have
}

type uniformPart struct {
	WeappTemplateMsg json.RawMessage `json:"weapp_template_msg"`
	MpTemplateMsg    json.RawMessage `json:"mp_template_msg"`
}

// AliasOrPart is what stands under `template`: a string is an alias of the config, an object the part of that channel.
type AliasOrPart struct {
	Alias string
	part  *templatePart
}

// UnmarshalJSON takes both forms.
func (t *AliasOrPart) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) > 0 && b[0] == '"':
		return json.Unmarshal(b, &t.Alias)
	case string(b) == "null":
		return nil
	}
	var names map[string]json.RawMessage
	if err := json.Unmarshal(b, &names); err != nil {
		return err
	}
	var f faults
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !slices.Contains([]string{"template_id", "page", "data", "form_id", "emphasis_keyword", "color"}, name) {
			f.add("template."+name, "unknown field")
			delete(names, name)
		}
	}
	if len(f) > 0 {
		b = encode(names) // in another case (Page) encoding/json would take it all the same
	}
	t.part = &templatePart{told: f}
	return json.Unmarshal(b, t.part)
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

// giveData: the part's keywords stand in the place of the message's, not among them.
func giveData(to *map[string]json.RawMessage, v map[string]json.RawMessage) {
	if v != nil {
		*to = v
	}
}

// forChannel is the message as one channel has it.
func (q SendRequest) forChannel(ch string) SendRequest {
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
		if p := q.Template.part; p != nil {
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

// checkForeign tells of what only channels could use that are not asked for: nobody would ever read it. With a list of
// channels, what one of them uses may stand by the others.
func (q *SendRequest) checkForeign(f *faults, asked []string) {
	for _, ch := range asked {
		if !slices.Contains(channels, ch) {
			return // told by compose; whose fields these are cannot be said
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
		{"template", q.Template.part != nil, ChannelTemplate},
		{"form_id", q.FormID != "", ChannelTemplate},
		{"emphasis_keyword", q.EmphasisKeyword != "", ChannelTemplate},
		{"color", q.Color != "", ChannelTemplate},
		{"uniform", q.Uniform != nil, ChannelUniform},
		{"weapp_template_msg", present(q.WeappTemplateMsg) != nil, ChannelUniform},
		{"mp_template_msg", present(q.MpTemplateMsg) != nil, ChannelUniform},
	} {
		if c.given && !slices.Contains(asked, c.channel) {
			f.add(c.field, "belongs to the channel "+c.channel+", which is not asked for")
		}
	}
	if !slices.Contains(asked, ChannelSubscribe) { // it uses all that channels share
		q.checkShared(f, asked)
	}
}

func (q *SendRequest) checkShared(f *faults, asked []string) {
	blame := func(given bool, field, reason string) {
		if given {
			f.add(field, reason)
		}
	}
	const only = "belongs to the channel subscribe, which is not asked for"
	blame(q.Lang != "", "lang", only)
	blame(q.MiniprogramState != "", "miniprogram_state", only)
	blame(q.Truncate, "truncate", only)
	if slices.Contains(asked, ChannelOATemplate) || slices.Contains(asked, ChannelTemplate) {
		return // they use the others; a page beside oa_template is let be (see oaTemplatePart)
	}
	const none = "belongs to the channels subscribe, oa_template and template, none of which is asked for"
	blame(q.Template.Alias != "", "template", none)
	blame(q.TemplateID != "", "template_id", none)
	blame(q.Page != "", "page", none)
	blame(len(q.Data) > 0, "data", none)
}
