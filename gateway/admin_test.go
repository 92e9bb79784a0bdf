package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	o.Users = []AdminUser{{Password: "correct horse"}}
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

// asUser asks the operators' handler over the network address of a client.
func asUser(h http.Handler, method, target, client, name, password string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host, r.RemoteAddr = "ops.example.com", client+":4711"
	if password != "" {
		r.SetBasicAuth(name, password)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestPasswordGuessing(t *testing.T) {
	type told struct {
		Client string
		Wrong  int
	}
	var heard []told
	guesses := &Guesses{}
	make := func() http.Handler {
		return Admin(AdminOptions{Console: say("console"), Users: []AdminUser{{Password: "correct horse"}}, Guesses: guesses,
			Guessed: func(client string, wrong int) { heard = append(heard, told{client, wrong}) }})
	}
	h := make()
	const guesser, other = "203.0.113.9", "203.0.113.10"
	for range 50 { // a browser asks without a password first; that is no guess
		if w := asUser(h, "GET", "/", guesser, "", ""); w.Code != 401 {
			t.Fatal(w.Code)
		}
	}
	for i := range 10 {
		if w := asUser(h, "GET", "/", guesser, "root", "guess"); w.Code != 401 {
			t.Fatalf("try %d: %d", i+1, w.Code)
		}
	}
	h = make() // a reload of the config forgets nothing
	for range 3 {
		w := asUser(h, "GET", "/metrics", guesser, "root", "correct horse")
		if after := w.Header().Get("Retry-After"); w.Code != 429 || after == "" || after == "0" {
			t.Fatalf("the 11th is %d, Retry-After %q", w.Code, after)
		}
	}
	if w := asUser(h, "GET", "/", other, "root", "correct horse"); w.Code != 200 {
		t.Errorf("another address: %d", w.Code)
	}
	if diff := cmp.Diff([]told{{guesser, 1}, {guesser, 10}}, heard); diff != "" {
		t.Error(diff)
	}
	if w := asUser(h, "GET", "/healthz", guesser, "", ""); w.Code != 200 {
		t.Errorf("health needs no password: %d", w.Code)
	}
}

func TestGuessesOverTime(t *testing.T) {
	var g Guesses
	now := time.Unix(1_700_000_000, 0)
	wrong, right := func() bool { return false }, func() bool { return true }
	for i := range 10 {
		if wait, n := g.try("a", now.Add(time.Duration(i)*time.Second), wrong); wait != 0 || n != i+1 {
			t.Fatalf("try %d waits %s, %d wrong", i+1, wait, n)
		}
	}
	if wait, _ := g.try("a", now.Add(20*time.Second), right); wait != 40*time.Second {
		t.Errorf("waits %s, want the rest of the minute", wait)
	}
	if wait, n := g.try("a", now.Add(time.Minute), wrong); wait != 0 || n != 11 {
		t.Errorf("after a minute: waits %s, %d wrong", wait, n)
	}
	for i := range 3 * maxGuessers { // a flood of addresses costs bounded memory
		g.try(fmt.Sprint(i), now.Add(time.Minute), wrong)
	}
	if len(g.from) > maxGuessers {
		t.Errorf("%d addresses are remembered, at most %d", len(g.from), maxGuessers)
	}
	var many Guesses // at once: the compare is not raced past
	var looked atomic.Int32
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { many.try("a", now, func() bool { looked.Add(1); return false }) })
	}
	all.Wait()
	if looked.Load() != guessesAllowed {
		t.Errorf("%d of 100 guesses at once were looked at", looked.Load())
	}
}

func TestUsersAndRoles(t *testing.T) {
	var heard []Change
	h := Admin(AdminOptions{Console: say("done"), Audit: func(c Change) { heard = append(heard, c) },
		Users: []AdminUser{{Password: "the old password"}, {Name: "ann", Password: "ann's password"}, {Name: "vic", Password: "vic's password", Viewer: true}}})
	const client = "203.0.113.9"
	for _, c := range []struct {
		method, name, password string
		status                 int
	}{
		{"GET", "vic", "vic's password", 200},
		{"HEAD", "vic", "vic's password", 200},
		{"POST", "vic", "vic's password", 403},
		{"DELETE", "vic", "vic's password", 403},
		{"POST", "ann", "ann's password", 200},
		{"POST", "whoever", "the old password", 200},
		{"POST", "ann", "vic's password", 401},
		{"GET", "vic", "ann's password", 401},
		{"GET", "ann", "", 401},
	} {
		if w := asUser(h, c.method, "/deliveries/dlv_1/replay", client, c.name, c.password); w.Code != c.status {
			t.Errorf("%s as %s: %d, want %d", c.method, c.name, w.Code, c.status)
		}
	}
	for i := range heard {
		if heard[i].RequestID == "" {
			t.Error("no request id")
		}
		heard[i].RequestID = ""
	}
	const path = "/deliveries/dlv_1/replay"
	want := []Change{{"", "vic", client, "POST", path, 403}, {"", "vic", client, "DELETE", path, 403}, {"", "ann", client, "POST", path, 200}, {"", "whoever", client, "POST", path, 200}}
	if diff := cmp.Diff(want, heard); diff != "" {
		t.Error(diff)
	}
}

func TestNothingOfTheAdminHandlerIsCached(t *testing.T) {
	h := Admin(AdminOptions{Console: say("page"), Metrics: say("metrics"), Users: []AdminUser{{Password: "pw"}}})
	for _, path := range []string{"/", "/style.css", "/metrics", "/healthz", "/readyz", "/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline", "/nowhere"} {
		for _, password := range []string{"pw", ""} {
			if w := asUser(h, "GET", path, "203.0.113.9", "ann", password); w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s (%d): Cache-Control %q", path, w.Code, w.Header().Get("Cache-Control"))
			}
		}
	}
}
