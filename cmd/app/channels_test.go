package app_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// text is a customer service message; fields of over replace its own.
func text(openid, content string, over map[string]any) map[string]any {
	m := map[string]any{"app": "shop", "to": map[string]any{"openid": openid}, "channel": "customer_service", "msgtype": "text",
		"text": map[string]any{"content": content}}
	for k, v := range over {
		m[k] = v
	}
	return m
}

// says is the user writing, in a second of its own, until the gateway has it.
func (w *world) says(openid string) {
	w.t.Helper()
	w.ahead.Add(int64(time.Second))
	w.sim.Say(openid, "在吗")
	w.settled()
}

// Five answers within 48 hours of a user's word, two within a minute of an opened chat; the larger counts, not the sum.
// What is past that is refused before WeChat is asked.
func TestCustomerServiceAllowance(t *testing.T) {
	t.Parallel()
	const path = "call:/cgi-bin/message/custom/send"
	w := newWorld(t, wish{})
	ann, bob := w.sim.User("shop", "ann"), w.sim.User("shop", "bob")
	if a := w.send(409, text(ann, "hello", nil)); a.Code() != "no_credit" || !json.Valid(a.Body) {
		t.Fatalf("nobody wrote: %s", a.Body)
	}
	w.says(ann)
	w.sim.EnterSession(ann, "")
	w.settled()
	for range 5 {
		w.toldOf(w.send(202, text(ann, "hello", nil)).Message().ID, "message.sent")
	}
	w.send(409, text(ann, "hello", nil))
	if n := w.sim.Count(path); n != 5 {
		t.Errorf("WeChat was asked %d times, want 5", n)
	}
	w.says(ann)
	w.toldOf(w.send(202, text(ann, "again", nil)).Message().ID, "message.sent")
	w.says(ann)
	w.later(48*time.Hour + 10*time.Second)
	w.send(409, text(ann, "too late", nil))

	w.sim.EnterSession(bob, "")
	w.settled()
	if err := w.until(func() bool { left, _ := w.sim.Allowance(bob); return left == 2 }); err != nil {
		t.Fatal(err)
	}
	w.send(409, text(bob, "WeChat's clock is behind: its minute is over here", nil))
}

func TestAnOpenedChatAllowsTwo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	bob := w.sim.User("shop", "bob")
	w.sim.EnterSession(bob, "")
	w.settled()
	for range 2 {
		w.toldOf(w.send(202, text(bob, "welcome", nil)).Message().ID, "message.sent")
	}
	w.send(409, text(bob, "a third", nil))
	if n := len(w.sim.Inbox(bob)); n != 2 {
		t.Errorf("bob received %d", n)
	}
}

// 45015 and 45047 say that we believed too much: the message fails with WeChat's words, and nothing more is tried.
func TestWeChatCorrectsTheAllowance(t *testing.T) {
	t.Parallel()
	for _, code := range []int{45015, 45047} {
		w := newWorld(t, wish{})
		ann := w.sim.User("shop", "ann")
		w.says(ann)
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "custom/send", Errcode: code, Errmsg: "out of it"})
		got := w.toldOf(w.send(202, text(ann, "hello", nil)).Message().ID, "message.failed")
		if got.Errcode == nil || *got.Errcode != code {
			t.Errorf("%+v", got)
		}
		w.send(409, text(ann, "hello", nil))
		w.says(ann)
		w.toldOf(w.send(202, text(ann, "hello", nil)).Message().ID, "message.sent")
	}
}

// hold waits for the user's next word.
func TestHeldForTheUsersNextWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	m := w.send(202, text(ann, "when you are back", map[string]any{"no_credit": "hold"})).Message()
	if m.State != "held" {
		t.Fatalf("%+v", m)
	}
	w.says(ann)
	w.toldOf(m.ID, "message.sent")
	if in := w.sim.Inbox(ann); len(in) != 1 || in[0].Values["text"] != "when you are back" {
		t.Errorf("%+v", in)
	}
}

// Every form of a customer message reaches the user as it was given.
func TestCustomerServiceForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	w.says(ann)
	link := text(ann, "", map[string]any{"msgtype": "link", "link": map[string]any{"title": "News", "description": "d", "url": "https://example.com/?a=1&b=2", "thumb_url": "https://example.com/x.png"}})
	delete(link, "text")
	w.toldOf(w.send(202, link).Message().ID, "message.sent")
	if in := w.sim.Inbox(ann); len(in) != 1 || in[0].Values["text"] != "https://example.com/?a=1&b=2" {
		t.Errorf("%+v", in)
	}
	for _, bad := range []map[string]any{{"msgtype": "voice"}, {"msgtype": "image"}, {"msgtype": "image", "image": "m"}} {
		if a := w.send(422, text(ann, "x", bad)); a.Code() != "invalid_message" {
			t.Errorf("%v: %s", bad, a.Body)
		}
	}
}

// chain is a message by subscribe, else by customer service.
func chain(openid string, over map[string]any) map[string]any {
	m := order(openid, map[string]any{"channel": []string{"subscribe", "customer_service"}, "msgtype": "text",
		"text": map[string]any{"content": "您的订单已发货"}})
	for k, v := range over {
		m[k] = v
	}
	return m
}

// The next channel is tried when the one before is known not to have reached the user, and only then.
func TestAChainGoesOnOnlyWhenTheUserWasNotReached(t *testing.T) {
	t.Parallel()
	const kf, sub = "call:/cgi-bin/message/custom/send", "call:/cgi-bin/message/subscribe/send"
	reach := func(w *world, openid, channel string) {
		w.t.Helper()
		m := w.send(202, chain(openid, nil)).Message()
		done := "message.delivered"
		if channel == "customer_service" {
			done = "message.sent"
		}
		if got := w.toldOf(m.ID, done); got.Channel != channel {
			w.t.Errorf("went by %s, want %s: %+v", got.Channel, channel, got)
		}
		if in := w.sim.Inbox(openid); len(in) != 1 || in[0].Channel != channel {
			w.t.Errorf("received %+v", in)
		}
	}
	t.Run("a credit is enough", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, wish{})
		ann := w.sim.User("shop", "ann")
		w.says(ann)
		w.accept(ann, tOrder)
		w.wantLine(ann, tOrder, 1, 0, "accepted")
		reach(w, ann, "subscribe")
		if n := w.sim.Count(kf); n != 0 {
			t.Errorf("customer service was used %d times besides", n)
		}
	})
	t.Run("no credit", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, wish{})
		ann := w.sim.User("shop", "ann")
		w.says(ann)
		reach(w, ann, "customer_service")
		if n := w.sim.Count(sub); n != 0 {
			t.Errorf("subscribe was asked %d times without a credit", n)
		}
	})
	for _, code := range []int{43101, 40037, 47003} {
		t.Run("refused for good", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{})
			ann := w.sim.User("shop", "ann")
			w.says(ann)
			w.accept(ann, tOrder)
			w.wantLine(ann, tOrder, 1, 0, "accepted")
			w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "subscribe/send", Errcode: code, Errmsg: "no"})
			reach(w, ann, "customer_service")
			want := 1 // a refusal for another reason leaves the credit
			if code == 43101 {
				want = 0
			}
			if l := w.line(ann, tOrder); l.Credits != want || l.Reserved != 0 {
				t.Errorf("%d: %+v", code, l)
			}
		})
	}
	t.Run("never after an unknown outcome", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, wish{})
		ann := w.sim.User("shop", "ann")
		w.says(ann)
		w.accept(ann, tOrder)
		w.wantLine(ann, tOrder, 1, 0, "accepted")
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.CutBefore, Path: "subscribe/send"})
		w.toldOf(w.send(202, chain(ann, nil)).Message().ID, "message.unknown")
		w.later(20 * time.Minute)
		w.wantLine(ann, tOrder, 0, 0, "accepted")
		if n := w.sim.Count(kf); n != 0 {
			t.Errorf("customer service was used %d times although subscribe may have reached the user", n)
		}
	})
	t.Run("a later channel books its own credit", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, wish{})
		ann := w.sim.User("shop", "ann")
		w.accept(ann, tOrder)
		w.wantLine(ann, tOrder, 1, 0, "accepted")
		w.says(ann)
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "custom/send", Errcode: 45002, Errmsg: "content size out of limit"})
		m := w.send(202, chain(ann, map[string]any{"channel": []string{"customer_service", "subscribe"}})).Message()
		if got := w.toldOf(m.ID, "message.delivered"); got.Channel != "subscribe" {
			t.Errorf("%+v", got)
		}
		w.wantLine(ann, tOrder, 0, 0, "accepted")
	})
	t.Run("nothing left on any channel", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, wish{})
		ann := w.sim.User("shop", "ann")
		if a := w.send(409, chain(ann, nil)); a.Code() != "no_credit" {
			t.Errorf("%s", a.Body)
		}
		w.accept(ann, tOrder)
		w.wantLine(ann, tOrder, 1, 0, "accepted")
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "subscribe/send", Errcode: 43101, Errmsg: "user refuse"})
		w.toldOf(w.send(202, chain(ann, nil)).Message().ID, "message.refused")
		if n := w.sim.Count(kf); n != 0 {
			t.Errorf("customer service was asked %d times without an allowance", n)
		}
	})
}

const tLegacy = "TlegacyTlegacyTlegacyTlegacyTlegacyTlegacy0"

// years2018 is the platform when template messages were alive.
func years2018(lag time.Duration) func(*wechatsim.Options) {
	return func(o *wechatsim.Options) {
		o.Apps[0].PrepayLag = lag
		o.Apps[0].Templates = append(o.Apps[0].Templates, wechatsim.Template{ID: tLegacy, Title: "Old", Content: "a:{{keyword1.DATA}}\nb:{{keyword2.DATA}}\n", Legacy: true})
	}
}

func legacy(openid string, over map[string]any) map[string]any {
	m := order(openid, map[string]any{"channel": "template", "template_id": tLegacy, "emphasis_keyword": "keyword1.DATA", "color": "#173177",
		"data": map[string]any{"keyword1": map[string]any{"value": "339208499", "color": "#173177"}, "keyword2": "2015年01月05日"}})
	for k, v := range over {
		m[k] = v
	}
	return m
}

// give hands the pool a credential as a partner would.
func (w *world) give(want int, body map[string]any) *partnersim.Answer {
	w.t.Helper()
	a, err := w.client.Do(w.ctx, "POST", "form-ids", body)
	if err != nil || a.Status != want {
		w.t.Fatalf("POST form-ids: %v %+v", err, a)
	}
	return a
}

// The pool of 2018: mini-program and partner feed it, each credential is used as often as it may be, the oldest first.
func TestTemplateMessagesOf2018(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{sim: years2018(0)})
	w.sim.SetEra(wechatsim.Era2018)
	ann := w.sim.User("shop", "ann")
	session := w.login(ann)
	form, paid := w.sim.SubmitForm(ann), w.sim.Pay(ann)
	if status, raw := w.ask("POST", "form-ids", session, map[string]string{"form_id": form}); status != 200 {
		t.Fatalf("%d %s", status, raw)
	}
	if status, _ := w.ask("POST", "form-ids", session, map[string]string{"form_id": "the formId is a mock one"}); status != 422 {
		t.Errorf("a mock form_id: %d", status)
	}
	w.give(200, map[string]any{"app": "shop", "openid": ann, "prepay_id": "prepay_id=" + paid, "uses": 3})
	w.give(422, map[string]any{"app": "shop", "openid": ann, "form_id": "the formId is a mock one"})
	w.give(422, map[string]any{"app": "shop", "openid": ann})
	w.give(422, map[string]any{"app": "shop", "openid": ann, "form_id": form, "prepay_id": paid})
	for i := range 4 {
		w.toldOf(w.send(202, legacy(ann, nil)).Message().ID, "message.sent")
		wantForm, wantPaid := 0, 3-i
		if a, b := w.sim.FormUses(ann, form), w.sim.FormUses(ann, paid); a != wantForm || b != wantPaid {
			t.Fatalf("after %d: form %d, payment %d uses left; the oldest goes first", i+1, a, b)
		}
	}
	in := w.sim.Inbox(ann)
	if len(in) != 4 || in[0].Values["keyword1"] != "339208499" || string(in[0].Body["emphasis_keyword"]) != `"keyword1.DATA"` {
		t.Errorf("%+v", in)
	}
	for _, no := range []string{"refuse", "hold"} {
		if a := w.send(409, legacy(ann, map[string]any{"no_credit": no})); a.Code() != "no_credit" {
			t.Errorf("an empty pool: %s", a.Body)
		}
	}
	if got := w.toldOf(w.send(202, legacy(ann, map[string]any{"no_credit": "try"})).Message().ID, "message.failed"); got.Timeline[len(got.Timeline)-1].Cause != "no_form_id" {
		t.Errorf("%+v", got)
	}
	own := w.sim.SubmitForm(ann)
	w.toldOf(w.send(202, legacy(ann, map[string]any{"form_id": own})).Message().ID, "message.sent")
}

// Right after a payment WeChat does not know the prepay_id yet (41028): the same one again, later. One that is used up
// (41029) gives way to the next. Another refusal gives it back.
func TestCredentialsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{sim: years2018(time.Hour)})
	w.sim.SetEra(wechatsim.Era2018)
	ann := w.sim.User("shop", "ann")
	paid := w.sim.Pay(ann)
	w.give(200, map[string]any{"app": "shop", "openid": ann, "prepay_id": paid})
	m := w.send(202, legacy(ann, nil)).Message()
	if err := w.until(func() bool { return len(w.sim.Sends()) >= 1 }); err != nil {
		t.Fatal("not tried")
	}
	w.sim.Advance(2 * time.Hour)
	if err := w.until(func() bool { return w.message(m.ID).Attempts == 1 }); err != nil {
		t.Fatal(err)
	}
	w.later(20 * time.Second)
	w.toldOf(m.ID, "message.sent")
	if n := w.sim.FormUses(ann, paid); n != 2 {
		t.Errorf("%d uses left", n)
	}

	bob := w.sim.User("shop", "bob")
	spent, good := w.sim.SubmitForm(bob), w.sim.SubmitForm(bob)
	w.give(200, map[string]any{"app": "shop", "openid": bob, "form_id": spent})
	w.give(200, map[string]any{"app": "shop", "openid": bob, "form_id": good})
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "wxopen/template/send", OpenID: bob, Errcode: 41029, Errmsg: "form id used count reach limit"})
	w.toldOf(w.send(202, legacy(bob, nil)).Message().ID, "message.sent")
	if a, b := w.sim.FormUses(bob, spent), w.sim.FormUses(bob, good); a != 1 || b != 0 {
		t.Errorf("the one WeChat refused has %d uses at WeChat, the next one %d", a, b)
	}

	eve := w.sim.User("shop", "eve")
	form := w.sim.SubmitForm(eve)
	w.give(200, map[string]any{"app": "shop", "openid": eve, "form_id": form})
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "wxopen/template/send", OpenID: eve, Errcode: 41030, Errmsg: "invalid page"})
	w.toldOf(w.send(202, legacy(eve, nil)).Message().ID, "message.failed")
	w.toldOf(w.send(202, legacy(eve, nil)).Message().ID, "message.sent")
}

// Today both old channels are gone: said once, never tried again, and a chain goes on.
func TestRetiredChannels(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	uniform := map[string]any{"app": "shop", "to": map[string]any{"openid": ann}, "channel": "uniform",
		"weapp_template_msg": map[string]any{"template_id": tLegacy, "form_id": "1", "data": map[string]any{}}}
	for code, m := range map[int]map[string]any{45109: uniform, 45103: legacy(ann, map[string]any{"form_id": "1526000000001"})} {
		got := w.toldOf(w.send(202, m).Message().ID, "message.failed")
		if got.Errcode == nil || *got.Errcode != code || got.Timeline[len(got.Timeline)-1].Cause != "channel_retired" || got.Attempts != 1 {
			t.Errorf("%d: %+v", code, got)
		}
	}
	w.says(ann)
	uniform["channel"], uniform["msgtype"], uniform["text"] = []string{"uniform", "customer_service"}, "text", map[string]any{"content": "hi"}
	if got := w.toldOf(w.send(202, uniform).Message().ID, "message.sent"); got.Channel != "customer_service" {
		t.Errorf("%+v", got)
	}
	if n := w.sim.Count("call:/cgi-bin/message/wxopen/template/uniform_send"); n != 2 {
		t.Errorf("uniform was called %d times, want 2", n)
	}
}
