package wechat

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Request is one call to be passed on to WeChat as it is, but for its access_token.
type Request struct {
	Method string
	Target string              // path below the base URL with its raw query: "/wxa/getwxacodeunlimit?x=1"
	Header map[string][]string // hop-by-hop fields and credentials meant for us are dropped
	Body   []byte              // sent again when the token had to be healed
	Who    Reporter            // whose call it is, for the token's log
}

// Response is WeChat's answer to a Request, whatever its status. Body streams and must be closed.
type Response struct {
	Status int
	Header map[string][]string
	Length int64 // of Body; negative = unknown
	Body   io.ReadCloser

	// What a short JSON answer says; zero values for any other answer. JSON tells which of the two it was.
	JSON    bool
	Errcode int
	Errmsg  string
	RID     string
	MsgID   string
}

const (
	proxyPatience = 30 * time.Second // for an answer's header, and for each next piece of its body
	peekLimit     = 64 << 10         // of an answer that is looked into for an errcode
)

// Proxy passes one request to WeChat with the app's token put in, and WeChat's answer back. Query, body and answer are not
// touched; of the query only access_token is replaced. A token refusal is healed, and the request repeated once. The answer
// streams: however large it is, a fixed amount of memory holds it. Errors: ErrNoAnswer,
// ErrNotLeft (*TokenError is one), ErrBody, ErrUnknownApp.
func (c *Client) Proxy(ctx context.Context, app string, req Request) (*Response, error) {
	k, err := c.keeper(app)
	if err != nil {
		return nil, err
	}
	path, query, err := splitTarget(req.Target)
	if err != nil {
		return nil, err
	}
	if int64(len(req.Body)) > c.o.BodyLimit {
		return nil, fmt.Errorf("%w: the body has more than %d bytes", ErrBody, c.o.BodyLimit)
	}
	var got *Response
	err = k.withTokenOf(ctx, req.Who, func(ctx context.Context, token string) error {
		if got != nil {
			_ = got.Body.Close()
		}
		var err error
		got, err = k.pass(ctx, req, path, query, token)
		if err == nil && got.Errcode != 0 {
			return &APIError{Code: got.Errcode, Msg: got.Errmsg, RID: got.RID, Path: path}
		}
		return err
	})
	if got == nil {
		return nil, err
	}
	// WeChat answered. A refusal is an answer; one whose token could not be healed is WeChat's own word, not ours.
	return got, nil
}

// pass makes one exchange of a proxied request.
func (k *keeper) pass(ctx context.Context, req Request, path, query, token string) (*Response, error) {
	x := k.exchange(path, token)
	ctx, cancel := context.WithCancelCause(ctx)
	body := &proxyBody{cancel: cancel, timer: time.AfterFunc(proxyPatience, func() { cancel(context.DeadlineExceeded) })}
	start := time.Now()
	body.done = func(code int) {
		if k.c.o.OnCall != nil {
			k.c.o.OnCall(ctx, k.app.Name, callLabel(path), code, time.Since(start))
		}
	}
	out, err := http.NewRequestWithContext(context.WithValue(ctx, exchangeKey{}, x), req.Method, sdkHost+path+tokenQuery(token)+query, bytes.NewReader(req.Body))
	if err != nil {
		body.timer.Stop()
		cancel(nil)
		return nil, &failure{kind: ErrBody, path: path, why: scrub(err.Error(), x.hide...)}
	}
	out.Header = passOn(req.Header)
	out.Header.Del("Accept-Encoding") // an errcode in a compressed answer could not be read
	resp, err := x.open(out)
	if err != nil {
		body.end(codeOf(err))
		return nil, err
	}
	body.from = resp.Body
	r := &Response{Status: resp.StatusCode, Header: passOn(resp.Header), Length: resp.ContentLength, Body: body}
	for name, values := range r.Header {
		if strings.Contains(strings.Join(values, "\n"), url.QueryEscape(token)) { // a redirect may repeat the query
			delete(r.Header, name)
		}
	}
	if err := r.peek(body); err != nil {
		err := x.lost(ctx, err)
		body.end(codeOf(err))
		return nil, err
	}
	body.code = r.Errcode
	return r, nil
}

// peek looks for an errcode where one can be: in an answer that begins an object and is short.
func (r *Response) peek(body *proxyBody) error {
	head := make([]byte, 0, bytes.MinRead)
	for len(head) <= peekLimit {
		if len(head) == cap(head) {
			head = slices.Grow(head, len(head))
		}
		n, err := body.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		first := bytes.TrimFunc(head, isNoise)
		if err == io.EOF {
			body.head, body.ended = head, true
			if len(first) == 0 || first[0] != '{' {
				return nil
			}
			if a, ok := readAnswer(head); ok {
				e := newAPIError("", a.code, a.msg)
				r.JSON, r.Errcode, r.Errmsg, r.RID, r.MsgID = true, a.code, a.msg, e.RID, a.msgID
			}
			return nil
		}
		if err != nil {
			return err
		}
		if len(first) > 0 && first[0] != '{' {
			break
		}
	}
	body.head = head
	return nil
}

// proxyBody is the body of an answer: what was looked into already, then the rest as it comes.
type proxyBody struct {
	head   []byte
	ended  bool // head is all
	from   io.ReadCloser
	cancel context.CancelCauseFunc
	timer  *time.Timer
	code   int
	done   func(code int)
}

// Read implements io.Reader.
func (b *proxyBody) Read(p []byte) (int, error) {
	if len(b.head) > 0 {
		n := copy(p, b.head)
		b.head = b.head[n:]
		return n, nil
	}
	if b.ended {
		return 0, io.EOF
	}
	b.timer.Reset(proxyPatience)
	n, err := b.from.Read(p)
	b.timer.Stop() // who reads may take their time
	if err != nil && err != io.EOF {
		b.code = CodeNoAnswer
		err = fmt.Errorf("%w: the answer ended early", ErrNoAnswer) // the cause may name the URL
	}
	return n, err
}

// Close ends the exchange.
func (b *proxyBody) Close() error {
	b.end(b.code)
	return nil
}

func (b *proxyBody) end(code int) {
	if b.done == nil {
		return
	}
	b.timer.Stop()
	b.done(code)
	b.done = nil
	if b.from != nil {
		_ = b.from.Close()
	}
	b.cancel(nil)
}

// splitTarget takes a target apart and its access_token out; query starts with & or is empty. WeChat's paths are plain
// words, so everything that could be read as another path than it looks like is refused.
func splitTarget(target string) (path, query string, err error) {
	path, raw, _ := strings.Cut(target, "?")
	if !PlainPath(path) {
		return "", "", fmt.Errorf("%w: a path is made of letters, digits, _ - . and single slashes", ErrBody)
	}
	if strings.ContainsAny(raw, "# \t\r\n") {
		return "", "", fmt.Errorf("%w: the query holds # or blanks", ErrBody)
	}
	var kept strings.Builder
	for pair := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if n, err := url.QueryUnescape(name); pair == "" || err != nil || strings.EqualFold(n, "access_token") {
			continue
		}
		kept.WriteString("&" + pair)
	}
	return path, kept.String(), nil
}

// PlainPath tells whether a path is one of WeChat's form: it starts with a slash, has no empty or dotted part and nothing
// that is written in more than one way.
func PlainPath(path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	for part := range strings.SplitSeq(path[1:], "/") {
		if part == "" || strings.Trim(part, ".") == "" {
			return false
		}
	}
	for i := range len(path) {
		switch c := path[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '/', c == '_', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
}

// callLabel bounds what OnCall sees of a partner's path.
func callLabel(path string) string {
	first, _, _ := strings.Cut(path[1:], "/")
	switch first {
	case "cgi-bin", "wxa", "wxaapi", "sns", "datacube", "channels", "customservice", "card":
		return "/" + first + "/*"
	}
	return "/*"
}

// dropped holds what must not go from one connection to the other: hop-by-hop fields (RFC 9110 7.6.1), what the
// transport writes itself, credentials that are for us, and the keys that make net/http repeat a request by itself.
var dropped = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Host": true, "Content-Length": true, "Expect": true,
	"Authorization": true, "Cookie": true, "Webhook-Id": true, "Webhook-Timestamp": true, "Webhook-Signature": true,
	"Forwarded": true, "X-Forwarded-For": true, "X-Forwarded-Host": true, "X-Forwarded-Proto": true, "X-Real-Ip": true,
	"X-Forwarded-Prefix": true, "Idempotency-Key": true, "X-Idempotency-Key": true,
}

func passOn(h map[string][]string) http.Header {
	out := make(http.Header, len(h))
	named := map[string]bool{}
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			named[textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	for name, values := range h {
		if c := textproto.CanonicalMIMEHeaderKey(name); !dropped[c] && !named[c] {
			out[c] = append([]string(nil), values...)
		}
	}
	return out
}
