package message

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Request is what a partner asks: one message to one user. Fields of WeChat keep WeChat's names. With a list of
// channels, what differs stands under the channel's name.
type Request struct {
	App              string          `json:"app"`
	To               To              `json:"to"`
	Channel          OneOrMany       `json:"channel"`
	TemplateID       string          `json:"template_id"`
	Page             string          `json:"page"`
	Data             Data            `json:"data"`
	Lang             string          `json:"lang"`
	MiniprogramState string          `json:"miniprogram_state"`
	NoCredit         string          `json:"no_credit"`
	OnUnknown        string          `json:"on_unknown"`
	SendAt           *string         `json:"send_at"`    // RFC 3339
	ExpiresAt        *string         `json:"expires_at"` // RFC 3339
	Metadata         json.RawMessage `json:"metadata"`
	Priority         string          `json:"priority"`
	Truncate         bool            `json:"truncate"`
	SupersedeKey     string          `json:"supersede_key"`

	MsgType         string          `json:"msgtype"`
	Text            json.RawMessage `json:"text"`
	Image           json.RawMessage `json:"image"`
	Link            json.RawMessage `json:"link"`
	MiniprogramPage json.RawMessage `json:"miniprogrampage"`

	FormID          string `json:"form_id"`
	EmphasisKeyword string `json:"emphasis_keyword"`
	Color           string `json:"color"`

	URL         string          `json:"url"`
	Miniprogram json.RawMessage `json:"miniprogram"`

	WeappTemplateMsg json.RawMessage `json:"weapp_template_msg"`
	MpTemplateMsg    json.RawMessage `json:"mp_template_msg"`

	// With a list of channels: what differs from the fields above. Template may also be an alias of the config
	// ("order_shipped").
	Subscribe       *SubscribeFields       `json:"subscribe"`
	CustomerService *CustomerServiceFields `json:"customer_service"`
	OATemplate      *OATemplateFields      `json:"oa_template"`
	Template        AliasOrFields          `json:"template"`
	Uniform         *UniformFields         `json:"uniform"`

	issues Issues // what Parse found; Build names them with its own
}

// To names the user: exactly one of them.
type To struct {
	OpenID   string `json:"openid"`
	User     string `json:"user"`
	UnionID  string `json:"unionid"`
	Audience string `json:"audience"`
}

// OnlyAudience tells whether it names an audience and nobody else.
func (t To) OnlyAudience() bool { return t.Audience != "" && t == To{Audience: t.Audience} }

// OneOrMany is a string or a list of strings.
type OneOrMany []string

const maxChannels = 16

func (o *OneOrMany) readJSON(d *decoder, depth int) {
	switch {
	case d.null():
	case d.s[d.i] == '[':
		d.into((*[]string)(o), maxChannels, depth)
	default:
		if s, ok := d.stringOf(depth); ok {
			*o = OneOrMany{s}
		}
	}
}

// Parse reads a request. What is unknown, given twice or no Unicode text in it is named by [Build], together with
// what is wrong with its values. The error is a *[Malformed].
func Parse(body []byte) (Request, error) { return parse(string(body), MaxIssues) }

func parse(body string, limit int) (q Request, err error) {
	d := decoder{s: body, limit: limit}
	issues, err := d.whole(&q)
	q.issues = slices.Clip(issues)
	return q, err
}

// Channels are those asked for; subscribe when none is named.
func (q *Request) Channels() []string {
	if len(q.Channel) == 0 {
		return []string{ChannelSubscribe}
	}
	return q.Channel
}

// Asks tells whether the request may go by a channel.
func (q *Request) Asks(channel string) bool { return slices.Contains(q.Channels(), channel) }

// TemplateOf is the template of a channel, once Resolve has put in what an alias means.
func (q *Request) TemplateOf(channel string) string { return q.forChannel(channel).TemplateID }

// Account is the app by which oa_template goes.
func (q *Request) Account() string { return q.forChannel(ChannelOATemplate).App }

// At is the path of a channel's field: under the channel's name when there is a list of them.
func (q *Request) At(channel, field string) string {
	if len(q.Channel) > 1 {
		return channel + "." + field
	}
	return field
}

// Alias is a template under a name of the operator's.
type Alias struct {
	TemplateID string
	Page       string            // when the message has none
	Data       map[string]string // the partner's field -> the template's keyword
}

// Resolve puts the template's id and keywords in place of an alias and the partner's own field names. aliases are
// those of the app; known tells whether the app is.
func (q *Request) Resolve(aliases map[string]Alias, known bool) {
	name := q.Template.Alias
	if name == "" {
		return
	}
	alias, ok := aliases[name]
	if q.TemplateID != "" {
		q.issues.Add("template_id", "stands beside the alias in template: give one of them")
	}
	switch {
	case !known: // it cannot be looked up, but is not missing either
		q.TemplateID = orElse(q.TemplateID, name)
		return
	case !ok:
		q.issues.Add("template", fmt.Sprintf("%q is not an alias of this app: see apps[].templates in the config", name))
		return
	case q.TemplateID != "":
		return
	}
	q.TemplateID = alias.TemplateID
	if q.Page == "" {
		q.Page = alias.Page
	}
	data := slices.Clone(q.Data)
	for i := range data {
		if keyword, ok := alias.Data[data[i].Name]; ok {
			data[i].Name = keyword
		}
		if _, twice := data[:i].Get(data[i].Name); twice {
			q.issues.Add("data."+data[i].Name, "given twice: by its own name and by the alias's")
		}
	}
	q.Data = data
}

func orElse(v, def string) string {
	if v == "" {
		return def
	}
	return v
}

// Faulty tells whether Parse found something wrong with a field.
func (q *Request) Faulty(field string) bool { return q.issues.Has(field) }
