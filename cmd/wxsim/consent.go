package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// Steps of the tour that are about Ann and what she allows.

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

func (t *tour) reject() error {
	if _, err := t.tap("reject"); err != nil {
		return err
	}
	return t.toldLine("subscription.rejected", "rejected")
}
