package callback

import (
	"bytes"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func newEncrypter(l *cipherKey) cipher.BlockMode { return cipher.NewCBCEncrypter(l.block, l.key[:16]) }

// post serves one sealed push in the app's own mode.
func post(t *testing.T, d *Handler, a App, raw string) *httptest.ResponseRecorder {
	t.Helper()
	format, _, err := Decode([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	query, body, err := ComposeRequest(a, format, []byte(raw), "42", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	d.ServeApp(w, httptest.NewRequest("POST", "/callback/"+a.Name+"?"+query, bytes.NewReader(body)), a.Name)
	return w
}

// TestReplies: nothing is success; something is sealed in the format and mode of the push.
func TestReplies(t *testing.T) {
	var reply []byte
	for _, mode := range []Mode{Secure, Compat, Plain} {
		for _, raw := range []string{textJSONPush, textXMLPush} {
			a := App{Name: "a", AppID: "wx1", Mode: mode, Key: key1}
			d, err := NewHandler([]App{a}, func(context.Context, *Push) ([]byte, error) { return reply, nil }, HandlerOptions{})
			if err != nil {
				t.Fatal(err)
			}
			format := JSON
			if raw[0] == '<' {
				format = XML
			}
			for _, reply = range [][]byte{nil, {}} {
				if w := post(t, d, a, raw); w.Code != 200 || w.Body.String() != "success" {
					t.Errorf("%s %s: %d %q", mode, format, w.Code, w.Body)
				}
			}
			reply = []byte(`{"demo_resp":"good luck"}`)
			w := post(t, d, a, raw)
			if want := map[Format]string{JSON: "application/json; charset=utf-8", XML: "text/xml; charset=utf-8"}[format]; w.Header().Get("Content-Type") != want {
				t.Errorf("%s %s: %v", mode, format, w.Header())
			}
			if mode == Plain {
				if w.Body.String() != string(reply) {
					t.Errorf("plain: %q", w.Body)
				}
				continue
			}
			checkReply(t, w.Body.Bytes(), format, key1, "wx1", "42", string(reply))
		}
	}
}

// TestTransferCustomerService: messages are handed over, events never.
func TestTransferCustomerService(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Mode: Plain, Key: key1, Reply: "transfer_customer_service"}
	d, err := NewHandler([]App{a}, func(context.Context, *Push) ([]byte, error) { return nil, nil }, HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{textJSONPush, textXMLPush} {
		w := post(t, d, a, raw)
		format, ev, err := Decode(w.Body.Bytes())
		if err != nil || (format == XML) != (raw[0] == '<') {
			t.Fatalf("%s, %v", w.Body, err)
		}
		if ev.ToUserName != "oX" || ev.FromUserName != "gh_1" || ev.MsgType != "transfer_customer_service" || time.Now().Unix()-ev.CreateTime > 60 || ev.Event != "" {
			t.Errorf("%+v", ev)
		}
	}
	for _, raw := range []string{`{"FromUserName":"oX","MsgType":"event","Event":"user_enter_tempsession"}`, "<xml><InfoType>component_verify_ticket</InfoType></xml>"} {
		if w := post(t, d, a, raw); w.Body.String() != "success" {
			t.Errorf("%s: %s", raw, w.Body)
		}
	}
}

// TestProbe: CheckContainerPath is answered alike for every app there is or is not, and nobody hears of it.
func TestProbe(t *testing.T) {
	d, err := NewHandler(handlerApps, func(context.Context, *Push) ([]byte, error) { return nil, errors.New("received") }, HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, app := range []string{"shop", "open", "nobody"} {
		for body, want := range map[string]int{
			`{"action":"CheckContainerPath"}`:                                     200,
			"{\n  \"action\": \"CheckContainerPath\"\n}\n":                        200,
			"<xml><action><![CDATA[CheckContainerPath]]></action></xml>":          200,
			"<xml>\n <action>CheckContainerPath</action>\n</xml>":                 200,
			`{"action":"CheckContainerPath","Event":"subscribe_msg_popup_event"}`: 403,
			`{"action":"Another"}`:                                                403,
		} {
			w := httptest.NewRecorder()
			d.ServeApp(w, httptest.NewRequest("POST", "/callback/"+app, strings.NewReader(body)), app)
			if w.Code != want || want == 200 && w.Body.String() != "success" {
				t.Errorf("%s %s: %d %q", app, body, w.Code, w.Body)
			}
		}
	}
}

// TestSinkFails: what could not be stored is 500 and nothing else; the reason goes to the operator.
func TestSinkFails(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Key: key1}
	broken := errors.New("redis away")
	var told error
	var result string
	sink := Sink(func(context.Context, *Push) ([]byte, error) { return []byte("reply"), broken })
	d, err := NewHandler([]App{a}, func(ctx context.Context, p *Push) ([]byte, error) { return sink(ctx, p) },
		HandlerOptions{OnResult: func(_, event, r string) { result = event + " " + r }, OnError: func(_ string, err error) { told = err }})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{broken, fmt.Errorf("%w: in disguise", ErrMalformed), ErrUnproven} {
		broken = err
		if w := post(t, d, a, textJSONPush); w.Code != 500 || w.Body.Len() != 0 || !errors.Is(told, err) || result != "text failed" {
			t.Errorf("%d %q %v %q", w.Code, w.Body, told, result)
		}
	}
	sink = func(context.Context, *Push) ([]byte, error) { panic("index out of range") }
	if w := post(t, d, a, textJSONPush); w.Code != 500 || w.Body.Len() != 0 || told == nil || !strings.Contains(told.Error(), "index out of range") {
		t.Errorf("%d %q %v", w.Code, w.Body, told)
	}
	sink = func(context.Context, *Push) ([]byte, error) { return nil, nil }
	if w := post(t, d, a, textJSONPush); w.Code != 200 || result != "text taken" {
		t.Errorf("%d %q", w.Code, result)
	}
}

// TestBudget: never later than 4 s, whether the sink minds its context or not.
func TestBudget(t *testing.T) {
	for name, c := range map[string]struct {
		sink Sink
		took time.Duration
		code int
	}{
		"in time": {func(ctx context.Context, _ *Push) ([]byte, error) {
			if left, ok := ctx.Deadline(); !ok || time.Until(left) > 4*time.Second {
				t.Error("no deadline")
			}
			select {
			case <-time.After(3 * time.Second):
				return nil, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}, 3 * time.Second, 200},
		"gives up":   {func(ctx context.Context, _ *Push) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }, 4 * time.Second, 500},
		"is discard": {func(context.Context, *Push) ([]byte, error) { <-time.After(time.Minute); return nil, nil }, 4 * time.Second, 500},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := App{Name: "a", AppID: "wx1", Key: key1}
				var result string
				d, err := NewHandler([]App{a}, c.sink, HandlerOptions{OnResult: func(_, _, r string) { result = r }})
				if err != nil {
					t.Fatal(err)
				}
				query, body, err := ComposeRequest(a, JSON, []byte(textJSONPush), "42", time.Now())
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				w := &timed{ResponseRecorder: httptest.NewRecorder()}
				d.ServeApp(w, httptest.NewRequestWithContext(t.Context(), "POST", "/callback/a?"+query, bytes.NewReader(body)), "a")
				if took := w.at.Sub(began); took != c.took || w.Code != c.code || c.code == 500 && (w.Body.Len() != 0 || result != ResultLate || !w.Flushed) {
					t.Errorf("%d %q after %v, %s, flushed %v", w.Code, w.Body, took, result, w.Flushed)
				}
			})
		})
	}
}

// timed notes when the answer was given, which may be long before the handler returns.
type timed struct {
	*httptest.ResponseRecorder
	at time.Time
}

func (w *timed) WriteHeader(code int) {
	w.at = time.Now()
	w.ResponseRecorder.WriteHeader(code)
}

func (w *timed) Write(b []byte) (int, error) {
	w.at = time.Now()
	return w.ResponseRecorder.Write(b)
}

// TestBudgetOnTheWire: WeChat has its whole answer while the sink is still at work, and the connection goes on after
// it.
func TestBudgetOnTheWire(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Key: key1}
	release := make(chan struct{})
	d, err := NewHandler([]App{a}, func(context.Context, *Push) ([]byte, error) {
		<-release
		return nil, nil
	}, HandlerOptions{Budget: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.ServeApp(w, r, "a") }))
	defer srv.Close()
	push := func() *http.Response {
		query, body, err := ComposeRequest(a, JSON, []byte(textJSONPush), "42", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		res, err := srv.Client().Post(srv.URL+"/?"+query, "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	res := push()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 500 || len(body) != 0 {
		t.Errorf("%d %q %v", res.StatusCode, body, err)
	}
	res.Body.Close()
	close(release)
	res = push()
	defer res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("then: %d", res.StatusCode)
	}
}

// TestConnectionGone: a caller who hangs up does not stop what is being stored.
func TestConnectionGone(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Key: key1}
	d, err := NewHandler([]App{a}, func(ctx context.Context, _ *Push) ([]byte, error) { return nil, ctx.Err() }, HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	query, body, err := ComposeRequest(a, JSON, []byte(textJSONPush), "42", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	hangUp()
	w := httptest.NewRecorder()
	d.ServeApp(w, httptest.NewRequestWithContext(ctx, "POST", "/callback/a?"+query, bytes.NewReader(body)), "a")
	if w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
}

// TestBodies over a real connection: declared, chunked, too large either way, cut off, and slow.
func TestBodies(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Key: key1}
	var result atomic.Value
	d, err := NewHandler([]App{a}, func(context.Context, *Push) ([]byte, error) { return nil, nil },
		HandlerOptions{BodyLimit: 8 << 10, Budget: 300 * time.Millisecond, OnResult: func(_, _, r string) { result.Store(r) }})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.ServeApp(w, r, "a") }))
	defer srv.Close()
	long := strings.Replace(textJSONPush, `"hi"`, `"`+strings.Repeat("x", 4<<10)+`"`, 1)
	query, body, err := ComposeRequest(a, JSON, []byte(long), "42", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	chunked := func(b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b[:100]), bytes.NewReader(b[100:])) }
	for name, c := range map[string]struct {
		body io.Reader
		want int
	}{
		"declared":            {bytes.NewReader(body), 200},
		"chunked":             {chunked(body), 200},
		"too large, declared": {bytes.NewReader(append(bytes.Clone(body), make([]byte, 8<<10)...)), 413},
		"too large, chunked":  {chunked(append(bytes.Clone(body), make([]byte, 8<<10)...)), 413},
	} {
		res, err := http.Post(srv.URL+"/?"+query, "text/plain", c.body)
		if err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.want || c.want != 200 && len(rest) != 0 {
			t.Errorf("%s: %d %q, %v", name, res.StatusCode, rest, err)
		}
	}
	raw := func(sent []byte, end bool) string {
		t.Helper()
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /?%s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", query, len(body))
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		if end {
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		answer, err := io.ReadAll(io.LimitReader(conn, 12))
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	if got := raw(body[:200], true); got != "HTTP/1.1 403" {
		t.Errorf("cut off: %q", got)
	}
	if got := raw(body[:200], false); got != "HTTP/1.1 500" || result.Load() != ResultLate {
		t.Errorf("slow: %q %v", got, result.Load())
	}
}

// untouched is a body that must not be read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("read")
	return 0, io.EOF
}

// TestDeclaredTooLarge: what says it is too large is not read, and who asks does not matter.
func TestDeclaredTooLarge(t *testing.T) {
	d, err := NewHandler(handlerApps, nil, HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/callback/shop", untouched{t})
	r.ContentLength = 256<<10 + 1
	w := httptest.NewRecorder()
	if d.ServeApp(w, r, "shop"); w.Code != 413 || w.Body.Len() != 0 {
		t.Errorf("%d", w.Code)
	}
}

// TestSameWork: every app of a handler, and the one there is not, tries as many keys before it says no.
func TestSameWork(t *testing.T) {
	d, err := NewHandler(handlerApps, nil, HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range *d.verifiers.Load() {
		if e.rounds != 2 {
			t.Errorf("%s: %d rounds", name, e.rounds)
		}
	}
	if n := d.unknown.Load().rounds; n != 2 {
		t.Errorf("the unknown app: %d rounds", n)
	}
}

// TestSetApps: a bad new set leaves the old one in force.
func TestSetApps(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Key: key1}
	d, err := NewHandler([]App{a}, func(context.Context, *Push) ([]byte, error) { return nil, nil }, HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetApps([]App{{Name: "b"}}); err == nil {
		t.Fatal("taken")
	}
	if w := post(t, d, a, textJSONPush); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
	b := App{Name: "b", AppID: "wx1", Key: key1}
	if err := d.SetApps([]App{b}); err != nil {
		t.Fatal(err)
	}
	if w := post(t, d, a, textJSONPush); w.Code != 403 {
		t.Errorf("%d", w.Code)
	}
	if w := post(t, d, b, textJSONPush); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
}

// TestResults: what is counted has names out of a fixed set.
func TestResults(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Key: key1}
	var got []string
	d, err := NewHandler([]App{a}, func(context.Context, *Push) ([]byte, error) { return nil, nil },
		HandlerOptions{OnResult: func(app, event, result string) { got = append(got, app+"|"+event+"|"+result) }})
	if err != nil {
		t.Fatal(err)
	}
	post(t, d, a, `{"MsgType":"event","Event":"subscribe_msg_popup_event"}`)
	post(t, d, a, `{"MsgType":"event","Event":"made up on the spot"}`)
	post(t, d, a, "<xml><InfoType>component_verify_ticket</InfoType></xml>")
	d.ServeApp(httptest.NewRecorder(), httptest.NewRequest("POST", "/callback/made-up", nil), "made-up")
	d.ServeApp(httptest.NewRecorder(), httptest.NewRequest("PUT", "/callback/a", nil), "a")
	want := "a|subscribe_msg_popup_event|taken, a|other|taken, a|component_verify_ticket|taken, ||unproven, a||method"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}
