package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
	"github.com/wxrelay/wxrelay/relay/queue"
)

// outside is what stands around gateways that are real processes: a redis-server, WeChat, a partner, and an eye on Redis.
type outside struct {
	t       *testing.T
	ctx     context.Context
	redis   *redisServer
	eye     *redis.Client // of the test
	queue   *queue.Queue  // counts; it never runs
	sim     *wechatsim.Sim
	wx      *platform
	partner *partnersim.Partner
	client  partnersim.Client // without a base
	config  string            // of a gateway; at %s stands its name at Redis
	full    bool              // nothing is hurried
	started int               // gateways

	mu     sync.Mutex
	gates  []*gate // alive
	next   int
	inHand map[string]bool // messages that were in a worker's hand when a gateway was killed
}

// gate is a running wxrelay.
type gate struct {
	*process
	name          string // at Redis
	public, admin string
}

const (
	crashTemplate = "TorderTorderTorderTorderTorderTorderTorder0"
	crashSecret   = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
	sendPath      = "/cgi-bin/message/subscribe/send"
)

// around builds the outside for at most limit. lease is how soon a dead gateway's work is taken up, and as long as that WeChat
// may take, so that the silence of a busy machine is not taken for WeChat's; deadline how long an
// unknown send may be settled: a report that waits for its message looks every 10 s at last, and its own worker may die too.
func around(t *testing.T, seed uint64, limit, lease, deadline time.Duration) *outside {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("NOT TESTED: no redis-server on this machine, and a crash of real processes needs one")
	}
	if _, err := binary(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	o := &outside{t: t, ctx: ctx, redis: startRedis(t), inHand: map[string]bool{}}
	o.eye = redis.NewClient(&redis.Options{Network: "unix", Addr: o.redis.socket, ClientName: "eye"})
	t.Cleanup(func() { o.eye.Close() })
	o.sim = wechatsim.New(wechatsim.Options{Seed: seed, Calm: true, Latency: 20 * time.Millisecond, PushSpacing: 100 * time.Millisecond,
		PushDeliveries: 3000, MarkFailAfter: -1, PushesInFlight: 64, Apps: []wechatsim.App{{Name: "shop",
			Templates: []wechatsim.Template{{ID: crashTemplate, Title: "Order", Content: "item:{{thing1.DATA}}\n"}}}}})
	t.Cleanup(o.sim.Close)
	o.wx = &platform{sim: o.sim}
	wx := httptest.NewServer(o.wx)
	var err error
	if o.partner, err = partnersim.New(partnersim.Options{Secrets: []string{crashSecret}}); err != nil {
		t.Fatal(err)
	}
	hook := httptest.NewServer(o.partner)
	t.Cleanup(func() {
		for _, s := range []*httptest.Server{wx, hook} {
			s.CloseClientConnections()
			s.Close()
		}
	})
	transport := &http.Transport{MaxIdleConnsPerHost: 128}
	t.Cleanup(transport.CloseIdleConnections)
	o.client = partnersim.Client{Partner: "orders", Secret: crashSecret, HTTP: &http.Client{Transport: transport, Timeout: 10 * time.Second}}
	a := o.sim.App("shop")
	o.config = fmt.Sprintf(`
listen: "127.0.0.1:0"
admin: {listen: "127.0.0.1:0"}
shutdown_grace: 20s
redis: {url: "unix://%s?db=0&client_name=%%s"}
wechat: {base_url: %q, timeout: %s}
queue: {lease: %s}
messages: {unknown_deadline: %s}
apps:
  - id: shop
    appid: %s
    secret: %s
    push: {token: %s, encoding_aes_key: %s}
partners:
  - id: orders
    secrets: [%s]
    apps: [shop]
    allow: [messages, subscriptions]
    rate: {per_second: 100000, burst: 100000}
    endpoints: [{id: main, url: %q, events: ["message.*"], secrets: [%s]}]
allow_private_endpoints: [127.0.0.0/8]
`, o.redis.socket, wx.URL, lease, lease, deadline, a.AppID, a.Secret, a.Token, a.EncodingAESKey, crashSecret, hook.URL, crashSecret)
	return o
}

// redisServer is a redis-server that loses nothing it has answered when it is killed: a write is with the kernel before its
// answer leaves. That it is on the disk too (appendfsync always) would show nothing more here, and waits for the disk of CI.
type redisServer struct {
	t           *testing.T
	dir, socket string
	cmd         *exec.Cmd
}

func startRedis(t *testing.T) *redisServer {
	t.Helper()
	dir, err := os.MkdirTemp("", "wxr") // short: the path of a socket may have some 100 characters
	if err != nil {
		t.Fatal(err)
	}
	r := &redisServer{t: t, dir: dir, socket: filepath.Join(dir, "s")}
	r.start()
	t.Cleanup(func() {
		r.kill9()
		os.RemoveAll(dir)
	})
	return r
}

func (r *redisServer) start() {
	r.t.Helper()
	r.cmd = exec.Command("redis-server", "--port", "0", "--unixsocket", r.socket, "--dir", r.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "no", "--maxmemory-policy", "noeviction", "--loglevel", "warning")
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: r.socket, MaxRetries: -1})
	defer rdb.Close()
	until(r.t, "redis-server answers", func() bool { return rdb.Ping(context.Background()).Err() == nil })
}

func (r *redisServer) kill9() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait() // killed is what it says
}

// until waits for what others bring about.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	late := time.NewTimer(60 * time.Second)
	defer late.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-late.C:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// start launches one more gateway and has WeChat push to it.
func (o *outside) start() *gate {
	o.t.Helper()
	o.started++
	name := "gate" + strconv.Itoa(o.started)
	g := &gate{process: launch(o.t, nil, "serve", "-c", file(o.t, "wxrelay.yml", fmt.Sprintf(o.config, name))), name: name}
	line := g.log.wait(o.t, `"msg":"serving"`)
	g.public, g.admin = "http://"+line["public"].(string), "http://"+line["admin"].(string)
	o.mu.Lock()
	o.gates = append(o.gates, g)
	o.mu.Unlock()
	o.point()
	if o.queue == nil {
		var err error
		if o.queue, err = queue.Open(o.ctx, o.eye, queue.Options{}); err != nil {
			o.t.Fatal(err)
		}
	}
	return g
}

// leave takes a gateway out of what the outside knows, before it is gone.
func (o *outside) leave(g *gate) {
	o.mu.Lock()
	o.gates = slices.DeleteFunc(o.gates, func(x *gate) bool { return x == g })
	o.mu.Unlock()
	o.point()
}

func (o *outside) point() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.gates) > 0 {
		to := o.gates[len(o.gates)-1].public
		o.sim.SetApp("shop", func(a *wechatsim.App) { a.CallbackURL = to + "/callback/shop" })
	}
}

// anywhere is the public door of one of the gateways; "" = there is none.
func (o *outside) anywhere() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.gates) == 0 {
		return ""
	}
	o.next++
	return o.gates[o.next%len(o.gates)].public
}

// kill9 kills a gateway and notes the messages that were in hand: those may become unknown, and no others.
func (o *outside) kill9(g *gate) {
	o.t.Helper()
	_ = g.cmd.Process.Kill()
	<-g.exited
	o.leave(g)
	until(o.t, "Redis noticed", func() bool { return o.gone(g) }) // what it had written to Redis has been read there
	o.noteInHand()
}

// noteInHand reads the hash h of each shard, all at once: what is in hand, see relay/queue/lanes.lua.
func (o *outside) noteInHand() {
	o.t.Helper()
	shards, err := o.eye.Pipelined(o.ctx, func(p redis.Pipeliner) error {
		for n := range o.queue.Shards() {
			p.HKeys(o.ctx, queue.Prefix(n)+"h")
		}
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
	for _, shard := range shards {
		for _, hand := range shard.(*redis.StringSliceCmd).Val() {
			id, _, _ := strings.Cut(hand, " ") // then the holder's token
			if strings.HasPrefix(id, "msg_") {
				o.inHand[id] = true
			}
		}
	}
}

// gone: Redis knows that this gateway is. A connection has its name before anything is asked on it.
func (o *outside) gone(g *gate) bool {
	list, err := o.eye.ClientList(o.ctx).Result()
	return err == nil && !strings.Contains(list, " name="+g.name+" ")
}

// work counts the jobs that have not ended.
func (o *outside) work() (n int64) {
	all, err := o.queue.Depths(o.ctx)
	if err != nil {
		return -1
	}
	for _, d := range all {
		n += d.Count
	}
	return n
}

// rest waits until every push has been taken and no job is left.
func (o *outside) rest() {
	o.t.Helper()
	if err := o.sim.Settle(o.ctx); err != nil {
		o.t.Fatalf("pushes are not taken: %v", err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for o.work() != 0 {
		select {
		case <-o.ctx.Done():
			all, _ := o.queue.Depths(context.Background())
			o.t.Fatalf("jobs that never end: %+v", all)
		case <-tick.C:
		}
	}
}

// hurry forgets requests whose gateway died before it answered, as their 60 s in hand would; only a full run waits them out.
func (o *outside) hurry(done <-chan struct{}) {
	const aged = 58 * time.Second // what is left of 60 after 2
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for !o.full {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		keys := o.eye.Scan(o.ctx, 0, "wx:{in:*}:v", 2000).Iterator()
		for keys.Next(o.ctx) {
			k := keys.Val()
			if v, err := o.eye.GetRange(o.ctx, k, 0, 0).Result(); err != nil || v != "p" {
				continue
			}
			if left, err := o.eye.PTTL(o.ctx, k).Result(); err == nil && left < aged {
				o.eye.Del(o.ctx, k)
			}
		}
	}
}

// platform is the simulated WeChat, with an eye on its sends.
type platform struct {
	sim  *wechatsim.Sim
	cut  atomic.Int64 // sends whose caller went away before the answer
	mood atomic.Pointer[answerMood]
}

// answerMood is told of a send that has been accepted.
type answerMood struct{ before, after func() } // its answer leaves, has left

func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != sendPath {
		p.sim.ServeHTTP(w, r)
		return
	}
	p.sim.ServeHTTP(&answering{ResponseWriter: w, mood: p.mood.Swap(nil)}, r)
	if r.Context().Err() != nil {
		p.cut.Add(1)
	}
}

type answering struct {
	http.ResponseWriter
	mood *answerMood
}

func (a *answering) Write(b []byte) (int, error) {
	if a.mood != nil && a.mood.before != nil {
		a.mood.before()
	}
	return a.ResponseWriter.Write(b)
}

// Flush is what the simulator does when it has answered, before it pushes the report.
func (a *answering) Flush() {
	_ = http.NewResponseController(a.ResponseWriter).Flush() // nobody may be there any more
	if a.mood != nil && a.mood.after != nil {
		a.mood.after()
	}
}

// users are n people who tapped accept once, in the gateway's books too.
func (o *outside) users(n int) []string {
	o.t.Helper()
	out := make([]string, n)
	for i := range out {
		out[i] = o.sim.User("shop", strconv.Itoa(i))
		o.sim.Accept(out[i], crashTemplate)
		o.sim.Grant(out[i], crashTemplate, 1) // not in our books: WeChat would take a second message, if one were sent
	}
	if err := o.sim.Settle(o.ctx); err != nil {
		o.t.Fatalf("taps were not taken: %v", err)
	}
	return out
}

// traffic is a partner that sends one message to each of its users, each under one webhook-id until it is accepted.
type traffic struct {
	o       *outside
	openids []string
	done    chan struct{} // all accepted
	again   atomic.Int64  // requests that were repeated
	left    atomic.Int64

	mu    sync.Mutex
	ids   []string
	why   string // a request was repeated, the last time
	fault error
}

// send begins to send, at a pace.
func (o *outside) send(openids []string, perSecond int) *traffic {
	l := &traffic{o: o, openids: openids, done: make(chan struct{}), ids: make([]string, len(openids))}
	l.left.Store(int64(len(openids)))
	go o.hurry(l.done)
	go func() {
		defer close(l.done)
		atOnce := make(chan struct{}, 64)
		began := time.Now()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		var all sync.WaitGroup
		defer all.Wait()
		for i := 0; i < len(openids); {
			select {
			case <-tick.C:
			case <-o.ctx.Done():
				return
			}
			for due := min(len(openids), int(time.Since(began).Seconds()*float64(perSecond))); i < due; i++ {
				at := i
				all.Go(func() { l.insist(at, atOnce) })
			}
		}
	}()
	return l
}

func (l *traffic) key(i int) string { return "order-" + strconv.Itoa(i) }

func (l *traffic) message(i int) map[string]any {
	return map[string]any{"app": "shop", "to": map[string]any{"openid": l.openids[i]}, "template_id": crashTemplate,
		"data": map[string]any{"thing1": "order " + strconv.Itoa(i)}}
}

// insist sends one message until it is accepted, as a partner does.
func (l *traffic) insist(i int, atOnce chan struct{}) {
	for n := 0; ; n++ {
		wait := 50 * time.Millisecond << min(n, 4)
		if base := l.o.anywhere(); base != "" {
			client := l.o.client
			client.Base = base
			atOnce <- struct{}{}
			a, err := client.Send(l.o.ctx, l.key(i), l.message(i))
			<-atOnce
			switch {
			case err != nil:
				l.because(err.Error())
			case a.Status == http.StatusServiceUnavailable:
				l.because(string(a.Body))
			case a.Status == http.StatusAccepted:
				l.mu.Lock()
				l.ids[i] = a.Message().ID
				l.mu.Unlock()
				l.left.Add(-1)
				return
			case a.Code() == "in_progress":
				if l.o.full {
					wait = 2 * time.Second
				}
			default:
				l.mu.Lock()
				l.fault = fmt.Errorf("%s: %d %s", l.key(i), a.Status, a.Body)
				l.mu.Unlock()
				return
			}
		}
		l.again.Add(1)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.o.ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (l *traffic) because(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why = why
}

// accepted waits for the end of the load.
func (l *traffic) accepted() {
	l.o.t.Helper()
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault != nil || l.left.Load() != 0 {
		l.o.t.Fatalf("%d of %d were not accepted: %v", l.left.Load(), len(l.openids), errors.Join(l.fault, l.o.ctx.Err()))
	}
}

// every asks the gateway for each i, side by side, and gives the answers.
func (l *traffic) every(path string, query func(i int) url.Values) []*partnersim.Answer {
	l.o.t.Helper()
	client := l.o.client
	client.Base = l.o.anywhere()
	out, errs := make([]*partnersim.Answer, len(l.openids)), make([]error, 16)
	var all sync.WaitGroup
	for w := range errs {
		all.Go(func() {
			for i := w; i < len(out) && errs[w] == nil; i += len(errs) {
				out[i], errs[w] = client.Get(l.o.ctx, strings.ReplaceAll(path, "{id}", l.ids[i]), query(i))
				if errs[w] == nil && out[i].Status != http.StatusOK {
					errs[w] = fmt.Errorf("GET %s of %s: %d %s", path, l.key(i), out[i].Status, out[i].Body)
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		l.o.t.Fatal(err)
	}
	return out
}

// reckoning is what became of a load.
type reckoning struct {
	Lost      int   // accepted, and without an end
	Doubled   int   // users who got more than one
	Unknown   int   // were unknown at some time
	Unsettled int   // ended so
	Unheard   int   // whose end the partner was not told
	InHand    int   // messages in hand at the kills, as Redis has it: these may become unknown
	Cut       int64 // of them at WeChat: the caller went away before the answer
	Again     int64 // requests that had to be repeated
}

// reckon waits until everything is at rest and holds the partner's view, the users' inboxes, the told events and the
// ledger against one another.
func (l *traffic) reckon() reckoning {
	t, o := l.o.t, l.o
	t.Helper()
	l.accepted()
	o.rest()
	r := reckoning{Cut: o.wx.cut.Load(), InHand: len(o.inHand), Again: l.again.Load()}
	told := l.told()
	faults := 0
	fault := func(format string, a ...any) {
		if faults++; faults <= 10 {
			t.Errorf(format, a...)
		}
	}
	once := map[string]bool{}
	for i, a := range l.every("messages/{id}", func(int) url.Values { return nil }) {
		m := a.Message()
		if m.OpenID != l.openids[i] || once[m.ID] {
			fault("%s is the message of somebody else: %s", l.key(i), a.Body)
		}
		once[m.ID] = true
		inbox := o.sim.Inbox(m.OpenID)
		if len(inbox) > 1 {
			r.Doubled++
		}
		for _, s := range m.Timeline {
			if s.State == "unknown" {
				r.Unknown++
				if !o.inHand[m.ID] {
					fault("%s was unknown, and in nobody's hand when one died: %s", l.key(i), a.Body)
				}
				break
			}
		}
		switch {
		case m.State == "delivered" && len(inbox) == 1:
		case m.State == "unknown" && m.Timeline[len(m.Timeline)-1].Cause == "deadline":
			r.Unsettled++
			if len(inbox) != 0 { // WeChat reported it, and that was taken
				fault("%s reached its user and ended unknown: %s", l.key(i), a.Body)
			}
		default:
			r.Lost++
			fault("%s ended as nothing that may be, its user got %d: %s", l.key(i), len(inbox), a.Body)
		}
		if told[m.ID][m.State] == 0 {
			r.Unheard++
			fault("%s: the partner was never told that it is %s", l.key(i), m.State)
		}
		for state, n := range told[m.ID] {
			if n > 1 && state != "unknown" { // which is told when it happens and when nothing settled it
				fault("%s: %s was told as %d different events", l.key(i), state, n)
			}
		}
	}
	for i, a := range l.every("subscriptions", func(i int) url.Values { return url.Values{"app": {"shop"}, "openid": {l.openids[i]}} }) {
		var page struct {
			Items []struct{ Credits, Reserved int }
		}
		if err := a.Into(&page); err != nil || len(page.Items) != 1 || page.Items[0].Credits != 0 || page.Items[0].Reserved != 0 {
			fault("the line of %s, whose one credit is gone: %s (%v)", l.key(i), a.Body, err)
		}
	}
	if r.Doubled > 0 {
		fault("%d users got a message twice", r.Doubled)
	}
	if faults > 10 {
		t.Errorf("and %d more", faults-10)
	}
	t.Logf("%d messages: %+v", len(l.openids), r)
	return r
}

// told counts, by message and state, the different events the partner took.
func (l *traffic) told() map[string]map[string]int {
	l.o.t.Helper()
	out := map[string]map[string]int{}
	for _, e := range l.o.partner.Events() {
		var m partnersim.Message
		if err := json.Unmarshal(e.Data, &m); err != nil {
			l.o.t.Fatal(err)
		}
		if out[m.ID] == nil {
			out[m.ID] = map[string]int{}
		}
		out[m.ID][strings.TrimPrefix(e.Type, "message.")]++
	}
	for _, d := range l.o.partner.Deliveries() {
		if d.Fault != "" || d.Edited {
			l.o.t.Errorf("delivery of %s %s: fault %q, edited %v", d.Type, d.ID, d.Fault, d.Edited)
		}
	}
	return out
}

// same repeats some requests: the same webhook-id gives the same message.
func (l *traffic) same() {
	l.o.t.Helper()
	client := l.o.client
	client.Base = l.o.anywhere()
	for i := 0; i < len(l.ids); i += max(1, len(l.ids)/50) {
		a, err := client.Send(l.o.ctx, l.key(i), l.message(i))
		if err != nil || a.Status != http.StatusAccepted || a.Message().ID != l.ids[i] {
			l.o.t.Fatalf("%s was %s, again it is %+v (%v)", l.key(i), l.ids[i], a, err)
		}
	}
}

// states of a message in order.
func states(m partnersim.Message) (out []string) {
	for _, s := range m.Timeline {
		out = append(out, s.State)
	}
	return out
}

func sortedKeys(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }
