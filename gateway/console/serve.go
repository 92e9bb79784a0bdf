package console

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay"
)

// page serves a reader as a page.
func (c *Console) page(read func(*http.Request) (page, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := read(r)
		status := http.StatusOK
		if err != nil {
			p, status = c.trouble(r, err)
		}
		c.show(w, r, p, status)
	}
}

// json serves the same reader as JSON.
func (c *Console) json(read func(*http.Request) (page, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := read(r)
		c.answer(w, r, p, err)
	}
}

// act serves a form: the change, then the page that shows it.
func (c *Console) act(a action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
		err := checkToken(r)
		var out any
		if err == nil {
			out, err = a.run(r, r.PostFormValue)
		}
		switch {
		case err != nil:
			p, status := c.trouble(r, err)
			c.show(w, r, p, status)
		case a.back == nil: // an answer that is shown once
			p, ok := out.(page)
			if !ok {
				p = &Trouble{}
			}
			c.show(w, r, p, http.StatusOK)
		default:
			http.Redirect(w, r, a.back(r, r.PostFormValue, out), http.StatusSeeOther)
		}
	}
}

// actJSON serves the same change to programs. No form of another site can send its Content-Type.
func (c *Console) actJSON(a action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			writeJSON(w, http.StatusUnsupportedMediaType, failure{"Content-Type must be application/json"})
			return
		}
		fields := map[string]string{}
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&fields)
		if err != nil && !errors.Is(err, io.EOF) {
			writeJSON(w, http.StatusBadRequest, failure{"the body must be a JSON object of texts"})
			return
		}
		out, err := a.run(r, func(name string) string { return fields[name] })
		c.answer(w, r, out, err)
	}
}

type failure struct {
	Error string `json:"error"`
}

func (c *Console) answer(w http.ResponseWriter, r *http.Request, v any, err error) {
	if err == nil {
		writeJSON(w, http.StatusOK, v)
		return
	}
	status, reason := statusOf(err)
	if status == http.StatusServiceUnavailable {
		c.o.Fault(r.URL.Path, err)
	}
	writeJSON(w, status, failure{reason})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // the caller is gone
}

// errForm says that a form was not made for the browser that posts it.
var errForm = errors.New("console: form and cookie differ")

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

// statusOf is the status and the reason an error is answered with.
func statusOf(err error) (int, string) {
	var inv *relay.Invalid
	switch {
	case errors.Is(err, relay.ErrNotFound), errors.Is(err, relay.ErrNotAllowed):
		return http.StatusNotFound, "nothing there under this name"
	case errors.Is(err, relay.ErrTooLate), errors.Is(err, relay.ErrManagedByConfig):
		return http.StatusConflict, err.Error()
	case errors.As(err, &inv):
		return http.StatusUnprocessableEntity, inv.Error()
	}
	return http.StatusServiceUnavailable, "Redis or WeChat did not answer"
}

// show fills the frame and renders.
func (c *Console) show(w http.ResponseWriter, r *http.Request, p page, status int) {
	f := p.frame()
	f.Lang, f.Zone = language(w, r), zone(w, r)
	f.Path, f.Here = r.URL.Path, r.URL
	f.Version, f.Now = c.o.Version, time.Now()
	f.Visitor = visitorOf(r.Context())
	f.Token = formToken(w, r)
	if f.Done == "" {
		f.Done = r.URL.Query().Get("done")
	}
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
	zoneCookie  = "wxrelay_zone"
	tokenCookie = "wxrelay_form"
)

// chosen is a choice of the reader: asked for in the address (and then kept), or kept; "" = not made.
func chosen(w http.ResponseWriter, r *http.Request, param, cookie string, among ...string) string {
	asked := r.URL.Query().Get(param)
	for _, value := range among {
		if asked == value {
			http.SetCookie(w, &http.Cookie{Name: cookie, Value: value, Path: "/", MaxAge: 365 * 24 * 3600, HttpOnly: true, SameSite: http.SameSiteStrictMode})
			return value
		}
	}
	if kept, err := r.Cookie(cookie); err == nil {
		for _, value := range among {
			if kept.Value == value {
				return value
			}
		}
	}
	return ""
}

// language chooses the language: the reader's choice, or what the browser prefers.
func language(w http.ResponseWriter, r *http.Request) string {
	if lang := chosen(w, r, "lang", langCookie, "en", "zh"); lang != "" {
		return lang
	}
	first, _, _ := strings.Cut(r.Header.Get("Accept-Language"), ",")
	if strings.HasPrefix(strings.ToLower(strings.TrimSpace(first)), "zh") {
		return "zh"
	}
	return "en"
}

// zone chooses how times are shown: in Beijing's time, or in the browser's.
func zone(w http.ResponseWriter, r *http.Request) string {
	if z := chosen(w, r, "zone", zoneCookie, "beijing", "local"); z != "" {
		return z
	}
	return "beijing"
}

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
