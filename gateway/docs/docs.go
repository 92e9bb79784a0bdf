// Package docs owns the documents on the public door: guides in English and 中文, the event catalogue, WeChat's errcodes
// and the API reference. Guides are Markdown files of this folder; everything else is rendered from what the product
// itself uses (openapi.yaml, the table of errcodes), so that no fact is written twice. Pages are rendered when they are
// first asked for.
package docs

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer/html"
	"golang.org/x/text/language"
)

//go:embed en zh assets snippets page.html
var files embed.FS

// Lang is a language of the documents.
type Lang string

// The languages there are.
const (
	English Lang = "en"
	Chinese Lang = "zh"
)

// Errcode is one row of the book of WeChat's errcodes.
type Errcode struct {
	Code               int
	Name               string
	Meaning, MeaningZH string
	Cause, CauseZH     string
	Cure, CureZH       string
	Reaction           string // what the gateway does about it, in its own word
	ReactionText       string
	ReactionTextZH     string
	Doc                string // WeChat's page
}

// Options is what the documents are made of.
type Options struct {
	OpenAPI  []byte // the description of the public door, OpenAPI 3.1 in YAML
	Errcodes []Errcode
	Version  string
}

// entry is one page of the table of contents.
type entry struct {
	Slug      string // "" = the start page
	Title     map[Lang]string
	Summary   map[Lang]string
	generated func(d *Docs, l Lang) (template.HTML, error) // nil = the Markdown file of this name
}

func both(en, zh string) map[Lang]string { return map[Lang]string{English: en, Chinese: zh} }

// contents is the table of contents, in reading order.
var contents = []entry{
	{Slug: "", Title: both("Concepts", "基本概念"), Summary: both("What wxrelay is, in one picture", "一张图看懂 wxrelay")},
	{Slug: "sending", Title: both("Sending", "发送消息"), Summary: both("Messages, states, credits, hold, chains, batch, audiences", "消息、状态、订阅次数、挂起、渠道链、批量、人群")},
	{Slug: "receiving", Title: both("Receiving", "接收事件"), Summary: both("Verify, retries, order, replay", "验签、重试、顺序、重放")},
	{Slug: "events", Title: both("Event catalogue", "事件目录"), Summary: both("Every event type with schema and example", "每种事件的结构与示例"), generated: (*Docs).eventList},
	{Slug: "mini-program", Title: both("Mini-program guide", "小程序接入"), Summary: both("Login, when to ask, report, domain white-list", "登录、何时征求订阅、上报结果、域名白名单")},
	{Slug: "signature", Title: both("401: what now", "遇到 401 怎么办"), Summary: both("Debugging a signature", "排查签名问题")},
	{Slug: "api", Title: both("API reference", "接口参考"), Summary: both("Every route, field, state and problem", "所有路由、字段、状态与错误"), generated: (*Docs).apiReference},
	{Slug: "errcodes", Title: both("WeChat errcodes", "微信错误码"), Summary: both("Meaning, cure, and what the gateway does", "含义、修复建议与网关的处理"), generated: (*Docs).errcodeBook},
	{Slug: "operating", Title: both("Operating", "运维"), Summary: both("Deployment, Redis, replicas, secrets, backup, upgrade, alerts", "部署、Redis、多副本、密钥轮换、备份、升级、告警")},
	{Slug: "wechat-api", Title: both("WeChat's API through the gateway", "经由网关调用微信接口"), Summary: both("Tokens for everybody, SDKs unchanged", "统一 access_token，SDK 只改域名")},
	{Slug: "testing", Title: both("Testing with wxsim", "用 wxsim 测试"), Summary: both("A simulated WeChat for your own CI", "在你的 CI 里模拟微信")},
}

// Docs serves the documents. It is safe for concurrent use.
type Docs struct {
	o     Options
	pages map[string]func() (rendered, error) // by language + "/" + slug
	spec  func() (*spec, error)
}

type rendered struct {
	body   []byte
	source []byte // Markdown; nil for what is generated
}

// New makes the documents.
func New(o Options) *Docs {
	d := &Docs{o: o, pages: map[string]func() (rendered, error){}}
	d.spec = sync.OnceValues(func() (*spec, error) { return parseSpec(o.OpenAPI) })
	for i := range contents {
		for _, l := range []Lang{English, Chinese} {
			d.pages[string(l)+"/"+contents[i].Slug] = sync.OnceValues(func() (rendered, error) { return d.render(&contents[i], l) })
		}
	}
	return d
}

var errNoPage = errors.New("there is no such page")

// ServeHTTP serves /docs and below, /openapi.yaml and /llms.txt.
func (d *Docs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l := langOf(r)
	switch p := strings.TrimSuffix(r.URL.Path, "/"); {
	case p == "/openapi.yaml":
		write(w, "application/yaml; charset=utf-8", d.o.OpenAPI)
	case p == "/llms.txt":
		write(w, "text/plain; charset=utf-8", d.llms())
	case p == "/docs":
		d.page(w, r, l, "")
	case strings.HasPrefix(p, "/docs/assets/"):
		d.asset(w, r, strings.TrimPrefix(p, "/docs/"))
	case strings.HasPrefix(p, "/docs/events/"):
		d.event(w, r, l, strings.TrimPrefix(p, "/docs/events/"))
	default:
		d.page(w, r, l, strings.TrimPrefix(p, "/docs/"))
	}
}

var matcher = language.NewMatcher([]language.Tag{language.English, language.Chinese})

func langOf(r *http.Request) Lang {
	switch r.URL.Query().Get("lang") {
	case "en":
		return English
	case "zh":
		return Chinese
	}
	if _, i := language.MatchStrings(matcher, r.Header.Get("Accept-Language")); i == 1 {
		return Chinese
	}
	return English
}

func (d *Docs) page(w http.ResponseWriter, r *http.Request, l Lang, slug string) {
	slug, plain := strings.CutSuffix(slug, ".md")
	if plain && slug == "index" {
		slug = ""
	}
	make, ok := d.pages[string(l)+"/"+slug]
	if !ok {
		notFound(w)
		return
	}
	p, err := make()
	switch {
	case err != nil:
		http.Error(w, "this page could not be rendered", http.StatusInternalServerError)
	case plain && p.source == nil:
		notFound(w)
	case plain:
		write(w, "text/markdown; charset=utf-8", p.source)
	default:
		write(w, "text/html; charset=utf-8", p.body)
	}
}

// NotFound answers for pages that are not there; the gateway may replace it by its own problem.
func notFound(w http.ResponseWriter) { http.Error(w, errNoPage.Error(), http.StatusNotFound) }

func write(w http.ResponseWriter, kind string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept-Language")
	h.Set("Cache-Control", "no-cache")
	_, _ = w.Write(body) // the reader is gone
}

func (d *Docs) asset(w http.ResponseWriter, r *http.Request, name string) {
	body, err := files.ReadFile(path.Clean(name))
	if err != nil || !strings.HasPrefix(path.Clean(name), "assets/") {
		notFound(w)
		return
	}
	kind := map[string]string{".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".js": "text/javascript; charset=utf-8", ".ts": "text/plain; charset=utf-8"}[path.Ext(name)]
	write(w, kind, body)
}

var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()), goldmark.WithRendererOptions(html.WithUnsafe()))

func toHTML(source []byte) (template.HTML, error) {
	var b bytes.Buffer
	if err := markdown.Convert(source, &b); err != nil {
		return "", err
	}
	return template.HTML(b.String()), nil
}

// source is the Markdown of a guide with its snippets put in: a line `@snippet NAME` becomes a block of code.
func source(l Lang, slug string) ([]byte, error) {
	if slug == "" {
		slug = "index"
	}
	raw, err := files.ReadFile(string(l) + "/" + slug + ".md")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for line := range strings.Lines(string(raw)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "@snippet ")
		if !ok {
			out.WriteString(line)
			continue
		}
		code, err := files.ReadFile("snippets/" + name)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "```%s\n%s```\n", strings.TrimPrefix(path.Ext(name), "."), code)
	}
	return out.Bytes(), nil
}

func (d *Docs) render(e *entry, l Lang) (rendered, error) {
	var out rendered
	var body template.HTML
	var err error
	if e.generated != nil {
		body, err = e.generated(d, l)
	} else {
		if out.source, err = source(l, e.Slug); err == nil {
			body, err = toHTML(out.source)
		}
	}
	if err == nil {
		out.body, err = d.frame(l, e.Title[l], "/docs/"+e.Slug, body)
	}
	return out, err
}

// framed is what page.html shows.
type framed struct {
	Lang     Lang
	Title    string
	Path     string // without a slash at its end
	Version  string
	Contents []entry
	Body     template.HTML
}

// Other is the language to switch to.
func (f framed) Other() Lang {
	if f.Lang == English {
		return Chinese
	}
	return English
}

// Href is the address of a page of the table of contents.
func (f framed) Href(slug string) string { return strings.TrimSuffix("/docs/"+slug, "/") }

var frameHTML = template.Must(template.ParseFS(files, "page.html"))

func (d *Docs) frame(l Lang, title, at string, body template.HTML) ([]byte, error) {
	var b bytes.Buffer
	err := frameHTML.Execute(&b, framed{Lang: l, Title: title, Path: strings.TrimSuffix(at, "/"), Version: d.o.Version, Contents: contents, Body: body})
	return b.Bytes(), err
}

// llms is the table of contents for language models (llmstxt.org).
func (d *Docs) llms() []byte {
	var b bytes.Buffer
	b.WriteString("# wxrelay\n\n> WeChat callback gateway and webhook relay: proves WeChat's pushes, keeps the account of consent, relays signed sends of partner systems.\n\n## Guides\n\n")
	for _, e := range contents {
		name := e.Slug
		if name == "" {
			name = "index"
		}
		link := "/docs/" + e.Slug
		if _, err := fs.Stat(files, "en/"+name+".md"); err == nil {
			link = "/docs/" + name + ".md"
		}
		fmt.Fprintf(&b, "- [%s](%s): %s\n", e.Title[English], link, e.Summary[English])
	}
	b.WriteString("\n## Reference\n\n- [OpenAPI 3.1](/openapi.yaml): routes, bodies, states, problem codes, event types as webhooks\n- [Error codes](/problems): what each code means and what to do\n")
	return b.Bytes()
}
