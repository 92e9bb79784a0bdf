package app_test

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// A right or a quota is of one API: what goes by another channel of the app does not wait for it.
func TestARefusedAPIRestsAlone(t *testing.T) {
	for _, code := range []int{48001, 45009} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{})
			ann := w.granted("ann", 3)
			w.says(ann)
			w.dial.stand() // no rest ends
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
	const quota, users = 20, 45
	var minutes atomic.Int64
	began := time.Now()
	w := newWorld(t, wish{sim: func(o *wechatsim.Options) {
		o.Apps[0].Limits = map[string]wechatsim.Limit{sendPath: {PerMinute: quota}}
		o.Clock = func() time.Time { return began.Add(time.Duration(minutes.Load()) * time.Minute) }
	}})
	ahead := time.Duration(0)
	minute := func() { // the first second of the next minute but one, so that whoever waits for the next one is due
		d := time.Now().Add(ahead).Truncate(time.Minute).Add(2*time.Minute + time.Second).Sub(time.Now().Add(ahead))
		ahead += d
		minutes.Add(1)
		w.later(d)
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

// inHand counts the messages that a worker has.
func (w *world) inHand(ids []string) (n int) {
	for _, id := range ids {
		if w.message(id).State == "sending" {
			n++
		}
	}
	return n
}
