package app_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
	"github.com/wxrelay/wxrelay/scripts/slow"
)

// sentOnce is one accepted message of a random day.
type sentOnce struct {
	id, openid, word string
	retry            bool // its partner would rather have it twice than not at all
}

// Whatever goes wrong in whatever order (calls without an answer, refusals, quotas, reports early, doubled or lost, requests
// repeated, a partner that does not listen, the gateway stopped or killed): every accepted message comes to rest in one state,
// its partner hears of it, nobody gets it twice unless the partner asked for that, nobody gets one that is said not to have
// gone, and the ledger promises nothing that WeChat would not keep.
func TestRandomDays(t *testing.T) {
	t.Parallel()
	seeds := uint64(4)
	if slow.On() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			d := newDay(t, seed)
			for step := range 70 {
				d.step(step)
			}
			d.end()
			d.judge()
		})
	}
}

// day is a random day.
type day struct {
	*world
	rng     *rand.Rand
	users   []string
	account map[string]string // the user's openid at the official account
	taps    map[string]int
	loose   map[string]bool // users whose ledger may believe in more than WeChat has: try, and repeats
	sent    []sentOnce
	seen    map[string]bool
}

func newDay(t *testing.T, seed uint64) *day {
	w := newsWorld(t, wish{config: "messages: {unknown_deadline: 10m}", sim: years2018(0)})
	w.stop()
	w.throughWire()
	w.start()
	w.sim.SetEra(wechatsim.Era2018)
	d := &day{world: w, rng: rand.New(rand.NewPCG(seed, 99)), account: map[string]string{}, taps: map[string]int{}, loose: map[string]bool{}, seen: map[string]bool{}}
	for i := range 4 {
		person := fmt.Sprintf("u%d", i)
		shop, acc := w.sim.User("shop", person), w.sim.User("news", person)
		w.login(shop)
		w.sim.Follow(acc, true)
		d.users, d.account[shop] = append(d.users, shop), acc
	}
	w.settled()
	for _, openid := range d.users { // the account's openid is learnt from its follow
		if err := w.until(func() bool {
			a, err := w.client.Send(w.ctx, "", news(map[string]any{"unionid": w.sim.UnionID(openid)}, map[string]any{"template_id": "no such"}))
			return err == nil && !strings.Contains(string(a.Body), "to.unionid")
		}); err != nil {
			t.Fatal("a follower's unionid was not learnt")
		}
	}
	if seed%2 == 1 {
		w.sim.SetMoods(wechatsim.Unhelpful())
	}
	return d
}

const accountPath, accountReport = "message/template/send", "TEMPLATESENDJOBFINISH"

var (
	dayFaults = []wechatsim.Forced{
		{Mood: wechatsim.Busy}, {Mood: wechatsim.BusyAccepted}, {Mood: wechatsim.Timeout}, {Mood: wechatsim.TimeoutBefore}, {Mood: wechatsim.Cut},
		{Mood: wechatsim.CutBefore}, {Mood: wechatsim.BadGateway}, {Mood: wechatsim.TokenDies}, {Mood: wechatsim.Concurrent},
		{Mood: wechatsim.Slow, Delay: 60 * time.Millisecond}, {Mood: wechatsim.Refuse, Errcode: 43101}, {Mood: wechatsim.Refuse, Errcode: 47003},
		{Mood: wechatsim.Refuse, Errcode: 45009}, {Mood: wechatsim.Refuse, Errcode: 45011}, {Mood: wechatsim.Refuse, Errcode: 48001}}
	dayReports = []wechatsim.Mood{wechatsim.SentFirst, wechatsim.SentFails, wechatsim.Duplicate, wechatsim.Lost, wechatsim.Reorder}
	dayPaths   = []string{"subscribe/send", "subscribe/send", "custom/send", "wxopen/template/send", accountPath}
)

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// step is one thing that happens.
func (d *day) step(n int) {
	openid := pick(d.rng, d.users)
	switch roll := d.rng.IntN(32); {
	case roll >= 28: // it arrives, and nobody hears of it
		if path := pick(d.rng, dayPaths); path == accountPath {
			d.gone(path, accountReport)
		} else {
			d.gone(path, "subscribe_msg_sent_event")
		}
	case roll < 5:
		d.accept(openid, tOrder)
		d.taps[openid]++
	case roll < 6:
		d.ahead.Add(int64(time.Second))
		d.sim.Say(openid, "在吗")
	case roll < 7:
		d.give(200, map[string]any{"app": "shop", "openid": openid, "form_id": d.sim.SubmitForm(openid)})
	case roll < 11:
		f := pick(d.rng, dayFaults)
		f.Path, f.Errmsg = pick(d.rng, dayPaths), "so it is"
		d.sim.Force(f)
	case roll < 12:
		d.sim.Force(wechatsim.Forced{Mood: pick(d.rng, dayReports), Path: pick(d.rng, []string{"subscribe_msg_sent_event", "subscribe_msg_sent_event", accountReport}), Delay: 50 * time.Millisecond})
	case roll < 13:
		d.partner.Misbehave(partnersim.Behaviour{Times: 1 + d.rng.IntN(4), Status: 500})
	case roll < 14:
		d.later(time.Duration(d.rng.IntN(90)) * time.Second)
	case roll < 16 && len(d.sent) > 0:
		d.maybeCancel(pick(d.rng, d.sent).id)
	case roll < 17 && n%2 == 0:
		d.kill()
	case roll < 17:
		d.stop()
		d.start()
	default:
		d.ask(n, openid)
	}
}

func (d *day) maybeCancel(id string) {
	d.t.Helper()
	if a, err := d.client.Do(d.ctx, "DELETE", "messages/"+id, nil); err != nil || a.Status != 200 && a.Status != 409 {
		d.t.Fatalf("%v %+v", err, a)
	}
}

// message of a random kind.
func (d *day) ask(n int, openid string) {
	d.t.Helper()
	word := fmt.Sprintf("no %d", n)
	m := order(openid, map[string]any{"data": map[string]any{"thing1": word, "amount2": "¥18"}})
	safe := false // WeChat drops the second of two sends itself
	switch d.rng.IntN(10) {
	case 8:
		m, safe = news(map[string]any{"unionid": d.sim.UnionID(openid)}, map[string]any{"data": map[string]any{"first": word}}), true
	case 9:
		m["channel"] = []string{"subscribe", "oa_template"}
		m["oa_template"] = map[string]any{"app": "news", "template_id": tNews, "page": "", "data": map[string]any{"first": word}}
	case 0:
		m = text(openid, word, nil)
	case 1, 2:
		m["channel"], m["msgtype"], m["text"] = []string{"subscribe", "customer_service"}, "text", map[string]any{"content": word}
	case 3:
		m = legacy(openid, map[string]any{"data": map[string]any{"keyword1": word, "keyword2": "2015年01月05日"}})
	}
	if credit := pick(d.rng, []string{"refuse", "hold", "hold", "try"}); !safe {
		m["no_credit"] = credit
	}
	m["priority"] = pick(d.rng, []string{"high", "normal", "bulk"})
	retry := d.rng.IntN(2) == 0
	if retry {
		m["on_unknown"] = "retry"
	}
	d.loose[openid] = d.loose[openid] || retry || m["no_credit"] == "try"
	if d.rng.IntN(4) == 0 {
		m["supersede_key"] = "cart"
	}
	now := d.dial.now()
	if d.rng.IntN(5) == 0 {
		m["send_at"] = now.Add(time.Duration(1+d.rng.IntN(100)) * time.Second)
	}
	if d.rng.IntN(4) == 0 {
		m["expires_at"] = now.Add(time.Duration(101+d.rng.IntN(200)) * time.Second)
	}
	for range 1 + d.rng.IntN(2) { // the partner may ask twice
		a, err := d.client.Send(d.ctx, fmt.Sprintf("day-%d", n), m)
		switch {
		case err != nil:
			d.t.Fatal(err)
		case a.Status == 202 && !d.seen[a.Message().ID]:
			d.seen[a.Message().ID] = true
			d.sent = append(d.sent, sentOnce{a.Message().ID, openid, word, retry && !safe})
		case a.Status != 202 && a.Code() != "no_credit":
			d.t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
}

// atRest tells whether nothing more will become of a message.
func atRest(m partnersim.Message) bool {
	switch m.State {
	case "sent", "delivered", "failed", "refused", "cancelled", "expired":
		return true
	}
	last := m.Timeline[len(m.Timeline)-1].Cause
	return m.State == "unknown" && (last == "deadline" || strings.HasPrefix(last, "wechat_report"))
}

// end lets everything come to rest.
func (d *day) end() {
	d.sim.Calm()
	d.settled()
	if err := d.until(func() bool {
		d.later(40 * time.Second)
		for _, m := range d.sent {
			got := d.message(m.id)
			if got.State == "held" { // the user will not come again
				d.maybeCancel(m.id)
			}
			if !atRest(got) {
				return false
			}
		}
		return true
	}); err != nil {
		for _, m := range d.sent {
			if got := d.message(m.id); !atRest(got) {
				d.t.Errorf("does not come to rest: %+v", got)
			}
		}
		d.t.FailNow()
	}
	d.settled()
}

func (d *day) judge() {
	t, reached := d.t, map[string]int{}
	for _, openid := range d.users {
		subscribed := 0
		for _, in := range slices.Concat(d.sim.Inbox(openid), d.sim.Inbox(d.account[openid])) {
			for _, word := range in.Values {
				reached[word]++
			}
			if in.Channel == "subscribe" {
				subscribed++
			}
		}
		l, has := d.line(openid, tOrder), d.sim.Credits(openid, tOrder)
		// A try that overtakes the event of its own credit spends at WeChat what is booked here after it, and of two sends of one
		// message one is booked: 43101 will tell.
		if l.Credits < 0 || l.Reserved != 0 || l.Credits > has && !d.loose[openid] {
			t.Errorf("the ledger says %d free, %d reserved; WeChat has %d", l.Credits, l.Reserved, has)
		}
		if subscribed > d.taps[openid] {
			t.Errorf("%d subscribe messages for %d taps", subscribed, d.taps[openid])
		}
	}
	told := map[string]bool{}
	states := map[string]int{}
	for _, m := range d.sent {
		got, n, most := d.message(m.id), reached[m.word], 1
		if m.retry {
			most = 2
		}
		switch got.State {
		case "delivered":
			if n < 1 || n > most {
				t.Errorf("%s and received %d times: %+v", got.State, n, got)
			}
		case "unknown", "sent": // a report that says it did not reach them may be lost
			if n > most {
				t.Errorf("received %d times: %+v", n, got)
			}
		default:
			if n != 0 {
				t.Errorf("%s and received %d times: %+v", got.State, n, got)
			}
		}
		told[m.id+" message."+got.State] = false
		states[got.State]++
	}
	if err := d.until(func() bool {
		d.later(time.Minute) // a partner that did not listen is told again
		for _, e := range d.partner.Events() {
			var m partnersim.Message
			if e.Into(&m) == nil {
				told[m.ID+" "+e.Type] = true
			}
		}
		return !slices.Contains(slices.Collect(maps.Values(told)), false)
	}); err != nil {
		for what, heard := range told {
			if !heard {
				t.Errorf("the partner never heard of %s", what)
			}
		}
	}
	t.Logf("%d messages: %v", len(d.sent), states)
}

// wire is what lies between a gateway and its Redis.
type wire struct {
	l     net.Listener
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

// throughWire has the next start go through a wire of its own.
func (w *world) throughWire() {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	before := w.redis.Addr()
	if w.wire != nil {
		before = w.wire.l.Addr().String()
	}
	w.wire = &wire{l: l}
	w.yaml = strings.NewReplacer("redis://"+before, "redis://"+l.Addr().String(), "shutdown_grace: 5s", "shutdown_grace: 1s").Replace(w.yaml)
	go w.wire.carry(w.redis.Addr())
	w.t.Cleanup(w.wire.sever)
}

func (w *wire) carry(to string) {
	for {
		from, err := w.l.Accept()
		if err != nil {
			return
		}
		redis, err := net.Dial("tcp", to)
		if err != nil || !w.holds(from, redis) {
			_ = from.Close()
			continue
		}
		for _, way := range [][2]net.Conn{{from, redis}, {redis, from}} {
			go func() {
				_, _ = io.Copy(way[0], way[1]) // ends when either end does
				_ = way[0].Close()
			}()
		}
	}
}

func (w *wire) holds(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.cut {
		w.conns = append(w.conns, conns...)
	}
	return !w.cut
}

func (w *wire) sever() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	_ = w.l.Close()
	for _, c := range w.conns {
		_ = c.Close()
	}
}

// kill ends the gateway as kill -9 does, as far as Redis can tell: whatever it has in hand is noted no more. Another one takes
// its place at once.
func (w *world) kill() {
	w.t.Helper()
	w.wire.sever()
	dead := w.app
	gone := make(chan struct{})
	go func() { defer close(gone); _ = dead.Close(context.Background()) }()
	w.t.Cleanup(func() { <-gone })
	w.throughWire()
	w.start()
}
