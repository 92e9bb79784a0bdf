package console

import (
	"encoding/json"
	"mime"
	"net/http"

	"github.com/wxrelay/wxrelay/relay"
)

// api registers the JSON face: the same facts as the pages, by the same readers.
//
//	GET  /api/overview                          GET /api/users?app=&openid=
//	GET  /api/messages?app=&state=              GET /api/messages/{id}
//	GET  /api/deliveries?endpoint=&state=       GET /api/endpoints      GET /api/errcodes
//	POST /api/deliveries/{id}/replay            (Content-Type: application/json, which no form of another site can send)
func (c *Console) api() {
	for pattern, read := range map[string]func(*http.Request) (page, error){
		"GET /api/overview":      c.overview,
		"GET /api/users":         c.user,
		"GET /api/messages":      c.messages,
		"GET /api/messages/{id}": c.message,
		"GET /api/deliveries":    c.deliveries,
		"GET /api/endpoints":     c.endpoints,
		"GET /api/errcodes":      c.errcodes,
		"/api/":                  func(*http.Request) (page, error) { return nil, relay.ErrNotFound },
	} {
		c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			p, err := read(r)
			c.answer(w, r, p, err)
		})
	}
	c.mux.HandleFunc("POST /api/deliveries/{id}/replay", func(w http.ResponseWriter, r *http.Request) {
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			writeJSON(w, http.StatusUnsupportedMediaType, failure{"Content-Type must be application/json"})
			return
		}
		d, err := c.o.Relay.ReplayDelivery(r.Context(), "", r.PathValue("id"))
		c.answer(w, r, d, err)
	})
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
