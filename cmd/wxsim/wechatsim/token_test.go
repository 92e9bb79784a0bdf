package wechatsim

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func (r *rig) classic() said {
	return r.do("GET", "/cgi-bin/token?grant_type=client_credential&appid="+r.app.AppID+"&secret="+r.app.Secret, nil)
}

func (r *rig) stable(force any) said {
	body := map[string]any{"grant_type": "client_credential", "appid": r.app.AppID, "secret": r.app.Secret}
	if force != nil {
		body["force_refresh"] = force
	}
	return r.do("POST", "/cgi-bin/stable_token", body)
}

func (r *rig) probe(token string) int {
	return r.do("GET", "/wxaapi/newtmpl/gettemplate?access_token="+token, nil).Errcode
}

func TestErrorsAreHTTP200WithARid(t *testing.T) {
	r := newRig(t, Options{})
	before := time.Now().Unix()
	got := r.do("GET", "/cgi-bin/token?appid=wxnobody", nil)
	want(t, "a bad appid wins over a missing grant_type", got, 40013)
	m := regexp.MustCompile(`^invalid appid rid: ([0-9a-f]{8})-[0-9a-f]{8}-[0-9a-f]{8}$`).FindStringSubmatch(got.Errmsg)
	if got.status != 200 || m == nil {
		t.Fatalf("%d %s", got.status, got.raw)
	}
	if at, err := strconv.ParseInt(m[1], 16, 64); err != nil || at < before || at > time.Now().Unix() {
		t.Errorf("first group of the rid is %s, not the time of the call", m[1])
	}
	sns := r.do("GET", "/sns/jscode2session?appid="+r.app.AppID+"&secret="+r.app.Secret+"&js_code=x&grant_type=authorization_code", nil)
	want(t, "sns", sns, 40029)
	if !strings.HasPrefix(sns.Errmsg, "invalid code, rid: ") || sns.ctype != "text/plain" {
		t.Errorf("%q %q", sns.Errmsg, sns.ctype)
	}
	if got := r.do("GET", "/cgi-bin/stable_token", nil); got.Errcode != 43002 {
		t.Errorf("GET stable_token: %s", got.raw)
	}
	if got := r.do("POST", "/cgi-bin/nothing", "{}"); got.Errcode != 40066 {
		t.Errorf("unknown path: %s", got.raw)
	}
}

func TestTokenFaults(t *testing.T) {
	r := newRig(t, Options{})
	base := "/cgi-bin/token?"
	for _, c := range []struct {
		query string
		code  int
	}{
		{"grant_type=client_credential", 41002},
		{"grant_type=client_credential&appid=nobody&secret=x", 40013},
		{"grant_type=client_credential&appid=" + r.app.AppID, 41004},
		{"grant_type=client_credential&appid=" + r.app.AppID + "&secret=x", 40125},
		{"appid=" + r.app.AppID + "&secret=" + r.app.Secret, 40002},
	} {
		want(t, c.query, r.do("GET", base+c.query, nil), c.code)
	}
	r.SetApp(r.app.Name, func(a *App) { a.IPWhitelist = []string{"10.0.0.1"} })
	got := r.classic()
	want(t, "not on the allow-list", got, 40164)
	if !strings.HasPrefix(got.Errmsg, "invalid ip 127.0.0.1 ipv6 ::ffff:127.0.0.1, not in whitelist rid: ") {
		t.Error(got.Errmsg)
	}
	want(t, "stable_token not on the allow-list", r.stable(nil), 40164)
	r.SetApp(r.app.Name, func(a *App) { a.IPWhitelist = []string{"10.0.0.1", "127.0.0.1"} })
	want(t, "on the allow-list", r.classic(), 0)
}

func TestClassicTokenOverlap(t *testing.T) {
	r := newRig(t, Options{})
	first := r.classic()
	if first.Expires != 7200 || len(first.Token) < 100 || strings.Contains(first.raw, "errcode") {
		t.Fatalf("%s", first.raw)
	}
	second := r.classic()
	if second.Token == first.Token {
		t.Fatal("a second call gave the same token")
	}
	r.Advance(4 * time.Minute)
	if got := r.probe(first.Token); got != 0 {
		t.Errorf("in the overlap: %d", got)
	}
	r.Advance(2 * time.Minute)
	if got := r.probe(first.Token); got != 40001 {
		t.Errorf("after the overlap: %d", got)
	}
	if got := r.probe(second.Token); got != 0 {
		t.Errorf("the new one: %d", got)
	}
	r.Advance(2 * time.Hour)
	if got := r.probe(second.Token); got != 42001 {
		t.Errorf("expired: %d", got)
	}
	if got := r.probe(""); got != 41001 {
		t.Errorf("missing: %d", got)
	}
	bad := r.do("GET", "/wxaapi/newtmpl/gettemplate?access_token=fake", nil)
	if bad.Errcode != 40001 || !strings.HasPrefix(bad.Errmsg, "invalid credential, access_token is invalid or not latest, could get") {
		t.Errorf("fake: %s", bad.raw)
	}
}

func TestStableToken(t *testing.T) {
	r := newRig(t, Options{})
	first := r.stable(nil)
	r.Advance(time.Hour)
	again := r.stable(false)
	if again.Token != first.Token || again.Expires > 3600 || again.Expires < 3590 {
		t.Fatalf("within validity: same %v, expires_in %d", again.Token == first.Token, again.Expires)
	}
	if r.classic(); r.probe(first.Token) != 0 {
		t.Error("a classic token evicted the stable one")
	}
	r.Advance(56 * time.Minute)
	rotated := r.stable(false)
	if rotated.Token == first.Token || rotated.Expires < 7190 {
		t.Fatal("not rotated in the last five minutes")
	}
	if r.probe(first.Token) != 0 || r.probe(rotated.Token) != 0 {
		t.Error("both should work until the old one expires")
	}
	forced := r.stable(true)
	if forced.Token == rotated.Token || r.probe(rotated.Token) != 40001 || r.probe(forced.Token) != 0 {
		t.Error("force_refresh ends the one before at once")
	}
	want(t, "forced again within 30 s", r.stable(true), 45011)
	for range 19 {
		r.Advance(31 * time.Second)
		want(t, "force", r.stable(true), 0)
	}
	r.Advance(31 * time.Second)
	want(t, "the 21st force of a day", r.stable(true), 45009)
	if got := r.stable(nil); got.Errcode != 0 {
		t.Errorf("normal mode is not limited by it: %s", got.raw)
	}
}

func TestTokensDieEarly(t *testing.T) {
	r := newRig(t, Options{})
	tok := r.stable(nil).Token
	r.KillToken(r.app.Name, false)
	if r.probe(tok) != 40001 {
		t.Error("killed and alive")
	}
	next := r.stable(nil).Token
	if next == tok || r.probe(next) != 0 {
		t.Error("normal mode should give a new one")
	}
	r.KillToken(r.app.Name, true)
	if stuck := r.stable(nil).Token; stuck != next || r.probe(stuck) != 40001 {
		t.Error("a stuck token is handed out dead")
	}
	if forced := r.stable(true).Token; r.probe(forced) != 0 {
		t.Error("forcing frees it")
	}
}

func TestQuotas(t *testing.T) {
	r := newRig(t, Options{Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	r.SetApp(r.app.Name, func(a *App) {
		a.Limits = map[string]Limit{"/cgi-bin/token": {PerDay: 2}, "/wxaapi/newtmpl/gettemplate": {PerMinute: 3}}
	})
	r.classic()
	r.classic()
	got := r.classic()
	want(t, "third token of the day", got, 45009)
	if !strings.Contains(got.Errmsg, "could get access_token by getStableAccessToken") {
		t.Error(got.Errmsg)
	}
	want(t, "clear_quota/v2 needs no token", r.do("POST", "/cgi-bin/clear_quota/v2?appid="+r.app.AppID+"&appsecret="+r.app.Secret, nil), 0)
	want(t, "cleared", r.classic(), 0)

	tok := r.token()
	for range 3 {
		if got := r.probe(tok); got != 0 {
			t.Fatalf("within the minute quota: %d", got)
		}
	}
	if got := r.probe(tok); got != 45011 {
		t.Errorf("past the minute quota: %d", got)
	}
	r.Advance(time.Minute)
	if got := r.probe(tok); got != 0 {
		t.Errorf("next minute: %d", got)
	}

	for range 9 {
		want(t, "clear", r.call("/cgi-bin/clear_quota", map[string]any{"appid": r.app.AppID}), 0)
	}
	want(t, "the 11th clear of a month", r.call("/cgi-bin/clear_quota", map[string]any{"appid": r.app.AppID}), 48006)
	want(t, "quota/get", r.call("/cgi-bin/openapi/quota/get", map[string]any{"cgi_path": "/cgi-bin/token"}), 0)
	want(t, "quota of sns", r.call("/cgi-bin/openapi/quota/get", map[string]any{"cgi_path": "/sns/jscode2session"}), 76022)
	want(t, "quota of nothing", r.call("/cgi-bin/openapi/quota/get", map[string]any{"cgi_path": "/x"}), 76021)
}

func TestRidCanBeAskedFor(t *testing.T) {
	r := newRig(t, Options{})
	failed := r.send(map[string]any{"touser": "nobody"})
	_, rid, _ := strings.Cut(failed.Errmsg, "rid: ")
	got := r.call("/cgi-bin/openapi/rid/get", map[string]any{"rid": rid})
	want(t, "rid/get", got, 0)
	if !strings.Contains(got.raw, `\"touser\":\"nobody\"`) || !strings.Contains(got.raw, "40003") {
		t.Error(got.raw)
	}
	want(t, "malformed", r.call("/cgi-bin/openapi/rid/get", map[string]any{"rid": "x"}), 76002)
	want(t, "unknown", r.call("/cgi-bin/openapi/rid/get", map[string]any{"rid": "00000000-00000000-00000000"}), 76001)
	want(t, "getcallbackip", r.do("GET", "/cgi-bin/getcallbackip?access_token="+r.token(), nil), 0)
	want(t, "callback/check", r.call("/cgi-bin/callback/check", map[string]any{"action": "all", "check_operator": "DEFAULT"}), 0)
	want(t, "callback/check", r.call("/cgi-bin/callback/check", map[string]any{"action": "knock", "check_operator": "DEFAULT"}), 40202)
}
