package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	connectTime   = 5 * time.Second // name resolution and connecting
	tlsTime       = 5 * time.Second
	budget        = 15 * time.Second
	maxAnswer     = 64 << 10 // of the answer's body, and of its header
	keepBody      = 4 << 10
	idleTotal     = 4096
	idlePerHost   = 16
	idleTime      = 90 * time.Second
	pingAfter     = 15 * time.Second // an HTTP/2 connection silent for so long is asked whether it lives
	pingTime      = 5 * time.Second
	contentType   = "application/json"
	productPrefix = "wxrelay/"
)

// SenderOptions are a Sender's limits.
type SenderOptions struct {
	AllowPrivate []netip.Prefix // addresses endpoints may have although they are not public; plain http is allowed only there
	Budget       time.Duration  // one attempt with everything; 0 = 15 s
	PerHost      int            // connections kept open per endpoint; 0 = 16
	Version      string         // user-agent: wxrelay/<version>; empty = dev
	RootCAs      *x509.CertPool // nil = the system's

	names *net.Resolver // of tests
}

// Sender posts one payload to one endpoint, once.
type Sender struct {
	guard         *guard
	plain, secure *http.Transport
	budget        time.Duration
	agent         []string
}

// NewSender is ready to deliver. It uses no proxy: a proxy would dial in its place, past the guard.
func NewSender(o SenderOptions) *Sender {
	g := newGuard(o.AllowPrivate)
	g.names = o.names
	perHost := o.PerHost
	if perHost <= 0 {
		perHost = idlePerHost
	}
	version := o.Version
	if version == "" {
		version = "dev"
	}
	transport := func(plain bool) *http.Transport {
		dialer := &net.Dialer{Timeout: connectTime, KeepAlive: 30 * time.Second, Resolver: o.names, ControlContext: g.control(plain)}
		return &http.Transport{
			Proxy:                  nil,
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    tlsTime,
			TLSClientConfig:        &tls.Config{RootCAs: o.RootCAs, ClientSessionCache: tls.NewLRUClientSessionCache(1024)},
			ForceAttemptHTTP2:      true,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTime},
			DisableCompression:     true, // an answer is read as it is: nothing to inflate
			MaxIdleConns:           idleTotal,
			MaxIdleConnsPerHost:    perHost,
			IdleConnTimeout:        idleTime,
			MaxResponseHeaderBytes: maxAnswer,
		}
	}
	c := &Sender{guard: g, plain: transport(true), secure: transport(false), budget: o.Budget, agent: []string{productPrefix + version}}
	if c.budget <= 0 {
		c.budget = budget
	}
	return c
}

// Kind says what became of an attempt.
type Kind string

// The kinds of outcome.
const (
	Delivered Kind = "delivered" // 2xx, answered whole within the budget
	Failed    Kind = "failed"    // may be tried again
	Gone      Kind = "gone"      // 410: the endpoint is to be disabled
	Blocked   Kind = "blocked"   // the address is not allowed: final
	Unfit     Kind = "unfit"     // the payload cannot be encoded for the endpoint: final
)

// Attempt is one delivery about to be made.
type Attempt struct {
	Endpoint Endpoint
	ID, Type string // webhook-id; event type
	Payload  []byte
	Number   int // 1 for the first
	Replay   bool
	Whole    bool // the answer is wanted: Body is all of it, and one longer than 64 KiB is Failed
	// Traceparent is sent along as the header of that name; "" = none.
	Traceparent string
}

// Outcome is what became of it.
type Outcome struct {
	Kind       Kind
	Status     int           // 0 when no answer came
	RetryAfter time.Duration // the partner's Retry-After, at most 6 h
	Took       time.Duration
	Err        string      // why it was not delivered; no secrets, no addresses
	Body       []byte      // first 4 KiB of the answer, unless all was asked for
	Request    http.Header // as sent; nil when nothing was
	Response   http.Header // nil when no answer came
}

// CheckReach resolves the name of an address and refuses one that leads where no delivery would go: what is dialled decides.
// A name that does not resolve here and now is not refused. ErrURL.
func (s *Sender) CheckReach(ctx context.Context, raw string) error {
	u, err := s.guard.address(raw)
	if err != nil {
		return err
	}
	return s.guard.reach(ctx, u)
}

// CheckURL applies to an address at load and at test what delivery will apply again. ErrURL.
func (s *Sender) CheckURL(raw string) error {
	_, err := s.guard.address(raw)
	return err
}

// Allow replaces AllowPrivate and closes idle connections, so that none made under the old rules is used again.
func (s *Sender) Allow(private []netip.Prefix) {
	s.guard.allow(private)
	s.plain.CloseIdleConnections()
	s.secure.CloseIdleConnections()
}

// Deliver makes one attempt: one POST, no redirect followed, nothing retried. When ctx ends first, the outcome is
// Failed and says nothing about the endpoint.
func (s *Sender) Deliver(ctx context.Context, a Attempt) Outcome {
	start := time.Now()
	u, err := s.guard.address(a.Endpoint.URL)
	if err != nil {
		return Outcome{Kind: Blocked, Err: err.Error(), Took: time.Since(start)}
	}
	budget := s.budget
	if t := a.Endpoint.Timeout; t > 0 {
		budget = t
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	r, err := s.request(ctx, u, a)
	if err != nil {
		return Outcome{Kind: Unfit, Err: err.Error(), Took: time.Since(start)}
	}
	o := s.post(r, a.Whole)
	o.Took, o.Request = time.Since(start), r.Header
	return o
}

func (s *Sender) request(ctx context.Context, u *url.URL, a Attempt) (*http.Request, error) {
	now := time.Now() // fresh on every attempt: partners refuse old ones
	h := make(http.Header, 8+len(a.Endpoint.Headers))
	for name, value := range a.Endpoint.Headers {
		if CheckHeader(name, value) == nil {
			h.Set(name, value)
		}
	}
	h["Content-Type"] = []string{contentType}
	h["User-Agent"] = s.agent
	h[headerID] = []string{a.ID}
	body := a.Payload
	if encode := a.Endpoint.Encode; encode != nil {
		e, err := encode(a.Payload, now)
		if err != nil {
			return nil, err
		}
		body, h["Content-Type"] = e.Body, []string{e.ContentType}
		if u.RawQuery != "" && e.Query != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += e.Query
	} else {
		h[headerTimestamp] = []string{strconv.FormatInt(now.Unix(), 10)}
		h[headerSignature] = []string{Sign(a.Endpoint.Secrets, a.ID, now, a.Payload)}
	}
	h["Webhook-Attempt"] = []string{strconv.Itoa(a.Number)}
	if a.Traceparent != "" {
		h["Traceparent"] = []string{a.Traceparent}
	}
	if a.Replay {
		h["Webhook-Replay"] = []string{"1"}
	}
	r := &http.Request{
		Method: http.MethodPost, URL: u, Host: u.Host, Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body)),
		// lets the Transport use another connection when a kept one was closed before anything was written to it
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
	}
	return r.WithContext(ctx), nil
}

// post uses the Transport itself: http.Client would follow redirects and keep cookies.
func (s *Sender) post(r *http.Request, whole bool) Outcome {
	transport := s.secure
	if r.URL.Scheme == "http" {
		transport = s.plain
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		kind := Failed
		if errors.Is(err, errBlocked) {
			kind = Blocked
		}
		return Outcome{Kind: kind, Err: explain(err)}
	}
	defer resp.Body.Close()
	read := readAnswer
	if whole {
		read = readWhole
	}
	body, err := read(resp.Body)
	return judge(resp, body, err)
}

// judge says what an answer means. One that breaks off or outlasts the budget is none, whatever its status
// (DECISIONS.md 4).
func judge(resp *http.Response, body []byte, broken error) Outcome {
	o := Outcome{Kind: Failed, Status: resp.StatusCode, Body: body, Response: resp.Header}
	switch {
	case resp.StatusCode == http.StatusGone:
		o.Kind, o.Err = Gone, "status 410"
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		o.Err = fmt.Sprintf("status %d: redirects are not followed", resp.StatusCode)
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		o.Err = fmt.Sprintf("status %d", resp.StatusCode)
	case broken != nil:
		o.Err = fmt.Sprintf("status %d, but the answer broke off: %s", resp.StatusCode, explain(broken))
	default:
		o.Kind = Delivered
		return o
	}
	o.RetryAfter = retryAfter(resp.Header, time.Now())
	return o
}

var errTooLong = fmt.Errorf("it is longer than %d bytes", maxAnswer)

// readWhole reads an answer that is wanted.
func readWhole(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		return nil, errTooLong
	}
	return body, err
}

var answerBuffers = sync.Pool{New: func() any { return new([keepBody]byte) }}

// readAnswer reads at most maxAnswer and returns the first keepBody. The error is nil when there was no more, or
// more than we read.
func readAnswer(r io.Reader) ([]byte, error) {
	buf := answerBuffers.Get().(*[keepBody]byte)
	defer answerBuffers.Put(buf)
	n, err := 0, error(nil)
	for n < keepBody && err == nil {
		var k int
		k, err = r.Read(buf[n:])
		n += k
	}
	body := bytes.Clone(buf[:n])
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(r, maxAnswer-keepBody))
	}
	if err == io.EOF {
		err = nil
	}
	return body, err
}
