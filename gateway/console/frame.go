package console

import (
	"bytes"
	"embed"
	"encoding/json"
	"html/template"
	"net/url"
	"strconv"
	"strings"
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
	Lang    string    `json:"-"` // en | zh
	Zone    string    `json:"-"` // beijing | local
	Path    string    `json:"-"`
	Here    *url.URL  `json:"-"`
	Version string    `json:"-"`
	Token   string    `json:"-"` // posted back by forms
	Now     time.Time `json:"-"`
	Visitor Visitor   `json:"-"`
	Done    string    `json:"-"` // the action that led here
}

func (f *Frame) frame() *Frame { return f }

// T is a text in the reader's language. The English is its name.
func (f *Frame) T(english string) string {
	if f.Lang == "zh" {
		if zh, ok := chinese[english]; ok {
			return zh
		}
	}
	return english
}

// Code is the language as HTML writes it.
func (f *Frame) Code() string {
	if f.Lang == "zh" {
		return "zh-CN"
	}
	return "en"
}

// In tells whether the page stands at or below a path.
func (f *Frame) In(path string) bool { return f.Path == path || strings.HasPrefix(f.Path, path+"/") }

// With is this page's address with one parameter changed; value "" drops it.
func (f *Frame) With(name, value string) string {
	q, path := url.Values{}, f.Path
	if f.Here != nil {
		q, path = f.Here.Query(), f.Here.Path
	}
	q.Del("done")
	if value == "" {
		q.Del(name)
	} else {
		q.Set(name, value)
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// Older is the address of the next page of a list; "" at its end.
func (f *Frame) Older(cursor *string) string {
	if cursor == nil {
		return ""
	}
	return f.With("cursor", *cursor)
}

var beijing = time.FixedZone("Beijing", 8*3600)

// Clock is a time in full, in Beijing; a script shows it in the browser's zone where the reader asks for that.
func (f *Frame) Clock(t time.Time) template.HTML { return f.moment(t, false) }

// Ago is how long ago a time was, or how long until it comes.
func (f *Frame) Ago(t time.Time) template.HTML { return f.moment(t, true) }

// moment makes a time element; both texts are made of digits and our own words, so nothing is to be escaped.
func (f *Frame) moment(t time.Time, relative bool) template.HTML {
	if t.IsZero() {
		return "–"
	}
	full := t.In(beijing).Format("2006-01-02 15:04:05")
	attrs := ` datetime="` + t.UTC().Format("2006-01-02T15:04:05Z") + `"`
	if relative {
		return template.HTML(`<time class="ago"` + attrs + ` title="` + full + `">` + template.HTMLEscapeString(f.Distance(t)) + `</time>`)
	}
	return template.HTML(`<time class="full"` + attrs + `>` + full + `</time>`)
}

// Distance is how long ago a time was, or how long until it comes, as text.
func (f *Frame) Distance(t time.Time) string {
	d := f.Now.Sub(t)
	if d > -time.Second && d < time.Second {
		return f.T("now")
	}
	n := f.Span(d.Abs())
	switch {
	case f.Lang == "zh" && d < 0:
		return n + "后"
	case f.Lang == "zh":
		return n + "前"
	case d < 0:
		return "in " + n
	}
	return n + " ago"
}

// Span is a duration in one or two units.
func (f *Frame) Span(d time.Duration) string {
	unit := func(n int, en, zh string) string {
		if f.Lang == "zh" {
			return strconv.Itoa(n) + " " + zh
		}
		return strconv.Itoa(n) + " " + en
	}
	switch {
	case d <= 0:
		return "–"
	case d < time.Second:
		return unit(int(d.Milliseconds()), "ms", "毫秒")
	case d < time.Minute:
		return unit(int(d.Seconds()), "s", "秒")
	case d < time.Hour:
		return unit(int(d.Minutes()), "min", "分钟")
	case d < 48*time.Hour:
		return unit(int(d.Hours()), "h", "小时") + " " + unit(int(d.Minutes())%60, "min", "分")
	}
	return unit(int(d.Hours())/24, "d", "天")
}

// Tone is the colour of a state, wherever it comes from.
func (f *Frame) Tone(state string) string {
	switch state {
	case relay.StateDelivered, "accepted", "healthy", "ok", "done", "first", "renewed", "healed":
		return "good"
	case relay.StateFailed, relay.StateRefused, "buried", "disabled", "rejected", "failing", "gone", "not_stored":
		return "bad"
	case relay.StateUnknown, relay.StateHeld, relay.StateExpired, "benched", "probing", "cancelled", "stopped", "forced", "reported":
		return "warn"
	case relay.StateSent, relay.StateSending, relay.StateQueued, relay.StateScheduled, "pending", "running":
		return "move"
	}
	return "plain"
}

// Word is a state in the reader's language: "buried" is shown as given up.
func (f *Frame) Word(state string) string {
	if w, ok := stateWords[state]; ok {
		if f.Lang == "zh" {
			return w[1]
		}
		return w[0]
	}
	return state
}

// Choose is the text of one language or the other.
func (f *Frame) Choose(en, zh string) string {
	if f.Lang == "zh" && zh != "" {
		return zh
	}
	return en
}

// Table is what a shared part of a page is given.
type Table[T any] struct {
	*Frame
	Items []T
}

// Option is a choice of a form.
type Option struct {
	Value, Text string
	On          bool
}

// options offers values, with the states among them in the reader's language.
func (f *Frame) options(values []string, chosen string) []Option {
	out := make([]Option, len(values))
	for i, v := range values {
		out[i] = Option{Value: v, Text: f.Word(v), On: v == chosen}
	}
	return out
}

// pretty indents JSON; what is not JSON stays as it is. Numbers keep every digit.
func pretty(raw []byte) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		return string(raw)
	}
	return b.String()
}

// Trouble is the page of an error.
type Trouble struct {
	Frame
	Missing, Stale bool
	Reason         string // why not, for the operator; "" = Redis or WeChat did not answer
}

func (*Trouble) template() string { return "trouble" }

//go:embed pages/*.html
var files embed.FS

var templates = func() map[string]*template.Template {
	m := map[string]*template.Template{}
	for _, p := range blanks() {
		m[p.template()] = template.Must(template.ParseFS(files, "pages/frame.html", "pages/parts.html", "pages/"+p.template()+".html"))
	}
	return m
}()

// fragment is a page that is put into another one, without a frame.
type fragment interface{ fragment() }

func render(p page) ([]byte, error) {
	var b bytes.Buffer
	name := "frame"
	if _, bare := p.(fragment); bare {
		name = "body"
	}
	err := templates[p.template()].ExecuteTemplate(&b, name, p)
	return b.Bytes(), err
}

func blanks() []page {
	return []page{&Overview{}, &HistoryPage{}, &Tail{}, &Messages{}, &Message{}, &Deliveries{}, &Delivery{}, &Replay{}, &Endpoints{}, &Endpoint{}, &User{},
		&Apps{}, &App{}, &Errcodes{}, &Audit{}, &Trouble{}}
}
