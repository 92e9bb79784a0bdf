package app_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/cmd/app"
	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
	"github.com/wxrelay/wxrelay/config"
)

// TestMain has several journeys on their way at once, whatever the number of cores: they wait more than they work.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		if err := flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0))); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// world is the whole product in one process: the real gateway between a simulated WeChat and a simulated partner, on an
// in-process Redis whose clock the journey can move.
type world struct {
	t        *testing.T
	ctx      context.Context
	redis    *miniredis.Miniredis
	sim      *wechatsim.Sim
	partner  *partnersim.Partner
	client   *partnersim.Client
	app      *app.App
	dial     *dial
	accounts []string // apps beside "shop" for which WeChat pushes
	wire     *wire    // between it and Redis, when the journey may cut it
	yaml     string
	hook     string       // where the partner's server stands
	ahead    atomic.Int64 // nanoseconds that WeChat's clock is before ours
}

// The templates of the one mini-program.
const (
	tOrder = "TorderTorderTorderTorderTorderTorderTorder0" // one-time: thing1, amount2
	tOther = "TotherTotherTotherTotherTotherTotherTother0" // one-time: thing1
	tLong  = "TlongTlongTlongTlongTlongTlongTlongTlong000" // long-term: thing1
)

const whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="

// wish changes the world before it starts.
type wish struct {
	sim    func(*wechatsim.Options)
	config string // YAML appended at the top level
	events string // what the endpoint wants; "" = everything
	push   string // YAML inside the app's push section
	redis  string // URL of a real one, whose clock cannot be moved; "" = in-process
	app    string // YAML inside the app

	timeout string // wechat.timeout; "" = 2s
}

func newWorld(t *testing.T, w wish) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	so := wechatsim.Options{Seed: 7, Calm: true, PushSpacing: 30 * time.Millisecond, PushDeliveries: 60, MarkFailAfter: -1, Hang: 300 * time.Millisecond,
		Apps: []wechatsim.App{{Name: "shop", Pages: []string{"pages/order"}, Templates: []wechatsim.Template{
			{ID: tOrder, Title: "Order", Type: 2, Content: "item:{{thing1.DATA}}\nprice:{{amount2.DATA}}\n"},
			{ID: tOther, Title: "Other", Type: 2, Content: "item:{{thing1.DATA}}\n"},
			{ID: tLong, Title: "Long", Type: 3, Content: "item:{{thing1.DATA}}\n"}}}}}
	if w.sim != nil {
		w.sim(&so)
	}
	world := &world{t: t, ctx: ctx}
	if so.Clock == nil {
		so.Clock = func() time.Time { return time.Now().Add(time.Duration(world.ahead.Load())) }
	}
	so.Seed, so.Calm = temperOf(t, so.Seed)
	sim := wechatsim.New(so)
	if moods := tempers[temper(t)]; !so.Calm {
		sim.SetMoods(moods)
	}
	t.Cleanup(sim.Close)
	wx := httptest.NewServer(sim)
	t.Cleanup(wx.Close)
	partner, err := partnersim.New(partnersim.Options{Secrets: []string{whsec}})
	if err != nil {
		t.Fatal(err)
	}
	hook := httptest.NewServer(describedEvents(t, partner))
	t.Cleanup(hook.Close)
	url := w.redis
	if url == "" {
		world.redis = miniredis.RunT(t)
		world.dial = turn(t, world.redis)
		url = "redis://" + world.redis.Addr() + "/0"
	}
	a := sim.App("shop")
	if w.events == "" {
		w.events = `"*"`
	}
	yaml := fmt.Sprintf(`
listen: "127.0.0.1:0"
admin: {listen: "127.0.0.1:0"}
shutdown_grace: 5s
redis: {url: "%s"}
wechat: {base_url: "%s", timeout: %s}
apps:
  - id: shop
    appid: %s
    secret: %s
    original_id: %s
    kind: miniprogram
    push: {token: %s, encoding_aes_key: %s, mode: secure%s}
%s
partners:
  - id: orders
    secrets: [%s]
    apps: [shop]
    allow: [messages, subscriptions, bindings, tokens, endpoints]
    rate: {per_second: 10000, burst: 10000}
    endpoints:
      - {id: main, url: "%s/hook", events: [%s], secrets: [%s]}
limits: {mp_per_ip: {per_second: 10000, burst: 10000}, mp_per_openid: {per_second: 10000, burst: 10000}}
allow_private_endpoints: ["127.0.0.0/8"]
%s
`, url, wx.URL, cmp.Or(w.timeout, "2s"), a.AppID, a.Secret, a.OriginalID, a.Token, a.EncodingAESKey, w.push, w.app, whsec, hook.URL, w.events, whsec, w.config)
	world.sim, world.partner, world.yaml, world.hook = sim, partner, yaml, hook.URL
	world.start()
	t.Cleanup(world.stop)
	return world
}

// start puts the gateway up; the first time or again after stop.
func (w *world) start() {
	w.t.Helper()
	c, err := config.Parse([]byte(w.yaml), w.t.TempDir(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	log := zap.NewNop()
	if testing.Verbose() {
		log = zap.Must(zap.NewDevelopment())
	}
	w.app, err = app.Start(w.ctx, c, app.Options{Log: log, Version: "test"})
	if err != nil {
		w.t.Fatal(err)
	}
	select {
	case <-w.app.Ready():
	case <-w.ctx.Done():
		w.t.Fatal("the gateway did not become ready")
	}
	w.client = &partnersim.Client{Base: "http://" + w.app.PublicAddr(), Partner: "orders", Secret: whsec, HTTP: describedClient(w.t)}
	for _, name := range append([]string{"shop"}, w.accounts...) {
		w.sim.SetApp(name, func(a *wechatsim.App) { a.CallbackURL = "http://" + w.app.PublicAddr() + "/callback/" + name })
	}
}

func (w *world) stop() {
	if w.app == nil {
		return
	}
	if err := w.app.Close(context.Background()); err != nil {
		w.t.Errorf("close: %v", err)
	}
	w.app = nil
}

// dial keeps the in-process Redis' clock going and lets a journey move it ahead.
type dial struct {
	mu    sync.Mutex
	redis *miniredis.Miniredis
	ahead time.Duration
	slow  time.Time // not zero: it goes at a fifth of its speed, and was set then
}

func turn(t *testing.T, mr *miniredis.Miniredis) *dial {
	d := &dial{redis: mr}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				d.tick()
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return d
}

func (d *dial) set(more time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ahead += more
	d.slow = time.Time{}
	d.redis.SetTime(time.Now().Add(d.ahead))
}

// tick lets the time pass that has passed.
func (d *dial) tick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ahead == 0 { // nobody moved it: it is on the system's clock, to the microsecond
		return
	}
	now := time.Now()
	if !d.slow.IsZero() {
		d.ahead -= now.Sub(d.slow) * 4 / 5
		d.slow = now
	}
	d.redis.SetTime(now.Add(d.ahead))
}

// now is the time by Redis' clock.
func (d *dial) now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Now().Add(d.ahead)
}

// drag slows Redis' clock down until it is moved, so that short waits pass and a longer one does not.
func (d *dial) drag() {
	d.set(time.Millisecond)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = time.Now()
}

// later moves Redis' clock, and with it everything that waits. A real one takes its time.
func (w *world) later(d time.Duration) {
	if w.redis == nil {
		return
	}
	w.redis.FastForward(d) // first: what is written at the new time is not to expire by this step
	w.dial.set(d)
}

// inStep sets WeChat's clock to Redis', after later moved that one. The app must take pushes of any age (max_age: 0): to the
// gateway's own clock they come from the future.
func (w *world) inStep() {
	if w.redis != nil {
		w.dial.mu.Lock()
		defer w.dial.mu.Unlock()
		w.ahead.Store(max(w.ahead.Load(), int64(w.dial.ahead)))
	}
}

// accept is a tap in a second of its own. Two equal answers within one second make two equal pushes, and nothing tells
// them from one push that came twice.
func (w *world) accept(openid string, templates ...string) map[string]any {
	w.ahead.Add(int64(time.Second))
	return w.sim.Accept(openid, templates...)
}

// told waits for an event at the partner.
func (w *world) told(typ string, fits func(partnersim.Event) bool) partnersim.Event {
	w.t.Helper()
	e, err := w.partner.Await(w.ctx, func(e partnersim.Event) bool { return e.Type == typ && (fits == nil || fits(e)) })
	if err != nil {
		var seen []string
		for _, e := range w.partner.Events() {
			seen = append(seen, e.Type)
		}
		w.t.Fatalf("the partner was not told %s (%v); it was told %s", typ, err, strings.Join(seen, ", "))
	}
	return e
}

// toldOf waits for an event about one message.
func (w *world) toldOf(id, typ string) partnersim.Message {
	w.t.Helper()
	var m partnersim.Message
	w.told(typ, func(e partnersim.Event) bool {
		m = partnersim.Message{}
		return e.Into(&m) == nil && m.ID == id
	})
	return m
}

func (w *world) countTold(typ string) (n int) {
	for _, e := range w.partner.Events() {
		if e.Type == typ {
			n++
		}
	}
	return n
}

// order is a valid message; fields of over replace its own.
func order(openid string, over map[string]any) map[string]any {
	m := map[string]any{"app": "shop", "to": map[string]any{"openid": openid}, "template_id": tOrder, "page": "pages/order?id=1",
		"data": map[string]any{"thing1": map[string]any{"value": "一杯咖啡"}, "amount2": "¥18"}}
	for k, v := range over {
		m[k] = v
	}
	return m
}

// send posts a message and wants a status.
func (w *world) send(want int, m map[string]any) *partnersim.Answer {
	w.t.Helper()
	return w.sendAs("", want, m)
}

func (w *world) sendAs(id string, want int, m map[string]any) *partnersim.Answer {
	w.t.Helper()
	a, err := w.client.Send(w.ctx, id, m)
	if err != nil {
		w.t.Fatal(err)
	}
	if a.Status != want {
		w.t.Fatalf("POST messages: %d %s, want %d", a.Status, a.Body, want)
	}
	return a
}

func (w *world) message(id string) partnersim.Message {
	w.t.Helper()
	a, err := w.client.Get(w.ctx, "messages/"+id, nil)
	if err != nil || a.Status != 200 {
		w.t.Fatalf("GET messages/%s: %v %d %s", id, err, a.Status, a.Body)
	}
	return a.Message()
}

// line is the account of one template as the partner reads it.
type line struct {
	TemplateID string `json:"template_id"`
	Kind       string `json:"kind"`
	Credits    int    `json:"credits"`
	Reserved   int    `json:"reserved"`
	Status     string `json:"status"`
	History    []struct {
		Cause   string `json:"cause"`
		Delta   int    `json:"delta"`
		Balance int    `json:"balance"`
	} `json:"history"`
}

func (w *world) line(openid, template string) line {
	w.t.Helper()
	a, err := w.client.Get(w.ctx, "subscriptions", url.Values{"app": {"shop"}, "openid": {openid}})
	if err != nil || a.Status != 200 {
		w.t.Fatalf("GET subscriptions: %v %+v", err, a)
	}
	var page struct{ Items []line }
	if err := a.Into(&page); err != nil {
		w.t.Fatal(err)
	}
	for _, l := range page.Items {
		if l.TemplateID == template {
			return l
		}
	}
	return line{}
}

// wantLine waits until a line stands as wanted: what a push moves is booked before WeChat is thanked, what a send moves
// is booked with its end.
func (w *world) wantLine(openid, template string, credits, reserved int, status string) {
	w.t.Helper()
	var got line
	err := w.until(func() bool {
		got = w.line(openid, template)
		return got.Credits == credits && got.Reserved == reserved && got.Status == status
	})
	if err != nil {
		w.t.Fatalf("line of %s: %+v, want %d credits, %d reserved, %s", template, got, credits, reserved, status)
	}
}

// until asks again until it is so, without a fixed wait.
func (w *world) until(so func() bool) error {
	ctx, cancel := context.WithTimeout(w.ctx, 90*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// patient keeps what is in hand in hand while a journey moves the clock about: a lease lapses by Redis' clock.
const patient = "queue: {lease: 10m}"

// all tells whether all messages are in a state.
func (w *world) all(ids []string, state string) bool {
	w.t.Helper()
	for _, id := range ids {
		if w.message(id).State != state {
			return false
		}
	}
	return true
}

// overRests moves the clock on by one rest of an app, and again each second, until it is so: another rest may have begun after
// the last look at the clock. It must be so of everybody: whoever a rest still holds would wait for it in real time.
func (w *world) overRests(so func() bool) error {
	var moved time.Time
	return w.until(func() bool {
		if time.Since(moved) > time.Second {
			w.later(31 * time.Second)
			moved = time.Now()
		}
		return so()
	})
}

// settled waits until every push the platform made had its end.
func (w *world) settled() {
	w.t.Helper()
	if err := w.sim.Settle(w.ctx); err != nil {
		w.t.Fatal(err)
	}
}

// ask calls the mini-program's door.
func (w *world) ask(method, path, bearer string, body any, header ...string) (int, []byte) {
	w.t.Helper()
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			w.t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(w.ctx, method, "http://"+w.app.PublicAddr()+"/mp/shop/"+path, &b)
	if err != nil {
		w.t.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res.StatusCode, raw
}

// login is a mini-program's session of a user.
func (w *world) login(openid string) string {
	w.t.Helper()
	status, raw := w.ask("POST", "login", "", map[string]string{"code": w.sim.Login(openid)})
	var a struct{ Session, OpenID string }
	if err := json.Unmarshal(raw, &a); err != nil || status != 200 || a.Session == "" || a.OpenID != openid {
		w.t.Fatalf("login: %d %s", status, raw)
	}
	return a.Session
}
