package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// tour is one walk through the product. WeChat has its moods meanwhile; what they may cost is a detour, never a step.
type tour struct {
	*box
	*voice
	ctx      context.Context
	template wechatsim.Template
	openid   string
	session  string
	told     map[string]bool // webhook-ids the tour has used up
	message  partnersim.Message
	order    int // of the latest send, told apart by its page
	page     string
	request  string // its webhook-id
	body     map[string]any
	open     int // sends whose outcome nobody knows
}

type step struct {
	title string
	do    func(*tour) error
}

var steps = []step{
	{"Ann opens the mini-program. wx.login gives it a code, the gateway makes a session of it.", (*tour).login},
	{"Ann taps \"allow\" once. WeChat pushes the popup event to the gateway, sealed; the mini-program reports the tap too.", (*tour).accept},
	{"The partner is told, by a signed webhook.", (*tour).toldAccepted},
	{"The partner hands over a message, signed. It does not know an access_token, nor does it need to.", (*tour).send},
	{"WeChat takes it and Ann has it on her phone.", (*tour).delivered},
	{"The partner's network was bad: it asks again under the same webhook-id. Ann must not get it twice.", (*tour).again},
	{"Ann allowed one message and got one. A second one is refused before WeChat is even asked.", (*tour).noCredit},
	{"Ann taps \"reject\".", (*tour).reject},
}

func play(ctx context.Context, b *box, v *voice) error {
	ctx, cancel := context.WithTimeout(ctx, tourLimit)
	defer cancel()
	t := &tour{box: b, voice: v, ctx: ctx, template: b.mini.Templates[0], told: map[string]bool{}, order: firstOrder - 1}
	t.say("\nThe tour\n")
	began := time.Now()
	for i, s := range steps {
		t.say("%2d. %s", i+1, s.title)
		if err := s.do(t); err != nil {
			return fmt.Errorf("step %d (%s) %w", i+1, s.title, err)
		}
	}
	counts := b.sim.Counts()
	t.say("\nAll %d steps hold, in %s. WeChat's moods meanwhile: %s.", len(steps), time.Since(began).Round(time.Millisecond), moods(counts, b))
	return nil
}

// moods that came over this tour, in words.
func moods(counts map[string]int64, b *box) string {
	var had []string
	for _, m := range []struct{ count, words string }{
		{"mood:busy", "%d calls answered -1"}, {"mood:timeout", "%d sends taken and never answered"}, {"mood:token_dies", "%d tokens died early"},
		{"mood:token_storm", "%d good tokens refused"}, {"mood:concurrent", "%d sends called concurrent"}, {"mood:slow", "%d slow answers"},
	} {
		if n := counts[m.count]; n > 0 {
			had = append(had, fmt.Sprintf(m.words, n))
		}
	}
	doubled := 0
	for _, p := range b.sim.Pushes() {
		for _, d := range p.Deliveries {
			if d.Doubled {
				doubled++
			}
		}
	}
	if doubled > 0 {
		had = append(had, fmt.Sprintf("%d pushes doubled", doubled))
	}
	if len(had) == 0 {
		return "none"
	}
	return strings.Join(had, ", ")
}

func (t *tour) fact(format string, a ...any)   { t.say("      "+format, a...) }
func (t *tour) detour(format string, a ...any) { t.say("    ~ "+format, a...) }

// mp is the mini-program calling the gateway; into gets the answer of a 2xx.
func (t *tour) mp(method, path string, body, into any) (int, string, error) {
	var rd io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, "", err
		}
		rd = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(t.ctx, method, t.public+"/mp/"+appName+"/"+path, rd)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if t.session != "" {
		req.Header.Set("Authorization", "Bearer "+t.session)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return 0, "", err
	}
	if res.StatusCode/100 == 2 && into != nil {
		if err := json.Unmarshal(raw, into); err != nil {
			return res.StatusCode, string(raw), fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return res.StatusCode, string(raw), nil
}

const tries = 8

func (t *tour) login() error {
	for range tries {
		code := t.sim.Login(t.sim.User(appName, person))
		var got struct {
			Session string `json:"session"`
			OpenID  string `json:"openid"`
		}
		status, raw, err := t.mp(http.MethodPost, "login", map[string]string{"code": code}, &got)
		switch {
		case err != nil:
			return err
		case status/100 != 2:
			t.detour("WeChat was not in the mood (the gateway says %d %s): the mini-program logs in again", status, problemCode(raw))
			continue
		case got.OpenID != t.sim.User(appName, person):
			return fmt.Errorf("login gave %s, Ann is %s", got.OpenID, t.sim.User(appName, person))
		case got.Session == "" || strings.Contains(raw, t.sim.SessionKey(got.OpenID)):
			return errors.New("login gave no session, or the session_key itself")
		}
		t.session, t.openid = got.Session, got.OpenID
		t.fact("code %s... is openid %s; WeChat's session_key stays inside", code[:8], got.OpenID)
		return nil
	}
	return fmt.Errorf("no login in %d tries", tries)
}

func problemCode(raw string) string {
	var p struct{ Code string }
	if json.Unmarshal([]byte(raw), &p) != nil {
		return ""
	}
	return p.Code
}

// tap is Ann answering the popup; the mini-program reports verbatim what it was handed.
func (t *tour) tap(choice string) (string, error) {
	result := t.sim.Tap(t.openid, appName, map[string]string{t.template.ID: choice})
	var balance struct {
		Items []miniLine `json:"items"`
	}
	status, raw, err := t.mp(http.MethodPost, "subscriptions", result, &balance)
	if err != nil {
		return "", err
	}
	if status/100 != 2 {
		return "", fmt.Errorf("the report was answered %d %s", status, raw)
	}
	return raw, nil
}

type miniLine struct {
	TemplateID string `json:"template_id"`
	Credits    int    `json:"credits"`
	Status     string `json:"status"`
}

// popups are the pushes about Ann's answers so far.
func (t *tour) popups() (all []wechatsim.Push) {
	for _, p := range t.sim.Pushes() {
		if p.Event == "subscribe_msg_popup_event" && p.OpenID == t.openid {
			all = append(all, p)
		}
	}
	return all
}

func (t *tour) accept() error {
	before := len(t.popups())
	if _, err := t.tap("accept"); err != nil {
		return err
	}
	var push wechatsim.Push
	if err := t.sim.Await(t.ctx, func() bool {
		all := t.popups()
		if len(all) > before {
			push = all[before]
		}
		return push.Result != "" && push.Result != wechatsim.Pending
	}); err != nil {
		return fmt.Errorf("the push did not end: %w", err)
	}
	if push.Result != wechatsim.Taken {
		return fmt.Errorf("the push was %s: %+v", push.Result, push.Deliveries)
	}
	last := push.Deliveries[len(push.Deliveries)-1]
	t.fact("WeChat's push (%s mode, %s) was proven, stored and answered %q in %s", push.Mode, push.Format, last.Answer, last.Took.Round(100*time.Microsecond))
	if err := t.sim.Settle(t.ctx); err != nil {
		return err
	}
	var now struct {
		Items []miniLine `json:"items"`
	}
	status, raw, err := t.mp(http.MethodGet, "subscriptions?template_id="+t.template.ID, nil, &now)
	if err != nil {
		return err
	}
	if status != http.StatusOK || len(now.Items) != 1 || now.Items[0].Credits != 1 {
		return fmt.Errorf("one tap must be one credit, the gateway says %d %s", status, raw)
	}
	t.fact("event and report were about one tap: 1 credit")
	return t.relayedRaw(push)
}

// relayedRaw: the partner has the proven message byte for byte.
func (t *tour) relayedRaw(push wechatsim.Push) error {
	_, err := t.next("push.received", func(e partnersim.Event) bool {
		var d struct{ Raw string }
		return e.Into(&d) == nil && d.Raw == push.Body
	})
	return err
}

// next waits for an event the tour has not used yet.
func (t *tour) next(kind string, fits func(partnersim.Event) bool) (partnersim.Event, error) {
	e, err := t.partner.Await(t.ctx, func(e partnersim.Event) bool {
		return e.Type == kind && !t.told[e.ID] && (fits == nil || fits(e))
	})
	if err != nil {
		var heard []string
		for _, e := range t.partner.Events() {
			heard = append(heard, e.Type)
		}
		return e, fmt.Errorf("the partner was not told %s (%w); it was told %s", kind, err, strings.Join(heard, ", "))
	}
	t.told[e.ID] = true
	return e, nil
}

type partnerLine struct {
	OpenID     string `json:"openid"`
	TemplateID string `json:"template_id"`
	Credits    int    `json:"credits"`
	Reserved   int    `json:"reserved"`
	Status     string `json:"status"`
	Cause      string `json:"cause"`
}

func (t *tour) toldLine(kind, status string) error {
	e, err := t.next(kind, nil)
	if err != nil {
		return err
	}
	var l partnerLine
	if err := e.Into(&l); err != nil {
		return err
	}
	if l.OpenID != t.openid || l.TemplateID != t.template.ID || l.Status != status {
		return fmt.Errorf("%s says %s", kind, e.Data)
	}
	t.fact("%s, webhook-id %s, signature good: status %s, credits %d", kind, e.ID, l.Status, l.Credits)
	return nil
}

func (t *tour) toldAccepted() error { return t.toldLine("subscription.accepted", "accepted") }

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
			return fmt.Errorf("Ann was told twice of %s", m.Page)
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
				t.detour("WeChat answered -1: whether it took the send nobody can know, so the gateway says unknown and does not send again")
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
		return fmt.Errorf("Ann reads %+v", m)
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

func (t *tour) reject() error {
	if _, err := t.tap("reject"); err != nil {
		return err
	}
	return t.toldLine("subscription.rejected", "rejected")
}
