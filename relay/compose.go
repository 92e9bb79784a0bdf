package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// Channels by which a message may go.
const (
	ChannelSubscribe       = "subscribe"
	ChannelCustomerService = "customer_service"
	ChannelOATemplate      = "oa_template"
	ChannelTemplate        = "template" // legacy; WeChat answers 45103
	ChannelUniform         = "uniform"  // legacy; WeChat answers 45109
)

var channels = []string{ChannelSubscribe, ChannelCustomerService, ChannelOATemplate, ChannelTemplate, ChannelUniform}

// SendRequest is what a partner asks: one message to one user. Fields of WeChat keep WeChat's names. With a list of
// channels, what differs stands under the channel's name.
type SendRequest struct {
	App              string                     `json:"app"`
	To               To                         `json:"to"`
	Channel          OneOrMany                  `json:"channel"`
	TemplateID       string                     `json:"template_id"`
	Page             string                     `json:"page"`
	Data             map[string]json.RawMessage `json:"data"`
	Lang             string                     `json:"lang"`
	MiniprogramState string                     `json:"miniprogram_state"`
	NoCredit         string                     `json:"no_credit"`
	OnUnknown        string                     `json:"on_unknown"`
	SendAt           *Moment                    `json:"send_at"`
	ExpiresAt        *Moment                    `json:"expires_at"`
	Metadata         json.RawMessage            `json:"metadata"`
	Priority         string                     `json:"priority"`
	Truncate         bool                       `json:"truncate"`
	SupersedeKey     string                     `json:"supersede_key"`

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

	// With a list of channels: what differs from the fields above. Template may also be an alias of the config ("order_shipped").
	Subscribe       *subscribePart       `json:"subscribe"`
	CustomerService *customerServicePart `json:"customer_service"`
	OATemplate      *oaTemplatePart      `json:"oa_template"`
	Template        AliasOrPart          `json:"template"`
	Uniform         *uniformPart         `json:"uniform"`

	told faults // what whoever read the request found wrong with it
}

// Blame adds what is wrong with the request already: it will be refused for that too, and all its faults are told at once.
func (q *SendRequest) Blame(fields []Field) { q.told = append(q.told, fields...) }

// To names the user: exactly one of them.
type To struct {
	OpenID   string `json:"openid"`
	User     string `json:"user"`
	UnionID  string `json:"unionid"`
	Audience string `json:"audience"`
}

// OneOrMany is a string or a list of strings.
type OneOrMany []string

// UnmarshalJSON takes both forms.
func (o *OneOrMany) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*o = OneOrMany{""}
		return json.Unmarshal(b, &(*o)[0])
	}
	return json.Unmarshal(b, (*[]string)(o))
}

// Moment is a time as a partner writes it. One that is of the right type and no time is a fault among others, told by compose.
type Moment struct {
	time.Time
	wrong bool
}

const notAMoment = "must be a time in RFC 3339, like 2026-01-02T15:04:05Z"

// momentForm is there because package time also takes a comma for the point, hours of one digit and offsets of any size.
var momentForm = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`)

// UnmarshalJSON takes t and z for T and Z, as RFC 3339 does.
func (m *Moment) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	s = strings.ToUpper(s)
	t, err := time.Parse(time.RFC3339, s)
	*m = Moment{t, err != nil || !momentForm.MatchString(s)}
	return nil
}

// Malformed says that a body is not the JSON that was expected.
type Malformed struct{ Detail string }

func (e *Malformed) Error() string { return e.Detail }

// decodeStrict reads one JSON value of known fields; those that are not known are an *Invalid of that code.
func decodeStrict(raw []byte, into any, code string) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		if strings.HasPrefix(err.Error(), "json: unknown field ") {
			return &Invalid{Code: code, Fields: strangers(raw, into)}
		}
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) {
			return &Malformed{fmt.Sprintf("%s: a %s where a %s was expected", typ.Field, typ.Value, typ.Type)}
		}
		return &Malformed{"the body is not the JSON object that was expected: " + strings.TrimPrefix(err.Error(), "json: ")}
	}
	if _, err := d.Token(); err != io.EOF {
		return &Malformed{"there is something after the JSON object"}
	}
	return nil
}

// strangers are the fields of an object that a struct does not have: encoding/json names the first of them only.
func strangers(raw []byte, into any) []Field {
	var names map[string]json.RawMessage
	_ = json.Unmarshal(raw, &names) // an object: encoding/json has met a field
	for t, i := reflect.TypeOf(into).Elem(), 0; i < t.NumField(); i++ {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		delete(names, name)
	}
	var f faults
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f.add(name, "is not a field we know: check its spelling")
	}
	return f
}

var openIDForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// compose checks a request whole and makes the order of it; all faults are told at once.
func (r *Relay) compose(ctx context.Context, rules *Rules, partner string, req *SendRequest, now time.Time) (*order, error) {
	f := slices.Clone(req.told)
	if req.Template.part != nil {
		f = append(f, req.Template.part.told...)
	}
	var app App // stays empty when none is named: what needs no app is checked all the same
	var err error
	if req.App == "" {
		f.add("app", "is required: which app sends")
	} else if app, err = r.appOf(partner, req.App); err != nil {
		return nil, err
	}
	o := &order{Partner: partner, App: req.App, NoCredit: req.NoCredit, Supersede: req.SupersedeKey,
		Retry: req.OnUnknown == "retry", Created: now.UnixMilli(), Channels: req.Channel, Priority: req.Priority}
	if len(o.Channels) == 0 {
		o.Channels = []string{ChannelSubscribe}
	}
	if o.OpenID, o.User, err = r.addressee(ctx, partner, app, req.To, &f); err != nil {
		return nil, err
	}
	if o.User == "" && o.OpenID != "" && app.Name != "" && rules.Partners[partner].Allow["bindings"] { // others have no users of their own
		users, err := r.bindings.UsersOf(ctx, app.Name, o.OpenID)
		if err != nil {
			return nil, err
		}
		o.User = users[partner]
	}
	req.checkForeign(&f, o.Channels)
	req.resolveAlias(app, &f)
	oneOf(&f, "no_credit", req.NoCredit, "refuse", "hold", "try")
	oneOf(&f, "on_unknown", req.OnUnknown, "keep", "retry")
	oneOf(&f, "priority", req.Priority, "high", "normal", "bulk")
	req.checkTimes(&f, o, now)
	o.Metadata = checkMetadata(&f, req.Metadata)
	if len(req.SupersedeKey) > 128 {
		f.add("supersede_key", "at most 128 characters")
	}
	for i, ch := range o.Channels {
		where := ""
		if len(o.Channels) > 1 {
			where = ch + "."
		}
		if !slices.Contains(channels, ch) || slices.Contains(o.Channels[:i], ch) {
			f.add("channel", fmt.Sprintf("%q: must be one of %s, each once", ch, strings.Join(channels, ", ")))
			continue
		}
		if app.Kind == wechat.KindOfficialAccount && ch != ChannelOATemplate && ch != ChannelCustomerService {
			f.add("channel", ch+" is for mini-programs: an official account has oa_template and customer_service")
			continue
		}
		part := req.forChannel(ch)
		to := o
		if ch == ChannelOATemplate && app.Name != "" {
			if to, err = r.byAccount(ctx, &f, where, o, req.To, part.App); err != nil {
				return nil, err
			}
		}
		body := r.composeChannel(ctx, &f, where, ch, to, part)
		o.Payloads = append(o.Payloads, body)
		if ch == ChannelSubscribe || i == 0 && o.TemplateID == "" {
			o.TemplateID = part.TemplateID
		}
	}
	if o.Has(ChannelSubscribe) {
		o.Kind = string(r.kind(o.App, o.TemplateID))
		o.pace(&f, app.Counts[o.TemplateID])
	}
	if err := f.err("invalid_message"); err != nil {
		return nil, err
	}
	if r.retired.all(o.App, o.Channels, now) {
		return nil, ErrChannelRetired
	}
	return o, nil
}

// checkTimes notes when the message is due and when it expires.
func (q *SendRequest) checkTimes(f *faults, o *order, now time.Time) {
	send, expires := q.SendAt, q.ExpiresAt
	if send != nil && send.wrong {
		f.add("send_at", notAMoment)
		send = nil
	}
	if send != nil && send.After(now.Add(30*24*time.Hour)) {
		f.add("send_at", "is more than 30 days ahead")
	}
	if send != nil && send.After(now) {
		o.Due = send.UnixMilli()
	}
	switch {
	case expires == nil:
		return
	case expires.wrong:
		f.add("expires_at", notAMoment)
		return
	case !expires.After(now):
		f.add("expires_at", "is in the past")
	case send != nil && !expires.After(send.Time):
		f.add("expires_at", "is before send_at")
	}
	o.Expires = expires.UnixMilli()
}

// Has tells whether the order may go by a channel.
func (o *order) Has(channel string) bool { return slices.Contains(o.Channels, channel) }

func (o *order) line() ledger.Line {
	return ledger.Line{App: o.App, OpenID: o.OpenID, TemplateID: o.TemplateID, Kind: ledger.Kind(o.Kind),
		Every: time.Duration(o.Every) * time.Millisecond, Value: o.Value}
}

// pace notes what a rate-limited template allows: one message in a period for each value of its keyword.
func (o *order) pace(f *faults, c Counting) {
	if c.Kind != ledger.RateLimited {
		return
	}
	n := slices.Index(o.Channels, ChannelSubscribe)
	var m struct{ Data map[string]value }
	if n >= len(o.Payloads) || json.Unmarshal(o.Payloads[n], &m) != nil {
		return // another fault has been told
	}
	if m.Data[c.Keyword].Value == "" {
		f.add("data."+c.Keyword, "is missing: how often this template may be sent is counted by it")
		return
	}
	o.Every, o.Value, o.Keyword = c.Every.Milliseconds(), m.Data[c.Keyword].Value, c.Keyword
}

func oneOf(f *faults, field, v string, allowed ...string) {
	if v != "" && !slices.Contains(allowed, v) {
		f.add(field, "must be one of "+strings.Join(allowed, ", "))
	}
}

// checkMetadata returns it without white space; nil is {}.
func checkMetadata(f *faults, raw json.RawMessage) json.RawMessage {
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return nil
	case raw[0] != '{':
		f.add("metadata", "must be an object")
	case len(raw) > 4<<10:
		f.add("metadata", fmt.Sprintf("%d bytes, at most 4096", len(raw)))
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		f.add("metadata", "is not JSON")
	}
	return b.Bytes()
}

// addressee finds the openid of whom a message is to.
func (r *Relay) addressee(ctx context.Context, partner string, app App, to To, f *faults) (openid, user string, err error) {
	n := 0
	for _, v := range []string{to.OpenID, to.User, to.UnionID, to.Audience} {
		if v != "" {
			n++
		}
	}
	if n != 1 {
		f.add("to", "must have exactly one of openid, user, unionid, audience")
		return "", "", nil
	}
	if reason := checkName(to.User); reason != "" {
		f.add("to.user", reason)
		return "", "", nil
	}
	switch {
	case to.OpenID != "":
		if !openIDForm.MatchString(to.OpenID) {
			f.add("to.openid", "is not an openid")
		}
		return to.OpenID, "", nil
	case to.Audience != "":
		f.add("to.audience", "send to an audience is not offered here: send to its users")
		return "", "", nil
	case app.Name == "": // nobody can be looked up
		return "", "", nil
	case to.User != "":
		openid, err = r.bindings.ByUser(ctx, partner, app.Name, to.User)
		if errors.Is(err, binding.ErrNotFound) {
			f.add("to.user", "is not bound to an openid of this app: bind it first")
			err = nil
		}
		return openid, to.User, err
	}
	openid, err = r.bindings.ByUnionID(ctx, app.Name, to.UnionID)
	if errors.Is(err, binding.ErrNotFound) {
		f.add("to.unionid", "is not known for this app: the user has to log in to it once")
		err = nil
	}
	return openid, "", err
}

// resolveAlias puts the template's id and keywords in place of the alias and the partner's own field names.
func (q *SendRequest) resolveAlias(app App, f *faults) {
	name := q.Template.Alias
	if name == "" {
		return
	}
	alias, ok := app.Templates[name]
	if q.TemplateID != "" {
		f.add("template_id", "stands beside the alias in template: give one of them")
	}
	switch {
	case app.Name == "": // it cannot be looked up, but is not missing either
		q.TemplateID = orElse(q.TemplateID, name)
		return
	case !ok:
		f.add("template", fmt.Sprintf("%q is not an alias of this app: see apps[].templates in the config", name))
		return
	case q.TemplateID != "":
		return
	}
	q.TemplateID = alias.TemplateID
	if q.Page == "" {
		q.Page = alias.Page
	}
	data := make(map[string]json.RawMessage, len(q.Data))
	for k, v := range q.Data {
		if keyword, ok := alias.Data[k]; ok {
			k = keyword
		}
		data[k] = v
	}
	q.Data = data
}

// composeChannel makes what WeChat is given on a channel.
func (r *Relay) composeChannel(ctx context.Context, f *faults, where, ch string, o *order, q SendRequest) payload {
	if reason := checkPage(q.Page); reason != "" && (ch == ChannelSubscribe || ch == ChannelTemplate) {
		f.add(where+"page", reason)
	}
	switch ch {
	case ChannelSubscribe:
		oneOf(f, where+"lang", q.Lang, "zh_CN", "en_US", "zh_HK", "zh_TW")
		oneOf(f, where+"miniprogram_state", q.MiniprogramState, "developer", "trial", "formal")
		return subscribeMessage(o.OpenID, &q, r.subscribeValues(ctx, f, where, o.App, &q))
	case ChannelCustomerService:
		return r.composeCustomerService(f, where, o, &q)
	case ChannelOATemplate, ChannelTemplate:
		if q.TemplateID == "" {
			f.add(where+"template_id", "is required")
		}
		if len(q.Data) == 0 {
			f.add(where+"data", "is required: an object of keywords")
		}
		q.FormID = strings.TrimPrefix(q.FormID, "prepay_id=") // as wx.requestPayment's package has it
		if q.FormID != "" && !binding.Genuine(q.FormID) {
			f.add(where+"form_id", "is a mock one of the developer tools: use a real device")
		}
		values := plainValues(f, where, q.Data)
		if ch == ChannelTemplate {
			checkColors(f, where, q.Color, values)
		}
		if ch == ChannelOATemplate {
			q.Page = "" // it leads where url and miniprogram say
			checkMiniprogram(f, where, q.Miniprogram)
			webAddress(f, where+"url", q.URL)
			r.checkKeywords(ctx, f, where, o.App, &q)
		}
		if key, ok := strings.CutSuffix(q.EmphasisKeyword, ".DATA"); q.EmphasisKeyword != "" && (!ok || q.Data[key] == nil) {
			f.add(where+"emphasis_keyword", "must be a keyword of data followed by .DATA, like keyword1.DATA")
		}
		return encode(struct {
			ToUser      string           `json:"touser"`
			TemplateID  string           `json:"template_id"`
			Page        string           `json:"page,omitempty"`
			URL         string           `json:"url,omitempty"`
			Miniprogram json.RawMessage  `json:"miniprogram,omitempty"`
			FormID      string           `json:"form_id,omitempty"`
			Data        map[string]value `json:"data"`
			Emphasis    string           `json:"emphasis_keyword,omitempty"`
			Color       string           `json:"color,omitempty"`
		}{o.OpenID, q.TemplateID, q.Page, q.URL, plainJSON(f, where+"miniprogram", q.Miniprogram), q.FormID, values, q.EmphasisKeyword, q.Color})
	case ChannelUniform:
		checkUniform(f, where, &q)
		return encode(struct {
			ToUser string          `json:"touser"`
			Weapp  json.RawMessage `json:"weapp_template_msg,omitempty"`
			MP     json.RawMessage `json:"mp_template_msg,omitempty"`
		}{o.OpenID, plainJSON(f, where+"weapp_template_msg", q.WeappTemplateMsg), plainJSON(f, where+"mp_template_msg", q.MpTemplateMsg)})
	}
	return nil
}

func present(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	return raw
}

// checkKeywords compares a message with its template, where the account's list is known.
func (r *Relay) checkKeywords(ctx context.Context, f *faults, where, app string, q *SendRequest) (tpl wechat.Template) {
	if app == "" || q.TemplateID == "" || len(q.Data) == 0 {
		return tpl
	}
	tpl, ok, known := r.templates.Get(ctx, app, q.TemplateID)
	if !ok {
		if known {
			f.add(where+"template_id", "is not a template of this app: see the template list at WeChat")
		}
		return tpl
	}
	for _, k := range tpl.Keywords {
		if _, given := q.Data[k]; !given {
			f.add(where+"data."+k, "is missing: the template has this keyword")
		}
	}
	for k := range q.Data {
		if slices.Contains(tpl.Keywords, k) {
			continue
		}
		for _, k := range slices.Sorted(maps.Keys(q.Data)) { // in order, where there is something to tell
			if !slices.Contains(tpl.Keywords, k) {
				f.add(where+"data."+k, "is not a keyword of the template: it has "+strings.Join(tpl.Keywords, ", "))
			}
		}
		break
	}
	return tpl
}

func orElse(v, def string) string {
	if v == "" {
		return def
	}
	return v
}
