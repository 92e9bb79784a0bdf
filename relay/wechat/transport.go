package wechat

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/silenceper/wechat/v2/util"
)

// answerLimit caps WeChat's answer to everything but Proxy. The largest one known, a full template list, is some 60 KB.
const answerLimit = 1 << 20

// The SDK speaks through one process-global client. It is set here, before any goroutine can run, and never again:
// everything that differs per call (base URL, limits, connections) comes with the call's context. See DECISIONS.md 1.
func init() {
	util.DefaultHTTPClient = &http.Client{
		Transport:     roundTripper{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// errNoExchange answers SDK calls that carry no exchange: one without ctx would go to the real host, unseen.
var errNoExchange = errors.New("wechat: refused a call that does not come through this package")

// roundTripper is the one way of every byte to WeChat.
type roundTripper struct{}

func (roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, errNoExchange
	}
	return x.roundTrip(req)
}

type exchangeKey struct{}

// exchange is one request to WeChat: where it goes, what it may bring back, and how far it got.
type exchange struct {
	c       *Client
	app     string
	path    string   // for errors: without query
	label   string   // for OnCall when path is not ours to bound; "" = path
	foreign bool     // keep the request's own host (an external token centre)
	limit   int64    // of the answer's body
	partial bool     // the members before the damage of an answer are enough, when one of them is errcode 0
	hide    []string // secrets of this call, for scrub

	started, connected, left, answered atomic.Bool

	got answer // what WeChat said
}

// newTransport makes the tuned transport of one client: as many idle connections as requests in flight (Go's
// default of 2 opened 786 connections for 960 requests, 64 opened 32), dropped before WeChat's side drops them.
func newTransport(inFlight int) *http.Transport {
	dialer := &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    inFlight,
		IdleConnTimeout:        30 * time.Second,
		TLSHandshakeTimeout:    3 * time.Second,
		DisableCompression:     true, // answers are small, and Proxy passes them on byte for byte
		MaxResponseHeaderBytes: 64 << 10,
	}
}

func (x *exchange) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn:      func(httptrace.GotConnInfo) { x.connected.Store(true) },
		WroteHeaders: func() { x.left.Store(true) }, // fires before the bytes are flushed: errs on the safe side
	}
}

// roundTrip makes the exchange and reads its answer whole, so that a cut one is found here.
func (x *exchange) roundTrip(req *http.Request) (*http.Response, error) {
	resp, err := x.open(req)
	if err != nil {
		return nil, err
	}
	body, err := readUpTo(resp, x.limit)
	if err != nil {
		return nil, x.lost(req.Context(), err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, x.lost(req.Context(), fmt.Errorf("HTTP status %d", resp.StatusCode))
	}
	if err := x.read(body); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	return resp, nil
}

// open sends the request and returns the answer with its body unread. The second address is asked only when there was no
// connection to the first, so that nothing can have left.
func (x *exchange) open(req *http.Request) (*http.Response, error) {
	x.started.Store(true)
	if req.Body != nil {
		defer req.Body.Close()
	}
	if x.foreign {
		resp, err := x.c.transport.RoundTrip(x.prepare(req, nil))
		if err != nil {
			return nil, x.lost(req.Context(), err)
		}
		return resp, nil
	}
	roots, fallback := x.c.roots()
	for i, root := range roots {
		resp, err := x.c.transport.RoundTrip(x.prepare(req, root))
		if err == nil {
			if i > 0 && !fallback {
				x.c.fallbackUntil.Store(time.Now().Add(fallbackFor).UnixNano())
			}
			return resp, nil
		}
		if i+1 == len(roots) || x.connected.Load() || req.Context().Err() != nil {
			return nil, x.lost(req.Context(), err)
		}
	}
	return nil, errNoExchange // there is a root
}

// prepare is the request as it goes to root; nil leaves its own host.
//
// Without GetBody net/http cannot send a body a second time, neither over another connection nor after a GOAWAY: what may
// have reached WeChat is never sent again behind our back (DECISIONS 2). Its Close does nothing, so that a body which was
// not read, since no connection came about, can go to the second address.
func (x *exchange) prepare(req *http.Request, root *url.URL) *http.Request {
	out := req.WithContext(httptrace.WithClientTrace(req.Context(), x.trace()))
	out.GetBody = nil
	if req.Body != nil && req.Body != http.NoBody {
		out.Body = io.NopCloser(req.Body)
	}
	if root == nil {
		return out
	}
	u := *req.URL
	u.Scheme, u.Host, u.User = root.Scheme, root.Host, nil
	if prefix := strings.TrimSuffix(root.Path, "/"); prefix != "" {
		u.Path, u.RawPath = prefix+u.Path, strings.TrimSuffix(root.EscapedPath(), "/")+req.URL.EscapedPath()
	}
	out.URL, out.Host = &u, ""
	return out
}

// fallbackFor is how long the second address is asked first once the first one could not be reached.
const fallbackFor = 30 * time.Second

// roots are the addresses to ask, in order; fallback: the second one goes first for now.
func (c *Client) roots() (roots []*url.URL, fallback bool) {
	switch {
	case c.second == nil:
		return []*url.URL{c.root}, false
	case time.Now().UnixNano() < c.fallbackUntil.Load():
		return []*url.URL{c.second, c.root}, true
	}
	return []*url.URL{c.root, c.second}, false
}

// read judges an answer by its errcode first, whatever else is in it. jscode2session says text/plain, so the body decides
// and not its Content-Type.
func (x *exchange) read(body []byte) error {
	a, ok := readAnswer(body)
	if !ok {
		return x.lost(context.Background(), fmt.Errorf("the answer (%d bytes) is not a JSON object", len(body)))
	}
	x.got = a
	x.answered.Store(true)
	switch {
	case a.code != 0:
		return newAPIError(x.path, a.code, a.msg)
	case a.partial && !(x.partial && a.coded):
		return &failure{kind: ErrNoAnswer, path: x.path, why: fmt.Sprintf("the answer (%d bytes) is damaged", len(body))}
	}
	return nil
}

// into reads the answer into v. sdkErr is what the SDK made of it, which counts only when no answer came: it reads strictly.
func (x *exchange) into(v any, sdkErr error) error {
	if !x.answered.Load() {
		return cmp.Or(sdkErr, errNoExchange)
	}
	var api *APIError
	var f *failure
	if errors.As(sdkErr, &api) || errors.As(sdkErr, &f) {
		return sdkErr
	}
	return x.got.into(v)
}

var errTooLong = errors.New("the answer is too long")

// readUpTo reads the whole body, so that a cut one is found here, and closes it.
func readUpTo(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	if resp.ContentLength > limit {
		return nil, errTooLong
	}
	var buf bytes.Buffer
	if resp.ContentLength > 0 {
		buf.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, limit+1))
	if err == nil && n > limit {
		err = errTooLong
	}
	return buf.Bytes(), err
}

// lost judges an exchange without an answer. Once the headers were written WeChat may have acted. A context that ends
// on a connection counts as left too: HTTP/2 may be writing the headers in that very moment.
func (x *exchange) lost(ctx context.Context, err error) *failure {
	f := &failure{kind: ErrNoAnswer, path: x.path, why: scrub(err.Error(), x.hide...)}
	if ctx.Err() != nil {
		f.cause = ctx.Err()
	}
	if !x.left.Load() && !(x.connected.Load() && f.cause != nil) {
		f.kind = ErrNotLeft
	}
	return f
}

// do runs one SDK call (or one of our own) as this exchange, under the client's timeout, tells OnCall of it, and
// returns its error typed: nil, *APIError or *failure.
func (x *exchange) do(ctx context.Context, timeout time.Duration, call func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	err := x.judge(ctx, call(context.WithValue(ctx, exchangeKey{}, x)))
	if x.c.o.OnCall != nil {
		label := x.label
		if label == "" {
			label = x.path
		}
		x.c.o.OnCall(ctx, x.app, label, codeOf(err), time.Since(start))
	}
	return err
}

func (x *exchange) judge(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var api *APIError
	if errors.As(err, &api) {
		api.Msg = scrub(api.Msg, x.hide...)
		return api
	}
	if !x.started.Load() {
		return &failure{kind: ErrBody, path: x.path, why: scrub(err.Error(), x.hide...)}
	}
	if x.answered.Load() {
		return &failure{kind: ErrNoAnswer, path: x.path, why: "the answer is not understood: " + scrub(err.Error(), x.hide...)}
	}
	return x.lost(ctx, err)
}

func codeOf(err error) int {
	var api *APIError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &api):
		return api.Code
	case errors.Is(err, ErrNoAnswer):
		return CodeNoAnswer
	}
	return CodeNotLeft
}

// tokenQuery is the query that carries a token, the only place WeChat takes it from.
func tokenQuery(token string) string { return "?access_token=" + url.QueryEscape(token) }
