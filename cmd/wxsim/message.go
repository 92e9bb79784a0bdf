package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// Steps of the tour that are about a message on its way.

func (t *tour) send() error {
	t.order++
	t.page = fmt.Sprintf("pages/order/detail?id=%d&from=card", t.order)
	t.body = map[string]any{"app": appName, "to": map[string]string{"openid": t.openid}, "template_id": t.template.ID, "page": t.page,
		"data":     map[string]any{"thing1": drink, "amount2": "¥28.00", "time3": "2026年1月2日 15:04"},
		"metadata": map[string]any{"order": t.order}}
	t.request = partnersim.NewID()
	a, err := t.client.Send(t.ctx, t.request, t.body)
	if err != nil {
		return err
	}
	t.message = a.Message()
	if a.Status != http.StatusAccepted || t.message.ID == "" {
		return fmt.Errorf("the send was answered %d %s", a.Status, a.Body)
	}
	t.fact("202 %s, state %s: one credit reserved, the job is in Redis", t.message.ID, t.message.State)
	return nil
}

const (
	drink      = "一杯咖啡"
	firstOrder = 1024
)

// delivered follows the message to its end. WeChat may leave an outcome open: the gateway then says unknown and does not
// send again. WeChat's report settles it where it can; where nothing does, Ann taps once more and the partner sends anew.
func (t *tour) delivered() error {
	for range tries {
		end, err := t.follow()
		if err != nil {
			return err
		}
		if err := t.neverTwice(); err != nil {
			return err
		}
		if end == "delivered" {
			return t.read()
		}
		t.open++
		t.detour("that order stays open; for the next one she taps again and the partner sends again")
		if _, err := t.tap("accept"); err != nil {
			return err
		}
		if err := t.toldLine("subscription.accepted", "accepted"); err != nil {
			return err
		}
		if err := t.send(); err != nil {
			return err
		}
	}
	return fmt.Errorf("no message was delivered in %d tries", tries)
}

// onPhone are the messages about one order that Ann has.
func (t *tour) onPhone(page string) (all []wechatsim.Message) {
	for _, m := range t.sim.Inbox(t.openid) {
		if m.Page == page {
			all = append(all, m)
		}
	}
	return all
}

// neverTwice: whatever WeChat did, no order is on Ann's phone twice.
func (t *tour) neverTwice() error {
	pages := map[string]bool{}
	for _, m := range t.sim.Inbox(t.openid) {
		if pages[m.Page] {
			return fmt.Errorf("the phone shows %s twice", m.Page)
		}
		pages[m.Page] = true
	}
	return nil
}

// follow waits until the partner is told how the message ended: delivered, or unknown with nothing taken by WeChat.
func (t *tour) follow() (string, error) {
	of := func(e partnersim.Event) bool {
		var m partnersim.Message
		return strings.HasPrefix(e.Type, "message.") && e.Into(&m) == nil && m.ID == t.message.ID
	}
	for {
		var e partnersim.Event
		_, err := t.partner.Await(t.ctx, func(c partnersim.Event) bool {
			if !t.told[c.ID] && of(c) {
				e = c
				return true
			}
			return false
		})
		if err != nil {
			return "", fmt.Errorf("the partner was not told what became of %s: %w", t.message.ID, err)
		}
		t.told[e.ID] = true
		var m partnersim.Message
		if err := e.Into(&m); err != nil {
			return "", err
		}
		switch e.Type {
		case "message.sent":
			t.fact("message.sent: msgid %s", text(m.MsgID))
		case "message.delivered":
			t.fact("message.delivered: WeChat's report, msgid %s", text(m.MsgID))
			t.message = m
			return "delivered", nil
		case "message.unknown":
			switch taken := len(t.onPhone(t.page)) > 0; {
			case taken && t.open == 0:
				t.detour("WeChat took the send and never answered: the gateway says unknown, does not send again and waits for WeChat's report")
				continue
			case taken:
				t.detour("WeChat took the send and never answered, and its report fits more than one open send: the gateway does not guess")
			default:
				t.detour("whether WeChat took the send nobody can know, so the gateway says unknown and does not send again")
			}
			return "unknown", nil
		default:
			return "", fmt.Errorf("the message ended %s: %s", e.Type, e.Data)
		}
	}
}

func text(s *string) string {
	if s == nil {
		return "none"
	}
	return *s
}

// read looks at Ann's phone and at what the gateway says about the message.
func (t *tour) read() error {
	got := t.onPhone(t.page)
	if len(got) != 1 {
		return fmt.Errorf("delivered, and Ann has %d messages about it", len(got))
	}
	m := got[0]
	if text(t.message.MsgID) != fmt.Sprint(m.MsgID) || m.Values["thing1"] != drink {
		return fmt.Errorf("what Ann reads is %+v", m)
	}
	t.fact("on her phone: %s, %s; a tap opens %s", m.Values["thing1"], m.Values["amount2"], m.Page)
	return t.story()
}

// story asks the gateway for the whole story of the message.
func (t *tour) story() error {
	a, err := t.client.Get(t.ctx, "messages/"+t.message.ID, nil)
	if err != nil {
		return err
	}
	got := a.Message()
	if a.Status != http.StatusOK || got.State != "delivered" {
		return fmt.Errorf("GET messages/%s: %d %s", t.message.ID, a.Status, a.Body)
	}
	var line []string
	for _, s := range got.Timeline {
		line = append(line, s.State)
	}
	t.fact("the whole story: %s", strings.Join(line, " -> "))
	return nil
}

func (t *tour) again() error {
	a, err := t.client.Send(t.ctx, t.request, t.body)
	if err != nil {
		return err
	}
	if a.Status != http.StatusAccepted || a.Message().ID != t.message.ID || a.Header.Get("Idempotent-Replayed") != "true" {
		return fmt.Errorf("the repeated request was answered %d %s (%v)", a.Status, a.Body, a.Header)
	}
	t.fact("the same answer, %s, marked idempotent-replayed; Ann still has one message", t.message.ID)
	return t.neverTwice()
}

func (t *tour) noCredit() error {
	before := len(t.sim.Sends())
	a, err := t.client.Send(t.ctx, "", t.body)
	if err != nil {
		return err
	}
	if a.Status != http.StatusConflict || a.Code() != "no_credit" {
		return fmt.Errorf("a send without credit was answered %d %s", a.Status, a.Body)
	}
	if after := len(t.sim.Sends()); after != before {
		return fmt.Errorf("WeChat was asked %d times", after-before)
	}
	t.fact("409 no_credit; WeChat was not asked")
	return nil
}
