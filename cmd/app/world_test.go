package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/scripts/testredis"
)

const (
	testToken  = "AAAAA"
	testAESKey = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	testSecret = "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVu"
	testUser   = "oUser0000000000000000000001"
)

// world is what stands around one gateway under test: a platform that answers well, a partner's endpoint, and the log.
type world struct {
	t          *testing.T
	redis      string // redis.url
	extra      string // more YAML, at the top level
	adminExtra string // more keys of admin, each after a comma
	platform   *httptest.Server
	partner    *httptest.Server
	answer     func(http.ResponseWriter, *http.Request) // the partner's; nil = 204
	token      string                                   // the platform's answer to a request for a token; "" = a good one
	log        *lines

	mu   sync.Mutex
	told []string // event types the partner was told
}

func newWorld(t *testing.T, redisURL string) *world {
	w := &world{t: t, redis: redisURL, log: &lines{}}
	w.platform = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "token"):
			if w.token != "" {
				fmt.Fprint(rw, w.token)
				return
			}
			fmt.Fprint(rw, `{"access_token":"tok","expires_in":7200}`)
		case strings.HasSuffix(r.URL.Path, "/gettemplate"):
			fmt.Fprint(rw, `{"errcode":0,"errmsg":"ok","data":[{"priTmplId":"T1","title":"t","content":"a:{{thing1.DATA}}\n","example":"","type":2}]}`)
		case strings.HasSuffix(r.URL.Path, "/subscribe/send"):
			fmt.Fprint(rw, `{"errcode":0,"errmsg":"ok","msgid":1988810812324364291}`)
		default:
			fmt.Fprint(rw, `{"errcode":48001,"errmsg":"api unauthorized"}`)
		}
	}))
	w.partner = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var event struct{ Type string }
		_ = json.Unmarshal(body, &event)
		if w.answer != nil {
			w.answer(rw, r)
		} else {
			rw.WriteHeader(http.StatusNoContent)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.told = append(w.told, event.Type)
	}))
	t.Cleanup(func() {
		w.platform.Close()
		w.partner.CloseClientConnections()
		w.partner.Close()
		if t.Failed() {
			t.Logf("log:\n%s", w.log)
		}
	})
	return w
}

func (w *world) yaml() string {
	return fmt.Sprintf(`
listen: "127.0.0.1:0"
admin: {listen: "127.0.0.1:0"%s}
shutdown_grace: 5s
redis: {url: %q}
wechat: {base_url: %q}
master_key: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
apps:
  - id: shop
    appid: wx0123456789abcdef
    secret: appsecret
    push: {token: %s, encoding_aes_key: %s}
partners:
  - id: orders
    secrets: [%s]
    apps: [shop]
    allow: [messages, subscriptions]
    endpoints: [{id: main, url: %q, secrets: [%s]}]
allow_private_endpoints: [127.0.0.0/8]
log: {level: debug}
%s`, w.adminExtra, w.redis, w.platform.URL, testToken, testAESKey, testSecret, w.partner.URL+"/hook", testSecret, w.extra)
}

func parse(t *testing.T, yaml string) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte(yaml), ".", nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, yaml)
	}
	return c
}

// start starts the gateway and closes it at the end of the test.
func (w *world) start() *App {
	w.t.Helper()
	a, err := Start(w.t.Context(), parse(w.t, w.yaml()), Options{Stderr: w.log, Version: "test"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.close(a) })
	return a
}

func (w *world) close(a *App) {
	w.t.Helper()
	if err := a.Close(context.Background()); err != nil {
		w.t.Errorf("close: %v", err)
	}
}

// toldOf counts the events of a type the partner has heard.
func (w *world) toldOf(typ string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.told {
		if x == typ {
			n++
		}
	}
	return n
}

// push posts a popup accept of openid as WeChat would, and gives the status.
func push(t *testing.T, c *config.Config, addr, openid string) int {
	t.Helper()
	now := time.Now()
	message, err := callback.Compose(callback.JSON, callback.Event{ToUserName: "gh_1", FromUserName: openid, OpenID: openid,
		CreateTime: now.Unix(), MsgType: "event", Event: "subscribe_msg_popup_event",
		Subscribes: []callback.Subscribe{{TemplateID: "T1", Status: "accept", PopupScene: "0"}}})
	if err != nil {
		t.Fatal(err)
	}
	query, body, err := callback.ComposeRequest(CallbackApp(c.Apps[0]), callback.JSON, message, "1", now)
	if err != nil {
		t.Fatal(err)
	}
	status, _ := ask(t, http.MethodPost, "http://"+addr+"/callback/shop?"+query, nil, body)
	return status
}

// send posts a signed message to openid, and gives status and body.
func send(t *testing.T, addr, id, openid string) (int, string) {
	t.Helper()
	secret, err := webhook.ParseSecret(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	body := fmt.Appendf(nil, `{"app":"shop","to":{"openid":%q},"channel":"subscribe","template_id":"T1","data":{"thing1":"hello"}}`, openid)
	return ask(t, http.MethodPost, "http://"+addr+"/v1/partners/orders/messages", http.Header{
		"Content-Type": {"application/json"}, "Webhook-Id": {id}, "Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)},
		"Webhook-Signature": {webhook.Sign([]webhook.Secret{secret}, id, now, body)},
	}, body)
}

// ask makes one request on a connection of its own; status 0 is no answer.
func ask(t *testing.T, method, url string, header http.Header, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer)
}

func get(t *testing.T, addr, path string) (int, string) {
	t.Helper()
	return ask(t, http.MethodGet, "http://"+addr+path, nil, nil)
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-limit:
			t.Fatalf("never happened: %s", what)
		case <-tick.C:
		}
	}
}

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) has(part string) bool { return strings.Contains(l.String(), part) }

// eachRedis runs a test over the embedded Redis, and again over the real one of [testredis].
func eachRedis(t *testing.T, f func(t *testing.T, url string)) {
	t.Run("in-process", func(t *testing.T) { f(t, "embedded://") })
	t.Run("redis-server", func(t *testing.T) { f(t, testredis.URL(t)) })
}
