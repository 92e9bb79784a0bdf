package relay

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// What operators read besides what partners do: nothing here changes anything.

// Lane is the depth of one lane of the queue, by state.
type Lane struct {
	Name   string        `json:"lane"`
	Ready  int64         `json:"ready"`
	Later  int64         `json:"later"`
	InHand int64         `json:"leased"`
	Parked int64         `json:"parked"`
	Buried int64         `json:"buried"`
	Oldest time.Duration `json:"oldest_ready_ns"` // since the oldest ready job was due
}

// Lanes lists what waits in the queue, by lane; empty lanes are left out. Errors: those of Redis.
func (r *Relay) Lanes(ctx context.Context) ([]Lane, error) {
	depths, err := r.q.Depths(ctx)
	if err != nil {
		return nil, err
	}
	rows := map[string]*Lane{}
	for _, d := range depths {
		row := rows[d.Lane]
		if row == nil {
			row = &Lane{Name: d.Lane}
			rows[d.Lane] = row
		}
		switch d.State {
		case "ready":
			row.Ready, row.Oldest = row.Ready+d.Count, max(row.Oldest, d.OldestAge)
		case "later":
			row.Later += d.Count
		case "leased":
			row.InHand += d.Count
		case "parked":
			row.Parked += d.Count
		case "buried":
			row.Buried += d.Count
		}
	}
	out := make([]Lane, 0, len(rows))
	for _, row := range rows {
		out = append(out, *row)
	}
	slices.SortFunc(out, func(a, b Lane) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// HeldToken tells when the token that this process holds of an app was fetched and when it ends. It asks nobody.
func (r *Relay) HeldToken(app string) (fetched, ends time.Time, ok bool) {
	t, ok := r.wechat.Held(app)
	return t.FetchedAt, t.ExpiresAt, ok
}

// TokenChange is one entry of a token's log. Token is a fingerprint; it does not lead to the token.
type TokenChange struct {
	At      time.Time `json:"at"`
	Cause   string    `json:"cause"` // first renewed healed forced reported refused
	Token   string    `json:"token"`
	Errcode int       `json:"errcode"`
	Errmsg  string    `json:"errmsg"`
	RID     string    `json:"rid"`
	By      string    `json:"by"`
	From    string    `json:"from"`
}

// TokenLog is how an app's token stands over all replicas, and its latest changes, the newest first.
type TokenLog struct {
	Source      string        `json:"source"` // stable | classic | external
	Token       string        `json:"token"`  // fingerprint; "" = there is none
	FetchedAt   *time.Time    `json:"fetched_at"`
	ExpiresAt   *time.Time    `json:"expires_at"`
	Errcode     int           `json:"errcode"` // what WeChat answers instead of a token
	RetryIn     time.Duration `json:"retry_in_ns"`
	HealedToday int           `json:"healed_today"`
	ForcedToday int           `json:"forced_today"`
	Changes     []TokenChange `json:"changes"`
}

// TokenLog reads the token's log of an app, without asking WeChat. Errors: ErrNotFound, and those of Redis.
func (r *Relay) TokenLog(ctx context.Context, app string) (TokenLog, error) {
	s, err := r.Tokens(ctx, app)
	if err != nil {
		return TokenLog{}, err
	}
	l := TokenLog{Source: s.Source, Token: s.Fingerprint, FetchedAt: optionalTime(s.FetchedAt), ExpiresAt: optionalTime(s.ExpiresAt), RetryIn: s.RetryIn,
		HealedToday: s.HealedToday, ForcedToday: s.ForcedToday, Changes: []TokenChange{}}
	if s.Refusal != nil {
		l.Errcode = s.Refusal.Code
	}
	for _, c := range s.Changes {
		l.Changes = append(l.Changes, TokenChange{At: c.At.UTC(), Cause: c.Cause, Token: c.Fingerprint, Errcode: c.Errcode, Errmsg: c.Errmsg,
			RID: c.RID, By: c.By, From: c.From})
	}
	return l, nil
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// Errcode is a row of the book of WeChat's errcodes.
type Errcode struct {
	Code      int    `json:"code"`
	Name      string `json:"name"`
	Meaning   string `json:"meaning"`
	MeaningZH string `json:"meaning_zh"`
	Cause     string `json:"cause"`
	CauseZH   string `json:"cause_zh"`
	Reaction  string `json:"reaction"`
	Does      string `json:"does"` // what the gateway does about it
	DoesZH    string `json:"does_zh"`
	Cure      string `json:"cure"`
	CureZH    string `json:"cure_zh"`
	Doc       string `json:"doc"`
}

func errcodeOf(e wechat.Errcode) Errcode {
	does, doesZH := e.Does()
	return Errcode{Code: e.Code, Name: e.Name, Meaning: e.Meaning, MeaningZH: e.MeaningZH, Cause: e.Cause, CauseZH: e.CauseZH,
		Reaction: string(e.Reaction), Does: does, DoesZH: doesZH, Cure: e.Cure, CureZH: e.CureZH, Doc: e.Doc}
}

// LookupErrcode finds a code in the book; for one that is not in it a row that says so.
func LookupErrcode(code int) Errcode { return errcodeOf(wechat.Lookup(code)) }

// Errcodes is the whole book, by code.
func Errcodes() []Errcode {
	rows := wechat.Errcodes()
	out := make([]Errcode, len(rows))
	for i, row := range rows {
		out[i] = errcodeOf(row)
	}
	return out
}

// Template is a template of an app as WeChat lists it.
type Template struct {
	ID       string              `json:"template_id"`
	Title    string              `json:"title"`
	Kind     string              `json:"kind"` // one_time | long_term | ...
	Content  string              `json:"content"`
	Example  string              `json:"example"`
	Keywords []string            `json:"keywords"`
	Enums    map[string][]string `json:"enums"`   // the allowed values of keywords that have a list
	Aliases  []string            `json:"aliases"` // of the config
}

// Templates lists the templates of an app as this process last heard them from WeChat, by title; none before that. Errors:
// ErrNotFound.
func (r *Relay) Templates(app string) ([]Template, error) {
	a, ok := r.App(app)
	if !ok {
		return nil, ErrNotFound
	}
	list := r.templates.List(app)
	out := make([]Template, len(list))
	for i, t := range list {
		kind := r.kind(app, t.ID)
		if kind == "" {
			kind = ledger.Unknown
		}
		out[i] = Template{ID: t.ID, Title: t.Title, Kind: string(kind), Content: t.Content, Example: t.Example, Keywords: append([]string{}, t.Keywords...),
			Enums: t.Enums, Aliases: []string{}}
		for name, alias := range a.Templates {
			if alias.TemplateID == t.ID {
				out[i].Aliases = append(out[i].Aliases, name)
			}
		}
		slices.Sort(out[i].Aliases)
	}
	slices.SortFunc(out, func(a, b Template) int { return cmp.Or(strings.Compare(a.Title, b.Title), strings.Compare(a.ID, b.ID)) })
	return out, nil
}

// Why a message waits.
const (
	WaitsTime   = "send_at"   // for the time its partner gave
	WaitsCredit = "no_credit" // for the user's next accept
	WaitsPause  = "paused"    // the app or its channel is paused: Errcode says why
	WaitsWorker = "queue"     // for the messages before it
	WaitsReport = "unknown"   // WeChat's answer did not come; its report or a deadline settles it
	WaitsAnswer = "sending"   // for WeChat's answer
)

// Waiting is why a message is not at its end.
type Waiting struct {
	For     string     `json:"for"`
	Until   *time.Time `json:"until"`
	Errcode *int       `json:"errcode"`
}

// MessageDetail is a message with what its partner asked for.
type MessageDetail struct {
	Message
	Partner      string          `json:"partner"`
	Channels     []string        `json:"channels"`
	Payload      json.RawMessage `json:"payload"` // what WeChat is given on the present channel
	NoCredit     string          `json:"no_credit"`
	OnUnknown    string          `json:"on_unknown"`
	Priority     string          `json:"priority"`
	SendAt       *time.Time      `json:"send_at"`
	ExpiresAt    *time.Time      `json:"expires_at"`
	Waits        *Waiting        `json:"waits"`
	Subscription *Subscription   `json:"subscription"` // the account it takes its credit from
}

// MessageDetail finds any partner's message. Errors: ErrNotFound, and those of Redis.
func (r *Relay) MessageDetail(ctx context.Context, id string) (MessageDetail, error) {
	rec, d, err := r.record(ctx, "", id)
	if err != nil {
		return MessageDetail{}, err
	}
	_, s, err := read(rec.Body, rec.Note)
	if err != nil {
		return MessageDetail{}, err
	}
	m, _, err := viewRecord(rec)
	if err != nil {
		return MessageDetail{}, err
	}
	out := MessageDetail{Message: m, Partner: d.Partner, Channels: d.Channels, NoCredit: d.NoCredit, OnUnknown: "fail", Priority: d.Priority,
		SendAt: optionalMillis(d.Due), ExpiresAt: optionalMillis(d.Expires)}
	if d.Retry {
		out.OnUnknown = "retry"
	}
	if s.Channel < len(d.Payloads) {
		out.Payload = d.Payloads[s.Channel]
	}
	out.Waits = r.waitsFor(&m, d, rec.Due)
	if d.TemplateID != "" {
		st, err := r.ledger.Get(ctx, d.App, d.OpenID, d.TemplateID)
		if err != nil {
			return MessageDetail{}, err
		}
		line := r.subscriptionOf(st, d.User)
		out.Subscription = &line
	}
	return out, nil
}

func optionalMillis(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	return optionalTime(time.UnixMilli(ms))
}

// waitsFor explains a message's state; nil when it is at its end. The pauses are those of this process.
func (r *Relay) waitsFor(m *Message, d *draft, due time.Time) *Waiting {
	switch m.State {
	case StateScheduled:
		return &Waiting{For: WaitsTime, Until: optionalMillis(d.Due)}
	case StateHeld:
		return &Waiting{For: WaitsCredit, Until: optionalMillis(d.Expires)}
	case StateUnknown:
		if len(m.Timeline) > 0 && due.IsZero() {
			return nil
		}
		return &Waiting{For: WaitsReport, Until: optionalTime(due)}
	case StateSending:
		return &Waiting{For: WaitsAnswer}
	case StateQueued:
		at := route{app: d.App, channel: m.Channel}
		if until, code := r.throttle.paused(at, time.Now()); !until.IsZero() {
			return &Waiting{For: WaitsPause, Until: &until, Errcode: code}
		}
		w := &Waiting{For: WaitsWorker}
		if due.After(time.Now()) {
			w.Until = optionalTime(due)
		}
		return w
	}
	return nil
}

// paused tells until when a route rests, and which errcode is the reason; it counts nothing.
func (p *throttle) paused(at route, now time.Time) (time.Time, *int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range []route{at.whole(), at} {
		if a := p.at[at]; a != nil && a.until.After(now) {
			return a.until.UTC(), a.errcode
		}
	}
	return time.Time{}, nil
}

// PausedApp is an app, or a channel of one, that WeChat refuses as a whole.
type PausedApp struct {
	App     string    `json:"app"`
	Channel string    `json:"channel"` // "" = all of it
	Until   time.Time `json:"until"`   // when one message is tried
	Errcode *int      `json:"errcode"`
	Why     string    `json:"why"`
}

// Paused lists what this process has paused, by app.
func (r *Relay) Paused() []PausedApp {
	now, out := time.Now(), []PausedApp{}
	r.throttle.mu.Lock()
	defer r.throttle.mu.Unlock()
	for at, a := range r.throttle.at {
		if a.until.After(now) {
			out = append(out, PausedApp{App: at.app, Channel: at.channel, Until: a.until.UTC(), Errcode: a.errcode, Why: a.why})
		}
	}
	slices.SortFunc(out, func(a, b PausedApp) int { return strings.Compare(a.App+"\x00"+a.Channel, b.App+"\x00"+b.Channel) })
	return out
}
