package console

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wxrelay/wxrelay/relay"
)

// page is one kind of page: a struct with a Frame and the name of its template.
type page interface {
	frame() *Frame
	template() string
}

// Frame is what every page has.
type Frame struct {
	Words   *Words    `json:"-"`
	Path    string    `json:"-"`
	Here    *url.URL  `json:"-"`
	Version string    `json:"-"`
	Token   string    `json:"-"` // posted back by forms
	Now     time.Time `json:"-"`
}

func (f *Frame) frame() *Frame { return f }

// In tells whether the page stands at or below a path.
func (f *Frame) In(path string) bool { return f.Path == path || strings.HasPrefix(f.Path, path+"/") }

// OtherLanguage is the address of this page in the other language.
func (f *Frame) OtherLanguage() string { return f.with("lang", f.Words.Other) }

// with is this page's address with one parameter changed; value "" drops it.
func (f *Frame) with(name, value string) string {
	if f.Here == nil {
		return "?" + name + "=" + url.QueryEscape(value)
	}
	q := f.Here.Query()
	q.Del("done")
	if value == "" {
		q.Del(name)
	} else {
		q.Set(name, value)
	}
	return f.Here.Path + "?" + q.Encode()
}

// Older is the address of the next page of a list.
func (f *Frame) Older(cursor *string) string {
	if cursor == nil {
		return ""
	}
	return f.with("cursor", *cursor)
}

// Clock is a time in full, UTC.
func (f *Frame) Clock(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05") + " UTC"
}

// Since is how long ago a time was, or how long until it comes.
func (f *Frame) Since(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	d := f.Now.Sub(t)
	if d > -time.Second && d < time.Second {
		return f.Words.Now
	}
	future := d < 0
	n := short(d.Abs())
	switch {
	case f.Words.Code == "zh-CN" && future:
		return n + f.Words.In
	case f.Words.Code == "zh-CN":
		return n + f.Words.Ago
	case future:
		return f.Words.In + " " + n
	}
	return n + " " + f.Words.Ago
}

// Span is a duration in one or two units.
func (f *Frame) Span(d time.Duration) string {
	if d <= 0 {
		return "–"
	}
	return short(d)
}

func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h " + strconv.Itoa(int(d.Minutes())%60) + " min"
	}
	return strconv.Itoa(int(d.Hours())/24) + " d"
}

// Tone is the colour of a state, wherever it comes from.
func (f *Frame) Tone(state string) string {
	switch state {
	case relay.StateDelivered, "accepted", "healthy", "ok":
		return "good"
	case relay.StateFailed, relay.StateRefused, "buried", "disabled", "rejected", "failing":
		return "bad"
	case relay.StateUnknown, relay.StateHeld, relay.StateExpired, "benched", "probing", "cancelled":
		return "warn"
	case relay.StateSent, relay.StateSending, relay.StateQueued, relay.StateScheduled, "pending":
		return "move"
	}
	return "plain"
}

// HealthWord is an endpoint's condition in the page's language.
func (f *Frame) HealthWord(state string) string {
	switch state {
	case "healthy":
		return f.Words.Healthy
	case "benched":
		return f.Words.Benched
	case "disabled":
		return f.Words.Disabled
	case "probing":
		return f.Words.Probing
	}
	return state
}

// messageTable is what the shared table of messages is given.
type messageTable struct {
	Frame *Frame
	Items []relay.Message
}

// MeaningOf and CureOf are what an errcode means and asks for, in the page's language.
func (f *Frame) MeaningOf(e Errcode) string { return f.choose(e.Meaning, e.MeaningZH) }

// CureOf: see MeaningOf.
func (f *Frame) CureOf(e Errcode) string { return f.choose(e.Cure, e.CureZH) }

func (f *Frame) choose(en, zh string) string {
	if f.Words.Code == "zh-CN" && zh != "" {
		return zh
	}
	return en
}

// Overview is the first page: does it run, and what runs through it.
type Overview struct {
	Frame  `json:"-"`
	Ready  bool            `json:"ready"`
	Checks []Check         `json:"checks"`
	Apps   []AppRow        `json:"apps"`
	Lanes  []Lane          `json:"lanes"`
	Recent []relay.Message `json:"recent"`
	Live   bool            `json:"-"`
	Blind  bool            `json:"blind"` // Redis did not answer: lanes and recent are missing, not empty
}

// RecentTable is the latest messages as a table.
func (p *Overview) RecentTable() messageTable { return messageTable{&p.Frame, p.Recent} }

// AppRow is one app with the token this process holds.
type AppRow struct {
	Name     string     `json:"name"`
	AppID    string     `json:"appid"`
	Kind     string     `json:"kind"`
	Partners []string   `json:"partners"`
	Fetched  *time.Time `json:"token_fetched_at"`
	Expires  *time.Time `json:"token_expires_at"`
}

// Lane is the depth of one lane by state.
type Lane struct {
	Name   string        `json:"lane"`
	Ready  int64         `json:"ready"`
	Later  int64         `json:"later"`
	InHand int64         `json:"leased"`
	Parked int64         `json:"parked"`
	Buried int64         `json:"buried"`
	Oldest time.Duration `json:"oldest_ready_ns"`
}

// User is the search for a user and what is known about one.
type User struct {
	Frame    `json:"-"`
	Apps     []string             `json:"-"`
	App      string               `json:"app"`
	OpenID   string               `json:"openid"`
	Asked    bool                 `json:"-"`
	Lines    []relay.Subscription `json:"lines"`
	Messages []relay.Message      `json:"messages"`
}

// MessagesTable is the user's messages as a table.
func (p *User) MessagesTable() messageTable { return messageTable{&p.Frame, p.Messages} }

// Messages is the latest messages of all partners, or of one app.
type Messages struct {
	Frame `json:"-"`
	Apps  []string        `json:"-"`
	App   string          `json:"app"`
	State string          `json:"state"`
	All   []string        `json:"-"` // states to choose from
	Items []relay.Message `json:"items"`
}

// Table is the messages as a table.
func (p *Messages) Table() messageTable { return messageTable{&p.Frame, p.Items} }

// Message is one message with its timeline.
type Message struct {
	Frame `json:"-"`
	relay.Message
	Known *Errcode `json:"known,omitempty"` // what its errcode means
}

// MetadataText is the partner's metadata, "" when there is none.
func (m *Message) MetadataText() string {
	if s := string(m.Metadata); s != "{}" && s != "null" {
		return s
	}
	return ""
}

// Deliveries is an endpoint's deliveries.
type Deliveries struct {
	Frame     `json:"-"`
	Endpoints []string         `json:"-"` // partner/endpoint, to choose from
	Endpoint  string           `json:"endpoint"`
	State     string           `json:"state"`
	Items     []relay.Delivery `json:"items"`
	Next      *string          `json:"next_cursor"`
	Replayed  bool             `json:"-"`
}

// Back is where the replay button returns to.
func (d *Deliveries) Back() string { return d.with("done", "") }

// Endpoints is every endpoint and how it does.
type Endpoints struct {
	Frame `json:"-"`
	Items []EndpointRow `json:"items"`
}

// EndpointRow is one endpoint.
type EndpointRow struct {
	Partner   string    `json:"partner"`
	ID        string    `json:"id"`
	URL       string    `json:"url"`
	Events    []string  `json:"events"`
	Condition Condition `json:"condition"`
}

// Condition is how an endpoint does; the times are nil while it is healthy.
type Condition struct {
	State    string     `json:"state"`
	Until    *time.Time `json:"until"`
	Since    *time.Time `json:"since"`
	Failures int        `json:"failures"`
}

func conditionOf(c relay.Condition) Condition {
	return Condition{State: c.State, Until: someTime(c.Until), Since: someTime(c.Since), Failures: c.Failures}
}

func someTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// Key is the endpoint's name on these pages.
func (e EndpointRow) Key() string { return e.Partner + "/" + e.ID }

// Errcodes is what WeChat's errcodes mean and what the gateway does about them.
type Errcodes struct {
	Frame `json:"-"`
	Items []Errcode `json:"items"`
}

// Errcode is a row of the table in the names of the JSON face.
type Errcode struct {
	Code      int    `json:"code"`
	Name      string `json:"name"`
	Meaning   string `json:"meaning"`
	MeaningZH string `json:"meaning_zh"`
	Cause     string `json:"cause"`
	CauseZH   string `json:"cause_zh"`
	Reaction  string `json:"reaction"`
	Cure      string `json:"cure"`
	CureZH    string `json:"cure_zh"`
	Doc       string `json:"doc"`
}

func errcodeOf(e relay.Errcode) Errcode {
	return Errcode{Code: e.Code, Name: e.Name, Meaning: e.Meaning, MeaningZH: e.MeaningZH, Cause: e.Cause, CauseZH: e.CauseZH,
		Reaction: e.Reaction, Cure: e.Cure, CureZH: e.CureZH, Doc: e.Doc}
}

// Trouble is the page of an error.
type Trouble struct {
	Frame
	Missing, Stale bool
	Reason         string // why not, for the operator; "" = Redis or WeChat did not answer
}

func (*Overview) template() string   { return "overview" }
func (*User) template() string       { return "user" }
func (*Messages) template() string   { return "messages" }
func (*Message) template() string    { return "message" }
func (*Deliveries) template() string { return "deliveries" }
func (*Endpoints) template() string  { return "endpoints" }
func (*Errcodes) template() string   { return "errcodes" }
func (*Trouble) template() string    { return "trouble" }

//go:embed pages/*.html
var files embed.FS

var templates = func() map[string]*template.Template {
	m := map[string]*template.Template{}
	for _, p := range samples() {
		m[p.template()] = template.Must(template.ParseFS(files, "pages/frame.html", "pages/parts.html", "pages/"+p.template()+".html"))
	}
	return m
}()

func render(p page) ([]byte, error) {
	var b bytes.Buffer
	err := templates[p.template()].ExecuteTemplate(&b, "frame", p)
	return b.Bytes(), err
}

// checkOnce is checkTemplates once: the templates are part of the program.
var checkOnce = sync.OnceValue(checkTemplates)

// checkTemplates renders every page, empty and full, in both languages, and finds template files no page uses.
func checkTemplates() error {
	for _, p := range append(samples(), blanks()...) {
		for _, w := range []*Words{&English, &Chinese} {
			f := p.frame()
			f.Words, f.Now = w, sampleTime
			if err := templates[p.template()].ExecuteTemplate(io.Discard, "frame", p); err != nil {
				return fmt.Errorf("page %s: %w", p.template(), err)
			}
		}
	}
	all, err := files.ReadDir("pages")
	if err != nil {
		return err
	}
	for _, f := range all {
		name := strings.TrimSuffix(f.Name(), ".html")
		if _, used := templates[name]; !used && name != "frame" && name != "parts" {
			return fmt.Errorf("pages/%s belongs to no page", f.Name())
		}
	}
	return nil
}

func blanks() []page {
	return []page{&Overview{}, &User{}, &Messages{}, &Message{}, &Deliveries{}, &Endpoints{}, &Errcodes{}, &Trouble{}}
}
