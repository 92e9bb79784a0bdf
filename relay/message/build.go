package message

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Facts are what a message is built of and its request does not say.
type Facts struct {
	Now             time.Time
	Partner         string
	OpenID, User    string // the addressee; User is the partner's own name for them, when it has one
	OfficialAccount bool   // the app is one, and not a mini-program
	Issues          Issues // what was found wrong while these were gathered

	// Account is the official account by which oa_template goes when that is another app, AccountOpenID the
	// addressee there.
	Account, AccountOpenID string

	Subscribe, OATemplate Template // the templates of these channels

	Kind    string        // of the subscribe template, as the ledger has it
	Every   time.Duration // a rate-limited template: one message in this time
	Keyword string        // for each value of this keyword

	Genuine func(formID string) bool // nil = every one is
}

// Template is what the account's list says of a template.
type Template struct {
	Known    bool // the list is known, so that a template may be missing from it
	Listed   bool // this one is on it
	Keywords []string
	Enums    map[string][]string // the values of enum keywords
}

// Build checks a request whole and makes the draft of its message. All issues are named at once, with those of Parse.
func Build(q Request, f Facts) (Draft, Issues) {
	issues := append(slices.Clip(q.issues), f.Issues...)
	o := Draft{Partner: f.Partner, App: q.App, OpenID: f.OpenID, User: f.User, NoCredit: q.NoCredit, Supersede: q.SupersedeKey,
		Retry: q.OnUnknown == "retry", Created: f.Now.UnixMilli(), Channels: q.Channels(), Priority: q.Priority, Account: f.Account}
	b := builder{issues: &issues, facts: &f}
	q.checkForeign(&issues, o.Channels)
	oneOf(&issues, "no_credit", q.NoCredit, "refuse", "hold", "try")
	oneOf(&issues, "on_unknown", q.OnUnknown, "keep", "retry")
	oneOf(&issues, "priority", q.Priority, "high", "normal", "bulk")
	o.Due, o.Expires = q.times(&issues, f.Now)
	o.Metadata = checkMetadata(&issues, q.Metadata)
	if len(q.SupersedeKey) > 128 {
		issues.Add("supersede_key", "at most 128 characters")
	}
	for i, ch := range o.Channels {
		if !slices.Contains(Channels, ch) || slices.Contains(o.Channels[:i], ch) {
			issues.Add("channel", fmt.Sprintf("%q: must be one of %s, each once", ch, strings.Join(Channels, ", ")))
			continue
		}
		if f.OfficialAccount && ch != ChannelOATemplate && ch != ChannelCustomerService {
			issues.Add("channel", ch+" is for mini-programs: an official account has oa_template and customer_service")
			continue
		}
		own := q.forChannel(ch)
		o.Payloads = append(o.Payloads, b.payload(q.At(ch, ""), ch, own))
		if ch == ChannelSubscribe || i == 0 && o.TemplateID == "" {
			o.TemplateID = own.TemplateID
		}
		if ch == ChannelSubscribe {
			o.Kind = f.Kind
			o.pace(&issues, &f, own.Data)
		}
	}
	return o, issues[:min(len(issues), MaxIssues)]
}

// builder makes the payloads of one message.
type builder struct {
	issues *Issues
	facts  *Facts
}

// payload is what WeChat is given on a channel; where is the path before its fields.
func (b *builder) payload(where, ch string, q Request) json.RawMessage {
	if reason := checkPage(q.Page); reason != "" && (ch == ChannelSubscribe || ch == ChannelTemplate) {
		b.issues.Add(where+"page", reason)
	}
	openid := b.facts.OpenID
	switch ch {
	case ChannelSubscribe:
		oneOf(b.issues, where+"lang", q.Lang, "zh_CN", "en_US", "zh_HK", "zh_TW")
		oneOf(b.issues, where+"miniprogram_state", q.MiniprogramState, "developer", "trial", "formal")
		return subscribeMessage(openid, &q, b.subscribeValues(where, &q))
	case ChannelCustomerService:
		return customerServiceMessage(b.issues, where, openid, &q)
	case ChannelUniform:
		return uniformMessage(b.issues, where, openid, &q)
	}
	b.required(where, &q, "is required: an object of keywords")
	q.FormID = strings.TrimPrefix(q.FormID, "prepay_id=") // as wx.requestPayment's package has it
	if q.FormID != "" && b.facts.Genuine != nil && !b.facts.Genuine(q.FormID) {
		b.issues.Add(where+"form_id", "is a mock one of the developer tools: use a real device")
	}
	var miniprogram json.RawMessage
	if ch == ChannelOATemplate {
		if b.facts.Account != "" {
			openid = b.facts.AccountOpenID
		}
		q.Page = "" // it leads where url and miniprogram say
		checkMiniprogram(b.issues, where, q.Miniprogram)
		webAddress(b.issues, where+"url", q.URL)
		miniprogram = plainJSON(b.issues, where+"miniprogram", q.Miniprogram)
		b.checkKeywords(where, &q, &b.facts.OATemplate)
	} else {
		checkColors(b.issues, where, q.Color, q.Data)
	}
	if key, ok := strings.CutSuffix(q.EmphasisKeyword, ".DATA"); q.EmphasisKeyword != "" {
		if _, given := q.Data.Get(key); !ok || !given {
			b.issues.Add(where+"emphasis_keyword", "must be a keyword of data followed by .DATA, like keyword1.DATA")
		}
	}
	return templateMessage(openid, &q, q.Data.sorted(), miniprogram)
}

func (b *builder) required(where string, q *Request, data string) {
	if q.TemplateID == "" && !b.issues.Has(where+"template_id") {
		b.issues.Add(where+"template_id", "is required")
	}
	if len(q.Data) == 0 && !b.issues.Has(where+"data") {
		b.issues.Add(where+"data", data)
	}
}

// subscribeValues are the keywords of a subscribe message, checked against its template, where that is known.
func (b *builder) subscribeValues(where string, q *Request) Data {
	if b.required(where, q, "is required: an object with every keyword of the template"); len(q.Data) == 0 {
		return nil
	}
	tpl := &b.facts.Subscribe
	b.checkKeywords(where, q, tpl)
	vals := q.Data.sorted()
	for i := range vals {
		k := &vals[i]
		if k.wrong || tpl.Listed && !slices.Contains(tpl.Keywords, k.Name) { // named already
			continue
		}
		if q.Truncate {
			k.Value = shorten(k.Name, k.Value)
		}
		if reason := checkValue(k.Name, k.Value, tpl.Enums[k.Name]); reason != "" {
			b.issues.Add(where+"data."+k.Name, reason)
		}
	}
	return vals
}

// checkKeywords compares a message with its template, where the account's list is known.
func (b *builder) checkKeywords(where string, q *Request, tpl *Template) {
	if q.TemplateID == "" || len(q.Data) == 0 {
		return
	}
	if !tpl.Listed {
		if tpl.Known {
			b.issues.Add(where+"template_id", "is not a template of this app: see the template list at WeChat")
		}
		return
	}
	for _, k := range tpl.Keywords {
		if _, given := q.Data.Get(k); !given {
			b.issues.Add(where+"data."+k, "is missing: the template has this keyword")
		}
	}
	for _, k := range q.Data {
		if !slices.Contains(tpl.Keywords, k.Name) {
			b.issues.Add(where+"data."+k.Name, "is not a keyword of the template: it has "+strings.Join(tpl.Keywords, ", "))
		}
	}
}

// pace notes what a rate-limited template allows: one message in a period for each value of its keyword.
func (o *Draft) pace(issues *Issues, f *Facts, data Data) {
	if f.Every == 0 {
		return
	}
	k, _ := data.Get(f.Keyword)
	if k.Value == "" {
		if field := "data." + f.Keyword; !issues.Has(field) {
			issues.Add(field, "is missing: how often this template may be sent is counted by it")
		}
		return
	}
	o.Every, o.Value, o.Keyword = f.Every.Milliseconds(), k.Value, f.Keyword
}

func oneOf(f *Issues, field, v string, allowed ...string) {
	if v != "" && !slices.Contains(allowed, v) {
		f.Add(field, "must be one of "+strings.Join(allowed, ", "))
	}
}

// maxAhead is how far ahead a message may be sent or wait.
const maxAhead = 366 * 24 * time.Hour

// times are when the message is due and when it expires, in Unix milliseconds; 0 = at once, never.
func (q *Request) times(f *Issues, now time.Time) (due, expires int64) {
	read := func(field string, text *string) (t time.Time, ok bool) {
		if text == nil {
			return t, false
		}
		if t, ok = ParseTime(*text); !ok {
			f.Add(field, "must be a time in RFC 3339, like 2026-01-02T15:04:05Z")
		} else if t.After(now.Add(maxAhead)) {
			f.Add(field, "is more than 366 days ahead")
		}
		return t, ok
	}
	send, given := read("send_at", q.SendAt)
	if given && send.After(now) {
		due = send.UnixMilli()
	}
	until, ends := read("expires_at", q.ExpiresAt)
	switch {
	case !ends:
		return due, 0
	case !until.After(now):
		f.Add("expires_at", "is in the past")
	case given && !until.After(send):
		f.Add("expires_at", "is before send_at")
	}
	return due, until.UnixMilli()
}

// momentForm is there because package time also takes a comma for the point, hours of one digit and offsets of any
// size.
var momentForm = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?` +
	`(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`)

// ParseTime reads a time in RFC 3339; t and z are taken for T and Z, as RFC 3339 does.
func ParseTime(s string) (time.Time, bool) {
	s = strings.ToUpper(s)
	t, err := time.Parse(time.RFC3339, s)
	return t, err == nil && momentForm.MatchString(s)
}

// maxMetadata is how many bytes of JSON a partner may hang on a message.
const maxMetadata = 4 << 10

// checkMetadata returns it without white space; nil is {}.
func checkMetadata(f *Issues, raw json.RawMessage) json.RawMessage {
	switch {
	case present(raw) == nil:
		return nil
	case raw[0] != '{':
		f.Add("metadata", "must be an object")
	case len(raw) > maxMetadata:
		f.Add("metadata", fmt.Sprintf("%d bytes, at most %d", len(raw), maxMetadata))
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		f.Add("metadata", "is not JSON")
	}
	return b.Bytes()
}

func present(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	return raw
}
