package app_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
)

// allowed starts the gateway again with more rights of the partner.
func (w *world) allowed(right string) {
	w.t.Helper()
	w.stop()
	w.yaml = strings.Replace(w.yaml, "allow: [messages,", "allow: ["+right+", messages,", 1)
	w.start()
}

// everything that stands in Redis, names and values.
func (w *world) everything() string {
	var b strings.Builder
	for _, key := range w.redis.Keys() {
		fmt.Fprintln(&b, key)
		switch w.redis.Type(key) {
		case "string":
			v, _ := w.redis.Get(key)
			fmt.Fprintln(&b, v)
		case "hash":
			fields, _ := w.redis.HKeys(key)
			for _, f := range fields {
				fmt.Fprintln(&b, f, w.redis.HGet(key, f))
			}
		case "zset":
			members, _ := w.redis.ZMembers(key)
			fmt.Fprintln(&b, members)
		case "set":
			members, _ := w.redis.Members(key)
			fmt.Fprintln(&b, members)
		}
	}
	return b.String()
}

// A person with everything that can be kept is shown and erased: nothing that says who it was is left, and the partner is told.
func TestAPersonIsErased(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{config: "master_key: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"})
	w.allowed("session_keys")
	ann, bob := w.granted("ann", 3), w.granted("bob", 1)
	session := w.login(ann)
	w.do(200, "PUT", "bindings/shop/zhang-san", map[string]any{"openid": ann}, nil)
	w.do(200, "PUT", "audiences/both", map[string]any{"app": "shop", "users": []string{"zhang-san", "li-si"}}, nil)
	w.do(200, "PUT", "audiences/people", map[string]any{"app": "shop", "openids": []string{ann, bob}}, nil)
	if status, raw := w.ask("POST", "phone", session, map[string]string{"code": w.sim.PhoneCode(ann)}); status != 200 {
		t.Fatalf("%d %s", status, raw)
	}
	sent := w.send(202, order(ann, nil)).Message()
	w.toldOf(sent.ID, "message.delivered")
	later := w.send(202, order(ann, map[string]any{"send_at": inFuture(time.Hour)})).Message()
	var phone struct{ Phone string }
	w.told("user.phone", func(e partnersim.Event) bool { return e.Into(&phone) == nil && phone.Phone != "" })

	var shown struct {
		User          *string
		Sessions      int
		SessionKey    bool `json:"session_key"`
		Subscriptions []any
		Audiences     []string
		Messages      map[string]int
	}
	path := "users/shop/" + ann
	w.asks(200, "GET", path, nil, &shown)
	if shown.User == nil || *shown.User != "zhang-san" || shown.Sessions != 1 || !shown.SessionKey || len(shown.Subscriptions) != 1 ||
		!slices.Equal(shown.Audiences, []string{"both", "people"}) || shown.Messages["delivered"] != 1 || shown.Messages["scheduled"] != 1 {
		t.Errorf("%+v", shown)
	}
	if !strings.Contains(w.everything(), ann) {
		t.Fatal("the scan sees nothing")
	}
	w.do(200, "DELETE", path, nil, nil)
	w.toldOf(later.ID, "message.cancelled")
	w.told("user.revoked", func(e partnersim.Event) bool {
		var d struct{ OpenID, User, Reason string }
		return e.Into(&d) == nil && d.OpenID == ann && d.User == "zhang-san" && d.Reason == "erased"
	})
	w.asks(404, "GET", path, nil, nil)
	w.do(404, "GET", "bindings/shop/zhang-san", nil, nil)
	if status, _ := w.ask("GET", "subscriptions", session, nil); status != 401 {
		t.Errorf("the session: %d", status)
	}
	left := func() string {
		all := w.everything()
		for _, word := range []string{ann, "zhang-san", strings.TrimPrefix(phone.Phone, "+86")} {
			if i := strings.Index(all, word); i >= 0 {
				return all[max(0, i-300):min(len(all), i+200)]
			}
		}
		return ""
	}
	if err := w.until(func() bool { w.later(3 * time.Second); return left() == "" }); err != nil {
		t.Errorf("still there: %s", left())
	}
	if !strings.Contains(w.everything(), bob) {
		t.Error("bob is gone too")
	}
	if n := w.countTold("user.revoked"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// Sessions end one by one or all, and the kept session_key with the last one.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	w.allowed("session_keys")
	ann := w.sim.User("shop", "ann")
	one, two, three := w.login(ann), w.login(ann), w.login(ann)
	alive := func(session string) bool {
		status, _ := w.ask("GET", "subscriptions", session, nil)
		return status == 200
	}
	if status, raw := w.ask("DELETE", "session", one, nil); status != 200 {
		t.Fatalf("%d %s", status, raw)
	}
	if alive(one) || !alive(two) {
		t.Error("one ends, the others live")
	}
	if status, _ := w.ask("DELETE", "session", one, nil); status != 401 {
		t.Errorf("again: %d", status)
	}
	if status, raw := w.ask("DELETE", "session", two, map[string]any{"all": true}); status != 200 {
		t.Fatalf("%d %s", status, raw)
	}
	if alive(two) || alive(three) {
		t.Error("all end")
	}
	four := w.login(ann)
	var got struct{ Ended int }
	w.do(200, "DELETE", "sessions/shop/"+ann, nil, &got)
	if got.Ended != 1 || alive(four) {
		t.Errorf("%+v", got)
	}
	if a := w.do(409, "POST", "apps/shop/checksession", map[string]any{"openid": ann}, nil); a.Code() != "no_session" {
		t.Errorf("%s", a.Body)
	}
}

// What WeChat encrypted and signed for a mini-program is read with the kept session_key, and not with an older one.
func TestUserDataWithTheKeptKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	w.login(ann)
	if a := w.do(403, "POST", "apps/shop/checksession", map[string]any{"openid": ann}, nil); a.Code() != "not_allowed" {
		t.Errorf("%s", a.Body)
	}
	w.allowed("session_keys")
	if a := w.do(409, "POST", "apps/shop/checksession", map[string]any{"openid": ann}, nil); a.Code() != "no_session" {
		t.Errorf("a key was kept though nobody reads it: %s", a.Body)
	}
	w.login(ann)
	key := w.sim.SessionKey(ann)
	seal := func(key, appid string, at time.Time) map[string]any {
		plain := fmt.Sprintf(`{"nickName":"安","watermark":{"timestamp":%d,"appid":%q}}`, at.Unix(), appid)
		pad := aes.BlockSize - len(plain)%aes.BlockSize
		plain += strings.Repeat(string(rune(pad)), pad)
		raw, err := base64.StdEncoding.DecodeString(key)
		if err != nil {
			t.Fatal(err)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			t.Fatal(err)
		}
		out, iv := make([]byte, len(plain)), make([]byte, aes.BlockSize)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, []byte(plain))
		return map[string]any{"openid": ann, "encryptedData": base64.StdEncoding.EncodeToString(out), "iv": base64.StdEncoding.EncodeToString(iv)}
	}
	appid := w.sim.App("shop").AppID
	var opened struct{ Data struct{ NickName string } }
	w.do(200, "POST", "apps/shop/decrypt", seal(key, appid, time.Now()), &opened)
	if opened.Data.NickName != "安" {
		t.Errorf("%+v", opened)
	}
	w.do(422, "POST", "apps/shop/decrypt", seal(key, "wx0000000000000000", time.Now()), nil)
	w.do(422, "POST", "apps/shop/decrypt", seal(key, appid, time.Now().Add(-48*time.Hour)), nil)
	if a := w.do(409, "POST", "apps/shop/decrypt", seal("AAAAAAAAAAAAAAAAAAAAAA==", appid, time.Now()), nil); a.Code() != "no_session" {
		t.Errorf("%s", a.Body)
	}
	sum := sha1.Sum([]byte(`{"a":1}` + key))
	var v struct{ Valid bool }
	for signature, want := range map[string]bool{hex.EncodeToString(sum[:]): true, "00": false} {
		w.do(200, "POST", "apps/shop/verify-raw", map[string]any{"openid": ann, "rawData": `{"a":1}`, "signature": signature}, &v)
		if v.Valid != want {
			t.Errorf("%s: %+v", signature, v)
		}
	}
	if w.do(200, "POST", "apps/shop/checksession", map[string]any{"openid": ann}, &v); !v.Valid {
		t.Error("the key does not hold at WeChat")
	}
}

// Reach counts who could be written to, of an audience and of all users of a template.
func TestReach(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann, bob, cat := w.granted("ann", 2), w.granted("bob", 1), w.sim.User("shop", "cat")
	w.ahead.Add(int64(2 * time.Second))
	w.sim.ChangeSetting(bob, tOrder, "reject")
	w.told("subscription.cancelled", nil)
	for user, openid := range map[string]string{"u1": ann, "u2": bob, "u3": cat} {
		w.do(200, "PUT", "bindings/shop/"+user, map[string]any{"openid": openid}, nil)
	}
	w.do(200, "PUT", "audiences/a", map[string]any{"app": "shop", "template_id": tOrder, "users": []string{"u1", "u2", "u3", "u4"}}, nil)
	read := func(query string) string {
		w.t.Helper()
		a, err := w.client.Raw(w.ctx, "", "GET", "/v1/partners/orders/reach?"+query, nil, []byte("GET /v1/partners/orders/reach?"+query+"\n"))
		if err != nil || a.Status != 200 {
			t.Fatalf("%v %+v", err, a)
		}
		var n map[string]int
		if err := json.Unmarshal(a.Body, &n); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(n)
	}
	if got := read("audience=a"); got != "map[credits:2 reachable:1 rejected:1 total:4 unbound:1]" {
		t.Error(got)
	}
	if got := read("app=shop&template_id=" + tOrder); got != "map[credits:2 reachable:1 rejected:1 total:2 unbound:0]" {
		t.Error(got)
	}
}
