package webhook

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// partner is a server on loopback and a sender that may go there.
func partner(t *testing.T, h http.HandlerFunc, o SenderOptions) (*Sender, Attempt, *httptest.Server) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	if o.AllowPrivate == nil {
		o.AllowPrivate = prefixes("127.0.0.0/8")
	}
	c := NewSender(o)
	t.Cleanup(c.plain.CloseIdleConnections)
	return c, Attempt{
		Endpoint: Endpoint{Partner: "p", ID: "main", URL: srv.URL + "/hook?k=v", Secrets: []Secret{secret(t, vectorSecret)}},
		ID:       "evt_1", Type: "message.sent", Payload: []byte(`{"type":"message.sent"}`), Number: 1,
	}, srv
}

func TestDeliverSendsWhatTheContractSays(t *testing.T) {
	type seen struct {
		method, uri, host, body string
		header                  http.Header
	}
	got := make(chan seen, 1)
	c, a, srv := partner(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- seen{r.Method, r.RequestURI, r.Host, string(b), r.Header}
		w.WriteHeader(201)
		io.WriteString(w, "thanks")
	}, SenderOptions{Version: "1.2.3"})
	newer := secret(t, GenerateSecret())
	a.Endpoint.Secrets = []Secret{newer, a.Endpoint.Secrets[0]}
	a.Number, a.Replay, a.Traceparent = 4, true, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

	before := time.Now().Unix()
	o := c.Deliver(context.Background(), a)
	if o.Kind != Delivered || o.Status != 201 || string(o.Body) != "thanks" || o.Err != "" || o.Took <= 0 {
		t.Fatalf("%+v", o)
	}
	s := <-got
	if s.method != "POST" || s.uri != "/hook?k=v" || "http://"+s.host != srv.URL || s.body != string(a.Payload) {
		t.Errorf("%+v", s)
	}
	at := s.header.Get("webhook-timestamp")
	mac := func(k Secret) string {
		m := hmac.New(sha256.New, k.key.raw)
		fmt.Fprintf(m, "evt_1.%s.%s", at, a.Payload)
		return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
	}
	want := http.Header{
		"Content-Type": {"application/json"}, "User-Agent": {"wxrelay/1.2.3"}, "Content-Length": {fmt.Sprint(len(a.Payload))},
		"Webhook-Id": {"evt_1"}, "Webhook-Timestamp": {at}, "Webhook-Attempt": {"4"}, "Webhook-Replay": {"1"}, "Traceparent": {a.Traceparent},
		"Webhook-Signature": {mac(newer) + " " + mac(a.Endpoint.Secrets[1])},
	}
	if diff := cmp.Diff(want, s.header); diff != "" {
		t.Error(diff)
	}
	if at < fmt.Sprint(before) || at > fmt.Sprint(time.Now().Unix()) {
		t.Errorf("timestamp %s is not fresh", at)
	}
	a.Replay = false
	c.Deliver(context.Background(), a)
	if h := (<-got).header; h["Webhook-Replay"] != nil {
		t.Error("webhook-replay on what is none")
	}
}

func TestDeliverJudgement(t *testing.T) {
	var hits atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer elsewhere.Close()
	tests := []struct {
		rule   string
		answer http.HandlerFunc
		kind   Kind
		status int
		err    string
		after  time.Duration
	}{
		{"200", status(200, ""), Delivered, 200, "", 0},
		{"204", status(204, ""), Delivered, 204, "", 0},
		{"299", status(299, ""), Delivered, 299, "", 0},
		{"300", status(300, ""), Failed, 300, "status 300: redirects are not followed", 0},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, Failed, 302, "status 302: redirects are not followed", 0},
		{"redirect that keeps the body", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusPermanentRedirect)
		}, Failed, 308, "status 308: redirects are not followed", 0},
		{"redirect to nonsense", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://%zz")
			w.WriteHeader(301)
		}, Failed, 301, "status 301: redirects are not followed", 0},
		{"304", status(304, ""), Failed, 304, "status 304: redirects are not followed", 0},
		{"400", status(400, ""), Failed, 400, "status 400", 0},
		{"410", status(410, ""), Gone, 410, "status 410", 0},
		{"500", status(500, ""), Failed, 500, "status 500", 0},
		{"503 with seconds", status(503, "120"), Failed, 503, "status 503", 2 * time.Minute},
		{"429 with an hour more than allowed", status(429, "25200"), Failed, 429, "status 429", 6 * time.Hour},
		{"Retry-After without end", status(503, "99999999999999999999"), Failed, 503, "status 503", 0},
		{"Retry-After negative", status(503, "-5"), Failed, 503, "status 503", 0},
		{"Retry-After as a date of their clock", func(w http.ResponseWriter, r *http.Request) {
			theirs := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
			w.Header().Set("Date", theirs.Format(http.TimeFormat))
			w.Header().Set("Retry-After", theirs.Add(90*time.Second).Format(http.TimeFormat))
			w.WriteHeader(503)
		}, Failed, 503, "status 503", 90 * time.Second},
		{"Retry-After in the past", status(503, "Mon, 02 Jan 2006 15:04:05 GMT"), Failed, 503, "status 503", 0},
		{"hung up", hangUp, Failed, 0, "connection closed early", 0},
		{"not HTTP", raw("nonsense\r\n\r\n"), Failed, 0, "no valid answer", 0},
		{"header without end", raw("HTTP/1.1 200 OK\r\nx: " + strings.Repeat("y", 100<<10) + "\r\n\r\n"), Failed, 0, "no valid answer", 0},
		{"200 that breaks off", raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), Failed, 200, "status 200, but the answer broke off: connection closed early", 0},
		{"410 that breaks off", raw("HTTP/1.1 410 Gone\r\nContent-Length: 10\r\n\r\nabc"), Gone, 410, "status 410", 0},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			var calls atomic.Int32
			c, a, _ := partner(t, func(w http.ResponseWriter, r *http.Request) { calls.Add(1); tt.answer(w, r) }, SenderOptions{})
			o := c.Deliver(context.Background(), a)
			got := Outcome{Kind: o.Kind, Status: o.Status, Err: o.Err, RetryAfter: o.RetryAfter}
			if diff := cmp.Diff(Outcome{Kind: tt.kind, Status: tt.status, Err: tt.err, RetryAfter: tt.after}, got); diff != "" {
				t.Error(diff)
			}
			if n := calls.Load(); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
	if hits.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func status(code int, retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(code)
	}
}

func hangUp(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	conn, _, _ := w.(http.Hijacker).Hijack()
	conn.Close()
}

func raw(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		conn, _, _ := w.(http.Hijacker).Hijack()
		io.WriteString(conn, answer)
		conn.Close()
	}
}

func TestDeliverReadsNoMoreThanItMust(t *testing.T) {
	c, a, _ := partner(t, func(w http.ResponseWriter, r *http.Request) {
		chunk := []byte(strings.Repeat("z", 32<<10))
		for r.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}, SenderOptions{})
	o := c.Deliver(context.Background(), a)
	if o.Kind != Delivered || len(o.Body) != 4<<10 {
		t.Errorf("%v with %d bytes: %s", o.Kind, len(o.Body), o.Err)
	}
}

// Whole asks for an answer, not for its beginning.
func TestDeliverWhole(t *testing.T) {
	length := 0
	c, a, _ := partner(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", length)) }, SenderOptions{})
	a.Whole = true
	for _, length = range []int{0, 5000, 64 << 10} {
		if o := c.Deliver(context.Background(), a); o.Kind != Delivered || len(o.Body) != length {
			t.Errorf("%d bytes: %s, %d of them", length, o.Kind, len(o.Body))
		}
	}
	length = 64<<10 + 1
	if o := c.Deliver(context.Background(), a); o.Kind != Failed || len(o.Body) != 0 || !strings.Contains(o.Err, "it is longer than 65536 bytes") {
		t.Errorf("%s %q, %d bytes", o.Kind, o.Err, len(o.Body))
	}
}

func TestDeliverKeepsItsBudget(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	wait := func(r *http.Request) {
		io.Copy(io.Discard, r.Body) // or the server would not notice that the sender left
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"no header": func(w http.ResponseWriter, r *http.Request) { wait(r) },
		"header and no body": func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.(http.Flusher).Flush()
			wait(r)
		},
		"body without end": func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			wait(r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, a, _ := partner(t, h, SenderOptions{Budget: 80 * time.Millisecond})
			o := c.Deliver(context.Background(), a)
			if o.Kind != Failed || !strings.Contains(o.Err, "timed out") || o.Took < 80*time.Millisecond {
				t.Errorf("%+v", o)
			}
		})
	}
	c, a, _ := partner(t, func(w http.ResponseWriter, r *http.Request) { wait(r) }, SenderOptions{})
	if c.budget != 15*time.Second {
		t.Errorf("budget %v", c.budget)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if o := c.Deliver(ctx, a); o.Kind != Failed || o.Err != "interrupted" {
		t.Errorf("caller's end: %+v", o)
	}
}

// A kept connection that the partner closes on reading the request: it may have been taken, so it is not sent again.
func TestDeliverNeverRepeatsOnAKeptConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var posts, conns atomic.Int32
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for n := 1; ; n++ {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					posts.Add(1)
					if n == 2 {
						return
					}
					io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}()
		}
	}()
	c := NewSender(SenderOptions{AllowPrivate: prefixes("127.0.0.0/8")})
	defer c.plain.CloseIdleConnections()
	a := Attempt{Endpoint: Endpoint{URL: "http://" + ln.Addr().String()}, ID: "evt", Payload: []byte("{}")}
	if o := c.Deliver(context.Background(), a); o.Kind != Delivered {
		t.Fatalf("%+v", o)
	}
	if o := c.Deliver(context.Background(), a); o.Kind != Failed || conns.Load() != 1 || posts.Load() != 2 {
		t.Errorf("%+v after %d posts on %d connections", o, posts.Load(), conns.Load())
	}
}

func TestDeliverOverTLS(t *testing.T) {
	var proto atomic.Value
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { proto.Store(r.Proto) }))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	a := Attempt{Endpoint: Endpoint{URL: srv.URL}, ID: "evt", Payload: []byte("{}")}

	c := NewSender(SenderOptions{AllowPrivate: prefixes("127.0.0.1/32"), RootCAs: roots})
	defer c.secure.CloseIdleConnections()
	if o := c.Deliver(context.Background(), a); o.Kind != Delivered || proto.Load() != "HTTP/2.0" {
		t.Errorf("%+v over %v", o, proto.Load())
	}
	stranger := NewSender(SenderOptions{AllowPrivate: prefixes("127.0.0.1/32")})
	if o := stranger.Deliver(context.Background(), a); o.Kind != Failed || o.Err != "tls: certificate not trusted" {
		t.Errorf("unknown authority: %+v", o)
	}
	plain := httptest.NewServer(status(200, ""))
	defer plain.Close()
	a.Endpoint.URL = strings.Replace(plain.URL, "http:", "https:", 1)
	if o := c.Deliver(context.Background(), a); o.Kind != Failed || o.Err != "tls: not spoken there" {
		t.Errorf("no TLS there: %+v", o)
	}
}

// The guard sits on the dial: what a name resolves to counts, not what the URL looks like.
func TestDialIsGuarded(t *testing.T) {
	var asked atomic.Int32
	c, a, srv := partner(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) }, SenderOptions{AllowPrivate: []netip.Prefix{}})
	for _, scheme := range []string{"http", "https"} {
		u, _ := url.Parse(strings.Replace(srv.URL, "http", scheme, 1))
		o := c.post(must(c.request(context.Background(), u, a)), false)
		if o.Kind != Blocked || strings.Contains(o.Err, "127.0.0.1") {
			t.Errorf("%s: %+v", scheme, o)
		}
		if _, more := NextDelay(1, o, 0); more {
			t.Error("a blocked delivery is tried again")
		}
	}
	if asked.Load() != 0 {
		t.Error("a blocked address was asked")
	}
	for _, tr := range []*http.Transport{c.plain, c.secure} {
		if tr.Proxy != nil {
			t.Error("a proxy would dial past the guard")
		}
	}
}

func TestAllowIsTakenBack(t *testing.T) {
	c, a, _ := partner(t, status(200, ""), SenderOptions{})
	if o := c.Deliver(context.Background(), a); o.Kind != Delivered {
		t.Fatalf("%+v", o)
	}
	c.Allow(nil)
	if o := c.Deliver(context.Background(), a); o.Kind != Blocked {
		t.Errorf("%+v", o)
	}
}

func TestConnectionsAreKept(t *testing.T) {
	from := make(chan string, 20)
	c, a, _ := partner(t, func(_ http.ResponseWriter, r *http.Request) { from <- r.RemoteAddr }, SenderOptions{})
	ports := map[string]bool{}
	for range 20 {
		if o := c.Deliver(context.Background(), a); o.Kind != Delivered {
			t.Fatalf("%+v", o)
		}
		ports[<-from] = true
	}
	if len(ports) != 1 {
		t.Errorf("%d connections for 20 deliveries", len(ports))
	}
}

func TestExplainSaysNoAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	c := NewSender(SenderOptions{AllowPrivate: prefixes("127.0.0.0/8")})
	o := c.Deliver(context.Background(), Attempt{Endpoint: Endpoint{URL: "http://" + ln.Addr().String() + "/?token=hunter2"}})
	if o.Kind != Failed || o.Err != "connection refused" {
		t.Errorf("%+v", o)
	}
	for err, want := range map[error]string{
		&net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}: "name not found",
		&net.DNSError{Err: "timeout", Name: "x", IsTimeout: true}:       "name resolution failed",
		errors.New("who knows 10.0.0.1"):                                "no valid answer",
	} {
		if got := explain(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

func BenchmarkDeliver(b *testing.B) {
	srv := httptest.NewServer(status(200, ""))
	defer srv.Close()
	c := NewSender(SenderOptions{AllowPrivate: prefixes("127.0.0.0/8")})
	s, _ := ParseSecret(GenerateSecret())
	a := Attempt{Endpoint: Endpoint{URL: srv.URL, Secrets: []Secret{s}}, ID: "evt", Payload: []byte(strings.Repeat("x", 500)), Number: 1}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if o := c.Deliver(context.Background(), a); o.Kind != Delivered {
				b.Error(o)
				return
			}
		}
	})
}

func must(r *http.Request, err error) *http.Request {
	if err != nil {
		panic(err)
	}
	return r
}
