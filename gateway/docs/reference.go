package docs

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// operation is one call of the API reference.
type operation struct {
	ID, Method, Path string
	Summary          string
	About            template.HTML
	Parameters       []field
	Body             template.HTML // type of the request's body
	BodyFields       []field
	Answers          []answer
}

type answer struct {
	Status, About string
	Type          template.HTML
}

// section is the operations of one tag.
type section struct {
	Name  string
	About template.HTML
	Calls []operation
}

// schema is one shape of the reference.
type schema struct {
	Name   string
	About  template.HTML
	Type   template.HTML
	Fields []field
}

var methods = []string{"get", "post", "put", "patch", "delete"}

func (s *spec) sections() []section {
	byTag := map[string]*section{}
	var order []*section
	for _, t := range contentOf(at(s.root, "tags")) {
		sec := &section{Name: text(t, "name"), About: inline(text(t, "description"))}
		byTag[sec.Name] = sec
		order = append(order, sec)
	}
	for _, p := range pairs(at(s.root, "paths")) {
		for _, m := range methods {
			op := at(p.node, m)
			if op == nil {
				continue
			}
			sec := byTag[contentOf(at(op, "tags"))[0].Value]
			sec.Calls = append(sec.Calls, s.operation(p.name, m, p.node, op))
		}
	}
	var out []section
	for _, sec := range order {
		if len(sec.Calls) > 0 {
			out = append(out, *sec)
		}
	}
	return out
}

func (s *spec) operation(path, method string, item, op *yaml.Node) operation {
	o := operation{ID: text(op, "operationId"), Method: strings.ToUpper(method), Path: path, Summary: text(op, "summary"), About: inline(text(op, "description"))}
	for _, given := range append(contentOf(at(item, "parameters")), contentOf(at(op, "parameters"))...) {
		p := s.resolve(given)
		if strings.HasPrefix(text(p, "name"), "webhook-") { // told once, for all
			continue
		}
		o.Parameters = append(o.Parameters, field{Name: text(p, "name"), Type: s.typeOf(at(p, "schema")), Required: text(p, "required") == "true",
			About: inline(strings.TrimSpace("(" + text(p, "in") + ") " + text(p, "description")))})
	}
	for _, c := range pairs(at(op, "requestBody", "content")) {
		o.Body = template.HTML(template.HTMLEscapeString(c.name))
		if name := ref(at(c.node, "schema")); name != "" {
			o.Body += ": " + s.typeOf(at(c.node, "schema"))
		} else {
			o.BodyFields = s.fields(at(c.node, "schema"), "")
		}
	}
	for _, a := range pairs(at(op, "responses")) {
		if a.name == "default" {
			continue
		}
		r := s.resolve(a.node)
		got := answer{Status: a.name, About: text(r, "description")}
		for _, c := range pairs(at(r, "content")) {
			if got.Type = s.typeOf(at(c.node, "schema")); got.Type == "any" || got.Type == "string" {
				got.Type = template.HTML(template.HTMLEscapeString(c.name))
			}
		}
		o.Answers = append(o.Answers, got)
	}
	return o
}

func (s *spec) schemas() (out []schema) {
	for _, p := range pairs(at(s.root, "components", "schemas")) {
		sc := schema{Name: p.name, About: inline(text(p.node, "description")), Fields: s.fields(p.node, "")}
		if len(sc.Fields) == 0 {
			sc.Type = s.typeOf(p.node)
		}
		out = append(out, sc)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

var referenceHTML = template.Must(template.New("reference").Parse(`
{{define "fields"}}<table><tr><th>{{.L.Field}}<th>{{.L.Type}}<th>{{.L.About}}</tr>{{range .Rows}}
<tr><td><code>{{.Name}}</code>{{if .Required}} *{{end}}<td>{{.Type}}<td>{{.About}}</tr>{{end}}</table>{{end}}
<h1>{{.L.Title}}</h1>
{{.About}}
<p class="dim">{{.L.Required}}</p>
{{range .Sections}}<h2 id="tag-{{.Name}}">{{.Name}}</h2><p>{{.About}}</p>
{{range .Calls}}<h3 id="{{.ID}}"><span class="method">{{.Method}}</span> <code>{{.Path}}</code></h3>
<p>{{.Summary}}{{if .About}}<br>{{.About}}{{end}}</p>
{{if .Parameters}}<details><summary>{{$.L.Parameters}}</summary>{{template "fields" ($.Table .Parameters)}}</details>{{end}}
{{if .Body}}<p>{{$.L.Body}}: {{.Body}}</p>{{end}}{{if .BodyFields}}{{template "fields" ($.Table .BodyFields)}}{{end}}
<p>{{range .Answers}}<code>{{.Status}}</code> {{.About}} {{.Type}} {{end}}</p>
{{end}}{{end}}
<h2 id="schemas">{{.L.Schemas}}</h2>
{{range .Schemas}}<h3 id="{{.Name}}">{{.Name}}</h3>{{if .About}}<p>{{.About}}</p>{{end}}{{if .Type}}<p>{{.Type}}</p>{{end}}{{if .Fields}}{{template "fields" ($.Table .Fields)}}{{end}}
{{end}}`))

// labels are the few words of the generated pages.
type labels struct {
	Title, Field, Type, About, Required, Parameters, Body, Schemas, Example, Schema string
}

var labelsOf = map[Lang]labels{
	English: {"API reference", "Field", "Type", "Meaning", "* is required. Partners sign every request; the headers webhook-id, webhook-timestamp and webhook-signature are not repeated below.",
		"Parameters", "Body", "Shapes", "Example", "JSON Schema"},
	Chinese: {"接口参考", "字段", "类型", "说明", "* 为必填。合作方的每个请求都要签名，下文不再重复列出 webhook-id、webhook-timestamp 与 webhook-signature 三个请求头。",
		"参数", "请求体", "数据结构", "示例", "JSON Schema"},
}

type referenceView struct {
	L        labels
	About    template.HTML
	Sections []section
	Schemas  []schema
}

type table struct {
	L    labels
	Rows []field
}

// Table is a table of fields with its labels.
func (v referenceView) Table(rows []field) table { return table{v.L, rows} }

func (d *Docs) apiReference(l Lang) (template.HTML, error) {
	s, err := d.spec()
	if err != nil {
		return "", err
	}
	about, err := toHTML([]byte(text(s.root, "info", "description")))
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = referenceHTML.Execute(&b, referenceView{L: labelsOf[l], About: about, Sections: s.sections(), Schemas: s.schemas()})
	return template.HTML(b.String()), err
}

// eventRow is one event type.
type eventRow struct {
	L       labels
	Name    string
	Summary template.HTML
	Fields  []field
	Example string
}

func (s *spec) event(name string, l Lang) (eventRow, bool) {
	item := at(s.root, "webhooks", name, "post")
	if item == nil {
		return eventRow{}, false
	}
	summary := text(item, "summary")
	if l == Chinese {
		summary = text(item, "x-summary-zh")
	}
	content := at(item, "requestBody", "content", "application/json")
	example, _ := json.MarshalIndent(s.plain(at(content, "example"), map[string]any{}), "", "  ") // of plain values
	return eventRow{L: labelsOf[l], Name: name, Summary: inline(summary), Fields: s.fields(at(content, "schema", "properties", "data"), "data."), Example: string(example)}, true
}

var eventsHTML = template.Must(template.New("events").Parse(`
{{define "list"}}<table><tr><th>{{(index . 0).L.Type}}<th>{{(index . 0).L.About}}<th>{{(index . 0).L.Schema}}</tr>{{range .}}
<tr><td><a href="/docs/events/{{.Name}}"><code>{{.Name}}</code></a><td>{{.Summary}}<td><a href="/docs/events/{{.Name}}.json">.json</a></tr>{{end}}</table>{{end}}
{{define "one"}}<h1><code>{{.Name}}</code></h1><p>{{.Summary}}</p>
<table><tr><th>{{.L.Field}}<th>{{.L.Type}}<th>{{.L.About}}</tr>{{range .Fields}}<tr><td><code>{{.Name}}</code><td>{{.Type}}<td>{{.About}}</tr>{{end}}</table>
<h2>{{.L.Example}}</h2><pre><code>{{.Example}}</code></pre><p><a href="/docs/events/{{.Name}}.json">{{.L.Schema}}</a></p>{{end}}`))

func (d *Docs) eventList(l Lang) (template.HTML, error) {
	s, err := d.spec()
	if err != nil {
		return "", err
	}
	intro, err := source(l, "events")
	if err != nil {
		return "", err
	}
	head, err := toHTML(intro)
	if err != nil {
		return "", err
	}
	var rows []eventRow
	for _, p := range pairs(at(s.root, "webhooks")) {
		row, _ := s.event(p.name, l)
		rows = append(rows, row)
	}
	var b bytes.Buffer
	err = eventsHTML.ExecuteTemplate(&b, "list", rows)
	return head + template.HTML(b.String()), err
}

// event serves one type of the catalogue: a page, or with .json its JSON Schema.
func (d *Docs) event(w http.ResponseWriter, _ *http.Request, l Lang, name string) {
	s, err := d.spec()
	if err != nil {
		http.Error(w, "the event catalogue could not be read", http.StatusInternalServerError)
		return
	}
	if typ, ok := strings.CutSuffix(name, ".json"); ok {
		if raw, known := s.eventSchema(typ); known {
			write(w, "application/schema+json", raw)
			return
		}
		notFound(w)
		return
	}
	row, ok := s.event(name, l)
	if !ok {
		notFound(w)
		return
	}
	var b bytes.Buffer
	err = eventsHTML.ExecuteTemplate(&b, "one", row)
	if err == nil {
		var page []byte
		if page, err = d.frame(l, name, "/docs/events/"+name, template.HTML(b.String())); err == nil {
			write(w, "text/html; charset=utf-8", page)
			return
		}
	}
	http.Error(w, "this page could not be rendered", http.StatusInternalServerError)
}

var errcodesHTML = template.Must(template.New("errcodes").Parse(`
<h1>{{if .Chinese}}微信错误码{{else}}WeChat errcodes{{end}}</h1>
<p>{{if .Chinese}}网关认识的所有错误码。命令行：{{else}}Every code that the gateway knows. On the command line: {{end}}<code>wxrelay explain 43101</code></p>
<table><tr>{{if .Chinese}}<th>错误码<th>含义<th>原因<th>修复建议<th>网关的处理{{else}}<th>Code<th>Meaning<th>Cause<th>Cure<th>The gateway{{end}}</tr>
{{range .Rows}}<tr id="e{{.Code}}"><td>{{if .Doc}}<a href="{{.Doc}}" rel="noreferrer">{{.Code}}</a>{{else}}{{.Code}}{{end}}<br><span class="dim">{{.Name}}</span>
{{if $.Chinese}}<td>{{.MeaningZH}}<td>{{.CauseZH}}<td>{{.CureZH}}<td>{{.ReactionTextZH}}{{else}}<td>{{.Meaning}}<td>{{.Cause}}<td>{{.Cure}}<td>{{.ReactionText}}{{end}}</tr>{{end}}</table>`))

func (d *Docs) errcodeBook(l Lang) (template.HTML, error) {
	var b bytes.Buffer
	err := errcodesHTML.Execute(&b, struct {
		Chinese bool
		Rows    []Errcode
	}{l == Chinese, d.o.Errcodes})
	return template.HTML(b.String()), err
}
