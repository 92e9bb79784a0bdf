// Package console owns what operators see in a browser: server-rendered pages in English and Chinese, and the same facts as
// JSON below /api/, described in admin.yaml. It keeps nothing but the counters of [History].
package console

import (
	"context"
	"embed"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay"
)

// Check is one thing that must hold for the gateway to be ready.
type Check struct {
	Name   string `json:"name"` // redis, queue, ...
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // why not, or a figure worth seeing; never a secret
}

// AuditEntry is one change that somebody made at the operators' address.
type AuditEntry struct {
	At        time.Time `json:"at"`
	User      string    `json:"user"`
	Client    string    `json:"client"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Status    int       `json:"status"` // of the answer; below 400 it was done
	RequestID string    `json:"request_id"`
}

// Options is where the pages read from.
type Options struct {
	Relay   *relay.Relay
	Ready   func(ctx context.Context) []Check               // the checks of /readyz; nil = none
	Audit   func(ctx context.Context) ([]AuditEntry, error) // the latest changes, the newest first; nil = none are kept
	Fault   func(path string, err error)                    // told of what a page could not read; nil = nobody listens
	History *History                                        // nil = an empty one
	Public  string                                          // where partners reach the gateway, for commands to copy; "" = a placeholder
	Version string
}

// Console is the pages.
type Console struct {
	o         Options
	mux       *http.ServeMux
	cross     *http.CrossOriginProtection
	attention attention
}

// Visitor is who looks at the pages.
type Visitor struct {
	Name   string
	Viewer bool // may change nothing; the pages then offer nothing to change
}

type visitorKey struct{}

// WithVisitor tells the pages who asks. Who may change what is decided before them.
func WithVisitor(ctx context.Context, v Visitor) context.Context {
	return context.WithValue(ctx, visitorKey{}, v)
}

func visitorOf(ctx context.Context) Visitor {
	v, _ := ctx.Value(visitorKey{}).(Visitor)
	return v
}

//go:embed assets
var assets embed.FS

//go:embed admin.yaml
var openAPI []byte

// policy lets pages run the scripts and styles of this server and nothing else: no inline script, no eval.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// New makes the pages.
func New(o Options) *Console {
	if o.Ready == nil {
		o.Ready = func(context.Context) []Check { return nil }
	}
	if o.Audit == nil {
		o.Audit = func(context.Context) ([]AuditEntry, error) { return nil, nil }
	}
	if o.Fault == nil {
		o.Fault = func(string, error) {}
	}
	if o.History == nil {
		o.History = &History{}
	}
	c := &Console{o: o, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection()}
	for _, p := range c.pages() {
		c.mux.HandleFunc("GET "+exact(p.path), c.page(p.read))
		c.mux.HandleFunc("GET "+p.api(), c.json(p.read))
	}
	for _, a := range c.actions() {
		c.mux.HandleFunc("POST "+a.path, c.act(a))
		c.mux.HandleFunc("POST /api"+a.path, c.actJSON(a))
	}
	none := func(*http.Request) (page, error) { return nil, relay.ErrNotFound }
	c.mux.HandleFunc("/", c.page(none))
	c.mux.HandleFunc("/api/", c.json(none))
	c.mux.HandleFunc("GET /api/openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(openAPI) // the caller is gone
	})
	below, err := fs.Sub(assets, "assets")
	if err != nil {
		panic("console: " + err.Error()) // the name is ours
	}
	c.mux.Handle("GET /assets/", http.StripPrefix("/assets/", http.FileServerFS(below)))
	return c
}

func exact(path string) string {
	if path == "/" {
		return "/{$}"
	}
	return path
}

func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if err := c.cross.Check(r); err != nil {
		http.Error(w, "a request from another site is not taken", http.StatusForbidden)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 8*time.Second)
	defer cancel()
	c.mux.ServeHTTP(w, r.WithContext(ctx))
}

// route is a page and the JSON of the same facts.
type route struct {
	path string
	read func(*http.Request) (page, error)
}

// api is where the JSON of a page stands.
func (p route) api() string {
	if p.path == "/" {
		return "/api/overview"
	}
	return "/api" + p.path
}

func (c *Console) pages() []route {
	return []route{
		{"/", c.overview},
		{"/history", c.history},
		{"/tail", c.tail},
		{"/messages", c.messages},
		{"/messages/{id}", c.message},
		{"/deliveries", c.deliveries},
		{"/deliveries/{id}", c.delivery},
		{"/replays/{partner}/{id}", c.replay},
		{"/endpoints", c.endpoints},
		{"/endpoints/{partner}/{id}", c.endpoint},
		{"/users", c.user},
		{"/apps", c.apps},
		{"/apps/{app}", c.app},
		{"/errcodes", c.errcodes},
		{"/audit", c.audit},
	}
}

// action is a change that an operator makes by a button, or by the same path below /api.
type action struct {
	path string
	run  func(r *http.Request, in input) (any, error) // the answer of the JSON face
	back func(r *http.Request, in input, out any) string
}

// input is a form, or the fields of a JSON object.
type input func(name string) string

func (c *Console) actions() []action {
	at := func(format string) func(*http.Request, input, any) string {
		return func(r *http.Request, _ input, _ any) string {
			return strings.NewReplacer("{id}", r.PathValue("id"), "{partner}", r.PathValue("partner")).Replace(format)
		}
	}
	return []action{
		{"/messages/{id}/cancel", c.cancelMessage, at("/messages/{id}?done=cancel")},
		{"/deliveries/{id}/replay", c.replayDelivery, at("/deliveries/{id}?done=replay")},
		{"/deliveries/{id}/cancel", c.cancelDelivery, at("/deliveries/{id}?done=cancel")},
		{"/replays", c.startReplay, func(_ *http.Request, in input, out any) string {
			if started, ok := out.(relay.Replay); ok {
				return "/replays/" + in("partner") + "/" + started.ID + "?" + replayFilter(in).Encode()
			}
			return "/deliveries"
		}},
		{"/replays/{partner}/{id}/stop", c.stopReplay, at("/replays/{partner}/{id}")},
		{"/endpoints/{partner}/{id}/enable", c.enableEndpoint, at("/endpoints/{partner}/{id}?done=enable")},
		{"/endpoints/{partner}/{id}/disable", c.disableEndpoint, at("/endpoints/{partner}/{id}?done=disable")},
		{"/endpoints/{partner}/{id}/probe", c.probeEndpoint, toDelivery},
		{"/endpoints/{partner}/{id}/test", c.testEndpoint, toDelivery},
		{"/endpoints/{partner}/{id}/rotate", c.rotateEndpoint, nil},
	}
}

// toDelivery leads to the delivery that an action made.
func toDelivery(r *http.Request, _ input, out any) string {
	if d, ok := out.(relay.Delivery); ok {
		return "/deliveries/" + d.ID + "?done=test"
	}
	return r.URL.Path
}
