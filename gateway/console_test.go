package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/gateway/console"
	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/scripts/openapi"
)

// consoleWorld is the operators' door over a world whose workers run.
type consoleWorld struct {
	*world
	door   http.Handler
	status atomic.Int32 // what the partner's endpoint answers
	heard  chan string  // its webhook-ids
	jar    []*http.Cookie

	history *console.History
	mu      sync.Mutex
	changes []console.AuditEntry // the newest first
}

func (d *consoleWorld) audit(c Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes = slices.Insert(d.changes, 0, console.AuditEntry{At: time.Now(), User: c.User, Client: c.Client, Method: c.Method, Path: c.Path, Status: c.Status})
}

func (d *consoleWorld) audited(context.Context) ([]console.AuditEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.changes), nil
}

// checked holds every JSON answer against the description of the operators' API.
func (d *consoleWorld) checked(door http.Handler) http.Handler {
	check, err := openapi.LoadFile("console/admin.yaml")
	if err != nil {
		d.t.Fatal(err)
	}
	api := check.Handler(door, func(what string) { d.t.Error(what) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") && r.URL.Path != "/api/nowhere" {
			api.ServeHTTP(w, r)
			return
		}
		door.ServeHTTP(w, r)
	})
}

func newConsoleWorld(t *testing.T, rdb redis.UniversalClient) *consoleWorld {
	d := &consoleWorld{world: newWorld(t, rdb), heard: make(chan string, 64)}
	d.status.Store(http.StatusGone)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.heard <- r.Header.Get("webhook-id")
		w.WriteHeader(int(d.status.Load()))
	}))
	t.Cleanup(hook.Close)
	orders := d.rules.Partners["orders"]
	orders.Endpoints = []webhook.Endpoint{{Partner: "orders", ID: "hook", URL: hook.URL, Events: []string{"user.bound"}, Secrets: orders.Secrets}}
	d.rules.Partners["orders"] = orders
	d.relay.SetRules(d.rules)
	d.relay.Register()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.rooms.Queue.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	d.history = &console.History{}
	pages := console.New(console.Options{Relay: d.relay, Version: "test", History: d.history, Audit: d.audited,
		Ready: func(context.Context) []Check { return []Check{{Name: "redis", OK: true, Detail: "1 ms"}} },
		Fault: func(path string, err error) { t.Errorf("%s: %v", path, err) }})
	d.door = d.checked(Admin(AdminOptions{Console: pages, Audit: d.audit}))
	return d
}

// open asks the operators' door as a browser that keeps cookies.
func (d *consoleWorld) open(method, target, body, kind string) *httptest.ResponseRecorder {
	d.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:8081"
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	for _, c := range d.jar {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	d.door.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		d.jar = append(slices.DeleteFunc(d.jar, func(old *http.Cookie) bool { return old.Name == c.Name }), c)
	}
	return w
}

func (d *consoleWorld) page(target string, status int) string {
	d.t.Helper()
	w := d.open("GET", target, "", "")
	if w.Code != status || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		d.t.Fatalf("%s is %d %s", target, w.Code, w.Body)
	}
	if !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		d.t.Errorf("%s has no policy", target)
	}
	return w.Body.String()
}

func (d *consoleWorld) json(target string, v any) {
	d.t.Helper()
	w := d.open("GET", target, "", "")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		d.t.Fatalf("%s is %d %s", target, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		d.t.Fatal(err)
	}
}

// until looks again and again, as an operator would, for at most 20 s.
func (d *consoleWorld) until(what string, look func() bool) {
	d.t.Helper()
	tick, over := time.NewTicker(5*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for !look() {
		select {
		case <-tick.C:
		case <-over:
			d.t.Fatalf("not seen: %s", what)
		}
	}
}

func TestTheConsoleShowsWhatHappens(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		d := newConsoleWorld(t, rdb)
		openid, session := d.login("ann")
		d.accept(session)
		d.accept(session)
		d.sim.Grant(openid, tOrder, 1) // WeChat knows of one only: the second will be refused
		var m, refused relay.Message
		d.ask("POST", "/messages", order(openid, "")).got(202, "").into(&m)
		d.until("the message is sent", func() bool {
			var seen relay.Message
			d.json("/api/messages/"+m.ID, &seen)
			return seen.State == "sent"
		})
		d.ask("POST", "/messages", order(openid, "")).got(202, "").into(&refused)
		d.until("the other is refused", func() bool { return strings.Contains(d.page("/messages/"+refused.ID, 200), `data-state="refused"`) })
		for target, wants := range map[string][]string{
			"/":                                {`id="ready">Ready`, `Nothing. Endpoints take what they are sent`, `id="tail"`, `data-src="/api/history\?range=hour"`},
			"/?range=day":                      {`data-src="/api/history\?range=day"`},
			"/users?app=shop&openid=" + openid: {`id="line-` + tOrder + `"`, "/messages/" + m.ID, `<dd class="figure">0</dd>`, `Statement`},
			"/messages":                        {"/messages/" + m.ID},
			"/messages?app=shop&state=sent":    {"/messages/" + m.ID},
			"/messages?errcode=43101":          {"/messages/" + refused.ID},
			"/messages?partner=orders&openid=" + openid + "&template_id=" + tOrder: {"/messages/" + m.ID, "/messages/" + refused.ID},
			"/messages?since=2020-01-01T00:00&until=2020-01-02T00:00":              {`No messages.`},
			"/messages?id=" + m.ID:            {`data-state="sent"`},
			"/messages/" + m.ID:               {`data-state="sent"`, openid, `accepted`, `What WeChat is given`, `--data-binary`, `/v1/partners/orders/messages`},
			"/messages/" + refused.ID:         {`<strong class="code">43101</strong>`, `What to do`},
			"/endpoints":                      {`orders/hook`, `healthy`},
			"/endpoints/orders/hook":          {`Send a test event`, `healthy`},
			"/apps":                           {`<strong>shop</strong>`, `last push`},
			"/apps/shop":                      {`Order`, `thing1`, `there is none|[0-9a-f]{12}`, `orders`},
			"/errcodes":                       {`id="c43101"`},
			"/errcodes?q=43101":               {`id="c43101"`},
			"/deliveries":                     {`No deliveries.`},
			"/users":                          {`<option>shop</option>`},
			"/messages?app=shop&state=failed": {`No messages.`},
			"/audit":                          {`No changes yet.`},
		} {
			body := d.page(target, 200)
			for _, want := range wants {
				if !regexp.MustCompile("(?i)" + want).MatchString(body) {
					t.Errorf("%s: no %q in a page of %d bytes", target, want, len(body))
				}
			}
		}
		if body := d.page("/?lang=zh", 200); !strings.Contains(body, "就绪") {
			t.Error("not in Chinese when asked")
		}
		if body := d.page("/messages", 200); !strings.Contains(body, "更多条件") {
			t.Error("the language is not kept")
		}
		d.page("/?lang=en", 200)
		for _, target := range []string{"/messages/msg_00none", "/nowhere", "/users?app=nowhere&openid=o1", "/messages?app=nowhere", "/messages?state=lost", "/deliveries?endpoint=orders/none"} {
			if body := d.page(target, 404); !strings.Contains(body, "Nothing there") {
				t.Errorf("%s: %s", target, body)
			}
		}
		var over console.Overview
		d.json("/api/overview", &over)
		if !over.Ready || over.Apps != 2 || over.Ends != 1 || over.Needs == nil {
			t.Errorf("%+v", over)
		}
		var apps console.Apps
		d.json("/api/apps", &apps)
		if len(apps.Items) != 2 || apps.Items[1].Name != "shop" || apps.Items[1].Fetched == nil {
			t.Errorf("%+v", apps)
		}
		if w := d.open("GET", "/messages?errcode=x", "", ""); w.Code != 422 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		for _, secret := range []string{d.sim.App("shop").Secret, "whsec_", session} {
			if strings.Contains(d.page("/", 200)+d.page("/endpoints", 200)+d.open("GET", "/api/overview", "", "").Body.String()+d.open("GET", "/api/endpoints", "", "").Body.String(), secret) {
				t.Errorf("a secret on a page: %s", secret)
			}
		}
		if w := d.open("GET", "/api/nowhere", "", ""); w.Code != 404 || !strings.Contains(w.Body.String(), "error") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

var (
	replayForm  = regexp.MustCompile(`<form method="post" action="(/deliveries/(dlv_[^/"]+)/replay)"><input type="hidden" name="token" value="([^"]+)">`)
	oneDelivery = regexp.MustCompile(`href="(/deliveries/dlv_[^"]+)"`)
)

func TestABuriedDeliveryIsReplayed(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		d := newConsoleWorld(t, rdb)
		d.status.Store(http.StatusInternalServerError)
		d.ask("POST", "/endpoints/hook/test", "").got(202, "") // a test is tried once
		id := <-d.heard
		var form, row []string
		d.until("the delivery is buried", func() bool {
			row = oneDelivery.FindStringSubmatch(d.page("/deliveries?state=buried", 200))
			return row != nil
		})
		body := d.page(row[1], 200)
		if form = replayForm.FindStringSubmatch(body); form == nil {
			t.Fatalf("no button to replay:\n%s", body)
		}
		for _, want := range []string{`data-state="buried">given up<`, "500", "status 500", id, "Webhook-Signature", "Request body", "endpoint.test", "curl -i"} {
			if !strings.Contains(body, want) {
				t.Errorf("no %q in\n%s", want, body)
			}
		}
		d.ask("POST", "/endpoints/hook/disable", "").got(200, "")
		body = d.page("/endpoints/orders/hook", 200)
		button := regexp.MustCompile(`action="(/endpoints/orders/hook/enable)"><input type="hidden" name="token" value="([^"]+)">`).FindStringSubmatch(strings.ReplaceAll(body, ` class="buttons"`, ""))
		if !strings.Contains(body, "disabled") || button == nil {
			t.Fatalf("it does not show as disabled, or has no button:\n%s", body)
		}
		if w := d.open("POST", button[1], "token=wrong", "application/x-www-form-urlencoded"); w.Code < 400 {
			t.Errorf("enabled without a token: %d", w.Code)
		}
		if w := d.open("POST", button[1], url.Values{"token": {button[2]}}.Encode(), "application/x-www-form-urlencoded"); w.Code != 303 || !strings.Contains(d.page("/endpoints/orders/hook", 200), `data-state="healthy"`) {
			t.Errorf("%d: not enabled", w.Code)
		}
		const urlencoded = "application/x-www-form-urlencoded"
		filled := url.Values{"token": {form[3]}}.Encode()
		for name, post := range map[string]func() *httptest.ResponseRecorder{
			"no token": func() *httptest.ResponseRecorder { return d.open("POST", form[1], "", urlencoded) },
			"wrong token": func() *httptest.ResponseRecorder {
				return d.open("POST", form[1], "token="+strings.Repeat("x", 26), urlencoded)
			},
			"no cookie": func() *httptest.ResponseRecorder {
				jar := d.jar
				d.jar = nil
				w := d.open("POST", form[1], filled, urlencoded)
				d.jar = jar
				return w
			},
			"another site": func() *httptest.ResponseRecorder { return d.crossSite(form[1], filled) },
			"by GET":       func() *httptest.ResponseRecorder { return d.open("GET", form[1], "", "") },
			"api, as a form": func() *httptest.ResponseRecorder {
				return d.open("POST", "/api"+form[1], filled, urlencoded)
			},
		} {
			if w := post(); w.Code < 400 {
				t.Errorf("%s: %d", name, w.Code)
			}
		}
		d.status.Store(http.StatusOK)
		if _, err := d.rooms.Health.Enable(t.Context(), d.rules.Partners["orders"].Endpoints[0].HealthKey(), ""); err != nil {
			t.Fatal(err)
		}
		w := d.open("POST", form[1], filled, urlencoded)
		if w.Code != 303 || w.Header().Get("Location") != "/deliveries/"+form[2]+"?done=replay" {
			t.Fatalf("%d %s", w.Code, w.Header())
		}
		if !strings.Contains(d.page(w.Header().Get("Location"), 200), `role="status"`) {
			t.Error("it does not say that it was done")
		}
		if again := <-d.heard; again != id {
			t.Errorf("replayed as %s, was %s", again, id)
		}
		d.until("the delivery has ended well", func() bool {
			return strings.Contains(d.page("/deliveries?state=delivered", 200), form[2])
		})
		var again relay.Delivery
		if err := json.Unmarshal(d.open("POST", "/api"+form[1], "{}", "application/json; charset=utf-8").Body.Bytes(), &again); err != nil || again.ID != form[2] || again.State != "pending" {
			t.Errorf("%+v %v", again, err)
		}
		if again := <-d.heard; again != id {
			t.Errorf("replayed as %s, was %s", again, id)
		}
		// The partner's own door says the same.
		var page struct{ Items []relay.Delivery }
		d.ask("GET", "/deliveries?endpoint=hook", "").got(200, "").into(&page)
		if len(page.Items) != 1 || page.Items[0].ID != form[2] {
			t.Errorf("%+v", page)
		}
		d.until("it has ended well again, and is listed without naming its endpoint", func() bool {
			var all struct{ Items []relay.Delivery }
			d.ask("GET", "/deliveries", "").got(200, "").into(&all)
			if len(all.Items) != 1 || all.Items[0].ID != form[2] {
				t.Fatalf("%+v", all)
			}
			got := all.Items[0]
			if got.State == "delivered" && got.Reason != nil {
				t.Errorf("delivered, because of %s", *got.Reason)
			}
			return got.State == "delivered"
		})
		var none struct{ Items []relay.Delivery }
		d.as(asking{partner: "turned"}, "GET", "/deliveries", "").got(200, "").into(&none)
		if none.Items == nil || len(none.Items) > 0 {
			t.Errorf("another partner's: %+v", none)
		}
		d.ask("POST", "/deliveries/"+form[2]+"/replay", "").got(200, "")
		d.as(asking{partner: "turned"}, "POST", "/deliveries/"+form[2]+"/replay", "").got(404, NotFound)
		d.ask("GET", "/deliveries?endpoint=none", "").got(404, NotFound)
		d.ask("GET", "/deliveries?endpoint=hook&state=lost", "").got(422, InvalidRequest)
	})
}

func (d *consoleWorld) crossSite(target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", target, strings.NewReader(body))
	r.Host = "127.0.0.1:8081"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	for _, c := range d.jar {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	d.door.ServeHTTP(w, r)
	return w
}
