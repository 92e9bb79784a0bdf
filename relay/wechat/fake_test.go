package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	testAppID  = "wx0123456789abcdef"
	testSecret = "5ecre75ecre75ecre75ecre75ecre700"
)

// fake is a small WeChat: tokens by wechat-protocol section 9, everything else as a test says.
type fake struct {
	mu      sync.Mutex
	life    time.Duration        // of a token; 7200 s
	serial  int                  // numbers the tokens
	stable  *fakeToken           // current stable token
	valid   map[string]time.Time // token -> until
	calls   map[string]int       // by path, force_refresh as "force"
	refuse  *APIError            // what token endpoints answer instead, nil = tokens
	gate    chan struct{}        // token endpoints wait for it when set
	arrived chan string          // told of every token request when set
	answer  map[string]http.HandlerFunc
	tamper  func(w http.ResponseWriter, r *http.Request, body []byte) bool // sees everything first
}

type fakeToken struct {
	value string
	ends  time.Time
}

func newFake() *fake {
	return &fake{life: 7200 * time.Second, valid: map[string]time.Time{}, calls: map[string]int{}, answer: map[string]http.HandlerFunc{}}
}

func (f *fake) with(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[path]
}

// kill ends a token before its time; replaced says whether the platform itself knows (the plain call gives another).
func (f *fake) kill(value string, replaced bool) {
	f.with(func(f *fake) {
		delete(f.valid, value)
		if replaced && f.stable != nil && f.stable.value == value {
			f.stable = nil
		}
	})
}

func (f *fake) issue() fakeToken {
	f.serial++
	tok := fakeToken{value: fmt.Sprintf("T%d_%s", f.serial, strings.Repeat("x", 120)), ends: time.Now().Add(f.life)}
	f.valid[tok.value] = tok.ends
	return tok
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	f.calls[r.URL.Path]++
	tamper, gate, arrived := f.tamper, f.gate, f.arrived
	f.mu.Unlock()
	if tamper != nil && tamper(w, r, body) {
		return
	}
	switch r.URL.Path {
	case pathStable, pathClassic:
		if arrived != nil {
			arrived <- r.URL.Path
		}
		if gate != nil {
			<-gate
		}
		f.serveToken(w, r, body)
		return
	}
	f.mu.Lock()
	handler := f.answer[r.URL.Path]
	until, known := f.valid[r.URL.Query().Get("access_token")]
	f.mu.Unlock()
	if r.URL.Path != pathLogin {
		switch {
		case !known:
			refuseWith(w, 40001, "invalid credential, access_token is invalid or not latest rid: 6aac005a-01bfdbee-79769285")
			return
		case time.Now().After(until):
			refuseWith(w, 42001, "access_token expired rid: 6aac005a-01bfdbee-79769286")
			return
		}
	}
	if handler == nil {
		reply(w, `{"errcode":0,"errmsg":"ok","msgid":1988810812324364291}`)
		return
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	handler(w, r)
}

func (f *fake) serveToken(w http.ResponseWriter, r *http.Request, body []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in := struct {
		AppID  string `json:"appid"`
		Secret string `json:"secret"`
		Force  bool   `json:"force_refresh"`
	}{AppID: r.URL.Query().Get("appid"), Secret: r.URL.Query().Get("secret")}
	if r.URL.Path == pathStable {
		_ = json.Unmarshal(body, &in)
	}
	switch {
	case f.refuse != nil:
		refuseWith(w, f.refuse.Code, f.refuse.Msg)
		return
	case in.AppID != testAppID:
		refuseWith(w, 40013, "invalid appid rid: 6aac005a-01bfdbee-79769285")
		return
	case in.Secret != testSecret:
		refuseWith(w, 40125, "invalid appsecret rid: 6aac005a-01bfdbee-79769285")
		return
	}
	var tok fakeToken
	now := time.Now()
	switch {
	case r.URL.Path == pathClassic:
		for value, ends := range f.valid { // the one before lives 5 minutes more
			f.valid[value] = earlier(ends, now.Add(5*time.Minute))
		}
		tok = f.issue()
	case in.Force:
		f.calls["force"]++
		if f.stable != nil {
			delete(f.valid, f.stable.value)
		}
		tok = f.issue()
		f.stable = &tok
	default:
		if f.stable == nil || f.stable.ends.Sub(now) <= 5*time.Minute {
			next := f.issue()
			f.stable = &next
		}
		tok = *f.stable
	}
	reply(w, fmt.Sprintf(`{"access_token":%q,"expires_in":%d}`, tok.value, int(tok.ends.Sub(now)/time.Second)))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func reply(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json; encoding=utf-8")
	_, _ = io.WriteString(w, body)
}

func refuseWith(w http.ResponseWriter, code int, msg string) {
	reply(w, fmt.Sprintf(`{"errcode":%d,"errmsg":%q}`, code, msg))
}

func testApp() App { return App{Name: "shop", AppID: testAppID, Secret: testSecret} }

// newTestClient speaks to the server at base for one app; change may alter its options.
func newTestClient(t testing.TB, rdb redis.UniversalClient, base string, change ...func(*Options)) *Client {
	t.Helper()
	o := Options{BaseURL: base, Apps: []App{testApp()}}
	for _, f := range change {
		f(&o)
	}
	c, err := New(rdb, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.renewals.wait()
		c.transport.CloseIdleConnections()
	})
	return c
}

func serveFake(t *testing.T, f *fake) string {
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

// pipeListener serves HTTP over net.Pipe: no sockets, so that a synctest bubble's clock can run.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (l *pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.done:
		return nil, errors.New("connection refused")
	}
}

// bubble serves f without sockets; its return value makes a client of options speak to it.
func bubble(t *testing.T, f http.Handler) func(c *Client) *Client {
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	s := &http.Server{Handler: f}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return func(c *Client) *Client {
		c.transport.DialContext = l.dial
		c.transport.Proxy = nil
		return c
	}
}

// alerts collects what OnAlert heard.
type alerts struct {
	mu   sync.Mutex
	errs []error
}

func (a *alerts) add(_ string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.errs = append(a.errs, err)
}

func (a *alerts) all() []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]error(nil), a.errs...)
}
