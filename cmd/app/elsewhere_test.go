package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// sendsByItself is another system that sends with the app's token past the gateway.
func (w *world) sendsByItself(openid string) {
	w.t.Helper()
	a, err := w.client.Get(w.ctx, "apps/shop/access_token", nil)
	var tok struct {
		AccessToken string `json:"access_token"`
	}
	if err != nil || a.Into(&tok) != nil || tok.AccessToken == "" {
		w.t.Fatalf("%v %+v", err, a)
	}
	_, rest, _ := strings.Cut(w.yaml, `base_url: "`)
	base, _, _ := strings.Cut(rest, `"`)
	body := fmt.Sprintf(`{"touser":%q,"template_id":%q,"page":"pages/order","data":{"thing1":{"value":"x"},"amount2":{"value":"1"}}}`, openid, tOrder)
	res, err := http.Post(base+sendPath+"?access_token="+url.QueryEscape(tok.AccessToken), "application/json", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	var got struct{ Errcode int }
	if err != nil || json.Unmarshal(raw, &got) != nil || got.Errcode != 0 {
		w.t.Fatalf("%v %s", err, raw)
	}
}

// patient lets the time pass that a receipt without a message is waited for, and returns once none waits any more.
func (w *world) patient() {
	w.t.Helper()
	waiting := func() (n int) {
		for _, d := range w.lanes() {
			if strings.HasPrefix(d.Lane, "push:") {
				n += d.Ready + d.Later + d.Leased
			}
		}
		return n
	}
	if err := w.until(func() bool { w.later(15 * time.Second); return waiting() == 0 }); err != nil {
		w.t.Fatalf("%d pushes still wait", waiting())
	}
}

type lane struct {
	Lane                 string
	Ready, Later, Leased int
}

// lanes is the queue as an operator reads it.
func (w *world) lanes() []lane {
	w.t.Helper()
	res, err := http.Get("http://" + w.app.AdminAddr() + "/api/overview")
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	var page struct{ Lanes []lane }
	if err := json.NewDecoder(res.Body).Decode(&page); err != nil {
		w.t.Fatal(err)
	}
	return page.Lanes
}

// pushed waits until a partner heard of n pushes of an event: they are in hand then.
func (w *world) pushed(event string, n int) {
	w.t.Helper()
	if err := w.partner.AwaitAll(w.ctx, func(all []partnersim.Event) bool {
		seen := 0
		for _, e := range all {
			var r received
			if e.Type == "push.received" && e.Into(&r) == nil && r.Event != nil && *r.Event == event {
				seen++
			}
		}
		return seen >= n
	}); err != nil {
		w.t.Fatalf("not %d of %s", n, event)
	}
}

// WeChat reports a send that is not ours: the credit it used is none of ours any more, so that we do not promise it.
func TestASendElsewhereUsesACredit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 2)
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Duplicate, Path: "subscribe_msg_sent_event"})
	w.sendsByItself(ann)
	w.pushed("subscribe_msg_sent_event", 1)
	w.wantLine(ann, tOrder, 2, 0, "accepted") // it may still be ours, come before its answer
	w.patient()
	w.wantLine(ann, tOrder, 1, 0, "accepted")
	l := w.line(ann, tOrder)
	if last := l.History[len(l.History)-1]; last.Cause != "sent_elsewhere" || last.Delta != -1 || last.Balance != 1 {
		t.Errorf("%+v", l.History)
	}
	w.toldOf(w.send(202, order(ann, nil)).Message().ID, "message.delivered")
	w.send(409, order(ann, nil)) // and not 43101 from WeChat
	if has := w.sim.Credits(ann, tOrder); has != 0 {
		t.Errorf("WeChat has %d", has)
	}
}

// A report of failure used nothing, as far as anybody knows.
func TestAFailureElsewhereUsesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 2)
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.SentFails})
	w.sendsByItself(ann)
	w.pushed("subscribe_msg_sent_event", 1)
	w.patient()
	w.wantLine(ann, tOrder, 2, 0, "accepted")
}

// A report that may be about a message of ours is not booked a second time: a send without a msgid, one that closed before
// its report came, one of two that are open.
func TestAReportThatMayBeOurs(t *testing.T) {
	t.Parallel()
	t.Run("no msgid", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, wish{sim: func(o *wechatsim.Options) { o.Apps[0].NoMsgID = true }})
		ann := w.granted("ann", 3)
		w.toldOf(w.send(202, order(ann, nil)).Message().ID, "message.sent")
		w.pushed("subscribe_msg_sent_event", 1)
		w.patient()
		w.wantLine(ann, tOrder, 2, 0, "accepted")
	})
	t.Run("after the deadline", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, wish{config: "messages: {unknown_deadline: 10m}"})
		ann := w.granted("ann", 3)
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Cut, Path: "subscribe/send"})
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Reorder, Path: "subscribe_msg_sent_event", Delay: 4 * time.Second})
		m := w.send(202, order(ann, nil)).Message()
		w.toldOf(m.ID, "message.unknown")
		w.later(11 * time.Minute)
		if err := w.until(func() bool { tl := w.message(m.ID).Timeline; return tl[len(tl)-1].Cause == "deadline" }); err != nil {
			t.Fatalf("%+v", w.message(m.ID))
		}
		w.pushed("subscribe_msg_sent_event", 1)
		w.patient()
		w.wantLine(ann, tOrder, 2, 0, "accepted")
		if got := w.message(m.ID); got.State != "unknown" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("one of two", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, wish{config: "messages: {unknown_deadline: 1h}"})
		ann := w.granted("ann", 4)
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.CutBefore, Path: "subscribe/send"})
		w.toldOf(w.send(202, order(ann, nil)).Message().ID, "message.unknown")
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Cut, Path: "subscribe/send"})
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Reorder, Path: "subscribe_msg_sent_event", Delay: 500 * time.Millisecond})
		w.toldOf(w.send(202, order(ann, nil)).Message().ID, "message.unknown")
		w.pushed("subscribe_msg_sent_event", 1)
		w.patient()
		w.wantLine(ann, tOrder, 2, 2, "accepted")
	})
}
