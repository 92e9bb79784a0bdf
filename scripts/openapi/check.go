// Package openapi holds what is really asked, answered and told against gateway/openapi.yaml. Tests wrap their handlers
// with it; the product does not link it.
package openapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// Checker knows the description. It is safe for concurrent use.
type Checker struct {
	Doc    *openapi3.T
	router routers.Router
}

// File is the description's place in the repository.
func File() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(here), "..", "..", "gateway", "openapi.yaml")
}

// Described is the description, read once. A fault of it ends the test.
func Described(t testing.TB) *Checker {
	t.Helper()
	c, err := described()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var described = sync.OnceValues(func() (*Checker, error) { return LoadFile(File()) })

// LoadFile reads and validates a description: ours, or that of the operators' API.
func LoadFile(file string) (*Checker, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		return nil, err
	}
	return &Checker{Doc: doc, router: router}, nil
}

// bodyLimit is how much of a body is read for checking; larger ones pass unread.
const bodyLimit = 1 << 20

// Handler serves by next and tells fail of every answer that the description does not have, and of every request that
// was answered 2xx although the description does not allow it. It must stand outside of everything else.
func (c *Checker) Handler(next http.Handler, fail func(string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := teeBody(r)
		answer := &answerRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		if err := c.exchange(r, asked, answer.status, w.Header(), &answer.body); err != nil {
			fail(err.Error())
		}
	})
}

// Transport is Handler for the caller's side.
func (c *Checker) Transport(next http.RoundTripper, fail func(string)) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		asked := teeBody(r)
		res, err := next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		answer := &recorder{}
		raw, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		res.Body = io.NopCloser(bytes.NewReader(raw))
		if err != nil {
			return res, err
		}
		_, _ = answer.Write(raw)
		if err := c.exchange(r, asked, res.StatusCode, res.Header, answer); err != nil {
			fail(err.Error())
		}
		return res, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func teeBody(r *http.Request) *recorder {
	asked := &recorder{}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, asked), r.Body}
	}
	return asked
}

func (c *Checker) exchange(r *http.Request, asked *recorder, status int, header http.Header, answer *recorder) error {
	route, params, err := c.router.FindRoute(r)
	body, whole := asked.bytes()
	answered, all := answer.bytes()
	if err != nil || !whole || !all { // a route that nobody has is answered 404 or 405
		return nil //nolint:nilerr // it is not in the description
	}
	input := &openapi3filter.RequestValidationInput{Request: r.Clone(context.WithoutCancel(r.Context())), PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}}
	input.Request.Body = io.NopCloser(bytes.NewReader(bytes.TrimPrefix(body, []byte("\ufeff")))) // a byte order mark is passed over
	if input.Request.Header.Get("Content-Type") == "" {                                          // our callers need not name it
		input.Request.Header.Set("Content-Type", "application/json")
	}
	ctx := input.Request.Context()
	if status < 300 && route.Operation.OperationID != "sendBatch" { // what is wrong with an item is its own result
		if err := openapi3filter.ValidateRequest(ctx, input); err != nil {
			return fmt.Errorf("%s %s was answered %d, and is not in the description: %w", r.Method, r.URL.Path, status, err)
		}
	}
	if err := openapi3filter.ValidateResponse(ctx, &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: status,
		Header: header, Body: io.NopCloser(bytes.NewReader(answered)), Options: input.Options}); err != nil {
		return fmt.Errorf("the answer of %s %s is not in the description: %w\n%d %s", r.Method, r.URL.Path, err, status, answered)
	}
	return nil
}

// Event checks the body of a webhook against the schema of its type.
func (c *Checker) Event(body []byte) error {
	var envelope struct {
		Type string `json:"type"`
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	_ = json.Unmarshal(body, &envelope)
	item := c.Doc.Webhooks[envelope.Type]
	if item == nil || item.Post == nil {
		return fmt.Errorf("the event type %q is not in the description", envelope.Type)
	}
	schema := item.Post.RequestBody.Value.Content.Get("application/json").Schema.Value
	if err := schema.VisitJSON(value, openapi3.EnableJSONSchema2020()); err != nil {
		return fmt.Errorf("%s does not fit its schema: %w\n%s", envelope.Type, err, body)
	}
	return nil
}

// Operations lists what the description has, as "GET /v1/partners/{partner}/messages".
func (c *Checker) Operations() []string {
	var out []string
	for path, item := range c.Doc.Paths.Map() {
		for method := range item.Operations() {
			out = append(out, method+" "+path)
		}
	}
	return out
}

// recorder keeps a body. A request's body may still be written when its answer is there.
type recorder struct {
	mu   sync.Mutex
	body bytes.Buffer
	full bool
}

// bytes is what was written so far; whole is false when that is not all.
func (r *recorder) bytes() (body []byte, whole bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.body.Bytes()), !r.full
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.body.Len()+len(p) > bodyLimit {
		r.full = true
		return len(p), nil
	}
	return r.body.Write(p)
}

type answerRecorder struct {
	http.ResponseWriter
	status int
	body   recorder
	wrote  bool
}

func (a *answerRecorder) WriteHeader(status int) {
	if !a.wrote && status >= 200 {
		a.status, a.wrote = status, true
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answerRecorder) Write(p []byte) (int, error) {
	a.wrote = true
	_, _ = a.body.Write(p)
	return a.ResponseWriter.Write(p)
}

func (a *answerRecorder) Flush() {
	if f, ok := a.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap is for http.ResponseController.
func (a *answerRecorder) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// PathOf turns a route of Gin into the description's spelling: /a/:b/*c is /a/{b}/{c}.
func PathOf(gin string) string {
	parts := strings.Split(gin, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, ":") || strings.HasPrefix(p, "*") {
			parts[i] = "{" + p[1:] + "}"
		}
	}
	return strings.Join(parts, "/")
}
