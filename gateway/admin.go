package gateway

import (
	"context"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/wxrelay/wxrelay/gateway/console"
)

// Check is one thing that must hold for the gateway to be ready.
type Check = console.Check

// AdminOptions is what the operators' handler is made of.
type AdminOptions struct {
	// Ready looks at everything that must hold; it is given 2 s. nil = always ready.
	Ready   func(context.Context) []Check
	Metrics http.Handler // nil = no /metrics
	Console http.Handler // the pages, and /api/ behind them; nil = none
	// Users may come in, each with a password of its own, by basic authentication, everywhere but at /healthz and
	// /readyz. None = nobody is asked, which is for a listener on loopback only; requests by a foreign host name are
	// then refused (DNS rebinding).
	Users          []AdminUser
	TrustedProxies Proxies  // see Limits
	Guesses        *Guesses // the wrong passwords of before, kept while the rest is replaced; nil = none yet
	// Guessed is called with the first wrong password of an address, and with every tenth. nil = not called.
	Guessed func(client string, wrong int)
	// Audit is called after the answer to every request that may change something. nil = not called.
	Audit func(Change)
}

// Admin is the operators' handler: / console, /api, /metrics, /healthz, /readyz, /debug/pprof. Nothing of it may be
// cached.
func Admin(o AdminOptions) http.Handler {
	mux := http.NewServeMux()
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics)
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	if o.Console != nil {
		mux.Handle("/", o.Console)
	}
	outer := http.NewServeMux()
	outer.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, "application/json", health{Status: "ok"})
	})
	outer.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { ready(w, r, o.Ready) })
	outer.Handle("/", newAdminAccess(o, mux))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Cache-Control"] = noStore
		outer.ServeHTTP(w, r)
	})
}

// health is the answer of /healthz and /readyz.
type health struct {
	Status string  `json:"status"` // ok | unready
	Checks []Check `json:"checks,omitempty"`
}

func ready(w http.ResponseWriter, r *http.Request, look func(context.Context) []Check) {
	h, status := health{Status: "ok"}, http.StatusOK
	if look != nil {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		h.Checks = look(ctx)
	}
	for _, c := range h.Checks {
		if !c.OK {
			h.Status, status = "unready", http.StatusServiceUnavailable
		}
	}
	writeJSON(w, status, "application/json", h)
}
