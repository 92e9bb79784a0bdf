package wechatsim

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// rig is a platform with one server that calls it (api) and one that is pushed to (ear).
type rig struct {
	*Sim
	t   *testing.T
	url string
	app App
	ear *ear
}

func newRig(t *testing.T, o Options) *rig {
	t.Helper()
	o.Calm = true
	if o.PushSpacing == 0 {
		o.PushSpacing = time.Millisecond
	}
	s := New(o)
	srv := httptest.NewServer(s)
	e := &ear{}
	esrv := httptest.NewServer(e)
	t.Cleanup(func() { s.Close(); srv.Close(); esrv.Close() })
	for _, a := range s.Apps() {
		s.SetApp(a.Name, func(a *App) { a.CallbackURL = esrv.URL + "/callback/" + a.Name })
	}
	e.app = func() App { return s.Apps()[0] }
	return &rig{Sim: s, t: t, url: srv.URL, app: s.Apps()[0], ear: e}
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	r.t.Cleanup(cancel)
	return ctx
}

func (r *rig) settled() {
	r.t.Helper()
	if err := r.Settle(r.ctx()); err != nil {
		r.t.Fatal(err)
	}
}

// said is one answer of the API handler.
type said struct {
	Errcode int    `json:"errcode"`
	Errmsg  string `json:"errmsg"`
	MsgID   int64  `json:"msgid"`
	Token   string `json:"access_token"`
	Expires int    `json:"expires_in"`
	raw     string
	status  int
	ctype   string
	lost    error
	body    json.RawMessage
}

func (r *rig) do(method, path string, body any) said {
	r.t.Helper()
	var rd io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		rd = strings.NewReader(b)
	default:
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(b); err != nil {
			r.t.Fatal(err)
		}
		rd = &buf
	}
	req, err := http.NewRequestWithContext(r.ctx(), method, r.url+path, rd)
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return said{lost: err}
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return said{lost: err}
	}
	got := said{raw: string(raw), status: res.StatusCode, ctype: res.Header.Get("Content-Type"), body: raw}
	if err := json.Unmarshal(raw, &got); err != nil && res.StatusCode == http.StatusOK && strings.HasPrefix(got.ctype, "application/json") {
		r.t.Fatalf("%s %s: %q: %v", method, path, raw, err)
	}
	return got
}

func (r *rig) token() string {
	r.t.Helper()
	got := r.do("POST", "/cgi-bin/stable_token", map[string]any{"grant_type": "client_credential", "appid": r.app.AppID, "secret": r.app.Secret})
	if got.Token == "" {
		r.t.Fatalf("no token: %s", got.raw)
	}
	return got.Token
}

func (r *rig) call(path string, body any) said {
	r.t.Helper()
	return r.do("POST", path+"?access_token="+r.token(), body)
}

// order is a message that the first default template takes.
func (r *rig) order(openid string) map[string]any {
	return map[string]any{"touser": openid, "template_id": r.app.Templates[0].ID, "page": "pages/order?id=1&x=2",
		"miniprogram_state": "formal", "lang": "zh_CN",
		"data": map[string]any{"thing1": value("苹果"), "amount2": value("¥100"), "time3": value("15:01")}}
}

func value(v any) map[string]any { return map[string]any{"value": v} }

func (r *rig) send(m map[string]any) said {
	r.t.Helper()
	return r.call("/cgi-bin/message/subscribe/send", m)
}

func want(t *testing.T, what string, got said, errcode int) {
	t.Helper()
	if got.lost != nil || got.Errcode != errcode {
		t.Fatalf("%s: got %s (%v), want errcode %d", what, got.raw, got.lost, errcode)
	}
}

// ear is a callback that opens pushes the way the documents say, and answers what it is told.
type ear struct {
	app    func() App
	mu     sync.Mutex
	got    []heard
	answer func(n int, w http.ResponseWriter, h heard) // nil = success
}

type heard struct {
	method string
	query  map[string]string
	ctype  string
	body   string // as it came
	plain  string // opened
}

func (e *ear) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	h := heard{method: r.Method, query: map[string]string{}, ctype: r.Header.Get("Content-Type"), body: string(body)}
	for k, v := range r.URL.Query() {
		h.query[k] = v[0]
	}
	if len(body) > 0 {
		h.plain, err = open(e.app(), h)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
	}
	e.mu.Lock()
	e.got = append(e.got, h)
	n, answer := len(e.got), e.answer
	e.mu.Unlock()
	switch {
	case answer != nil:
		answer(n, w, h)
	case r.Method == http.MethodGet:
		_, _ = io.WriteString(w, h.query["echostr"])
	default:
		_, _ = io.WriteString(w, "success")
	}
}

func open(a App, h heard) (string, error) {
	var env struct {
		ToUserName string
		Encrypt    string
	}
	var err error
	if h.body[0] == '<' {
		err = xml.Unmarshal([]byte(h.body), &env)
	} else {
		err = json.Unmarshal([]byte(h.body), &env)
	}
	if err != nil {
		return "", err
	}
	if a.Mode == Plain {
		if h.query["signature"] != signature(a.Token, h.query["timestamp"], h.query["nonce"]) {
			return "", fmt.Errorf("signature")
		}
		return h.body, nil
	}
	if h.query["msg_signature"] != signature(a.Token, h.query["timestamp"], h.query["nonce"], env.Encrypt) || h.query["encrypt_type"] != "aes" {
		return "", fmt.Errorf("msg_signature")
	}
	key, err := aesKey(a.EncodingAESKey)
	if err != nil {
		return "", err
	}
	msg, appid, err := decrypt(key, env.Encrypt)
	if err != nil || appid != a.AppID {
		return "", fmt.Errorf("encrypted for %q: %w", appid, err)
	}
	return string(msg), nil
}

func (e *ear) all() []heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]heard(nil), e.got...)
}

func (e *ear) answers(f func(n int, w http.ResponseWriter, h heard)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = f
}

func (e *ear) last(t *testing.T) heard {
	t.Helper()
	all := e.all()
	if len(all) == 0 {
		t.Fatal("nothing was pushed")
	}
	return all[len(all)-1]
}
