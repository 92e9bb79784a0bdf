package wechatsim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"
)

func (r *rig) exchange(app App, code string) (session, said) {
	got := r.do("GET", "/sns/jscode2session?"+url.Values{"appid": {app.AppID}, "secret": {app.Secret}, "js_code": {code},
		"grant_type": {"authorization_code"}}.Encode(), nil)
	var s session
	if err := json.Unmarshal(got.body, &s); err != nil {
		r.t.Fatal(err)
	}
	return s, got
}

func TestCodeToSession(t *testing.T) {
	r := newRig(t, Options{Apps: []App{{Name: "shop", Platform: "acme"}, {Name: "other", Platform: "acme"}}})
	shop, other := r.App("shop"), r.App("other")
	ann := r.User("shop", "ann")

	code := r.Login(ann)
	s, got := r.exchange(shop, code)
	if s.OpenID != ann || s.UnionID != r.UnionID(ann) || s.UnionID == "" || s.SessionKey != r.SessionKey(ann) {
		t.Fatalf("%s", got.raw)
	}
	if strings.Contains(got.raw, "errcode") || got.ctype != "text/plain" {
		t.Errorf("success carries no errcode and is text/plain: %s %s", got.ctype, got.raw)
	}
	if r.UnionID(r.User("other", "ann")) != s.UnionID || r.User("other", "ann") == ann {
		t.Error("one person: two openids, one unionid")
	}
	_, got = r.exchange(shop, code)
	want(t, "used", got, 40163)

	code = r.Login(ann)
	_, got = r.exchange(other, code)
	want(t, "of another app", got, 40029)
	_, got = r.exchange(shop, code)
	want(t, "a failed exchange burns the code", got, 40163)

	code = r.Login(ann)
	r.Advance(5 * time.Minute)
	_, got = r.exchange(shop, code)
	want(t, "expired", got, 40029)

	r.SetApp("shop", func(a *App) { a.KeepBadCode = true })
	code = r.Login(ann)
	_, got = r.exchange(other, code)
	want(t, "of another app", got, 40029)

	r.Risky(ann, true)
	_, got = r.exchange(shop, r.Login(ann))
	want(t, "high risk", got, 40226)
}

func TestLoginsPerMinute(t *testing.T) {
	r := newRig(t, Options{Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	ann := r.User(r.app.Name, "ann")
	for range 100 {
		if _, got := r.exchange(r.app, r.Login(ann)); got.Errcode != 0 {
			t.Fatal(got.raw)
		}
	}
	_, got := r.exchange(r.app, r.Login(ann))
	want(t, "101st of a minute", got, 45011)
}

func TestPhoneNumber(t *testing.T) {
	r := newRig(t, Options{})
	ann, bob := r.User(r.app.Name, "ann"), r.User(r.app.Name, "bob")
	code := r.PhoneCode(ann)
	got := r.call("/wxa/business/getuserphonenumber", map[string]any{"code": code})
	want(t, "phone", got, 0)
	if !strings.Contains(got.raw, `"phoneNumber":"`+PhoneOf(ann)+`"`) || !strings.Contains(got.raw, `"countryCode":"86"`) {
		t.Error(got.raw)
	}
	want(t, "used", r.call("/wxa/business/getuserphonenumber", map[string]any{"code": code}), 40029)
	want(t, "a login code is no phone code", r.call("/wxa/business/getuserphonenumber", map[string]any{"code": r.Login(ann)}), 40029)
	want(t, "of another user", r.call("/wxa/business/getuserphonenumber", map[string]any{"code": r.PhoneCode(ann), "openid": bob}), 40029)
}

func TestSessionKeyChecks(t *testing.T) {
	r := newRig(t, Options{})
	ann := r.User(r.app.Name, "ann")
	ask := func(path, key, method string) said {
		mac := hmac.New(sha256.New, []byte(key))
		return r.do("GET", path+"?"+url.Values{"access_token": {r.token()}, "openid": {ann}, "sig_method": {method},
			"signature": {hex.EncodeToString(mac.Sum(nil))}}.Encode(), nil)
	}
	want(t, "good", ask("/wxa/checksession", r.SessionKey(ann), "hmac_sha256"), 0)
	want(t, "bad key", ask("/wxa/checksession", "x", "hmac_sha256"), 87009)
	want(t, "bad method", ask("/wxa/checksession", r.SessionKey(ann), "md5"), 87008)
	old := r.SessionKey(ann)
	want(t, "reset", ask("/wxa/resetusersessionkey", old, "hmac_sha256"), 0)
	if r.SessionKey(ann) == old {
		t.Error("reset and the same")
	}
}
