// Package console owns what operators see in a browser: server-rendered pages in English and 中文 that need no script,
// and the same facts as JSON below /api/. It only reads, but for one button (replay), and keeps nothing.
package console

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"embed"
	"errors"
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

// Options is where the pages read from.
type Options struct {
	Relay   *relay.Relay
	Queue   *relay.Queue
	WeChat  *relay.WeChatClient
	Health  *relay.Health
	Rules   func() relay.Rules                // the rules in force: which apps, partners and endpoints there are
	Ready   func(ctx context.Context) []Check // the checks of /readyz; nil = none
	Fault   func(path string, err error)      // told of what a page could not read; nil = nobody listens
	Version string
}

// Console is the pages.
type Console struct {
	o     Options
	mux   *http.ServeMux
	cross *http.CrossOriginProtection
}

//go:embed pages/style.css
var assets embed.FS

// New checks every template against every page in both languages; a broken one panics at start, not in front of an
// operator.
func New(o Options) *Console {
	if o.Ready == nil {
		o.Ready = func(context.Context) []Check { return nil }
	}
	if o.Fault == nil {
		o.Fault = func(string, error) {}
	}
	if err := checkOnce(); err != nil {
		panic("console: " + err.Error())
	}
	c := &Console{o: o, mux: http.NewServeMux(), cross: http.NewCrossOriginProtection()}
	c.page("GET /{$}", c.overview)
	c.page("GET /users", c.user)
	c.page("GET /messages", c.messages)
	c.page("GET /messages/{id}", c.message)
	c.page("GET /deliveries", c.deliveries)
	c.page("GET /endpoints", c.endpoints)
	c.page("GET /errcodes", c.errcodes)
	c.page("/", func(*http.Request) (page, error) { return nil, relay.ErrNotFound })
	c.mux.HandleFunc("POST /deliveries/{id}/replay", c.replay)
	c.mux.HandleFunc("POST /endpoints/{partner}/{id}/enable", c.enable)
	c.mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, assets, "pages/style.css")
	})
	c.api()
	return c
}

func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if err := c.cross.Check(r); err != nil {
		http.Error(w, "a request from another site is not taken", http.StatusForbidden)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	c.mux.ServeHTTP(w, r.WithContext(ctx))
}

// page registers a page: a function that reads and returns a typed page, or an error.
func (c *Console) page(pattern string, read func(*http.Request) (page, error)) {
	c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		p, err := read(r)
		status := http.StatusOK
		if err != nil {
			p, status = c.trouble(r, err)
		}
		c.show(w, r, p, status)
	})
}

// trouble is the page of an error. What Redis or WeChat did not answer is for the log.
func (c *Console) trouble(r *http.Request, err error) (page, int) {
	if errors.Is(err, errForm) {
		return &Trouble{Stale: true}, http.StatusForbidden
	}
	switch status, reason := statusOf(err); status {
	case http.StatusNotFound:
		return &Trouble{Missing: true}, status
	case http.StatusServiceUnavailable:
		c.o.Fault(r.URL.Path, err)
		return &Trouble{}, status
	default:
		return &Trouble{Reason: reason}, status
	}
}

// show fills the frame and renders.
func (c *Console) show(w http.ResponseWriter, r *http.Request, p page, status int) {
	f := p.frame()
	f.Words = language(w, r)
	f.Path, f.Here = r.URL.Path, r.URL
	f.Version, f.Now = c.o.Version, time.Now()
	f.Token = formToken(w, r)
	body, err := render(p)
	if err != nil {
		c.o.Fault(r.URL.Path, err)
		http.Error(w, "the page could not be drawn", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the operator is gone
}

const (
	langCookie  = "wxrelay_lang"
	tokenCookie = "wxrelay_form"
)

// language chooses the language: asked for in the address (and then kept), kept, or what the browser prefers.
func language(w http.ResponseWriter, r *http.Request) *Words {
	switch asked := r.URL.Query().Get("lang"); asked {
	case "en", "zh":
		http.SetCookie(w, &http.Cookie{Name: langCookie, Value: asked, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, SameSite: http.SameSiteStrictMode})
		return wordsOf(asked)
	}
	if kept, err := r.Cookie(langCookie); err == nil {
		return wordsOf(kept.Value)
	}
	first, _, _ := strings.Cut(r.Header.Get("Accept-Language"), ",")
	if strings.HasPrefix(strings.ToLower(strings.TrimSpace(first)), "zh") {
		return &Chinese
	}
	return &English
}

func wordsOf(lang string) *Words {
	if lang == "zh" {
		return &Chinese
	}
	return &English
}

// errForm says that a form was not made for the browser that posts it.
var errForm = errors.New("console: form and cookie differ")

// formToken gives a page the token its forms post back: the same as in a cookie no other site can read or set for us
// (SameSite=Strict). Nothing is kept here, so any replica takes the form of any other.
func formToken(w http.ResponseWriter, r *http.Request) string {
	if c, err := r.Cookie(tokenCookie); err == nil && len(c.Value) >= 26 {
		return c.Value
	}
	token := rand.Text()
	http.SetCookie(w, &http.Cookie{Name: tokenCookie, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	return token
}

// checkToken proves a posted form.
func checkToken(r *http.Request) error {
	c, err := r.Cookie(tokenCookie)
	if err != nil || len(c.Value) < 26 || subtle.ConstantTimeCompare([]byte(c.Value), []byte(r.PostFormValue("token"))) != 1 {
		return errForm
	}
	return nil
}

// replay is the one thing an operator can do here: send a delivery again, under the same webhook-id.
func (c *Console) replay(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	err := checkToken(r)
	if err == nil {
		_, err = c.o.Relay.ReplayDelivery(r.Context(), "", r.PathValue("id"))
	}
	if err != nil {
		p, status := c.trouble(r, err)
		c.show(w, r, p, status)
		return
	}
	back := r.PostFormValue("back")
	if !strings.HasPrefix(back, "/deliveries?") {
		back = "/deliveries?"
	}
	http.Redirect(w, r, back+"&done=replay", http.StatusSeeOther)
}

// enable brings an endpoint back that is benched or disabled; what was held for it goes on.
func (c *Console) enable(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	err := checkToken(r)
	if err == nil {
		_, err = c.o.Relay.EnableEndpoint(r.Context(), r.PathValue("partner"), r.PathValue("id"), "", nil)
	}
	if err != nil {
		p, status := c.trouble(r, err)
		c.show(w, r, p, status)
		return
	}
	http.Redirect(w, r, "/endpoints", http.StatusSeeOther)
}
