package wechatsim

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestControlDoor(t *testing.T) {
	r := newRig(t, Options{})
	server := httptest.NewServer(r.Control())
	defer server.Close()
	do := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(r.ctx(), method, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, strings.TrimSpace(string(b))
	}
	good := func(action, body, want string) string {
		t.Helper()
		status, got := do("POST", "/api/"+action, body)
		if status != 200 || !strings.Contains(got, want) {
			t.Errorf("%s %s: %d %s, want %s", action, body, status, got, want)
		}
		return got
	}
	tmpl := r.app.Templates[0].ID
	good("user", `{"user":"ann"}`, `"openid":"o`)
	good("tap", `{"user":"ann","template":"T1","choice":"accept"}`, `"`+tmpl+`":"accept"`)
	ann := r.User(r.app.Name, "ann")
	if r.Credits(ann, tmpl) != 1 {
		t.Error("the tap did not count")
	}
	good("tap", `{"openid":"`+ann+`","choices":{"T1":"reject"}}`, `"reject"`)
	good("grant", `{"user":"ann","template":"订单发货通知","n":3}`, `{"credits":4}`)
	good("setting", `{"user":"ann","template":"T1","choice":"reject"}`, `"reject"`)
	good("main_switch", `{"user":"ann","on":false}`, `"mainSwitch":false`)
	good("main_switch", `{"user":"ann","on":true}`, `"mainSwitch":true`)
	good("login", `{"user":"ann"}`, `{"code":"`)
	good("say", `{"user":"ann","text":"hi"}`, `"msgid"`)
	good("enter", `{"user":"ann"}`, `ok`)
	good("form", `{"user":"ann"}`, `form_id`)
	good("pay", `{"user":"ann"}`, `prepay_id`)
	good("verify", `{"app":"`+r.app.Name+`"}`, `ok`)
	good("calm", ``, `"moods":{}`)
	good("moods", `{"moods":{"busy":0.5}}`, `"moods":{"busy":0.5}`)
	good("unhelpful", ``, `"busy":0.05`)
	good("calm", ``, `"moods":{}`)
	good("era", `{"era":2018}`, `"era":2018`)
	good("advance", `{"seconds":7200}`, `"era"`)
	good("force", `{"mood":"timeout","path":"subscribe/send","openid":"`+ann+`"}`, `"forced":[{"mood":"timeout","path":"subscribe/send","openid":"`+ann+`","times":1}]`)
	good("kill_token", `{"app":"`+r.app.Name+`"}`, `ok`)
	good("app", `{"app":"`+r.app.Name+`","mode":"plain","format":"xml"}`, `ok`)
	good("revoke", `{"user":"ann"}`, `ok`)
	if a := r.App(r.app.Name); a.Mode != Plain || a.Format != XML || a.CallbackURL == "" || a.Secret != r.app.Secret {
		t.Errorf("%+v", a)
	}
	for _, c := range []struct {
		action, body string
		status       int
	}{
		{"dance", ``, 404},
		{"tap", `{"openid":"nobody"}`, 404},
		{"say", `{}`, 400},
		{"say", `{"user":"ann","app":"none"}`, 404},
		{"force", `{"mood":"sunny"}`, 404},
		{"say", `{"user":`, 400},
		{"say", `{"user":"nobody","text":"hi"}`, 404},
		{"say", `{"user":"ann","txet":"hi"}`, 400},
		{"tap", `{"user":"ann","template":"T1","choice":"acept"}`, 404},
		{"tap", `{"user":"ann","template":"T1"}`, 404},
		{"tap", `{"user":"ann","template":"T99","choice":"accept"}`, 404},
		{"tap", `{"user":"ann","choices":{"T1":"accept","T99":"accept"}}`, 404},
		{"tap", `{"user":"nobody","template":"T1","choice":"accept"}`, 404},
		{"setting", `{"user":"ann","template":"T1","choice":"maybe"}`, 404},
		{"grant", `{"user":"ann","template":"none"}`, 404},
		{"moods", `{"moods":{"sunny":0.5}}`, 404},
		{"moods", `{"moods":{"busy":5}}`, 400},
		{"app", `{"app":"` + r.app.Name + `","mode":"open"}`, 404},
	} {
		if status, got := do("POST", "/api/"+c.action, c.body); status != c.status || !strings.Contains(got, `"error"`) {
			t.Errorf("%s %s: %d %s", c.action, c.body, status, got)
		}
	}
	r.settled()
	for _, view := range []string{"state", "pushes", "sends", "calls", "counts", "actions", "inbox?user=ann"} {
		status, got := do("GET", "/api/"+view, "")
		if status != 200 || !json.Valid([]byte(got)) {
			t.Errorf("%s: %d %.100s", view, status, got)
		}
	}
	if status, got := do("GET", "/healthz", ""); status != 200 {
		t.Errorf("/healthz: %d %s", status, got)
	}
	good("force", `{"mood":"timeout","path":"subscribe/send"}`, `timeout`)
	good("reset", ``, `"forced":[]`)
	if status, got := do("GET", "/api/inbox?user=ann", ""); status != 404 {
		t.Errorf("ann is still there: %d %s", status, got)
	}
	if len(r.Pushes())+len(r.Calls())+len(r.Sends())+len(r.Counts()) > 0 {
		t.Error("records are left")
	}
	if again := r.User(r.app.Name, "ann"); again == ann || r.Credits(again, tmpl) != 0 {
		t.Error("ann is remembered")
	}
	if status, page := do("GET", "/", ""); status != 200 || !strings.Contains(page, "accepts T") || !strings.Contains(page, "token dies") {
		t.Errorf("%d %.80s", status, page)
	}
	if status, _ := do("GET", "/elsewhere", ""); status != 404 {
		t.Error(status)
	}
}
