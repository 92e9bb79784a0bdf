package app_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// With a master key, what lets somebody act for a user or names a person is not readable in Redis: open tickets (in remembered
// answers too), phone numbers, credentials of legacy messages, session tokens and keys.
func TestSecretsAreNotReadableInRedis(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{config: "master_key: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="})
	ann := w.sim.User("shop", "ann")
	session := w.login(ann)
	if a, err := w.client.Do(w.ctx, "PUT", "bindings/shop/u-42", map[string]any{"openid": ann}); err != nil || a.Status != 200 {
		t.Fatalf("%v %+v", err, a)
	}
	a, err := w.client.Do(w.ctx, "POST", "bindings/tickets", map[string]any{"app": "shop", "user": "u-43"})
	var ticket struct{ Ticket string }
	if err != nil || json.Unmarshal(a.Body, &ticket) != nil || ticket.Ticket == "" {
		t.Fatalf("%v %+v", err, a)
	}
	const formID = "0123456789abcdef0123456789abcdef"
	if status, raw := w.ask("POST", "form-ids", session, map[string]string{"form_id": formID}); status != 200 {
		t.Fatalf("%d %s", status, raw)
	}
	if status, raw := w.ask("POST", "phone", session, map[string]string{"code": w.sim.PhoneCode(ann)}); status != 200 {
		t.Fatalf("%d %s", status, raw)
	}
	w.told("user.phone", func(partnersim.Event) bool { return true })
	for _, secret := range []string{ticket.Ticket, formID, wechatsim.PhoneOf(ann), session} {
		if dump := w.redis.Dump(); strings.Contains(dump, secret) {
			at := strings.Index(dump, secret)
			t.Errorf("%.8s... is readable: %.200q", secret, dump[max(0, at-120):])
		}
	}
}
