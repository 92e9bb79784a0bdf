package relay

import (
	"context"
	"errors"
	"time"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/message"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// What package message owns, under the names the journeys and their callers have for it.
type (
	SendRequest = message.Request
	To          = message.To
	Batch       = message.Batch
	Message     = message.Message
	Step        = message.Step
	Alias       = message.Alias
)

// States and channels of a message: see package message.
const (
	StateScheduled = message.StateScheduled
	StateHeld      = message.StateHeld
	StateQueued    = message.StateQueued
	StateSending   = message.StateSending
	StateSent      = message.StateSent
	StateDelivered = message.StateDelivered
	StateFailed    = message.StateFailed
	StateRefused   = message.StateRefused
	StateExpired   = message.StateExpired
	StateCancelled = message.StateCancelled
	StateUnknown   = message.StateUnknown

	ChannelSubscribe       = message.ChannelSubscribe
	ChannelCustomerService = message.ChannelCustomerService
	ChannelOATemplate      = message.ChannelOATemplate
	ChannelTemplate        = message.ChannelTemplate
	ChannelUniform         = message.ChannelUniform
)

// Channels are all of them.
var Channels = message.Channels

// ParseTime reads a time in RFC 3339.
func ParseTime(s string) (time.Time, bool) { return message.ParseTime(s) }

// draft is a message.Draft, with what it means to the queue and the ledger.
type draft struct{ message.Draft }

// progress is how far a message has come.
type progress = message.Progress

// read takes a message out of its job.
func read(body, note []byte) (draft, progress, error) {
	d, s, err := message.Unpack(body, note)
	return draft{d}, s, err
}

// view shows a message to its partner.
func view(id string, d *draft, s *progress) Message { return message.View(id, &d.Draft, s) }

// ParseMessage reads the body of a send request. The error is a *[Malformed].
func ParseMessage(body []byte) (SendRequest, error) { return message.Parse(body) }

// Decode reads the body of any other request into v, a pointer to a struct: see [message.Decode]. What is unknown in
// it, given twice or no Unicode text is an *[Invalid] of the code invalid_request.
func Decode(body []byte, v any) error {
	issues, err := message.Decode(body, v)
	return invalidUnless(issues, err)
}

// DecodeLoose is Decode for clients that nobody can mend: unknown fields are passed over.
func DecodeLoose(body []byte, v any) error {
	issues, err := message.DecodeLoose(body, v)
	return invalidUnless(issues, err)
}

func invalidUnless(issues message.Issues, err error) error {
	if err != nil {
		return err
	}
	return faults(issues).err("invalid_request")
}

// compose gathers the facts about a request and builds its draft; all faults are told at once.
func (r *Relay) compose(ctx context.Context, rules *Rules, partner string, req *SendRequest, now time.Time) (*draft, error) {
	f, err := r.facts(ctx, rules, partner, req, now)
	if err != nil {
		return nil, err
	}
	d, issues := message.Build(*req, f)
	if err := faults(issues).err("invalid_message"); err != nil {
		return nil, err
	}
	if r.retired.all(d.App, d.Channels, now) {
		return nil, ErrChannelRetired
	}
	return &draft{d}, nil
}

// facts gathers what a request does not say, and puts in what its alias means.
func (r *Relay) facts(ctx context.Context, rules *Rules, partner string, req *SendRequest, now time.Time) (message.Facts, error) {
	f := message.Facts{Now: now, Partner: partner, Genuine: binding.Genuine}
	var app App // stays empty when none is named: what needs no app is checked all the same
	var err error
	if req.App == "" {
		if !req.Faulty("app") {
			f.Issues.Add("app", "is required: which app sends")
		}
	} else if app, err = r.appOf(partner, req.App); err != nil {
		return f, err
	}
	f.OfficialAccount = app.Kind == wechat.KindOfficialAccount
	if f.OpenID, f.User, err = r.addressee(ctx, partner, app, req.To, &f.Issues); err != nil {
		return f, err
	}
	if f.User == "" && f.OpenID != "" && app.Name != "" && rules.Partners[partner].Allow["bindings"] { // others have no users of their own
		users, err := r.bindings.UsersOf(ctx, app.Name, f.OpenID)
		if err != nil {
			return f, err
		}
		f.User = users[partner]
	}
	req.Resolve(app.Templates, app.Name != "")
	account := req.App
	if req.Asks(ChannelOATemplate) && app.Name != "" {
		if err := r.byAccount(ctx, &f, req); err != nil {
			return f, err
		}
		if f.Account != "" {
			account = f.Account
		}
		f.OATemplate = r.templateOf(ctx, account, req.TemplateOf(ChannelOATemplate))
	}
	if id := req.TemplateOf(ChannelSubscribe); req.Asks(ChannelSubscribe) && app.Name != "" {
		f.Subscribe = r.templateOf(ctx, app.Name, id)
		f.Kind = string(r.kind(app.Name, id))
		if c := app.Counts[id]; c.Kind == ledger.RateLimited {
			f.Every, f.Keyword = c.Every, c.Keyword
		}
	}
	return f, nil
}

// templateOf is what an app's list says of a template.
func (r *Relay) templateOf(ctx context.Context, app, id string) message.Template {
	if id == "" {
		return message.Template{}
	}
	tpl, ok, known := r.templates.Get(ctx, app, id)
	return message.Template{Known: known, Listed: ok, Keywords: tpl.Keywords, Enums: tpl.Enums}
}

func (d *draft) subscription() ledger.Subscription {
	return ledger.Subscription{App: d.App, OpenID: d.OpenID, TemplateID: d.TemplateID, Kind: ledger.Kind(d.Kind),
		Every: time.Duration(d.Every) * time.Millisecond, Value: d.Value}
}

// encode is JSON as WeChat and partners want it.
func encode(v any) []byte { return message.Encode(v) }

func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// addressee finds the openid of whom a message is to.
func (r *Relay) addressee(ctx context.Context, partner string, app App, to message.To, f *message.Issues) (openid, user string, err error) {
	n := 0
	for _, v := range []string{to.OpenID, to.User, to.UnionID, to.Audience} {
		if v != "" {
			n++
		}
	}
	if n != 1 {
		f.Add("to", "must have exactly one of openid, user, unionid, audience")
		return "", "", nil
	}
	if reason := message.CheckUser(to.User); reason != "" {
		f.Add("to.user", reason)
		return "", "", nil
	}
	switch {
	case to.OpenID != "":
		if !message.IsOpenID(to.OpenID) {
			f.Add("to.openid", "is not an openid")
		}
		return to.OpenID, "", nil
	case to.Audience != "":
		f.Add("to.audience", "has no place in a batch: POST it to messages by itself")
		return "", "", nil
	case app.Name == "": // nobody can be looked up
		return "", "", nil
	case to.User != "":
		openid, err = r.bindings.ByUser(ctx, partner, app.Name, to.User)
		if errors.Is(err, binding.ErrNotFound) {
			f.Add("to.user", "is not bound to an openid of this app: bind it first")
			err = nil
		}
		return openid, to.User, err
	}
	openid, err = r.bindings.ByUnionID(ctx, app.Name, to.UnionID)
	if errors.Is(err, binding.ErrNotFound) {
		f.Add("to.unionid", "is not known for this app: the user has to log in to it once")
		err = nil
	}
	return openid, "", err
}

// sender is the app by which channel n goes.
func (d *draft) sender(n int) string {
	if d.Channels[n] == ChannelOATemplate && d.Account != "" {
		return d.Account
	}
	return d.App
}

// oa_template goes by an official account, where the same person has another openid. What joins the two is the unionid:
// the mini-program's comes with the login, the account's is asked for when the user follows it.

// byAccount finds the official account by which a request's oa_template goes, and the addressee there. The message
// itself stays with the mini-program's user, for whom the other channels are.
func (r *Relay) byAccount(ctx context.Context, f *message.Facts, req *SendRequest) error {
	name, where := req.Account(), req.At(ChannelOATemplate, "app")
	account, err := r.appOf(f.Partner, name)
	if err != nil {
		return err
	}
	if account.Kind != wechat.KindOfficialAccount {
		f.Issues.Add(where, "must be an official account: name one under oa_template when the message is by a mini-program")
		return nil
	}
	if name == req.App {
		return nil
	}
	if f.OpenID == standIn {
		f.Account, f.AccountOpenID = name, standIn
		return nil
	}
	openid, err := r.openidAt(ctx, f, req, name)
	if errors.Is(err, binding.ErrNotFound) {
		f.Issues.Add(where, "the user's openid there is not known: they have to follow the account, or be bound to it")
		return nil
	}
	f.Account, f.AccountOpenID = name, openid
	return err
}

// openidAt finds the addressee of a request at another app: by the partner's own name for them, else by unionid.
func (r *Relay) openidAt(ctx context.Context, f *message.Facts, req *SendRequest, app string) (string, error) {
	if req.To.User != "" {
		if openid, err := r.bindings.ByUser(ctx, f.Partner, app, req.To.User); !errors.Is(err, binding.ErrNotFound) {
			return openid, err
		}
	}
	unionid := req.To.UnionID
	if unionid == "" {
		var err error
		if unionid, err = r.bindings.UnionID(ctx, req.App, f.OpenID); err != nil {
			return "", err
		}
	}
	return r.bindings.ByUnionID(ctx, app, unionid)
}
