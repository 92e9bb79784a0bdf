package wechat

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/silenceper/wechat/v2/credential"
	sdk "github.com/silenceper/wechat/v2/miniprogram/context"
	"github.com/silenceper/wechat/v2/miniprogram/subscribe"
)

const testCode = "0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P"

// hijack takes the connection over: what HTTP cannot do, a test does.
func hijack(w http.ResponseWriter, f func(net.Conn)) bool {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	f(conn)
	_ = conn.Close()
	return true
}

type fault struct {
	name  string
	want  error
	serve func(w http.ResponseWriter, r *http.Request, body []byte) bool // server side fault
	alter func(c *Client)                                                // client side fault
}

func faults() []fault {
	raw := func(text string) func(http.ResponseWriter, *http.Request, []byte) bool {
		return func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			return hijack(w, func(c net.Conn) {
				_, _ = io.WriteString(c, strings.ReplaceAll(text, "ECHO", r.URL.RequestURI()+" "+string(body)))
			})
		}
	}
	status := func(code int) func(http.ResponseWriter, *http.Request, []byte) bool {
		return func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			w.Header().Set("Location", r.URL.RequestURI())
			w.WriteHeader(code)
			_, _ = fmt.Fprintf(w, `{"errcode":0,"msgid":1,"openid":"o","access_token":"x","echo":%q}`, r.URL.RequestURI()+string(body))
			return true
		}
	}
	text := func(body string) func(http.ResponseWriter, *http.Request, []byte) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { reply(w, body); return true }
	}
	dial := func(err error) func(c *Client) {
		return func(c *Client) {
			c.transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, err }
		}
	}
	return []fault{
		{name: "refused", want: ErrNotLeft, alter: dial(&net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connect: connection refused")})},
		{name: "DNS", want: ErrNotLeft, alter: dial(&net.DNSError{Err: "no such host", Name: "api.weixin.qq.com", IsNotFound: true})},
		{name: "no TLS there", want: ErrNotLeft, alter: func(c *Client) { c.root.Scheme = "https" }},
		{name: "reset", want: ErrNoAnswer, serve: func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			return hijack(w, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) })
		}},
		{name: "closed", want: ErrNoAnswer, serve: raw("")},
		{name: "hangs", want: ErrNoAnswer, alter: func(c *Client) { c.o.Timeout = 50 * time.Millisecond },
			serve: func(_ http.ResponseWriter, r *http.Request, _ []byte) bool { <-r.Context().Done(); return true }},
		{name: "hangs in the body", want: ErrNoAnswer, alter: func(c *Client) { c.o.Timeout = 50 * time.Millisecond },
			serve: func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				_, _ = io.WriteString(w, `{"errcode":`)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
				return true
			}},
		{name: "malformed, echoing", want: ErrNoAnswer, serve: raw("ECHO\r\n\r\n")},
		{name: "bad header, echoing", want: ErrNoAnswer, serve: raw("HTTP/1.1 200 OK\r\nECHO\r\n\r\n{}")},
		{name: "cut", want: ErrNoAnswer, serve: raw("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"errcode\":0,")},
		{name: "too long", want: ErrNoAnswer, serve: text(`{"errcode":0,"msgid":1,"pad":"` + strings.Repeat("x", answerLimit) + `"}`)},
		{name: "500", want: ErrNoAnswer, serve: status(500)},
		{name: "502", want: ErrNoAnswer, serve: status(502)},
		{name: "404", want: ErrNoAnswer, serve: status(404)},
		{name: "302", want: ErrNoAnswer, serve: status(302)},
		{name: "307", want: ErrNoAnswer, serve: status(307)},
		{name: "204", want: ErrNoAnswer, serve: func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { w.WriteHeader(204); return true }},
		{name: "empty", want: ErrNoAnswer, serve: text("")},
		{name: "HTML", want: ErrNoAnswer, serve: text("<html>busy</html>")},
		{name: "array", want: ErrNoAnswer, serve: text(`[{"errcode":0}]`)},
		{name: "no verdict", want: ErrNoAnswer, serve: text(`{"status":"ok"}`)},
		{name: "errcode a word", want: ErrNoAnswer, serve: text(`{"errcode":"fine","errmsg":"` + testSecret + `"}`)},
		{name: "half JSON", want: ErrNoAnswer, serve: text(`{"errcode":0`)},
	}
}

// Every failure, on every call: typed, and without a secret in whatever way it is printed.
func TestFailuresAreTypedAndClean(t *testing.T) {
	for _, x := range faults() {
		t.Run(x.name, func(t *testing.T) {
			f := newFake()
			base := serveFake(t, f)
			var codes []int
			c := newTestClient(t, miniClient(t, miniredis.RunT(t)), base, func(o *Options) {
				o.OnCall = func(_ context.Context, _, _ string, code int, _ time.Duration) { codes = append(codes, code) }
			})
			tok := mustToken(t, c)
			c.renewals.wait()
			codes = nil
			c.transport.CloseIdleConnections()
			if x.alter != nil {
				x.alter(c)
			}
			f.with(func(f *fake) { f.tamper = x.serve })
			k, _ := c.keeper("shop")
			calls := map[string]func() error{
				"send": func() error { return send(t, c) },
				"login": func() error {
					_, err := c.Login(t.Context(), "shop", testCode)
					return err
				},
				"templates": func() error { _, err := c.Templates(t.Context(), "shop"); return err },
				"phone":     func() error { _, err := c.Phone(t.Context(), "shop", testCode); return err },
				"stable":    func() error { _, err := k.fetchStable(t.Context(), true); return err },
				"classic":   func() error { _, err := k.fetchClassic(t.Context()); return err },
			}
			for name, call := range calls {
				if x.name == "no verdict" && name == "templates" {
					continue // an empty list is a list
				}
				err := call()
				if !errors.Is(err, x.want) || errors.Is(err, ErrNoAnswer) == errors.Is(err, ErrNotLeft) {
					t.Errorf("%s: %v", name, err)
				}
				mustBeClean(t, name, err, tok.Value)
				var u *url.Error
				if errors.As(err, &u) {
					t.Errorf("%s: the URL can be unwrapped", name)
				}
			}
			want := CodeNoAnswer
			if x.want == ErrNotLeft {
				want = CodeNotLeft
			}
			for _, code := range codes {
				if code != want {
					t.Errorf("OnCall got %d, want %d", code, want)
				}
			}
		})
	}
}

func mustBeClean(t *testing.T, name string, err error, secrets ...string) {
	t.Helper()
	for _, format := range []string{"%v", "%+v", "%#v", "%q"} {
		text := fmt.Sprintf(format, err)
		for _, s := range append(secrets, testSecret, testCode, url.QueryEscape(testSecret)) {
			if strings.Contains(text, s) {
				t.Errorf("%s: %s shows a secret: %s", name, format, text)
			}
		}
	}
}

// WeChat's own words are scrubbed as well.
func TestErrmsgIsScrubbed(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		c := newTestClient(t, rdb, serveFake(t, f))
		tok := mustToken(t, c)
		f.with(func(f *fake) {
			f.tamper = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
				refuseWith(w, 47003, "bad request "+r.URL.RequestURI()+" body "+string(body)+" access_token=ANOTHER&x=1 rid: 1a-2b-3c")
				return true
			}
		})
		for name, err := range map[string]error{
			"send":  send(t, c),
			"login": func() error { _, err := c.Login(t.Context(), "shop", testCode); return err }(),
			"phone": func() error { _, err := c.Phone(t.Context(), "shop", testCode); return err }(),
		} {
			var api *APIError
			if !errors.As(err, &api) || api.Code != 47003 || api.RID != "1a-2b-3c" {
				t.Errorf("%s: %v", name, err)
				continue
			}
			mustBeClean(t, name, err, tok.Value, "ANOTHER")
		}
	})
}

func TestPrintedFormsShowNoSecret(t *testing.T) {
	c := newTestClient(t, miniClient(t, miniredis.RunT(t)), "http://unused.invalid")
	k, _ := c.keeper("shop")
	for _, v := range []any{c, testApp(), []App{testApp()}, Options{Apps: []App{testApp()}}, Token{Value: testCode}, Login{SessionKey: testCode},
		&TokenError{App: "shop", Err: &failure{kind: ErrNoAnswer, why: "timeout"}}, k.failed} {
		mustBeClean(t, fmt.Sprintf("%T", v), fmt.Errorf("%v %+v %#v", v, v, v))
	}
}

// net/http repeats a request on its own when a kept connection turns out dead. Not one that may have been read.
func TestSendIsNeverResent(t *testing.T) {
	for _, how := range []string{"closed", "reset"} {
		t.Run(how, func(t *testing.T) {
			f := newFake()
			c := newTestClient(t, miniClient(t, miniredis.RunT(t)), serveFake(t, f))
			if err := send(t, c); err != nil { // the connection is warm now
				t.Fatal(err)
			}
			var reused atomic.Int32
			f.with(func(f *fake) {
				f.tamper = func(w http.ResponseWriter, _ *http.Request, body []byte) bool {
					if len(body) == 0 {
						t.Error("the body was not read")
					}
					reused.Add(1)
					return hijack(w, func(conn net.Conn) {
						if how == "reset" {
							_ = conn.(*net.TCPConn).SetLinger(0)
						}
					})
				}
			})
			if err := send(t, c); !errors.Is(err, ErrNoAnswer) {
				t.Errorf("got %v", err)
			}
			if n := reused.Load(); n != 1 {
				t.Errorf("the server read the message %d times", n)
			}
		})
	}
}

func TestHTTP2(t *testing.T) {
	f := newFake()
	s := httptest.NewUnstartedServer(f)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	c := newTestClient(t, miniClient(t, miniredis.RunT(t)), s.URL)
	c.transport.TLSClientConfig = &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	var proto atomic.Int32
	f.tamper = func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		proto.Store(int32(r.ProtoMajor))
		return false
	}
	if err := send(t, c); err != nil {
		t.Fatal(err)
	}
	if proto.Load() != 2 {
		t.Fatalf("HTTP/%d", proto.Load())
	}
	var read atomic.Int32
	f.with(func(f *fake) {
		f.tamper = func(http.ResponseWriter, *http.Request, []byte) bool { read.Add(1); panic(http.ErrAbortHandler) }
	})
	if err := send(t, c); !errors.Is(err, ErrNoAnswer) || read.Load() != 1 {
		t.Errorf("stream reset after %d reads: %v", read.Load(), err)
	}
}

// A certificate nobody trusts: refused before anything is written.
func TestUntrustedCertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(newFake())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	c := newTestClient(t, miniClient(t, miniredis.RunT(t)), s.URL)
	if _, err := c.Login(t.Context(), "shop", testCode); !errors.Is(err, ErrNotLeft) {
		t.Errorf("got %v", err)
	}
}

func TestContextEnded(t *testing.T) {
	f := newFake()
	c := newTestClient(t, miniClient(t, miniredis.RunT(t)), serveFake(t, f))
	mustToken(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Send(ctx, "shop", ChannelSubscribe, json.RawMessage(`{}`))
	if !errors.Is(err, ErrNotLeft) || !errors.Is(err, context.Canceled) {
		t.Errorf("ended before: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	f.with(func(f *fake) {
		f.tamper = func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
			cancel()
			<-r.Context().Done()
			return true
		}
	})
	_, err = c.Send(ctx, "shop", ChannelSubscribe, json.RawMessage(`{}`))
	if !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.Canceled) {
		t.Errorf("ended while out: %v", err)
	}
}

// The SDK's methods without ctx would go to the real host: the RoundTripper refuses them.
func TestSDKCallWithoutExchangeIsRefused(t *testing.T) {
	s := subscribe.NewSubscribe(&sdk.Context{AccessTokenContextHandle: fixedToken("token")})
	if err := s.Send(&subscribe.Message{}); !errors.Is(err, errNoExchange) {
		t.Errorf("subscribe.Send: %v", err)
	}
	if _, err := credential.GetTokenFromServer(sdkHost + pathClassic); !errors.Is(err, errNoExchange) {
		t.Errorf("GetTokenFromServer: %v", err)
	}
}

// Several clients in one process, each with its own WeChat, at the same time.
func TestClientsDoNotMix(t *testing.T) {
	var wg sync.WaitGroup
	rdb := miniClient(t, miniredis.RunT(t))
	for i := range 8 {
		name := fmt.Sprintf("server-%d", i)
		f := newFake()
		f.tamper = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			if !strings.HasPrefix(r.URL.Path, "/"+name+"/a b/") {
				t.Errorf("%s was asked for %s", name, r.URL.Path)
			}
			reply(w, `{"openid":"`+name+`","session_key":"k"}`)
			return true
		}
		c := newTestClient(t, rdb, serveFake(t, f)+"/"+name+"/a%20b/")
		for range 20 {
			wg.Go(func() {
				l, err := c.Login(t.Context(), "shop", testCode)
				if err != nil || l.OpenID != name {
					t.Errorf("%s answered %q, %v", name, l.OpenID, err)
				}
			})
		}
	}
	wg.Wait()
}

// As many connections as requests in flight, kept (Go's default keeps 2).
func TestConnectionsAreKept(t *testing.T) {
	f := newFake()
	var opened atomic.Int32
	s := httptest.NewUnstartedServer(f)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	c := newTestClient(t, miniClient(t, miniredis.RunT(t)), s.URL)
	mustToken(t, c)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 30 {
				if err := send(t, c); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := opened.Load(); n > 64 {
		t.Errorf("%d connections for 32 in flight", n)
	}
}

func TestNewRefuses(t *testing.T) {
	rdb := miniClient(t, miniredis.RunT(t))
	app := func(change func(*App)) Options { a := testApp(); change(&a); return Options{Apps: []App{a}} }
	for name, o := range map[string]Options{
		"base URL":        {BaseURL: "api.weixin.qq.com"},
		"base password":   {BaseURL: "http://u:p@host"},
		"half a cipher":   {Encrypt: func(b []byte) ([]byte, error) { return b, nil }},
		"no name":         app(func(a *App) { a.Name = "" }),
		"appid":           app(func(a *App) { a.AppID = "wx}&appid=x" }),
		"no secret":       app(func(a *App) { a.Secret = "" }),
		"kind":            app(func(a *App) { a.Kind = "robot" }),
		"source":          app(func(a *App) { a.Token.Kind = "guess" }),
		"external no URL": app(func(a *App) { a.Token.Kind = SourceExternal }),
		"twice":           {Apps: []App{testApp(), testApp()}},
	} {
		if _, err := New(rdb, o); err == nil {
			t.Errorf("%s: taken", name)
		} else {
			mustBeClean(t, name, err, "u:p@")
		}
	}
	if _, err := New(nil, Options{}); err == nil {
		t.Error("no Redis: taken")
	}
}
