package app_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

const sendPath = "/cgi-bin/message/subscribe/send"

// granted is a user with n credits of tOrder that the gateway knows of.
func (w *world) granted(name string, n int) string {
	w.t.Helper()
	openid := w.sim.User("shop", name)
	for range n {
		w.accept(openid, tOrder)
	}
	w.wantLine(openid, tOrder, n, 0, "accepted")
	return openid
}

// refuse makes WeChat answer sends with a code; until lifted when times is negative.
func (w *world) refuse(code, times int) (lift func()) {
	return w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "subscribe/send", Errcode: code, Errmsg: "said the platform", Times: times})
}

// received waits until a user has n messages.
func (w *world) received(openid string, n int) {
	w.t.Helper()
	if err := w.until(func() bool { return len(w.sim.Inbox(openid)) >= n }); err != nil {
		w.t.Fatalf("received %d, want %d", len(w.sim.Inbox(openid)), n)
	}
}

// What is wrong with the message is final: WeChat's words and rid, one call, and the credit is free again. A code nobody
// knows is final and the operator is told.
func TestFinalRefusals(t *testing.T) {
	t.Parallel()
	for _, code := range []int{40003, 40037, 41030, 47003, 45168, 77777} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{})
			ann := w.granted("ann", 1)
			w.refuse(code, 1)
			m := w.send(202, order(ann, nil)).Message()
			got := w.toldOf(m.ID, "message.failed")
			if got.Errcode == nil || *got.Errcode != code || got.Errmsg == nil || got.RID == nil || got.Attempts != 1 {
				t.Errorf("%+v", got)
			}
			w.wantLine(ann, tOrder, 1, 0, "accepted")
			if n := w.sim.Count("call:" + sendPath); n != 1 {
				t.Errorf("asked %d times", n)
			}
			if code == 77777 {
				w.told("app.alert", func(e partnersim.Event) bool { var a alert; return e.Into(&a) == nil && a.Errcode == code })
			} else if n := w.countTold("app.alert"); n != 0 {
				t.Errorf("%d alerts about a fault of the message", n)
			}
		})
	}
}

type alert struct {
	App     string
	Errcode int
	Cure    string
	CureZH  string `json:"cure_zh"`
}

// A fault of the app's config stops its lane, not its messages: told once with the cure in both languages, tried by one
// probe at a time, and everything goes when the probe is through.
func TestAMisconfiguredAppRestsAndResumes(t *testing.T) {
	t.Parallel()
	for _, code := range []int{40013, 40125, 40164, 48001, 50002, 45009} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{config: patient})
			const users = 12
			var ids []string
			lift := w.refuse(code, -1)
			for i := range users {
				ids = append(ids, w.send(202, order(w.granted("u"+strconv.Itoa(i), 1), nil)).Message().ID)
			}
			var a alert
			if err := w.told("app.alert", nil).Into(&a); err != nil || a.Errcode != code || a.Cure == "" || a.CureZH == "" || a.App != "shop" {
				t.Fatalf("%+v %v", a, err)
			}
			calls := func() int64 { return w.sim.Count("call:" + sendPath) }
			probed := calls()
			w.later(61 * time.Second)
			if err := w.until(func() bool { return calls() > probed }); err != nil {
				t.Fatal("no probe")
			}
			for _, id := range ids {
				if got := w.message(id); got.State != "queued" && got.State != "sending" {
					t.Errorf("while it rests: %+v", got)
				}
			}
			lift()
			if err := w.overRests(func() bool { return w.all(ids, "delivered") }); err != nil {
				t.Fatalf("it does not go on: %+v", w.message(ids[0]))
			}
			for _, id := range ids {
				w.toldOf(id, "message.delivered")
			}
			if n := w.countTold("app.alert"); n != 1 {
				t.Errorf("told %d times", n)
			}
			if n := len(w.sim.Inbox(w.sim.User("shop", "u0"))); n != 1 {
				t.Errorf("u0 received %d", n)
			}
		})
	}
}

// 43107: a template or the account is banned from subscribe messages. The message is final, whatever it would wait for; the
// line's credits are worth nothing and its statement says why; the operator is told once, and the other templates go on.
func TestABannedTemplate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann, bob := w.granted("ann", 3), w.granted("bob", 1)
	w.accept(ann, tOther)
	w.wantLine(ann, tOther, 1, 0, "accepted")
	w.refuse(43107, 2)
	for _, openid := range []string{ann, bob} {
		got := w.toldOf(w.send(202, order(openid, map[string]any{"no_credit": "hold"})).Message().ID, "message.failed")
		if got.Errcode == nil || *got.Errcode != 43107 || got.Attempts != 1 {
			t.Errorf("%+v", got)
		}
		w.wantLine(openid, tOrder, 0, 0, "unknown")
		l := w.line(openid, tOrder)
		if last := l.History[len(l.History)-1]; last.Cause != "wechat_43107" || last.Balance != 0 || last.Delta >= 0 {
			t.Errorf("%+v", l.History)
		}
	}
	other := order(ann, map[string]any{"template_id": tOther, "data": map[string]any{"thing1": "x"}})
	w.toldOf(w.send(202, other).Message().ID, "message.delivered")
	var a alert
	if err := w.told("app.alert", nil).Into(&a); err != nil || a.Errcode != 43107 || a.Cure == "" || a.CureZH == "" || w.countTold("app.alert") != 1 {
		t.Errorf("%+v %v, %d alerts", a, err, w.countTold("app.alert"))
	}
	w.send(409, order(ann, nil))
}

// When a rest is over, one message tries for all.
func TestOneProbeForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{config: patient})
	const users = 20
	lift := w.refuse(48001, -1)
	w.send(202, order(w.granted("first", 1), nil))
	w.told("app.alert", nil)
	for i := range users {
		w.send(202, order(w.granted("u"+strconv.Itoa(i), 1), nil))
	}
	before, rests := w.sim.Count("call:"+sendPath), w.redis.HGet("wx:{s00}:p", "send:shop:subscribe")
	w.later(31 * time.Second)
	if err := w.until(func() bool { return w.sim.Count("call:"+sendPath) > before }); err != nil {
		t.Fatal("no probe")
	}
	// The probe was refused, so the lanes rest again; whatever had been claimed with it waits.
	if err := w.until(func() bool { return w.redis.HGet("wx:{s00}:p", "send:shop:subscribe") != rests }); err != nil {
		t.Fatal("the lane does not rest")
	}
	if n := w.sim.Count("call:"+sendPath) - before; n > 2 {
		t.Errorf("%d messages probed, want one", n)
	}
	lift()
	if err := w.overRests(func() bool {
		for i := range users {
			if len(w.sim.Inbox(w.sim.User("shop", "u"+strconv.Itoa(i)))) != 1 {
				return false
			}
		}
		return true
	}); err != nil {
		t.Error("not everybody received theirs")
	}
}

// 45011: no more this minute; nobody needs to be told.
func TestMinuteQuotaWaitsForTheNextMinute(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	w.refuse(45011, 1)
	m := w.send(202, order(ann, nil)).Message()
	if err := w.until(func() bool { return w.message(m.ID).Attempts == 1 }); err != nil {
		t.Fatal(err)
	}
	if n := len(w.sim.Inbox(ann)); n != 0 {
		t.Fatal("sent within the same minute")
	}
	w.later(63 * time.Second)
	w.toldOf(m.ID, "message.delivered")
	if n := w.countTold("app.alert"); n != 0 {
		t.Errorf("%d alerts", n)
	}
}

// 43108: never two sends of one user in flight, whatever their number; a refusal all the same is waited out.
func TestOneSendOfAUserAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	const n = 6
	ann, bob := w.granted("ann", n), w.granted("bob", n)
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Concurrent, Path: "subscribe/send", OpenID: ann})
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Slow, Path: "subscribe/send", Times: 2 * n, Delay: 40 * time.Millisecond})
	var sends sync.WaitGroup
	for i := range n {
		for _, openid := range []string{ann, bob} {
			sends.Go(func() {
				a, err := w.client.Send(w.ctx, "", order(openid, map[string]any{"priority": []string{"high", "normal", "bulk"}[i%3]}))
				if err != nil || a.Status != 202 {
					t.Errorf("%v %+v", err, a)
				}
			})
		}
	}
	sends.Wait()
	w.received(ann, n)
	w.received(bob, n)
	refused := 0
	for _, s := range w.sim.Sends() {
		if s.Errcode == 43108 {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("43108 came %d times, want the forced one only: the platform answers it to a second send in flight", refused)
	}
	w.wantLine(ann, tOrder, 0, 0, "accepted")
}

// 43101 under hold: the line is worth nothing, and the message waits for the next accept.
func TestHeldAgainWhenWeChatRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 2)
	w.refuse(43101, 1)
	m := w.send(202, order(ann, map[string]any{"no_credit": "hold"})).Message()
	w.toldOf(m.ID, "message.held")
	if l := w.line(ann, tOrder); l.Credits != 0 || l.Reserved != 0 {
		t.Errorf("%+v", l)
	}
	w.accept(ann, tOrder)
	w.toldOf(m.ID, "message.delivered")
	w.wantLine(ann, tOrder, 0, 0, "accepted")
}

// Every way not to answer leaves the outcome open; oa_template alone may be sent again, since WeChat knows it by its
// client_msg_id. Here: the subscribe side, when nothing was done and nothing reports.
func TestNoAnswerIsUnknownAndNotSentAgain(t *testing.T) {
	t.Parallel()
	for _, mood := range []wechatsim.Mood{wechatsim.TimeoutBefore, wechatsim.CutBefore} {
		t.Run(string(mood), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{sim: func(o *wechatsim.Options) { o.Hang = 3 * time.Second }})
			ann := w.granted("ann", 1)
			w.sim.Force(wechatsim.Forced{Mood: mood, Path: "subscribe/send"})
			m := w.send(202, order(ann, map[string]any{"expires_at": time.Now().Add(2 * time.Minute).Format(time.RFC3339)})).Message()
			w.toldOf(m.ID, "message.unknown")
			bob := w.send(202, order(w.granted("bob", 1), map[string]any{"send_at": inFuture(4 * time.Minute)})).Message()
			w.later(5 * time.Minute)
			w.toldOf(bob.ID, "message.delivered") // what was due has been seen to; expires_at says nothing of one that has left
			w.wantLine(ann, tOrder, 0, 1, "accepted")
			w.later(11 * time.Minute)
			w.wantLine(ann, tOrder, 0, 0, "accepted")
			if got := w.message(m.ID); got.State != "unknown" || w.sim.Count("call:"+sendPath) != 2 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// WeChat's report may come, and be looked at, before the answer to the send it is about. It is not taken for the report of
// another send of the line whose answer never came.
func TestReportBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{timeout: "30s"}) // WeChat's answers wait for the partner
	ann := w.granted("ann", 3)
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.CutBefore, Path: "subscribe/send"})
	lost := w.send(202, order(ann, nil)).Message()
	w.toldOf(lost.ID, "message.unknown")
	w.stop()
	reports := func() (n int) {
		for _, e := range w.partner.Events() {
			var p struct{ Event *string }
			if e.Type == "push.received" && e.Into(&p) == nil && p.Event != nil && *p.Event == "subscribe_msg_sent_event" {
				n++
			}
		}
		return n
	}
	w.throughFront(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != sendPath {
			w.sim.ServeHTTP(rw, r)
			return
		}
		before, answer := reports(), httptest.NewRecorder()
		w.sim.ServeHTTP(answer, r)
		if _, err := w.partner.Await(r.Context(), func(partnersim.Event) bool { return reports() > before }); err != nil {
			t.Error("the report was not followed while its send was in hand")
		}
		rw.WriteHeader(answer.Code)
		_, _ = rw.Write(answer.Body.Bytes())
	})
	w.start()
	for range 2 {
		m := w.send(202, order(ann, nil)).Message()
		if got := w.toldOf(m.ID, "message.delivered"); got.MsgID == nil || got.Attempts != 1 {
			t.Errorf("%+v", got)
		}
	}
	if got := w.message(lost.ID); got.State != "unknown" {
		t.Errorf("a report about another send settled it: %+v", got)
	}
	w.wantLine(ann, tOrder, 0, 1, "accepted")
}

// A report of failure is the message's end, and the credit is gone all the same.
func TestReportOfFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.SentFails})
	m := w.send(202, order(ann, nil)).Message()
	if got := w.toldOf(m.ID, "message.failed"); got.MsgID == nil {
		t.Errorf("%+v", got)
	}
	w.wantLine(ann, tOrder, 0, 0, "accepted")
}
