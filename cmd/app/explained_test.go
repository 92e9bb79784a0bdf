package app_test

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/app"
	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
	"github.com/wxrelay/wxrelay/config"
	"go.uber.org/zap"
)

// steps are the causes of a timeline.
func steps(m partnersim.Message) (causes []string) {
	for _, s := range m.Timeline {
		causes = append(causes, s.Cause)
	}
	return causes
}

// A report of failure speaks in WeChat's words, not in those with which the send was taken.
func TestAFailedReportIsExplained(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.SentFails, Errcode: 20001, Errmsg: "failed: so it is"})
	got := w.toldOf(w.send(202, order(ann, nil)).Message().ID, "message.failed")
	last := got.Timeline[len(got.Timeline)-1]
	if got.Errcode == nil || *got.Errcode != 20001 || got.Errmsg == nil || *got.Errmsg != "failed: so it is" || last.Errcode == nil || *last.Errcode != 20001 {
		t.Errorf("%+v", got)
	}
}

// The code of an answer before says nothing about a call without one. Each way of waiting is told once.
func TestWaitingForAnotherSendIsExplained(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Concurrent, Path: "subscribe/send", Times: 3})
	w.gone("subscribe/send", "subscribe_msg_sent_event")
	got := w.toldOf(w.send(202, order(ann, nil)).Message().ID, "message.unknown")
	if got.Errcode != nil || got.Errmsg != nil || got.RID != nil || got.Attempts != 4 {
		t.Errorf("%+v", got)
	}
	if want := []string{"accepted", "another send to this user is under way", "no_answer"}; !slices.Equal(steps(got), want) {
		t.Errorf("%q, want %q", steps(got), want)
	}
}

// Messages wait while the token endpoint refuses the app, say so, and go when it does no more.
func TestWaitingForATokenIsExplained(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{config: patient, timeout: "20s"})
	w.stop()
	var sends atomic.Int32
	both := make(chan struct{})
	w.throughFront(func(rw http.ResponseWriter, r *http.Request) { // both leave before one of them meets the fault
		if r.URL.Path == sendPath {
			if sends.Add(1) == 2 {
				close(both)
			}
			select {
			case <-both:
			case <-r.Context().Done():
			}
		}
		w.sim.ServeHTTP(rw, r)
	})
	w.start()
	ann, bob := w.granted("ann", 1), w.granted("bob", 1)
	lift := w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "/cgi-bin/stable_token", Errcode: 40164, Errmsg: "invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist", Times: -1})
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.TokenDies, Path: "subscribe/send"})
	ids := []string{w.send(202, order(ann, nil)).Message().ID, w.send(202, order(bob, nil)).Message().ID}
	for code, part := range map[int]string{40164: "1.2.3.4", 40001: "AppSecret"} { // no token, and one that died before its time
		w.told("app.alert", func(e partnersim.Event) bool {
			var a alert
			return e.Into(&a) == nil && a.Errcode == code && strings.Contains(a.Cure, part) && a.CureZH != ""
		})
	}
	for _, id := range ids {
		if err := w.until(func() bool {
			got := w.message(id)
			return got.State == "queued" && got.Errcode != nil && *got.Errcode == 40164 && slices.Contains(steps(got), "no_token")
		}); err != nil {
			t.Errorf("%+v", w.message(id))
		}
	}
	if n := w.countTold("app.alert"); n != 2 {
		t.Errorf("told %d times", n)
	}
	lift()
	// The token endpoint is left alone for ten seconds, by the gateway's own clock too.
	if err := w.overRests(func() bool { return w.all(ids, "delivered") }); err != nil {
		t.Fatalf("it does not go on: %+v", w.message(ids[0]))
	}
	for i, openid := range []string{ann, bob} {
		w.toldOf(ids[i], "message.delivered")
		if n := len(w.sim.Inbox(openid)); n != 1 {
			t.Errorf("received %d", n)
		}
	}
}

// A message that is due while its app rests is queued, and says why it does not go.
func TestADueMessageOfARestingAppIsQueued(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	w.refuse(50002, -1)
	m := w.send(202, order(ann, map[string]any{"send_at": inFuture(time.Hour)})).Message()
	w.later(time.Hour + time.Second)
	w.told("app.alert", nil)
	if err := w.until(func() bool { return w.message(m.ID).State == "queued" }); err != nil {
		t.Fatalf("%+v", w.message(m.ID))
	}
	got := w.message(m.ID)
	if last := got.Timeline[len(got.Timeline)-1]; last.State != "queued" || last.Cause != "the app needs its operator" || last.Errcode == nil || *last.Errcode != 50002 {
		t.Errorf("%+v", got)
	}
}

// replica starts another gateway over the same Redis.
func (w *world) replica() *app.App {
	w.t.Helper()
	c, err := config.Parse([]byte(w.yaml), w.t.TempDir(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := app.Start(w.ctx, c, app.Options{Log: zap.NewNop(), Version: "replica"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := a.Close(w.t.Context()); err != nil {
			w.t.Errorf("close: %v", err)
		}
	})
	return a
}

// A fault is told once an hour, whoever meets it: users of all shards, two replicas, the process after a restart.
func TestAnAlertIsToldOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{config: patient})
	w.refuse(48001, -1)
	w.replica()
	began := w.dial.now()
	meet := func(rounds int) { // the fault, each time after a rest
		calls := func() int64 { return w.sim.Count("call:" + sendPath) }
		for range rounds {
			before := calls()
			if err := w.overRests(func() bool { return calls() > before }); err != nil {
				t.Fatal("no probe")
			}
		}
	}
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		w.send(202, order(w.granted(name, 1), nil))
	}
	w.told("app.alert", nil)
	meet(5)
	w.stop()
	w.start()
	meet(5)
	if n := w.countTold("app.alert"); n != 1 {
		t.Errorf("told %d times within %v", n, w.dial.now().Sub(began))
	}
	w.later(time.Hour)
	if err := w.overRests(func() bool { return w.countTold("app.alert") == 2 }); err != nil {
		t.Errorf("after an hour told %d times", w.countTold("app.alert"))
	}
}

// What is told of a call stands at the time of its answer, not of its departure: in the timeline, and on the event.
func TestAnAnswerIsToldAtItsTime(t *testing.T) {
	t.Parallel()
	const took = 700 * time.Millisecond
	for name, c := range map[string]struct {
		mood    wechatsim.Forced
		timeout string
		event   string
	}{
		"sent":      {wechatsim.Forced{Mood: wechatsim.Slow, Delay: took}, "20s", "message.sent"},
		"no answer": {wechatsim.Forced{Mood: wechatsim.TimeoutBefore}, "700ms", "message.unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{timeout: c.timeout, sim: func(o *wechatsim.Options) { o.Hang = 3 * time.Second }})
			ann := w.granted("ann", 1)
			c.mood.Path = "subscribe/send"
			w.sim.Force(c.mood)
			id := w.send(202, order(ann, nil)).Message().ID
			var m partnersim.Message
			e := w.told(c.event, func(e partnersim.Event) bool { return e.Into(&m) == nil && m.ID == id })
			first, last := m.Timeline[0].At, m.Timeline[len(m.Timeline)-1].At
			if last.Sub(first) < took || e.Timestamp.Sub(last).Abs() > time.Millisecond {
				t.Errorf("accepted %s, %s %s, told at %s", first, c.event, last, e.Timestamp)
			}
		})
	}
}
