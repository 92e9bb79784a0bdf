package app_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
	"github.com/wxrelay/wxrelay/config"
)

// The number of a phone code goes to the partner that bound the user; the mini-program hears it only while the app says so,
// and a reload says it.
func TestPhoneIsEchoedWhereTheAppSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	session := w.login(ann)
	number := wechatsim.PhoneOf(ann)
	if a, err := w.client.Do(w.ctx, "PUT", "bindings/shop/u-42", map[string]any{"openid": ann}); err != nil || a.Status != 200 {
		t.Fatalf("%v %+v", err, a)
	}
	for i, c := range []struct {
		phoneEcho string // the key as it is reloaded; "" = not said
		want      map[string]any
	}{
		{"", map[string]any{"ok": true}},
		{"phone_echo: true", map[string]any{"ok": true, "phoneNumber": number, "purePhoneNumber": number, "countryCode": "86"}},
		{"phone_echo: false", map[string]any{"ok": true}},
	} {
		next, err := config.Parse([]byte(strings.Replace(w.yaml, "kind: miniprogram", "kind: miniprogram\n    "+c.phoneEcho, 1)), w.t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.app.Reload(next); err != nil {
			t.Fatal(err)
		}
		status, raw := w.ask("POST", "phone", session, map[string]string{"code": w.sim.PhoneCode(ann)})
		var got map[string]any
		if err := json.Unmarshal(raw, &got); err != nil || status != 200 {
			t.Fatalf("%q: %d %s", c.phoneEcho, status, raw)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q:\n%s", c.phoneEcho, diff)
		}
		if err := w.until(func() bool { return w.countTold("user.phone") == i+1 }); err != nil {
			t.Errorf("%q: the partner was told %d times", c.phoneEcho, w.countTold("user.phone"))
		}
	}
	w.told("user.phone", func(e partnersim.Event) bool {
		var u struct {
			User, Phone string
		}
		return e.Into(&u) == nil && u.User == "u-42" && u.Phone == "+86"+number
	})
}
