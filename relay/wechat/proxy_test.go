package wechat

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// proxied makes a call and reads its answer whole.
func proxied(t testing.TB, c *Client, req Request) (status int, answer string, err error) {
	t.Helper()
	r, err := c.Proxy(t.Context(), "shop", req)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return r.Status, string(body), err
}

func TestProxyTouchesNothing(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		var got *http.Request
		var gotBody []byte
		binary := []byte("\x00\x01\xff{\"errcode\":40001}")
		f.answer["/cgi-bin/media/upload"] = func(w http.ResponseWriter, r *http.Request) {
			got = r
			gotBody, _ = io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Connection", "X-Hop, keep-alive")
			w.Header().Set("X-Hop", "1")
			w.Header().Set("X-Kept", "2")
			w.Header().Set("Location", "https://elsewhere/?access_token="+r.URL.Query().Get("access_token"))
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write(binary)
		}
		c := newTestClient(t, rdb, serveFake(t, f), func(o *Options) { o.BodyLimit = 1 << 20 })
		old := mustToken(t, c)
		f.kill(old.Value, true)
		media := []byte("--b\r\nContent-Disposition: form-data; name=\"media\"; filename=\"a.png\"\r\n\r\n\x89PNG\x00\r\n--b--\r\n")
		header := http.Header{
			"Content-Type": {"multipart/form-data; boundary=b"}, "User-Agent": {"their-sdk/1"}, "Wechatmp-Signature": {"s"}, "Accept-Encoding": {"br"},
			"Connection": {"x-mine, close"}, "X-Mine": {"1"}, "Te": {"trailers"}, "Transfer-Encoding": {"chunked"}, "Upgrade": {"h2c"},
			"Authorization": {"Bearer ours"}, "Cookie": {"ours"}, "Webhook-Signature": {"ours"}, "Idempotency-Key": {"k"}, "Host": {"evil"}, "X-Forwarded-For": {"10.0.0.1"},
		}
		r, err := c.Proxy(t.Context(), "shop", Request{Method: http.MethodPost, Header: header, Body: media,
			Target: "/cgi-bin/media/upload?type=image&x=%41+b&access_token=THEIRS&&q&access%5Ftoken=THEIRS&Access_Token=THEIRS"})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(r.Body)
		if err != nil || r.Body.Close() != nil || r.Status != http.StatusTeapot || string(answer) != string(binary) || r.Length != int64(len(binary)) {
			t.Errorf("answer %d %q %d %v", r.Status, answer, r.Length, err)
		}
		answered := http.Header(r.Header)
		if answered.Get("X-Kept") != "2" || answered.Get("X-Hop") != "" || answered.Get("Connection") != "" || answered.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("answer header %v", answered)
		}
		if answered.Get("Location") != "" {
			t.Error("a header shows the token")
		}
		if string(gotBody) != string(media) {
			t.Errorf("body %q", gotBody)
		}
		if want := "access_token=" + mustToken(t, c).Value + "&type=image&x=%41+b&q"; got.URL.RawQuery != want {
			t.Errorf("query %s\nwant %s", got.URL.RawQuery, want)
		}
		wantHeader := http.Header{"Content-Type": {"multipart/form-data; boundary=b"}, "User-Agent": {"their-sdk/1"}, "Wechatmp-Signature": {"s"}, "Content-Length": {got.Header.Get("Content-Length")}}
		if diff := cmp.Diff(wantHeader, got.Header); diff != "" {
			t.Error(diff)
		}
	})
}

func TestProxyAnswers(t *testing.T) {
	f := newFake()
	c := newTestClient(t, miniClient(t, miniredis.RunT(t)), serveFake(t, f), func(o *Options) { o.BodyLimit = 1000 })
	call := func(method, path string, body []byte) (int, string, error) {
		return proxied(t, c, Request{Method: method, Target: path, Body: body})
	}
	f.answer["/wxa/refused"] = func(w http.ResponseWriter, _ *http.Request) { refuseWith(w, 48001, "no") }
	f.answer["/wxa/broken"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }
	f.answer["/wxa/long"] = func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"list":"` + strings.Repeat("x", 3*peekLimit) + `"}`))
	}
	f.answer["/wxa/cut"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(bytes.Repeat([]byte{0xff}, 10000))
	}
	f.answer["/wxa/always40001"] = func(w http.ResponseWriter, _ *http.Request) { refuseWith(w, 40001, "never good") }
	if status, answer, err := call("POST", "/wxa/refused", nil); err != nil || status != 200 || answer != `{"errcode":48001,"errmsg":"no"}` {
		t.Errorf("a refusal is an answer: %d %s %v", status, answer, err)
	}
	if status, _, err := call("POST", "/wxa/broken", nil); err != nil || status != 502 {
		t.Errorf("so is a status: %d %v", status, err)
	}
	if _, answer, err := call("GET", "/wxa/long", nil); err != nil || len(answer) != 3*peekLimit+11 {
		t.Errorf("a long object: %d bytes, %v", len(answer), err)
	}
	if _, answer, err := call("GET", "/wxa/cut", nil); !errors.Is(err, ErrNoAnswer) || len(answer) != 10000 {
		t.Errorf("a cut answer: %d bytes, %v", len(answer), err)
	}
	if status, answer, err := call("GET", "/wxa/always40001", nil); err != nil || status != 200 || answer != `{"errcode":40001,"errmsg":"never good"}` || f.count("/wxa/always40001") > 2 {
		t.Errorf("not healable: %d %s %v", status, answer, err)
	}
	before := f.count("/wxa/refused")
	for _, bad := range []string{"", "wxa/x", "//evil.com/x", "/wxa/../x", "/wxa/%2e%2e/x", "/wxa//x", "/wxa/x#y", "/wxa/x y", "/wxa/%zz", "/wxa/./x", "/a\\b",
		"/wxa/.../x", "/wxa/x/", "/wxa/%78", "/wxa/x;y", "/wxa/x@evil", "/wxa:80/x", "/wxa/x?a b", "/wxa/é"} {
		if _, _, err := call("GET", bad, nil); !errors.Is(err, ErrBody) {
			t.Errorf("path %q: %v", bad, err)
		}
	}
	if _, _, err := call("BAD METHOD", "/wxa/refused", nil); !errors.Is(err, ErrBody) {
		t.Errorf("method: %v", err)
	}
	if _, _, err := call("POST", "/wxa/refused", make([]byte, 1001)); !errors.Is(err, ErrBody) {
		t.Errorf("long body: %v", err)
	}
	if n := f.count("/wxa/refused") - before; n != 0 {
		t.Errorf("%d of them left", n)
	}
}

// 200 MB pass in constant memory.
func TestALargeAnswerStreams(t *testing.T) {
	const size = 200 << 20
	f := newFake()
	chunk := make([]byte, 1<<20)
	f.answer["/wxa/download"] = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		for range size / len(chunk) {
			_, _ = w.Write(chunk)
		}
	}
	c := newTestClient(t, miniClient(t, miniredis.RunT(t)), serveFake(t, f))
	mustToken(t, c)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := c.Proxy(t.Context(), "shop", Request{Method: "GET", Target: "/wxa/download"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	n, err := io.Copy(struct{ io.Writer }{io.Discard}, r.Body)
	runtime.ReadMemStats(&after)
	if err != nil || n != size {
		t.Fatal(n, err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("%d bytes allocated for %d", grown, size)
	}
}

// The second address is asked when there is no connection to the first, for everything that can be asked, and then first
// for a while; never when something may have left.
func TestFallback(t *testing.T) {
	f := newFake()
	second := serveFake(t, f)
	c := newTestClient(t, miniClient(t, miniredis.RunT(t)), "http://first.invalid", func(o *Options) { o.Fallback = second })
	var dials atomic.Int32
	c.transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, "first.invalid") {
			dials.Add(1)
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connect: connection refused")}
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	for range 3 {
		if err := send(t, c); err != nil {
			t.Fatal(err)
		}
		status, _, err := proxied(t, c, Request{Method: "POST", Target: "/wxa/x", Body: []byte("body")})
		if err != nil || status != 200 {
			t.Fatal(status, err)
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("the first address was tried %d times within %s", n, fallbackFor)
	}
	// The first one is there, and closes the connection after it has read the message: that is not sent to the second.
	broken := newFake()
	first, err := url.Parse(serveFake(t, broken))
	if err != nil {
		t.Fatal(err)
	}
	c.root = first
	c.fallbackUntil.Store(0)
	broken.tamper = func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { return hijack(w, func(net.Conn) {}) }
	before := f.count(sendPaths[ChannelSubscribe])
	if err := send(t, c); !errors.Is(err, ErrNoAnswer) || f.count(sendPaths[ChannelSubscribe]) != before {
		t.Errorf("%v, %d sends at the second address", err, f.count(sendPaths[ChannelSubscribe])-before)
	}
}

// A caller that stops reading, or goes away, ends the exchange.
func TestProxyEndsWithItsCaller(t *testing.T) {
	f := newFake()
	gone := make(chan struct{})
	f.answer["/wxa/endless"] = func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}
	c := newTestClient(t, miniClient(t, miniredis.RunT(t)), serveFake(t, f))
	r, err := c.Proxy(t.Context(), "shop", Request{Method: "GET", Target: "/wxa/endless"})
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("WeChat is read on")
	}
}
