package app

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/scripts/slow"
)

// TestRelaysWhole: a push books a credit, a partner's message spends it, the partner is told of both.
func TestRelaysWhole(t *testing.T) {
	eachRedis(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		a := w.start()
		c := a.config.Load()
		if status, body := send(t, a.PublicAddr(), "m0", testUser); status != http.StatusConflict || !strings.Contains(body, "no_credit") {
			t.Fatalf("without a credit: %d %s", status, body)
		}
		if status := push(t, c, a.PublicAddr(), testUser); status != http.StatusOK {
			t.Fatalf("push: %d", status)
		}
		if status, body := send(t, a.PublicAddr(), "m1", testUser); status != http.StatusAccepted {
			t.Fatalf("with a credit: %d %s", status, body)
		}
		for _, typ := range []string{"push.received", "subscription.accepted", "message.sent"} {
			eventually(t, typ, func() bool { return w.toldOf(typ) == 1 })
		}
		if status, body := get(t, a.AdminAddr(), "/readyz"); status != http.StatusOK {
			t.Errorf("/readyz: %d %s", status, body)
		}
		eventually(t, "the metrics of it", func() bool {
			_, page := get(t, a.AdminAddr(), "/metrics")
			for _, want := range []string{
				`wxrelay_pushes_total{app="shop",event="subscribe_msg_popup_event",result="accepted"} 1`,
				`wxrelay_sends_total{app="shop",channel="subscribe",errcode="0",outcome="sent"} 1`,
				`wxrelay_deliveries_total{partner="orders",result="delivered"} 3`,
				`wxrelay_delivery_seconds_count{result="delivered"} 3`,
				`wxrelay_token_age_seconds{app="shop"}`, `wxrelay_wechat_calls_total{app="shop",errcode="0",path="/cgi-bin/stable_token"} 1`,
				`wxrelay_build_info{version="test"} 1`, "go_goroutines", "wxrelay_queue_turn_age_seconds", "wxrelay_redis_connections",
			} {
				if !strings.Contains(page, want) {
					return false
				}
			}
			return !strings.Contains(page, "wxrelay_redis_errors_total{")
		})
		if status, body := get(t, a.AdminAddr(), "/"); status != http.StatusOK || !strings.Contains(body, "wxrelay") {
			t.Errorf("console: %d", status)
		}
		eventually(t, "one line per outcome", func() bool {
			return w.log.has(`"msg":"push"`) && w.log.has(`"msg":"message"`) && w.log.has(`"msg":"delivery"`)
		})
		if log := w.log.String(); strings.Contains(log, testUser) || strings.Contains(log, "appsecret") || strings.Contains(log, testToken+`"`) {
			t.Error("the log shows an openid or a secret")
		}
		w.close(a)
		if status, _ := get(t, a.AdminAddr(), "/healthz"); status != 0 {
			t.Errorf("the admin door still answers %d", status)
		}
		eventually(t, "the last line", func() bool { return w.log.has(`"msg":"stopped"`) })
	})
}

// TestRedisAwayAtStart: the doors are open and say so; all is well once it is there.
func TestRedisAwayAtStart(t *testing.T) {
	n := newLine(t)
	n.m.RequireUserAuth("user", "hunter2")
	w := newWorld(t, "unix://user:hunter2@"+n.path)
	a := w.start()
	c := a.config.Load()
	if status := push(t, c, a.PublicAddr(), testUser); status != http.StatusInternalServerError {
		t.Errorf("push: %d, WeChat would not push again", status)
	}
	if status, body := send(t, a.PublicAddr(), "m1", testUser); status != http.StatusServiceUnavailable || !strings.Contains(body, `"code":"unavailable"`) {
		t.Errorf("send: %d %s", status, body)
	}
	if status, body := get(t, a.AdminAddr(), "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "not open yet") || strings.Contains(body, "hunter2") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	for path, want := range map[string]int{"/healthz": 200, "/metrics": 200, "/": 503} {
		if status, _ := get(t, a.AdminAddr(), path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	// What is reloaded while waiting counts once Redis is there.
	w.extra = "limits: {batch: 7}\n"
	next := parse(t, w.yaml())
	if err := a.Reload(next); err != nil {
		t.Fatal(err)
	}
	n.mend()
	select {
	case <-a.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("not ready though Redis is there")
	}
	if got := a.assembled.Load().rules.Load().BatchLimit; got != 7 {
		t.Errorf("batch limit %d, want the reloaded 7", got)
	}
	if status := push(t, c, a.PublicAddr(), testUser); status != http.StatusOK {
		t.Errorf("push: %d", status)
	}
	eventually(t, "/readyz is green", func() bool { status, _ := get(t, a.AdminAddr(), "/readyz"); return status == http.StatusOK })
	if w.log.has("hunter2") {
		t.Error("the log shows Redis' password")
	}
}

// TestRedisGoesAndComesBack: red while it is away, and everything goes on afterwards.
func TestRedisGoesAndComesBack(t *testing.T) {
	n := newLine(t)
	n.mend()
	w := newWorld(t, n.url())
	a := w.start()
	c := a.config.Load()
	n.cut()
	if status, body := get(t, a.AdminAddr(), "/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if status := push(t, c, a.PublicAddr(), testUser); status != http.StatusInternalServerError {
		t.Errorf("push: %d", status)
	}
	n.mend()
	eventually(t, "a push is taken again", func() bool { return push(t, c, a.PublicAddr(), testUser) == http.StatusOK })
	eventually(t, "the partner is told", func() bool { return w.toldOf("subscription.accepted") >= 1 })
	eventually(t, "/readyz is green", func() bool { status, _ := get(t, a.AdminAddr(), "/readyz"); return status == http.StatusOK })
	if _, page := get(t, a.AdminAddr(), "/metrics"); !strings.Contains(page, "wxrelay_redis_errors_total{") {
		t.Error("the errors were not counted")
	}
}

// TestOtherShardsAreFinal: waiting would not help.
func TestOtherShardsAreFinal(t *testing.T) {
	n := newLine(t)
	n.mend()
	w := newWorld(t, n.url())
	w.close(w.start())
	c := parse(t, strings.Replace(w.yaml(), "url:", "shards: 8, url:", 1))
	if _, err := Start(t.Context(), c, Options{Stderr: w.log}); !errors.Is(err, queue.ErrShards) {
		t.Fatalf("started: %v", err)
	}
	// The same, found out only later.
	n.cut()
	a, err := Start(t.Context(), c, Options{Stderr: w.log})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close(a)
	n.mend()
	select {
	case err := <-a.Failed():
		if !errors.Is(err, queue.ErrShards) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on waiting")
	}
}

// TestTakenPort: the start says which door, and leaves nothing open.
func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWorld(t, "embedded://")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	adminAddr := free.Addr().String()
	free.Close()
	c := parse(t, strings.NewReplacer(`listen: "127.0.0.1:0"
admin: {listen: "127.0.0.1:0"}`, `listen: "`+l.Addr().String()+`"
admin: {listen: "`+adminAddr+`"}`).Replace(w.yaml()))
	if _, err := Start(t.Context(), c, Options{Stderr: w.log}); err == nil || !strings.Contains(err.Error(), "listen "+l.Addr().String()) {
		t.Fatalf("%v", err)
	}
	again, err := net.Listen("tcp", adminAddr)
	if err != nil {
		t.Fatalf("the admin door was left open: %v", err)
	}
	again.Close()
}

func TestRoomsRefuse(t *testing.T) {
	w := newWorld(t, "embedded://")
	c := parse(t, strings.Replace(w.yaml(), w.partner.URL, "https://10.1.2.3", 1))
	_, err := Start(t.Context(), c, Options{Stderr: w.log})
	var faults config.Faults
	if !errors.As(err, &faults) || faults[0].Path != "partners[0].endpoints[0].url" {
		t.Errorf("%v", err)
	}
}

func TestReload(t *testing.T) {
	w := newWorld(t, "embedded://")
	a := w.start()
	before := a.config.Load()
	if status, _ := send(t, a.PublicAddr(), "m1", testUser); status != http.StatusConflict {
		t.Fatalf("before: %d", status)
	}
	bad := parse(t, strings.Replace(w.yaml(), w.partner.URL, "https://10.1.2.3", 1))
	if err := a.Reload(bad); err == nil {
		t.Fatal("an address the courier refuses is taken over")
	} else {
		a.Refuse(err)
	}
	eventually(t, "the faults in the log", func() bool { return w.log.has("partners[0].endpoints[0].url: ") })
	if a.config.Load() != before {
		t.Fatal("a refused config is in force")
	}
	// The partner may no longer send, the push keys change, the desk asks for a password, the log is silent.
	next := parse(t, strings.NewReplacer("allow: [messages, subscriptions]", "allow: [subscriptions]", "token: "+testToken, "token: BBBBB",
		`admin: {listen: "127.0.0.1:0"}`, `admin: {listen: "127.0.0.1:1", password: hunter2}`, "level: debug", "level: warn",
		"shutdown_grace: 5s", "shutdown_grace: 4s").Replace(w.yaml()))
	if err := a.Reload(next); err != nil {
		t.Fatal(err)
	}
	if status, _ := send(t, a.PublicAddr(), "m2", testUser); status != http.StatusForbidden {
		t.Errorf("a right that was taken away: %d", status)
	}
	if status := push(t, before, a.PublicAddr(), testUser); status != http.StatusForbidden {
		t.Errorf("the old keys: %d", status)
	}
	if status := push(t, next, a.PublicAddr(), testUser); status != http.StatusOK {
		t.Errorf("the new keys: %d", status)
	}
	if status, _ := get(t, a.AdminAddr(), "/metrics"); status != http.StatusUnauthorized {
		t.Errorf("the desk without a password: %d", status)
	}
	auth := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("x:hunter2"))}}
	if status, page := ask(t, http.MethodGet, "http://"+a.AdminAddr()+"/metrics", auth, nil); status != http.StatusOK ||
		!strings.Contains(page, `wxrelay_config_reloads_total{result="applied"} 1`) || !strings.Contains(page, `wxrelay_config_reloads_total{result="refused"} 1`) {
		t.Errorf("with it: %d", status)
	}
	for _, key := range []string{"admin.listen", "shutdown_grace"} {
		if !w.log.has(`"needs a restart to take effect","key":"` + key + `"`) {
			t.Errorf("not said: %s", key)
		}
	}
	forget := func() {
		w.log.mu.Lock()
		defer w.log.mu.Unlock()
		w.log.b.Reset()
	}
	forget()
	push(t, next, a.PublicAddr(), testUser)
	back := parse(t, strings.Replace(w.yaml(), "level: debug", "level: warn", 1)) // all but the log is as it was at the start
	if err := a.Reload(back); err != nil {
		t.Fatal(err)
	}
	w.close(a)
	if w.log.has("needs a restart") {
		t.Error("a value that is set back still needs a restart")
	}
	if w.log.has(`"level":"info"`) {
		t.Error("info lines at level warn")
	}
}

func TestNeedRestart(t *testing.T) {
	w := newWorld(t, "embedded://")
	old := parse(t, w.yaml())
	if got := needRestart(old, parse(t, w.yaml())); len(got) > 0 {
		t.Errorf("the same config: %v", got)
	}
	w.extra = "limits: {body: 1KiB, proxy_body: 1KiB}\nretention: {buried: 1d}\n"
	now := parse(t, strings.NewReplacer("embedded://", "redis://h", "shutdown_grace: 5s", "shutdown_grace: 4s", "wechat: {", "wechat: {timeout: 1s, ",
		`listen: "127.0.0.1:0"
admin`, `listen: "127.0.0.1:1"
admin`).Replace(w.yaml()))
	want := []string{"listen", "shutdown_grace", "redis.url", "wechat", "limits.body", "limits.proxy_body", "retention.buried"}
	if diff := cmp.Diff(want, needRestart(old, now)); diff != "" {
		t.Error(diff)
	}
}

// TestCloseFinishesWhatIsInHand: a delivery that has begun is waited for, within the grace.
func TestCloseFinishesWhatIsInHand(t *testing.T) {
	w := newWorld(t, "embedded://")
	began, finish := make(chan struct{}, 16), make(chan struct{})
	w.answer = func(rw http.ResponseWriter, _ *http.Request) {
		began <- struct{}{}
		<-finish
		rw.WriteHeader(http.StatusNoContent)
	}
	a := w.start()
	if status := push(t, a.config.Load(), a.PublicAddr(), testUser); status != http.StatusOK {
		t.Fatalf("push: %d", status)
	}
	<-began
	closed := make(chan error, 1)
	go func() { closed <- a.Close(context.Background()) }()
	eventually(t, "/readyz is red", func() bool {
		status, body := get(t, a.AdminAddr(), "/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "stopping")
	})
	eventually(t, "the public door is closed", func() bool { status, _ := get(t, a.PublicAddr(), "/"); return status == 0 })
	select {
	case <-closed:
		t.Fatal("closed with a delivery in hand")
	default:
	}
	close(finish)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if !w.log.has(`"in_time":true`) || !w.log.has(`"result":"delivered"`) {
		t.Error("what was in hand was not finished")
	}
}

// TestCloseGivesUpAfterTheGrace: an endpoint that never answers does not hold us.
func TestCloseGivesUpAfterTheGrace(t *testing.T) {
	w := newWorld(t, "embedded://")
	began, finish := make(chan struct{}, 16), make(chan struct{})
	defer close(finish)
	w.answer = func(http.ResponseWriter, *http.Request) { began <- struct{}{}; <-finish }
	c := parse(t, strings.Replace(w.yaml(), "shutdown_grace: 5s", "shutdown_grace: 200ms", 1))
	a, err := Start(t.Context(), c, Options{Stderr: w.log})
	if err != nil {
		t.Fatal(err)
	}
	push(t, c, a.PublicAddr(), testUser)
	<-began
	start := time.Now()
	if err := a.Close(context.Background()); err != nil {
		t.Error(err)
	}
	slow.Within(t, start, 4*time.Second)
	if err := a.Close(context.Background()); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// TestAppNeedsItsOperator: a token WeChat refuses is told to log, metrics and partners.
func TestAppNeedsItsOperator(t *testing.T) {
	w := newWorld(t, "embedded://")
	w.token = `{"errcode":40164,"errmsg":"invalid ip 203.0.113.9 ipv6 ::ffff:203.0.113.9, not in whitelist"}`
	a := w.start()
	eventually(t, "the partner is told", func() bool { return w.toldOf("app.alert") > 0 })
	eventually(t, "the log says it", func() bool { return w.log.has("app needs its operator") && w.log.has("203.0.113.9") })
	if _, page := get(t, a.AdminAddr(), "/metrics"); !strings.Contains(page, `wxrelay_app_alerts_total{app="shop"}`) {
		t.Error("not counted")
	}
}

func TestHeadersAreBounded(t *testing.T) {
	w := newWorld(t, "embedded://")
	a := w.start()
	for size, want := range map[int]int{8 << 10: http.StatusNotFound, 64 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		if status, _ := ask(t, http.MethodGet, "http://"+a.PublicAddr()+"/nothing", http.Header{"X-Long": {strings.Repeat("x", size)}}, nil); status != want {
			t.Errorf("%d bytes of headers: %d, want %d", size, status, want)
		}
	}
}

func TestRun(t *testing.T) {
	w := newWorld(t, "embedded://")
	ctx, stop := context.WithCancel(t.Context())
	err := Run(ctx, parse(t, w.yaml()), Options{Stderr: w.log}, func(a *App) {
		<-a.Ready()
		stop()
	})
	if err != nil {
		t.Error(err)
	}
}
