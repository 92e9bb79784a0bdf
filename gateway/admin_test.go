package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func say(body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
}

func TestAdminDoor(t *testing.T) {
	sick := false
	o := AdminOptions{Metrics: say("metrics"), Console: say("console"), Ready: func(ctx context.Context) []Check {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("the checks have no deadline")
		}
		return []Check{{Name: "redis", OK: !sick, Detail: "d"}, {Name: "queue", OK: true}}
	}}
	open := Admin(o)
	o.Password = "correct horse"
	locked := Admin(o)
	ask := func(h http.Handler, method, target, host, password string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, target, nil)
		r.Host = host
		if password != "" {
			r.SetBasicAuth("anyone", password)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		name                         string
		door                         http.Handler
		method, path, host, password string
		status                       int
		body                         string
	}{
		{"console", open, "GET", "/", "127.0.0.1:8081", "", 200, "console"},
		{"console below", open, "GET", "/messages/msg_1", "localhost:8081", "", 200, "console"},
		{"api", open, "GET", "/api/overview", "[::1]:8081", "", 200, "console"},
		{"metrics", open, "GET", "/metrics", "127.0.0.1:8081", "", 200, "metrics"},
		{"pprof", open, "GET", "/debug/pprof/", "127.0.0.1:8081", "", 200, "goroutine"},
		{"a profile", open, "GET", "/debug/pprof/goroutine?debug=1", "127.0.0.1:8081", "", 200, "goroutine profile"},
		{"rebound name", open, "GET", "/", "evil.example.com", "", 403, "not_allowed"},
		{"rebound name, metrics", open, "GET", "/metrics", "evil.example.com:8081", "", 403, "not_allowed"},
		{"no password", locked, "GET", "/", "ops.example.com", "", 401, "unauthorized"},
		{"wrong password", locked, "GET", "/metrics", "ops.example.com", "correct horsf", 401, "unauthorized"},
		{"longer password", locked, "GET", "/debug/pprof/", "ops.example.com", "correct horse!", 401, "unauthorized"},
		{"password", locked, "GET", "/", "ops.example.com", "correct horse", 200, "console"},
		{"password, metrics", locked, "GET", "/metrics", "ops.example.com", "correct horse", 200, "metrics"},
		{"health is open", locked, "GET", "/healthz", "10.1.2.3", "", 200, `"ok"`},
		{"ready is open", locked, "GET", "/readyz", "10.1.2.3", "", 200, `"redis"`},
		{"health takes no POST", locked, "POST", "/healthz", "10.1.2.3", "", 401, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ask(c.door, c.method, c.path, c.host, c.password)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if (w.Code == 401) != strings.HasPrefix(w.Header().Get("Www-Authenticate"), "Basic ") {
				t.Errorf("Www-Authenticate %q with %d", w.Header().Get("Www-Authenticate"), w.Code)
			}
		})
	}
	sick = true
	w := ask(locked, "GET", "/readyz", "h", "")
	var h health
	if err := json.Unmarshal(w.Body.Bytes(), &h); err != nil || w.Code != 503 || h.Status != "unready" || len(h.Checks) != 2 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(locked, "GET", "/healthz", "h", ""); w.Code != 200 {
		t.Errorf("alive but unready must still be alive: %d", w.Code)
	}
}
