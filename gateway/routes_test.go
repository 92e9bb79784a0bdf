package gateway

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"
)

func TestWhatThisDoorDoesNotHave(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		for _, c := range [][2]string{
			{"GET", "/"}, {"GET", "/metrics"}, {"GET", "/debug/pprof/"}, {"GET", "/readyz"}, {"GET", "/callback"}, {"GET", "/callback/"},
			{"GET", "/mp/shop/login/"}, {"POST", "/mp/shop"}, {"GET", "/v1/partners/orders"}, {"GET", "//v1/partners/orders/messages"},
			{"POST", "/V1/partners/orders/messages"}, {"GET", "/v1/partners/orders/messages/"}, {"GET", "/v1/partners/orders/nonsense"},
		} {
			got := w.do(httptest.NewRequest(c[0], c[1], nil)).got(404, NotFound)
			if got.Header().Get("Location") != "" {
				t.Errorf("%s %s redirects", c[0], c[1])
			}
		}
	})
}

func TestMethodsThatAPathDoesNotTake(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		for _, c := range []struct{ method, path, allow string }{
			{"PUT", "/callback/shop", "GET, POST"},
			{"OPTIONS", "/mp/shop/login", "POST"},
			{"GET", "/mp/shop/login", "POST"},
			{"HEAD", "/mp/shop/subscriptions", "GET, POST"},
			{"OPTIONS", "/v1/partners/orders/messages", "GET, POST"},
			{"PATCH", "/v1/partners/orders/messages", "GET, POST"},
			{"POST", "/v1/partners/orders/bindings/shop/u1", "DELETE, GET, PUT"},
			{"POST", "/problems", "GET"},
			{"DELETE", "/healthz", "GET, HEAD"},
		} {
			got := w.do(httptest.NewRequest(c.method, c.path, nil)).got(405, MethodNotAllowed)
			allow := strings.Split(got.Header().Get("Allow"), ", ")
			slices.Sort(allow)
			if strings.Join(allow, ", ") != c.allow {
				t.Errorf("%s %s: Allow %q, want %q", c.method, c.path, allow, c.allow)
			}
		}
	})
}

// The gateway that stops, or whose Redis is away, still serves: whoever asks /healthz must not kill it for that.
func TestHealthzAnswersWhileTheProcessServes(t *testing.T) {
	stopping := Public(Options{Stopping: func() bool { return true }})
	for _, method := range []string{"GET", "HEAD"} {
		rec := httptest.NewRecorder()
		stopping.ServeHTTP(rec, httptest.NewRequest(method, "/healthz", nil))
		if rec.Code != 200 || rec.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", method, rec.Code, rec.Header())
		}
		if rec.Body.Len() > 0 {
			t.Errorf("it says %s", rec.Body)
		}
	}
}

func TestCallbackDoorIsReached(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		for _, app := range []string{"shop", "nowhere", "sh%6Fp"} {
			got := w.do(httptest.NewRequest("POST", "/callback/"+app+"?signature=x&timestamp=1&nonce=2", strings.NewReader("<xml/>")))
			if got.Code != 403 || got.Body.Len() > 0 || got.Header().Get("X-Request-Id") != "" {
				t.Errorf("an unproven push is answered %d %q", got.Code, got.Body)
			}
		}
		door := httptest.NewServer(w.gate)
		defer door.Close()
		for _, url := range []string{door.URL + "/callback/shop", door.URL + "/callback/shop/"} { // one slash at the end is the same URL
			w.sim.SetApp("shop", appAt(url))
			if err := w.sim.VerifyCallback(t.Context(), "shop"); err != nil {
				t.Errorf("%s: %v", url, err)
			}
		}
	})
}

func TestAPanicSaysNothing(t *testing.T) {
	var told []string
	g := Public(Options{Fault: func(id, route string, err error) { told = append(told, id+" "+route+" "+err.Error()) }})
	g.engine.GET("/boom", g.outer, func(*gin.Context) { panic(errors.New("hunter2")) })
	g.engine.GET("/late", g.outer, func(c *gin.Context) { _, _ = c.Writer.WriteString("half"); panic("hunter2") })
	g.engine.GET("/push", g.quiet, func(*gin.Context) { panic("hunter2") })
	g.engine.GET("/gone", g.outer, func(*gin.Context) { panic(http.ErrAbortHandler) })
	ask := func(path string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
		r.Header.Set("X-Request-Id", "r1")
		g.ServeHTTP(w, r)
		return w
	}
	w := ask("/boom")
	answer{w, t}.got(500, Internal)
	if strings.Contains(w.Body.String(), "hunter2") || len(told) != 1 || !strings.HasPrefix(told[0], "r1 /boom panic: hunter2\n") {
		t.Errorf("outside: %s; operator: %q", w.Body, told)
	}
	if w := ask("/late"); w.Body.String() != "half" || len(told) != 2 {
		t.Errorf("a half answer became %s", w.Body)
	}
	if w := ask("/push"); w.Code != 500 || w.Body.Len() > 0 || len(told) != 3 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler {
				t.Errorf("the abort became %v", p)
			}
		}()
		ask("/gone")
	}()
}

func TestStopping(t *testing.T) {
	stop := true
	g := Public(Options{Stopping: func() bool { return stop }})
	for _, path := range []string{"/v1/partners/orders/messages", "/mp/shop/subscriptions", "/nowhere"} {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		answer{w, t}.got(503, Unavailable)
	}
	stop = false
	w := httptest.NewRecorder()
	g.ServeHTTP(w, httptest.NewRequest("GET", "/nowhere", nil))
	answer{w, t}.got(404, NotFound)
}
