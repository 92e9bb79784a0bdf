package app_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/cmd/app"
	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/config"
)

// ear is the app as the gateway hears it, from its config.
func (w *world) ear() callback.App {
	w.t.Helper()
	c, err := config.Parse([]byte(w.yaml), w.t.TempDir(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return app.CallbackApp(c.Apps[0])
}

// pushes posts a message of the test's own making, sealed as WeChat would, and gives the answer.
func (w *world) pushes(raw string) (int, string) {
	w.t.Helper()
	format, _, err := callback.Decode([]byte(raw))
	if err != nil {
		w.t.Fatal(err)
	}
	query, body, err := callback.ComposeRequest(w.ear(), format, []byte(raw), "7", time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	status, _, answer := w.posts("/callback/shop?"+query, string(body))
	return status, answer
}

func (w *world) posts(target, body string) (int, http.Header, string) {
	w.t.Helper()
	res, err := http.Post("http://"+w.app.PublicAddr()+target, "text/plain", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(answer)
}

// received is the data of push.received as a partner reads it.
type received struct {
	App           string
	OpenID, Event *string
	MsgType       *string `json:"msg_type"`
	Format, Raw   string
	Fields        map[string]any
}

// Partners get what WeChat wrote, byte for byte: every payload the ear has on file, in both formats, with a byte order mark,
// pretty-printed, of events and messages nobody knows.
func TestPushReceivedIsVerbatim(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{events: `"push.received"`})
	w.yaml = strings.Replace(w.yaml, "    original_id: "+w.ear().OriginalID+"\n", "", 1) // every payload names another account
	w.stop()
	w.start()
	var files []string
	for _, ext := range []string{"json", "xml"} {
		some, err := filepath.Glob("../../callback/testdata/push/*." + ext)
		if err != nil || len(some) < 20 {
			t.Fatalf("%d payloads, %v", len(some), err)
		}
		files = append(files, some...)
	}
	seen := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		raw = bytes.TrimRight(raw, "\r\n") // what is sealed ends with the message
		format, ev, err := callback.Decode(raw)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if c := ev.Component; c != nil && c.InfoType == "component_verify_ticket" {
			continue // a secret of the platform's, which is not passed on: see readable_test.go
		}
		seen++
		if status, answer := w.pushes(string(raw)); status != 200 || answer != "success" {
			t.Fatalf("%s: %d %q", file, status, answer)
		}
		var got received
		w.told("push.received", func(e partnersim.Event) bool { got = received{}; return e.Into(&got) == nil && got.Raw == string(raw) })
		want := received{App: "shop", OpenID: text1(ev.OpenID), MsgType: text1(ev.MsgType), Event: text1(ev.Event), Format: string(format), Raw: string(raw), Fields: callback.Fields(raw)}
		if ev.Component != nil {
			want.Event = text1(ev.Component.InfoType)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
		w.later(25 * time.Hour) // some are the same push by its id
	}
	if n := w.countTold("push.received"); n != seen {
		t.Errorf("told %d of %d", n, seen)
	}
}

func text1(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// A revocation that names nobody takes nothing from anybody, FromUserName's bearer included; a short openid is an openid.
func TestARevocationThatNamesNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	to := w.ear().OriginalID
	accept := `{"ToUserName":"` + to + `","FromUserName":"oX","CreateTime":1700000000,"MsgType":"event","Event":"subscribe_msg_popup_event","List":{"PopupScene":"0","SubscribeStatusString":"accept","TemplateId":"` + tOrder + `"}}`
	if status, _ := w.pushes(accept); status != 200 {
		t.Fatal(status)
	}
	w.wantLine("oX", tOrder, 1, 0, "accepted")
	if status, _ := w.pushes(`{"ToUserName":"` + to + `","FromUserName":"oX","CreateTime":1700000001,"MsgType":"event","Event":"user_authorization_revoke","RevokeInfo":"1"}`); status != 200 {
		t.Fatal(status)
	}
	w.told("push.received", func(e partnersim.Event) bool {
		var r received
		return e.Into(&r) == nil && r.Event != nil && *r.Event == "user_authorization_revoke" && r.OpenID == nil
	})
	if status, _ := w.pushes(strings.Replace(accept, "1700000000", "1700000002", 1)); status != 200 {
		t.Fatal(status)
	}
	w.wantLine("oX", tOrder, 2, 0, "accepted")
	if n := w.countTold("user.revoked"); n != 0 {
		t.Errorf("told of %d revocations", n)
	}
}

// What the door answers comes through the router as the contract has it: no body but success, no type but its own, no header
// that tells one refusal from another.
func TestTheDoorThroughTheRouter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	sealed := func(raw string) (string, string) {
		query, body, err := callback.ComposeRequest(w.ear(), callback.JSON, []byte(raw), "7", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return query, string(body)
	}
	fine, body := sealed(`{"ToUserName":"` + w.ear().OriginalID + `","FromUserName":"oAnn","CreateTime":1700000000,"MsgType":"event","Event":"debug_demo"}`)
	plain := callback.App{Name: "shop", AppID: w.ear().AppID, Mode: callback.Plain, Key: w.ear().Key}
	plainQuery, _, err := callback.ComposeRequest(plain, callback.JSON, []byte(`{"MsgType":"x"}`), "7", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	const probe = `{"action":"CheckContainerPath"}`
	for _, c := range []struct {
		name, target, body string
		status             int
		answer             string
	}{
		{"proven", "/callback/shop?" + fine, body, 200, "success"},
		{"again", "/callback/shop?" + fine, body, 200, "success"},
		{"with a slash at the end", "/callback/shop/?" + fine, body, 200, "success"},
		{"with a slash at the end, unsigned", "/callback/shop/", body, 403, ""},
		{"probe", "/callback/shop", probe, 200, "success"},
		{"probe of nobody", "/callback/nobody", probe, 200, "success"},
		{"unsigned", "/callback/shop", body, 403, ""},
		{"no such app", "/callback/nobody?" + fine, body, 403, ""},
		{"plain at a secure app", "/callback/shop?" + plainQuery, `{"MsgType":"x"}`, 403, ""},
		{"too large", "/callback/shop?" + fine, strings.Repeat("x", 256<<10+1), 413, ""},
	} {
		status, h, answer := w.posts(c.target, c.body)
		if status != c.status || answer != c.answer {
			t.Errorf("%s: %d %q", c.name, status, answer)
		}
		if want := map[bool]string{true: "text/plain; charset=utf-8"}[c.status == 200]; h.Get("Content-Type") != want {
			t.Errorf("%s: type %q", c.name, h.Get("Content-Type"))
		}
		for name := range h {
			if name != "Content-Type" && name != "X-Content-Type-Options" && name != "Date" && name != "Content-Length" && name != "Connection" {
				t.Errorf("%s: header %s", c.name, name)
			}
		}
	}
	w.redis.SetError("LOADING Redis is loading the dataset in memory")
	query, body := sealed(`{"ToUserName":"` + w.ear().OriginalID + `","FromUserName":"oAnn","CreateTime":1700000001,"MsgType":"event","Event":"debug_demo"}`)
	if status, h, answer := w.posts("/callback/shop?"+query, body); status != 500 || answer != "" || h.Get("Content-Type") != "" {
		t.Errorf("not stored: %d %q %v", status, answer, h)
	}
	w.redis.SetError("")
	if status, _, answer := w.posts("/callback/shop?"+query, body); status != 200 || answer != "success" {
		t.Errorf("pushed again: %d %q", status, answer)
	}
}

// A proven push that is malformed is 400 and empty: only a plain app can have one, or whoever has the key.
func TestMalformedThroughTheRouter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	w.stop()
	w.yaml = strings.Replace(w.yaml, "mode: secure", "mode: plain", 1)
	w.start()
	query, _, err := callback.ComposeRequest(w.ear(), callback.JSON, []byte(`{"MsgType":"x"}`), "7", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if status, h, answer := w.posts("/callback/shop?"+query, "not a push"); status != 400 || answer != "" || h.Get("Content-Type") != "" {
		t.Errorf("%d %q %v", status, answer, h)
	}
}

// A recorded push is known for as long as its timestamp is taken: the same again is the same, however late.
func TestAReplayIsKnownAsLongAsItIsTaken(t *testing.T) {
	t.Parallel()
	for push, after := range map[string]time.Duration{"": 24*time.Hour + 4*time.Minute, ", max_age: 72h": 72*time.Hour + 4*time.Minute} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{push: push})
			accept := `{"ToUserName":"` + w.ear().OriginalID + `","FromUserName":"oAnn","CreateTime":1700000000,"MsgType":"event","Event":"subscribe_msg_popup_event","List":{"SubscribeStatusString":"accept","TemplateId":"` + tOrder + `"}}`
			w.pushes(accept)
			w.wantLine("oAnn", tOrder, 1, 0, "accepted")
			for n := range 8 { // the line itself forgets after six movements
				w.pushes(strings.NewReplacer(`"accept"`, `"reject"`, "1700000000", fmt.Sprint(1700000001+n)).Replace(accept))
			}
			w.later(after)
			if status, answer := w.pushes(accept); status != 200 || answer != "success" {
				t.Errorf("%d %q", status, answer)
			}
			if l := w.line("oAnn", tOrder); l.Credits != 1 {
				t.Errorf("%+v", l)
			}
		})
	}
}
