package app_test

import (
	"encoding/json"
	"net/url"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// The story of the product: a tap, a send, a receipt, and the partner hears of each.
func TestFromTapToDelivered(t *testing.T) {
	t.Parallel()
	for _, format := range []wechatsim.Format{wechatsim.JSON, wechatsim.XML} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{sim: func(o *wechatsim.Options) { o.Apps[0].Format = format }})
			ann := w.sim.User("shop", "ann")
			w.accept(ann, tOrder)
			w.told("push.received", nil)
			var sub struct {
				line
				Cause string
			}
			if err := w.told("subscription.accepted", nil).Into(&sub); err != nil || sub.Credits != 1 || sub.Cause == "" || sub.TemplateID != tOrder {
				t.Fatalf("subscription.accepted: %+v %v", sub, err)
			}
			a := w.send(202, order(ann, map[string]any{"metadata": map[string]any{"order": 7}}))
			m := a.Message()
			if m.State != "queued" || m.OpenID != ann || m.Channel != "subscribe" || m.Attempts != 0 {
				t.Fatalf("accepted: %+v", m)
			}
			sent := w.toldOf(m.ID, "message.sent")
			if sent.MsgID == nil || len(*sent.MsgID) < 17 {
				t.Fatalf("msgid %v is not WeChat's: past 2^53, as a string", sent.MsgID)
			}
			done := w.toldOf(m.ID, "message.delivered")
			if done.State != "delivered" || string(done.Metadata) != `{"order":7}` || *done.MsgID != *sent.MsgID {
				t.Fatalf("delivered: %+v", done)
			}
			inbox := w.sim.Inbox(ann)
			if len(inbox) != 1 || inbox[0].Values["thing1"] != "一杯咖啡" || inbox[0].Page != "pages/order?id=1" {
				t.Fatalf("ann received %+v", inbox)
			}
			w.wantLine(ann, tOrder, 0, 0, "accepted")
			if got := w.message(m.ID); got.State != "delivered" || len(got.Timeline) < 3 {
				t.Fatalf("GET: %+v", got)
			}
		})
	}
}

// a push that comes twice changes nothing the second time.
func TestAPushTwiceIsOneGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Duplicate, Times: 2})
	ann := w.sim.User("shop", "ann")
	w.accept(ann, tOrder)
	w.told("subscription.accepted", nil)
	w.settled()
	w.wantLine(ann, tOrder, 1, 0, "accepted")
	w.accept(ann, tOther)
	w.told("subscription.accepted", func(e partnersim.Event) bool { var l line; return e.Into(&l) == nil && l.TemplateID == tOther })
	if n := w.countTold("subscription.accepted"); n != 2 {
		t.Errorf("told %d times of two taps", n)
	}
}

// Two taps within one second are two grants: the documented key (openid and second) would lose one.
func TestTwoTapsInOneSecondAreTwoGrants(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.SameSecond, Times: 2})
	w.sim.Tap(ann, "shop", map[string]string{tOrder: "accept", tOther: "reject"})
	w.sim.Accept(ann, tOrder)
	w.wantLine(ann, tOrder, 2, 0, "accepted")
	w.wantLine(ann, tOther, 0, 0, "rejected")
}

// An accept that happened before a reject in the settings, but came after it, grants nothing.
func TestPushesOutOfOrderEndAsIfInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	w.accept(ann, tOrder)
	w.wantLine(ann, tOrder, 1, 0, "accepted")
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Reorder, Path: "subscribe_msg_popup_event", Delay: 200 * time.Millisecond})
	w.accept(ann, tOrder)
	w.ahead.Add(int64(2 * time.Second))
	w.sim.ChangeSetting(ann, tOrder, "reject")
	w.settled()
	w.wantLine(ann, tOrder, 0, 0, "cancelled")
}

// WeChat pushes again what could not be stored: a Redis that is away costs nothing.
func TestRedisAwayLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann, bob := w.sim.User("shop", "ann"), w.sim.User("shop", "bob")
	w.accept(ann, tOrder)
	w.wantLine(ann, tOrder, 1, 0, "accepted")
	w.redis.Close()
	w.accept(bob, tOrder)
	if err := w.until(func() bool { return w.sim.Count("deliveries:failed") >= 2 }); err != nil {
		t.Fatal("the push was thanked although it was not stored")
	}
	a, err := w.client.Send(w.ctx, "", order(ann, nil))
	if err != nil || a.Status != 503 || a.Code() != "unavailable" || a.Header.Get("Retry-After") == "" {
		t.Fatalf("a send while Redis is away: %v %+v", err, a)
	}
	if err := w.redis.Restart(); err != nil {
		t.Fatal(err)
	}
	w.settled()
	w.wantLine(bob, tOrder, 1, 0, "accepted")
	for _, who := range []string{ann, bob} {
		w.toldOf(w.send(202, order(who, nil)).Message().ID, "message.delivered")
	}
}

// The contract's schedule: an endpoint that fails three times hears the same event, under the same id, the fourth time.
func TestPartnerFailsThreeTimesThenHears(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{events: `"subscription.*"`})
	w.partner.Misbehave(partnersim.Behaviour{Times: 3, Status: 500})
	ann := w.sim.User("shop", "ann")
	w.accept(ann, tOrder)
	for i, d := range []time.Duration{6 * time.Second, 36 * time.Second, 144 * time.Second} {
		if err := w.partner.AwaitDeliveries(w.ctx, func(ds []partnersim.Delivery) bool { return len(ds) > i }); err != nil {
			t.Fatalf("delivery %d: %v", i+1, err)
		}
		w.noted(i + 1)
		w.later(d)
	}
	e := w.told("subscription.accepted", nil)
	if e.Deliveries != 4 {
		t.Errorf("taken at delivery %d, want the 4th", e.Deliveries)
	}
	ids := map[string]bool{}
	for _, d := range w.partner.Deliveries() {
		ids[d.ID] = true
		if d.Fault != "" || d.Edited {
			t.Errorf("a delivery was not genuine: %+v", d)
		}
	}
	if len(ids) != 1 {
		t.Errorf("%d webhook-ids for one event", len(ids))
	}
}

// noted waits until the one delivery has that many attempts written down and waits for the next.
func (w *world) noted(attempts int) {
	w.t.Helper()
	if err := w.until(func() bool {
		a, err := w.client.Get(w.ctx, "deliveries", url.Values{"endpoint": {"main"}})
		var page struct {
			Items []struct {
				NextAt   *time.Time `json:"next_at"`
				Attempts []struct{ Status int }
			}
		}
		return err == nil && a.Into(&page) == nil && len(page.Items) == 1 && page.Items[0].NextAt != nil && len(page.Items[0].Attempts) == attempts
	}); err != nil {
		w.t.Fatalf("attempt %d was not noted", attempts)
	}
}

// A token that dies mid-send is healed by value and the message goes once.
func TestTokenDiesMidSend(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	w.accept(ann, tOrder)
	w.wantLine(ann, tOrder, 1, 0, "accepted")
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.TokenDies, Path: "subscribe/send"})
	m := w.send(202, order(ann, nil)).Message()
	w.toldOf(m.ID, "message.delivered")
	if n := len(w.sim.Inbox(ann)); n != 1 {
		t.Fatalf("ann received %d messages", n)
	}
	if got := w.message(m.ID); got.Attempts != 1 {
		t.Errorf("attempts %d: a refused token is not an attempt", got.Attempts)
	}
}

// a send whose answer did not come is unknown at once, is not sent again, and WeChat's report settles it.
func TestNoAnswerIsUnknownUntilTheReport(t *testing.T) {
	t.Parallel()
	for _, mood := range []wechatsim.Mood{wechatsim.Timeout, wechatsim.Cut, wechatsim.BadGateway} {
		t.Run(string(mood), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{sim: func(o *wechatsim.Options) { o.Hang = 3 * time.Second }})
			ann := w.sim.User("shop", "ann")
			w.accept(ann, tOrder)
			w.wantLine(ann, tOrder, 1, 0, "accepted")
			w.sim.Force(wechatsim.Forced{Mood: mood, Path: "subscribe/send"})
			m := w.send(202, order(ann, nil)).Message()
			w.toldOf(m.ID, "message.unknown")
			w.toldOf(m.ID, "message.delivered")
			w.wantLine(ann, tOrder, 0, 0, "accepted")
			if n := len(w.sim.Inbox(ann)); n != 1 {
				t.Fatalf("ann received %d messages", n)
			}
		})
	}
}

// Without a report the deadline closes it as unknown, and its credit promises nothing any more.
func TestUnknownClosesAtItsDeadline(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{config: "messages: {unknown_deadline: 10m}"})
	ann := w.sim.User("shop", "ann")
	w.accept(ann, tOrder)
	w.wantLine(ann, tOrder, 1, 0, "accepted")
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.CutBefore, Path: "subscribe/send"})
	m := w.send(202, order(ann, nil)).Message()
	w.toldOf(m.ID, "message.unknown")
	w.wantLine(ann, tOrder, 0, 1, "accepted")
	w.later(11 * time.Minute)
	w.wantLine(ann, tOrder, 0, 0, "accepted")
	if got := w.message(m.ID); got.State != "unknown" || len(w.sim.Inbox(ann)) != 0 {
		t.Errorf("%+v", got)
	}
	if n := len(w.sim.Sends()); n != 1 {
		t.Errorf("sent %d times", n)
	}
}

// on_unknown: retry is the partner's word that twice is better than not at all; it is taken once.
func TestOnUnknownRetrySendsOnceMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	w.accept(ann, tOrder)
	w.wantLine(ann, tOrder, 1, 0, "accepted")
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.CutBefore, Path: "subscribe/send"})
	m := w.send(202, order(ann, map[string]any{"on_unknown": "retry"})).Message()
	w.toldOf(m.ID, "message.delivered")
	if got := w.message(m.ID); got.Attempts != 2 {
		t.Errorf("attempts %d, want 2", got.Attempts)
	}
}

// No credit is known before WeChat is asked.
func TestNoCreditIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	a := w.send(409, order(ann, nil))
	if a.Code() != "no_credit" {
		t.Fatalf("%s", a.Body)
	}
	if n := w.sim.Count("call:/cgi-bin/message/subscribe/send"); n != 0 {
		t.Errorf("WeChat was asked %d times", n)
	}
}

// 43101: what we believed about the line was wrong. The message is refused and the line worth nothing.
func TestRefusedByWeChatCorrectsTheLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	w.accept(ann, tOrder)
	w.accept(ann, tOrder)
	w.wantLine(ann, tOrder, 2, 0, "accepted")
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "subscribe/send", Errcode: 43101, Errmsg: "user refuse to accept the msg"})
	m := w.send(202, order(ann, nil)).Message()
	got := w.toldOf(m.ID, "message.refused")
	if got.Errcode == nil || *got.Errcode != 43101 || got.Errmsg == nil {
		t.Errorf("%+v", got)
	}
	if l := w.line(ann, tOrder); l.Credits != 0 || l.Reserved != 0 {
		t.Errorf("the line still promises: %+v", l)
	}
}

// A held message leaves with the user's next accept, one for each credit, in order.
func TestHeldMessagesLeaveOnePerAccept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	var ids []string
	for range 3 {
		a := w.send(202, order(ann, map[string]any{"no_credit": "hold"}))
		if a.Message().State != "held" {
			t.Fatalf("%s", a.Body)
		}
		ids = append(ids, a.Message().ID)
	}
	w.toldOf(ids[2], "message.held")
	for i, id := range ids {
		w.accept(ann, tOrder)
		w.toldOf(id, "message.delivered")
		if n := len(w.sim.Inbox(ann)); n != i+1 {
			t.Fatalf("after %d accepts ann received %d", i+1, n)
		}
	}
}

// A client's report and WeChat's event about one tap are one grant, whichever comes first.
func TestOneTapIsOneGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	session := w.login(ann)
	result := w.accept(ann, tOrder)
	w.wantLine(ann, tOrder, 1, 0, "accepted")
	for range 2 { // the repeated report has the same X-Request-Id
		status, raw := w.ask("POST", "subscriptions", session, result, "X-Request-Id", "tap-1")
		var got struct {
			Items []struct {
				TemplateID string `json:"template_id"`
				Credits    int
				Ask        bool
			}
		}
		if err := json.Unmarshal(raw, &got); status != 200 || err != nil || len(got.Items) != 1 || got.Items[0].Credits != 1 || got.Items[0].Ask {
			t.Fatalf("%d %s", status, raw)
		}
	}
	w.accept(ann, tOrder)
	w.wantLine(ann, tOrder, 2, 0, "accepted")
}

// The same code within 5 minutes gets the same answer, and the session_key stays inside.
func TestLoginTwiceWithOneCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	code := w.sim.Login(ann)
	status, first := w.ask("POST", "login", "", map[string]string{"code": code})
	status2, second := w.ask("POST", "login", "", map[string]string{"code": code})
	if status != 200 || status2 != 200 || string(first) != string(second) {
		t.Fatalf("%d %s\n%d %s", status, first, status2, second)
	}
	w.told("user.logged_in", nil)
	if status, raw := w.ask("POST", "login", "", map[string]string{"code": "nonsense"}); status != 401 {
		t.Errorf("a wrong code: %d %s", status, raw)
	}
	if status, raw := w.ask("GET", "subscriptions", "nonsense", nil); status != 401 {
		t.Errorf("a wrong session: %d %s", status, raw)
	}
}

// The same webhook-id gets the same answer; with another body it is refused.
func TestSendTwiceUnderOneID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	w.accept(ann, tOrder)
	w.accept(ann, tOrder)
	w.wantLine(ann, tOrder, 2, 0, "accepted")
	first := w.sendAs("req-1", 202, order(ann, nil))
	second := w.sendAs("req-1", 202, order(ann, nil))
	if string(first.Body) != string(second.Body) || second.Header.Get("Idempotent-Replayed") != "true" {
		t.Fatalf("first %s\nsecond %s %v", first.Body, second.Body, second.Header)
	}
	if a := w.sendAs("req-1", 409, order(ann, map[string]any{"page": "pages/order?id=2"})); a.Code() != "id_reused" {
		t.Errorf("%s", a.Body)
	}
	w.toldOf(first.Message().ID, "message.delivered")
	w.wantLine(ann, tOrder, 1, 0, "accepted")
}

// A restart in between loses nothing.
func TestARestartLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	held := w.send(202, order(ann, map[string]any{"no_credit": "hold"})).Message()
	w.stop()
	w.accept(ann, tOrder) // refused connections: WeChat pushes again
	w.start()
	w.settled()
	w.toldOf(held.ID, "message.delivered")
}
