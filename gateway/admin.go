package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/gateway/console"
)

// Check is one thing that must hold for the gateway to be ready.
type Check = console.Check

// AdminOptions is what the operators' door is made of.
type AdminOptions struct {
	// Ready looks at everything that must hold; it is given 2 s. nil = always ready.
	Ready   func(context.Context) []Check
	Metrics http.Handler // nil = no /metrics
	Console http.Handler // the pages, and /api/ behind them; nil = none
	// Password asks for basic authentication (any user name) everywhere but at /healthz and /readyz. "" = nobody is asked,
	// which is for a listener on loopback only; requests by a foreign host name are then refused (DNS rebinding).
	Password string
}

// Admin builds the operators' door: / console, /api, /metrics, /healthz, /readyz, /debug/pprof.
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
	outer.Handle("/", closed(o.Password, mux))
	return outer
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

// closed lets in who knows the password. Digests of equal length are compared, so the time tells nothing of it.
func closed(password string, in http.Handler) http.Handler {
	want := sha256.Sum256([]byte(password))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if password == "" {
			if !nearHost(r.Host) {
				refuseAdmin(w, r, "Not under this host name", &fault{code: NotAllowed,
					detail: "without a password this door answers to addresses and localhost only; set admin.password to reach it by another name"})
				return
			}
			in.ServeHTTP(w, r)
			return
		}
		_, given, _ := r.BasicAuth()
		got := sha256.Sum256([]byte(given))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			refuseAdmin(w, r, "The password is missing or wrong", &fault{code: Unauthorized,
				detail: "give admin.password by basic authentication, with any user name", scope: `Basic realm="wxrelay", charset="UTF-8"`})
			return
		}
		in.ServeHTTP(w, r)
	})
}

// refuseAdmin answers under a title of this door's own: those of the codes speak of partners and signatures.
func refuseAdmin(w http.ResponseWriter, r *http.Request, title string, err error) {
	p := problemOf(err, requestID(r.Header.Get(requestIDHeader)))
	p.Title = title
	w.Header().Set(requestIDHeader, p.RequestID)
	p.write(w)
}

// nearHost tells whether a Host header is an address or localhost: a name an attacker's DNS answers for is neither.
func nearHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
