package app_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
	"github.com/wxrelay/wxrelay/scripts/slow"
)

// A right or a quota is of one API: what goes by another channel of the app does not wait for it.
func TestARefusedAPIRestsAlone(t *testing.T) {
	t.Parallel()
	for _, code := range []int{48001, 45009} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{})
			ann := w.granted("ann", 3)
			w.says(ann)
			w.dial.drag() // no rest ends
			lift := w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "custom/send", Errcode: code, Errmsg: "not this one", Times: -1})
			stuck := w.send(202, text(ann, "hello", nil)).Message()
			w.told("app.alert", nil)
			for range 3 {
				w.toldOf(w.send(202, order(ann, nil)).Message().ID, "message.delivered")
			}
			second := w.send(202, text(ann, "hello", nil)).Message()
			for _, id := range []string{stuck.ID, second.ID} {
				if got := w.message(id); got.State != "queued" {
					t.Errorf("%+v", got)
				}
			}
			if n := w.sim.Count("call:/cgi-bin/message/custom/send"); n != 1 {
				t.Errorf("the channel that rests was asked %d times", n)
			}
			lift()
			w.later(61 * time.Second)
			w.toldOf(stuck.ID, "message.sent")
			w.later(time.Second)
			w.toldOf(second.ID, "message.sent")
		})
	}
}

// A channel that the app's kind does not have is the partner's mistake, told at once.
func TestAChannelTheAppDoesNotHave(t *testing.T) {
	t.Parallel()
	w := newsWorld(t)
	acc := map[string]any{"openid": w.sim.User("news", "ann")}
	for _, ch := range []any{"subscribe", "template", "uniform", []string{"oa_template", "subscribe"}} {
		a := w.send(422, news(acc, map[string]any{"channel": ch}))
		if a.Code() != "invalid_message" || !strings.Contains(string(a.Body), `"field":"channel"`) {
			t.Errorf("%v: %s", ch, a.Body)
		}
	}
	if a := w.send(422, news(map[string]any{"openid": w.sim.User("shop", "ann")}, map[string]any{"app": "shop"})); a.Code() != "invalid_message" {
		t.Errorf("%s", a.Body)
	}
	w.toldOf(w.send(202, news(acc, nil)).Message().ID, "message.delivered")
}

// 45011, end to end: what passes in a minute is learnt; then the lane rests once as many have gone, without being refused
// again, and everybody gets theirs.
func TestTheRateAdaptsToTheMinuteQuota(t *testing.T) {
	t.Parallel()
	const quota, users = 20, 45
	var minutes atomic.Int64
	began := time.Now()
	w := newWorld(t, wish{config: patient, sim: func(o *wechatsim.Options) {
		o.Apps[0].Limits = map[string]wechatsim.Limit{sendPath: {PerMinute: quota}}
		o.Clock = func() time.Time { return began.Add(time.Duration(minutes.Load()) * time.Minute) }
	}})
	minute := func() {
		minutes.Add(1)
		w.nextMinute()
	}
	received := func() (n int) {
		for i := range users {
			n += len(w.sim.Inbox(w.sim.User("shop", "u"+strconv.Itoa(i))))
		}
		return n
	}
	for i := range users {
		w.sim.Accept(w.sim.User("shop", "u"+strconv.Itoa(i)), tOrder)
	}
	w.settled()
	minute()
	var ids []string
	for i := range users {
		ids = append(ids, w.send(202, order(w.sim.User("shop", "u"+strconv.Itoa(i)), nil)).Message().ID)
	}
	var paused, refused string
	for n, want := range []int{quota, quota + quota*4/5, users} {
		if n > 0 {
			minute()
		}
		if err := w.until(func() bool {
			p := w.redis.HGet("wx:{s00}:p", "send:shop:subscribe")
			return received() >= want && (p != "" && p != paused && w.inHand(ids) == 0 || want == users)
		}); err != nil {
			t.Fatalf("minute %d: received %d, want %d; the lane rests until %s, before %s", n, received(), want, w.redis.HGet("wx:{s00}:p", "send:shop:subscribe"), paused)
		}
		if got := received(); got != want {
			t.Errorf("minute %d: received %d, want %d", n, got, want)
		}
		paused = w.redis.HGet("wx:{s00}:p", "send:shop:subscribe")
		r := strconv.FormatInt(w.sim.Count("errcode:45011"), 10)
		if n > 0 && r != refused {
			t.Errorf("minute %d: refused %s times, after the first minute %s", n, r, refused)
		}
		refused = r
	}
	for _, id := range ids {
		w.toldOf(id, "message.delivered")
	}
	if n := w.countTold("app.alert"); n != 0 {
		t.Errorf("%d alerts", n)
	}
}

// What is under way at once adapts too: after a refusal half as many.
func TestWhatIsUnderWayAdaptsToRefusals(t *testing.T) {
	t.Parallel()
	const quota, users = 150, 260
	var under, most atomic.Int64
	ahead := &atomic.Int64{}
	began := time.Now()
	w := newWorld(t, wish{config: patient, timeout: "20s", sim: func(o *wechatsim.Options) {
		o.Apps[0].Limits = map[string]wechatsim.Limit{sendPath: {PerMinute: quota}}
		o.Clock = func() time.Time { return began.Add(time.Duration(ahead.Load())) }
	}})
	w.stop()
	w.throughFront(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == sendPath {
			for n, m := under.Add(1), most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			defer under.Add(-1)
		}
		w.sim.ServeHTTP(rw, r)
	})
	w.start()
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Slow, Path: "subscribe/send", Times: -1, Delay: 1500 * time.Millisecond})
	next := func() { ahead.Add(int64(w.nextMinute())) }
	for i := range users {
		w.sim.Accept(w.sim.User("shop", "u"+strconv.Itoa(i)), tOrder)
	}
	w.settled()
	batch := make([]any, users)
	for i := range batch {
		batch[i] = order(w.sim.User("shop", "u"+strconv.Itoa(i)), map[string]any{"send_at": inFuture(30 * time.Second)})
	}
	var ids []string
	for _, m := range w.batchOf(batch) {
		ids = append(ids, m.ID)
	}
	next()
	if err := w.until(func() bool { return w.sim.Count("received") >= quota && w.inHand(ids) == 0 }); err != nil {
		t.Fatalf("%d received, %d refused", w.sim.Count("received"), w.sim.Count("errcode:45011"))
	}
	if n := most.Swap(0); n <= 64 || n > 128 {
		t.Errorf("%d were under way before WeChat refused any", n)
	}
	next()
	for _, id := range ids {
		w.toldOf(id, "message.delivered")
	}
	if n := most.Load(); n > 64 {
		t.Errorf("%d were under way after a refusal, want at most half of 128", n)
	}
}

// nextMinute moves to the first second of the next minute but one, so that whoever waits for the next one is due, and has the
// clock go slowly there, so that a busy machine does not get to its end. It returns how far that was.
func (w *world) nextMinute() time.Duration {
	now := w.dial.now()
	d := now.Truncate(time.Minute).Add(2*time.Minute + time.Second).Sub(now)
	w.later(d)
	w.dial.drag()
	return d
}

// inHand counts the messages that a worker has.
func (w *world) inHand(ids []string) (n int) {
	for _, id := range ids {
		if w.message(id).State == "sending" {
			n++
		}
	}
	return n
}

// besides puts more mini-programs beside "shop", each with the template tOrder.
func (w *world) besides(names ...string) {
	w.t.Helper()
	w.stop()
	for _, name := range names {
		a := w.sim.App(name)
		w.yaml = strings.Replace(w.yaml, "\npartners:", fmt.Sprintf("\n  - {id: %s, appid: %s, secret: %s, kind: miniprogram, push: {token: %s, encoding_aes_key: %s, mode: secure}}\npartners:",
			name, a.AppID, a.Secret, a.Token, a.EncodingAESKey), 1)
	}
	w.yaml = strings.Replace(w.yaml, "apps: [shop]", "apps: [shop, "+strings.Join(names, ", ")+"]", 1)
	w.start()
}

// Two apps with more bulk waiting than there are slots do not delay a third one's high ones: their p99 stays under twice what
// it is without. WeChat takes long for a send, and no other journey runs beside, so that what is measured is waiting and not
// this machine: what a busy one adds is little beside the latency, what a fault of ours would add is a multiple of it.
func TestHighIsNotDelayedByBulk(t *testing.T) {
	slow.Only(t)
	const latency, probes, together, backlog = 3 * time.Second, 100, 25, 1000 // of each app
	bulk := []string{"mall", "club"}
	w := newWorld(t, wish{events: `"app.alert"`, timeout: "20s", sim: func(o *wechatsim.Options) {
		for _, name := range bulk {
			o.Apps = append(o.Apps, wechatsim.App{Name: name, Pages: o.Apps[0].Pages, Templates: o.Apps[0].Templates})
		}
	}})
	w.besides(bulk...)
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Slow, Path: "subscribe/send", Times: -1, Delay: latency})
	for i := range probes {
		for _, name := range []string{"idle", "loaded"} {
			w.sim.Accept(w.sim.User("shop", name+strconv.Itoa(i)), tOrder)
		}
	}
	w.settled()
	measure := func(name string) (p99 time.Duration) {
		took := make([]time.Duration, probes)
		var turns sync.WaitGroup
		for lane := range together {
			turns.Go(func() {
				for i := lane; i < probes; i += together {
					openid, began := w.sim.User("shop", name+strconv.Itoa(i)), time.Now()
					a, err := w.client.Send(w.ctx, "", order(openid, map[string]any{"priority": "high", "no_credit": "try"}))
					if err != nil || a.Status != 202 {
						t.Errorf("%v %+v", err, a)
						return
					}
					if err := w.sim.Await(w.ctx, func() bool { return len(w.sim.Inbox(openid)) > 0 }); err != nil {
						t.Errorf("%s %d: %v", name, i, err)
						return
					}
					took[i] = time.Since(began)
				}
			})
		}
		turns.Wait()
		slices.Sort(took)
		t.Logf("%s: p50 %v, p99 %v, worst %v", name, took[probes/2], took[probes*99/100], took[probes-1])
		return took[probes*99/100]
	}
	idle := measure("idle")
	due := inFuture(time.Hour) // so that none leaves before all are there
	for _, app := range bulk {
		for at := 0; at < backlog; at += 500 {
			batch := make([]any, 500)
			for i := range batch {
				batch[i] = order(w.sim.User(app, fmt.Sprintf("u%d", at+i)), map[string]any{"app": app, "priority": "bulk", "no_credit": "try", "send_at": due})
			}
			if a, err := w.client.SendBatch(w.ctx, "", batch); err != nil || a.Status != 200 {
				t.Fatalf("%v %+v", err, a)
			}
		}
	}
	w.later(time.Hour + time.Second)
	before := len(w.sim.Sends())
	if err := w.until(func() bool { return len(w.sim.Sends()) > before+100 }); err != nil {
		t.Fatal("the bulk does not flow")
	}
	loaded := measure("loaded")
	if left := 2*backlog - (len(w.sim.Sends()) - before); left < 256 {
		t.Fatalf("%d of the backlog were left: it did not last", left)
	}
	if loaded > 2*idle {
		t.Errorf("p99 of high: %v behind two apps' bulk, %v without", loaded, idle)
	}
}
