package console

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay"
)

// Apps is the apps by name, a page at a time.
type Apps struct {
	Frame `json:"-"`
	Find  string   `json:"q"`
	Total int      `json:"total"`
	Items []AppRow `json:"items"`
	Next  *string  `json:"next_cursor"`
}

func (*Apps) template() string { return "apps" }

// AppRow is one app with the token this process holds and the last push that it saw.
type AppRow struct {
	Name     string     `json:"name"`
	AppID    string     `json:"appid"`
	Kind     string     `json:"kind"`
	Fetched  *time.Time `json:"token_fetched_at"`
	Expires  *time.Time `json:"token_expires_at"`
	LastPush *time.Time `json:"last_push_at"`
	Paused   bool       `json:"paused"`
}

func (c *Console) rowOf(a relay.App) AppRow {
	row := AppRow{Name: a.Name, AppID: a.AppID, Kind: a.Kind}
	if fetched, ends, held := c.o.Relay.HeldToken(a.Name); held {
		row.Fetched, row.Expires = &fetched, &ends
	}
	if at := c.o.History.LastPush(a.Name); !at.IsZero() {
		row.LastPush = &at
	}
	return row
}

func (c *Console) apps(r *http.Request) (page, error) {
	rules := c.o.Relay.Rules()
	p := &Apps{Find: strings.TrimSpace(r.URL.Query().Get("q")), Items: []AppRow{}}
	paused := map[string]bool{}
	for _, x := range c.o.Relay.Paused() {
		paused[x.App] = true
	}
	fits := []string{}
	for _, name := range names(rules.Apps) {
		if p.Find == "" || strings.Contains(name, p.Find) || strings.Contains(rules.Apps[name].AppID, p.Find) {
			fits = append(fits, name)
		}
	}
	p.Total = len(fits)
	begin, _ := slices.BinarySearch(fits, r.URL.Query().Get("cursor"))
	for _, name := range fits[begin:min(begin+shown, len(fits))] {
		row := c.rowOf(rules.Apps[name])
		row.Paused = paused[name]
		p.Items = append(p.Items, row)
	}
	if end := begin + shown; end < len(fits) {
		p.Next = &fits[end]
	}
	return p, nil
}

// App is one app: its token over time, its templates, and who may use it.
type App struct {
	Frame `json:"-"`
	AppRow
	Partners  []string          `json:"partners"`
	Token     relay.TokenLog    `json:"token"`
	Known     *relay.Errcode    `json:"known"` // what WeChat answers instead of a token
	Pauses    []relay.PausedApp `json:"pauses"`
	Templates []TemplateCard    `json:"templates"`
}

func (*App) template() string { return "app" }

// TemplateCard is a template with a preview of its fields.
type TemplateCard struct {
	relay.Template
	Fields []TemplateField `json:"fields"`
}

// TemplateField is one line of a template, with a value as an example.
type TemplateField struct {
	Label   string   `json:"label"`
	Keyword string   `json:"keyword"`
	Example string   `json:"example"`
	Allowed []string `json:"allowed"`
}

func (c *Console) app(r *http.Request) (page, error) {
	name, rules := r.PathValue("app"), c.o.Relay.Rules()
	a, ok := rules.Apps[name]
	if !ok {
		return nil, relay.ErrNotFound
	}
	p := &App{AppRow: c.rowOf(a), Partners: []string{}, Pauses: []relay.PausedApp{}, Templates: []TemplateCard{}}
	for _, partner := range names(rules.Partners) {
		if rules.Partners[partner].MayUse(name) {
			p.Partners = append(p.Partners, partner)
		}
	}
	for _, x := range c.o.Relay.Paused() {
		if x.App == name {
			p.Pauses, p.Paused = append(p.Pauses, x), true
		}
	}
	var err error
	if p.Token, err = c.o.Relay.TokenLog(r.Context(), name); err != nil {
		return nil, err
	}
	if p.Token.Errcode != 0 {
		known := relay.LookupErrcode(p.Token.Errcode)
		p.Known = &known
	}
	list, err := c.o.Relay.Templates(name)
	for _, t := range list {
		p.Templates = append(p.Templates, TemplateCard{t, fieldsOf(t)})
	}
	return p, err
}

var placeholder = regexp.MustCompile(`\{\{(\w+)\.DATA\}\}`)

// fieldsOf reads the lines of a template: a label, and the keyword whose value follows it.
func fieldsOf(t relay.Template) []TemplateField {
	examples := strings.Split(t.Example, "\n")
	out := []TemplateField{}
	for i, line := range strings.Split(t.Content, "\n") {
		at := placeholder.FindStringSubmatchIndex(line)
		if at == nil {
			continue
		}
		f := TemplateField{Label: strings.TrimRight(strings.TrimSpace(line[:at[0]]), ":："), Keyword: line[at[2]:at[3]]}
		f.Allowed = append([]string{}, t.Enums[f.Keyword]...)
		if i < len(examples) {
			_, f.Example, _ = strings.Cut(strings.ReplaceAll(examples[i], "：", ":"), ":")
		}
		out = append(out, f)
	}
	return out
}

// Errcodes is the book of WeChat's errcodes, or what of it fits a search.
type Errcodes struct {
	Frame `json:"-"`
	Find  string          `json:"q"`
	Items []relay.Errcode `json:"items"`
}

func (*Errcodes) template() string { return "errcodes" }

func (c *Console) errcodes(r *http.Request) (page, error) {
	p := &Errcodes{Find: strings.TrimSpace(r.URL.Query().Get("q")), Items: []relay.Errcode{}}
	for _, row := range relay.Errcodes() {
		text := strings.ToLower(strings.Join([]string{strconv.Itoa(row.Code), row.Name, row.Meaning, row.MeaningZH, row.Cause, row.CauseZH, row.Cure, row.CureZH}, "\n"))
		if strings.Contains(text, strings.ToLower(p.Find)) {
			p.Items = append(p.Items, row)
		}
	}
	if n, err := strconv.Atoi(p.Find); err == nil && len(p.Items) == 0 { // one that is not in the book is explained too
		p.Items = append(p.Items, relay.LookupErrcode(n))
	}
	return p, nil
}

// Audit is who changed what.
type Audit struct {
	Frame `json:"-"`
	Items []AuditEntry `json:"items"`
}

func (*Audit) template() string { return "audit" }

func (c *Console) audit(r *http.Request) (page, error) {
	list, err := c.o.Audit(r.Context())
	return &Audit{Items: append([]AuditEntry{}, list...)}, err
}
