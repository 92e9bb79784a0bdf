package app_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// Once a call has left without an answer the user may have the message, whatever a repeat is told: nothing that follows
// writes to them again, calls the message off or says that it did not reach them.

// gone makes the next send reach the user without anybody learning of it: no answer, no report.
func (w *world) gone(path, report string) {
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Cut, Path: path})
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Lost, Path: report})
}

// onItsWay waits until a message waits for its repeat.
func (w *world) onItsWay(id string) {
	w.t.Helper()
	if err := w.until(func() bool { m := w.message(id); return m.Attempts == 1 && m.State == "sending" }); err != nil {
		w.t.Fatalf("%+v", w.message(id))
	}
}

// staysUnknown waits for the end of an open message and sees to it that the user got one.
func (w *world) staysUnknown(id, openid string, calls int) {
	w.t.Helper()
	w.toldOf(id, "message.unknown")
	w.later(20 * time.Minute)
	if err := w.until(func() bool {
		h := w.message(id).Timeline
		return h[len(h)-1].Cause == "deadline"
	}); err != nil {
		w.t.Fatalf("does not end at its deadline: %+v", w.message(id))
	}
	if got := w.message(id); got.State != "unknown" || len(w.sim.Inbox(openid)) != 1 || len(w.sim.Sends()) != calls {
		w.t.Errorf("received %d, want 1; %d calls, want %d: %+v", len(w.sim.Inbox(openid)), len(w.sim.Sends()), calls, got)
	}
}

func TestARefusedRepeatDoesNotCloseAnOpenSend(t *testing.T) {
	t.Parallel()
	const report = "subscribe_msg_sent_event"
	for name, c := range map[string]struct {
		over  map[string]any
		after func(w *world, openid string) // what would have it sent again
	}{
		"refused": {nil, nil},
		"held": {map[string]any{"no_credit": "hold"}, func(w *world, openid string) {
			w.accept(openid, tOrder)
			w.wantLine(openid, tOrder, 1, 1, "accepted")
		}},
		"chain": {map[string]any{"channel": []string{"subscribe", "customer_service"}, "msgtype": "text", "text": map[string]any{"content": "hi"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{})
			ann := w.granted("ann", 1)
			w.says(ann)
			w.dial.drag() // the second until the repeat
			w.gone("subscribe/send", report)
			over := map[string]any{"on_unknown": "retry"}
			for k, v := range c.over {
				over[k] = v
			}
			m := w.send(202, order(ann, over)).Message()
			w.onItsWay(m.ID)
			w.later(2 * time.Second) // the repeat: the user's one credit is used, so 43101
			got := w.toldOf(m.ID, "message.unknown")
			if got.Attempts != 2 || got.Errcode == nil || *got.Errcode != 43101 {
				t.Errorf("%+v", got)
			}
			w.wantLine(ann, tOrder, 0, 1, "accepted")
			if c.after != nil {
				c.after(w, ann)
			}
			w.staysUnknown(m.ID, ann, 2)
			if l := w.line(ann, tOrder); l.Reserved != 0 {
				t.Errorf("%+v", l)
			}
		})
	}
}

// The report about the call without an answer still settles it after the repeat was refused, and before the repeat is made:
// then none is.
func TestAReportSettlesAnOpenSend(t *testing.T) {
	t.Parallel()
	t.Run("before the repeat", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, wish{})
		ann := w.granted("ann", 2)
		w.dial.drag() // the second until the repeat
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Cut, Path: "subscribe/send"})
		m := w.send(202, order(ann, map[string]any{"on_unknown": "retry"})).Message()
		w.toldOf(m.ID, "message.delivered")
		w.wantLine(ann, tOrder, 1, 0, "accepted")
		w.later(5 * time.Second)
		other := w.send(202, order(ann, nil)).Message()
		w.toldOf(other.ID, "message.delivered")
		if n := len(w.sim.Sends()); n != 2 {
			t.Errorf("%d calls for two messages", n)
		}
	})
	t.Run("after its refusal", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, wish{})
		ann := w.granted("ann", 1)
		w.dial.drag() // the second until the repeat
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Cut, Path: "subscribe/send"})
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Reorder, Path: "subscribe_msg_sent_event", Delay: 1500 * time.Millisecond})
		m := w.send(202, order(ann, map[string]any{"on_unknown": "retry"})).Message()
		w.onItsWay(m.ID)
		w.later(2 * time.Second)
		w.toldOf(m.ID, "message.unknown")
		w.toldOf(m.ID, "message.delivered")
		w.wantLine(ann, tOrder, 0, 0, "accepted")
	})
}

// A form_id that the call without an answer may have used does not give way to the next one.
func TestAnOpenSendTakesNoOtherFormID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{sim: years2018(0)})
	w.sim.SetEra(wechatsim.Era2018)
	ann := w.sim.User("shop", "ann")
	used, other := w.sim.SubmitForm(ann), w.sim.SubmitForm(ann)
	w.give(200, map[string]any{"app": "shop", "openid": ann, "form_id": used})
	w.give(200, map[string]any{"app": "shop", "openid": ann, "form_id": other})
	w.dial.drag() // the second until the repeat
	w.gone("wxopen/template/send", "none")
	m := w.send(202, legacy(ann, map[string]any{"on_unknown": "retry"})).Message()
	w.onItsWay(m.ID)
	w.later(2 * time.Second) // 41029: the first call used it
	w.staysUnknown(m.ID, ann, 2)
	if n := w.sim.FormUses(ann, other); n != 1 {
		t.Errorf("the other form_id has %d uses left", n)
	}
}

// What may have reached the user is not called off.
func TestAnOpenSendIsNotCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	w.dial.drag() // the second until the repeat
	w.gone("subscribe/send", "subscribe_msg_sent_event")
	m := w.send(202, order(ann, map[string]any{"on_unknown": "retry"})).Message()
	w.onItsWay(m.ID)
	if a := w.cancel(409, m.ID); a.Code() != "too_late" {
		t.Errorf("%s", a.Body)
	}
	w.later(2 * time.Second)
	w.staysUnknown(m.ID, ann, 2)
}

// oa_template waits some minutes between repeats: meanwhile it is neither cancelled nor does it expire; past expires_at it
// is not repeated either.
func TestAnOpenOfficialMessageIsNeitherCancelledNorExpires(t *testing.T) {
	t.Parallel()
	w := newsWorld(t)
	acc := w.sim.User("news", "ann")
	w.dial.drag() // the second until the repeat
	w.gone("template/send", "TEMPLATESENDJOBFINISH")
	m := w.send(202, news(map[string]any{"openid": acc}, map[string]any{"expires_at": inFuture(time.Minute)})).Message()
	w.onItsWay(m.ID)
	w.cancel(409, m.ID)
	w.later(61 * time.Second)
	w.staysUnknown(m.ID, acc, 1)
}

// A report that comes while the repeat waits is its message's, not a stranger's.
func TestAReportDuringTheRepeatsOfAnOfficialMessage(t *testing.T) {
	t.Parallel()
	w := newsWorld(t)
	acc := w.sim.User("news", "ann")
	w.dial.drag()
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Cut, Path: "template/send"})
	m := w.send(202, news(map[string]any{"openid": acc}, nil)).Message()
	if got := w.toldOf(m.ID, "message.delivered"); got.Attempts != 1 {
		t.Errorf("%+v", got)
	}
}

// customer_service has no report: an open send ends at its deadline, and counts as one of the five.
func TestAnOpenCustomerServiceMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{config: patient})
	ann := w.sim.User("shop", "ann")
	w.says(ann)
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Cut, Path: "custom/send"})
	m := w.send(202, text(ann, "hello", nil)).Message()
	w.staysUnknown(m.ID, ann, 1)
	for range 4 {
		w.toldOf(w.send(202, text(ann, "again", nil)).Message().ID, "message.sent")
	}
	w.send(409, text(ann, "a sixth", nil))
}

// A scheduled message whose time and end passed while nobody was there expires, and gives its credit back.
func TestAScheduledMessageExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	m := w.send(202, order(ann, map[string]any{"send_at": inFuture(time.Hour), "expires_at": inFuture(2 * time.Hour)})).Message()
	w.stop()
	w.later(3 * time.Hour)
	w.start()
	w.toldOf(m.ID, "message.expired")
	w.wantLine(ann, tOrder, 1, 0, "accepted")
	if n := len(w.sim.Sends()); n != 0 {
		t.Errorf("sent %d times", n)
	}
}

// One send of a user at a time, over all replicas.
func TestOneSendOfAUserAtATimeOverReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	const n = 8
	ann := w.granted("ann", n)
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Slow, Path: "subscribe/send", Times: n, Delay: 40 * time.Millisecond})
	other := &partnersim.Client{Base: "http://" + w.replica().PublicAddr(), Partner: "orders", Secret: whsec}
	var sends sync.WaitGroup
	for i := range n {
		sends.Go(func() {
			a, err := []*partnersim.Client{w.client, other}[i%2].Send(w.ctx, "", order(ann, map[string]any{"priority": []string{"high", "normal", "bulk"}[i%3]}))
			if err != nil || a.Status != 202 {
				t.Errorf("%v %+v", err, a)
			}
		})
	}
	sends.Wait()
	w.received(ann, n)
	if refused := w.sim.Count("errcode:43108"); refused != 0 {
		t.Errorf("two sends of one user at once: 43108 came %d times", refused)
	}
	w.wantLine(ann, tOrder, 0, 0, "accepted")
}

// A sender that dies with an oa_template in hand leaves it open. It is repeated while WeChat surely knows its client_msg_id, and
// not when nobody has looked for long.
func TestASenderDiesWithAnOfficialMessageInHand(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		away  time.Duration
		calls int
		state string
	}{"a minute ago": {70 * time.Second, 2, "sent"}, "long ago": {20 * time.Minute, 1, "unknown"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newsWorld(t)
			w.stop()
			acc := w.sim.User("news", "ann")
			w.sim.Force(wechatsim.Forced{Mood: wechatsim.Lost, Path: "TEMPLATESENDJOBFINISH", Times: -1})
			hold, entered := make(chan struct{}), make(chan struct{}, 1)
			w.throughWire()
			w.throughFront(func(rw http.ResponseWriter, r *http.Request) {
				answer := httptest.NewRecorder()
				w.sim.ServeHTTP(answer, r)
				if r.URL.Path == "/cgi-bin/message/template/send" && len(w.sim.Sends()) == 1 {
					entered <- struct{}{}
					<-hold // the answer waits until its sender is dead
				}
				rw.WriteHeader(answer.Code)
				_, _ = rw.Write(answer.Body.Bytes())
			})
			w.start()
			m := w.send(202, news(map[string]any{"openid": acc}, nil)).Message()
			<-entered
			w.kill()
			close(hold)
			w.later(c.away)
			w.sim.Advance(c.away)
			w.toldOf(m.ID, "message."+c.state)
			if in, calls := len(w.sim.Inbox(acc)), len(w.sim.Sends()); in != 1 || calls != c.calls {
				t.Errorf("received %d, %d calls, want %d: %+v", in, calls, c.calls, w.message(m.ID))
			}
		})
	}
}
