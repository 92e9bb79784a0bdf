package wechat

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"
)

// Call passes one request to WeChat with the app's token put in, and WeChat's answer back, whatever its status.
// path is below the base URL and may carry a raw query, which goes on byte for byte but for its access_token; query
// is added to it. Body and answer are not touched. A token refusal is healed and repeated once. Header: hop-by-hop
// fields and credentials meant for us are dropped. A call may take 30 s (media), unless ctx ends before.
// Errors: ErrNoAnswer, ErrNotLeft, ErrBody, ErrUnknownApp.
func (c *Client) Call(ctx context.Context, app, method, path string, query url.Values, header http.Header, body []byte) (status int, answerHeader http.Header, answer []byte, err error) {
	k, err := c.keeper(app)
	if err != nil {
		return 0, nil, nil, err
	}
	path, rawQuery, err := splitTarget(path, query)
	if err != nil {
		return 0, nil, nil, err
	}
	if int64(len(body)) > c.o.CallLimit {
		return 0, nil, nil, fmt.Errorf("%w: the body has %d bytes, at most %d", ErrBody, len(body), c.o.CallLimit)
	}
	var got *http.Response
	err = k.withToken(ctx, func(ctx context.Context, token string) error {
		got, answer = nil, nil
		x := k.exchange(path, token)
		x.raw, x.limit, x.label = true, c.o.CallLimit, callLabel(path)
		return x.do(ctx, max(c.o.Timeout, 30*time.Second), func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, method, sdkHost+path+tokenQuery(token)+rawQuery, bytes.NewReader(body))
			if err != nil {
				return fmt.Errorf("method or path: %w", err)
			}
			req.Header = passOn(header)
			resp, err := door{}.RoundTrip(req)
			if err != nil {
				return err
			}
			got = resp
			answer = resp.Body.(*wholeBody).bytes
			return errcodeIn(path, answer)
		})
	})
	if got == nil {
		return 0, nil, nil, err
	}
	// WeChat answered. A refusal is an answer; one whose token could not be healed is WeChat's own word, not ours.
	return got.StatusCode, passOn(got.Header), answer, nil
}

// splitTarget takes the caller's target apart and its access_token out; rawQuery starts with & or is empty.
func splitTarget(target string, query url.Values) (path, rawQuery string, err error) {
	path, raw, _ := strings.Cut(target, "?")
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(target, "#\\ \t\r\n") {
		return "", "", fmt.Errorf("%w: path must start with / and hold no # \\ or blanks", ErrBody)
	}
	clear, err := url.PathUnescape(path)
	if err != nil {
		return "", "", fmt.Errorf("%w: path is badly escaped", ErrBody)
	}
	for part := range strings.SplitSeq(clear[1:], "/") {
		if part == "" || part == "." || part == ".." {
			return "", "", fmt.Errorf("%w: path has an empty or dotted part", ErrBody)
		}
	}
	var kept []string
	for pair := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if n, err := url.QueryUnescape(name); pair == "" || (err == nil && n == "access_token") {
			continue
		}
		kept = append(kept, pair)
	}
	if len(query) > 0 {
		more := url.Values{}
		for name, values := range query {
			if name != "access_token" {
				more[name] = values
			}
		}
		if len(more) > 0 {
			kept = append(kept, more.Encode())
		}
	}
	if len(kept) > 0 {
		rawQuery = "&" + strings.Join(kept, "&")
	}
	return path, rawQuery, nil
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
	"Idempotency-Key": true, "X-Idempotency-Key": true,
}

func passOn(h http.Header) http.Header {
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

// errcodeIn reads the errcode of a proxied answer, when it is one: a short JSON object.
func errcodeIn(path string, body []byte) error {
	if len(body) > 64<<10 {
		return nil
	}
	a, ok := readAnswer(body)
	if !ok || a.code == 0 {
		return nil
	}
	return newAPIError(path, a.code, a.msg)
}
