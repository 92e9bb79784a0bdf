package wechatsim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestSendChecksInOrder spoils one thing after another: what comes first in the list is what WeChat complains about.
func TestSendChecksInOrder(t *testing.T) {
	r := newRig(t, Options{})
	r.SetApp(r.app.Name, func(a *App) { a.Pages = []string{"pages/order"}; a.Blacklist = []string{"赌"} })
	ann := r.User(r.app.Name, "ann")
	bad := r.order("nobody")
	bad["template_id"] = "none"
	bad["page"] = "pages/nowhere"
	bad["data"].(map[string]any)["thing1"] = value("赌" + strings.Repeat("字", 20))
	want(t, "openid", r.send(bad), 40003)
	bad["touser"] = ann
	want(t, "template", r.send(bad), 40037)
	bad["template_id"] = r.app.Templates[0].ID
	got := r.send(bad)
	want(t, "data", got, 47003)
	if !strings.HasPrefix(got.Errmsg, "argument invalid! data.thing1.value invalid rid: ") {
		t.Error(got.Errmsg)
	}
	bad["data"].(map[string]any)["thing1"] = value("赌")
	want(t, "page", r.send(bad), 41030)
	bad["page"] = "pages/order?id=1"
	want(t, "content", r.send(bad), 45168)
	bad["data"].(map[string]any)["thing1"] = value("苹果")
	got = r.send(bad)
	want(t, "credit", got, 43101)
	if !strings.HasPrefix(got.Errmsg, "user refuse to accept the msg rid: ") {
		t.Error(got.Errmsg)
	}
	r.Accept(ann, r.app.Templates[0].ID)
	want(t, "all well", r.send(bad), 0)

	for _, c := range []struct {
		what, body string
		code       int
	}{
		{"not JSON", `{"touser":`, 47001},
		{"two values", `{} {}`, 47001},
		{"a wrong type", `{"touser":1}`, 47001},
		{"empty", ``, 44002},
		{"\\u escapes", `{"touser":"\u0026"}`, 40033},
	} {
		want(t, c.what, r.call("/cgi-bin/message/subscribe/send", c.body), c.code)
	}
	want(t, "no token", r.do("POST", "/cgi-bin/message/subscribe/send", r.order(ann)), 41001)
	want(t, "GET", r.do("GET", "/cgi-bin/message/subscribe/send?access_token="+r.token(), nil), 43002)
	want(t, "an OA's API", r.call("/cgi-bin/message/subscribe/bizsend", r.order(ann)), 48001)
}

func TestSendNamesTheFirstBadKeyword(t *testing.T) {
	r := newRig(t, Options{})
	ann := r.User(r.app.Name, "ann")
	r.Grant(ann, r.app.Templates[0].ID, 5)
	all := func(key string, v any) map[string]any {
		m := map[string]any{"thing1": value("苹果"), "amount2": value("¥100"), "time3": value("15:01")}
		if v == nil {
			delete(m, key)
		} else {
			m[key] = v
		}
		return m
	}
	for _, c := range []struct {
		what string
		data any
		want string
	}{
		{"data as a string", `{"thing1":{"value":"x"}}`, "data.thing1.value is empty"},
		{"missing", all("amount2", nil), "data.amount2.value is empty"},
		{"empty", all("time3", value("")), "data.time3.value is empty"},
		{"a bare string", all("thing1", "x"), "data.thing1.value is empty"},
		{"a number", all("thing1", value(7)), "data.thing1.value invalid"},
		{"key with .DATA", map[string]any{"thing1.DATA": value("x")}, "data.thing1.value is empty"},
		{"full-width tilde", all("time3", value("15:01～16:00")), "data.time3.value invalid"},
	} {
		m := r.order(ann)
		m["data"] = c.data
		got := r.send(m)
		want(t, c.what, got, 47003)
		if !strings.HasPrefix(got.Errmsg, "argument invalid! "+c.want+" rid: ") {
			t.Errorf("%s: %s", c.what, got.Errmsg)
		}
	}
	m := r.order(ann)
	m["data"] = all("extra9", value("ignored"))
	want(t, "an extra keyword is ignored", r.send(m), 0)
	if got := r.Credits(ann, r.app.Templates[0].ID); got != 4 {
		t.Errorf("%d credits: only the accepted send may cost one", got)
	}
	want(t, "state", r.send(with(r.order(ann), "miniprogram_state", "beta")), 47003)
	want(t, "lang", r.send(with(r.order(ann), "lang", "de")), 47003)
	want(t, "leading slash", r.send(with(r.order(ann), "page", "/pages/order")), 41030)
}

func with(m map[string]any, key string, v any) map[string]any { m[key] = v; return m }

func TestSendIsAcceptedReceivedAndReported(t *testing.T) {
	r := newRig(t, Options{})
	ann, tmpl := r.User(r.app.Name, "ann"), r.app.Templates[0].ID
	r.Accept(ann, tmpl)
	got := r.send(r.order(ann))
	want(t, "send", got, 0)
	if got.MsgID <= 1<<53 || int64(float64(got.MsgID)) == got.MsgID {
		t.Errorf("msgid %d survives a float64", got.MsgID)
	}
	if !strings.Contains(got.raw, fmt.Sprintf(`"msgid":%d`, got.MsgID)) {
		t.Errorf("msgid is a number: %s", got.raw)
	}
	inbox := r.Inbox(ann)
	if len(inbox) != 1 || inbox[0].MsgID != got.MsgID || inbox[0].Values["thing1"] != "苹果" || inbox[0].Page != "pages/order?id=1&x=2" {
		t.Fatalf("%+v", inbox)
	}
	r.settled()
	var ev struct {
		Event, FromUserName string
		CreateTime          int64
		List                map[string]string
	}
	if err := json.Unmarshal([]byte(r.ear.last(t).plain), &ev); err != nil {
		t.Fatal(err)
	}
	if ev.Event != "subscribe_msg_sent_event" || ev.FromUserName != ann || ev.List["MsgID"] != fmt.Sprint(got.MsgID) ||
		ev.List["ErrorCode"] != "0" || ev.List["ErrorStatus"] != "success" || ev.List["TemplateId"] != tmpl {
		t.Errorf("%+v", ev)
	}
	want(t, "no credit left", r.send(r.order(ann)), 43101)
	sends := r.Sends()
	if len(sends) != 2 || sends[0].MsgID != got.MsgID || !sends[0].Answered || sends[1].Errcode != 43101 || sends[1].OpenID != ann {
		t.Errorf("%+v", sends)
	}
}

func TestCreditsAccumulateAndRejectCloses(t *testing.T) {
	r := newRig(t, Options{})
	ann, tmpl := r.User(r.app.Name, "ann"), r.app.Templates[0].ID
	for range 3 {
		r.Accept(ann, tmpl)
	}
	r.Reject(ann, tmpl)
	if got := r.Credits(ann, tmpl); got != 3 {
		t.Errorf("after a popup reject: %d", got)
	}
	r.ChangeSetting(ann, tmpl, "reject")
	want(t, "after a change reject", r.send(r.order(ann)), 43101)
	r.ChangeSetting(ann, tmpl, "accept")
	want(t, "switched on again without a tap", r.send(r.order(ann)), 43101)
	r.settled()
	changes := 0
	for _, p := range r.Pushes() {
		if p.Event == "subscribe_msg_change_event" {
			changes++
			if !strings.Contains(p.Body, `"SubscribeStatusString":"reject"`) {
				t.Error(p.Body)
			}
		}
	}
	if changes != 1 {
		t.Errorf("%d change events, only the reject is pushed", changes)
	}
	r.Accept(ann, tmpl)
	want(t, "after a new tap", r.send(r.order(ann)), 0)
	want(t, "which was one", r.send(r.order(ann)), 43101)
}

func TestAlwaysKeep(t *testing.T) {
	r := newRig(t, Options{})
	ann, tmpl := r.User(r.app.Name, "ann"), r.app.Templates[0].ID
	got := r.Tap(ann, r.app.Name, map[string]string{tmpl: "accept" + AlwaysKeep})
	if got["errMsg"] != "requestSubscribeMessage:ok" || got[tmpl] != "accept" || len(got) != 2 {
		t.Fatalf("%v", got)
	}
	r.settled()
	shown := len(r.Pushes())
	for range 2 {
		if got := r.Tap(ann, r.app.Name, map[string]string{tmpl: "reject"}); got[tmpl] != "accept" {
			t.Fatalf("what was kept is answered: %v", got)
		}
	}
	r.settled()
	if got := len(r.Pushes()); got != shown {
		t.Errorf("no popup, no popup event: %d pushes more", got-shown)
	}
	if got := r.Credits(ann, tmpl); got != 3 {
		t.Errorf("%d credits: every request adds one, none is unlimited", got)
	}
	r.SetApp(r.app.Name, func(a *App) { a.PopupWhenKept = true })
	r.Tap(ann, r.app.Name, map[string]string{tmpl: ""})
	r.settled()
	if got := len(r.Pushes()); got != shown+1 {
		t.Error("PopupWhenKept pushes")
	}
	set := r.Settings(ann)
	if set["mainSwitch"] != true || set["itemSettings"].(map[string]string)[tmpl] != "accept" {
		t.Errorf("%v", set)
	}
	r.MainSwitch(ann, false)
	if got := r.Accept(ann, tmpl); got["errCode"] != 20004 {
		t.Errorf("%v", got)
	}
	want(t, "main switch off", r.send(r.order(ann)), 43101)
	r.MainSwitch(ann, true)
	want(t, "main switch on", r.send(r.order(ann)), 0)
}

func TestTapFaults(t *testing.T) {
	r := newRig(t, Options{})
	ann := r.User(r.app.Name, "ann")
	id := func(i int) string { return r.app.Templates[i].ID }
	six := map[string]string{}
	for i := range 6 {
		six[fmt.Sprint("t", i)] = "accept"
	}
	for _, c := range []struct {
		what    string
		choices map[string]string
		code    int
	}{
		{"none", nil, 10001},
		{"six", six, 20003},
		{"unknown", map[string]string{"x": "accept"}, 20001},
		{"mixed types", map[string]string{id(0): "accept", id(2): "accept"}, 20002},
		{"a template of 2018", map[string]string{id(4): "accept"}, 20001},
	} {
		if got := r.Tap(ann, r.app.Name, c.choices); got["errCode"] != c.code {
			t.Errorf("%s: %v", c.what, got)
		}
	}
	if len(r.Pushes()) != 0 {
		t.Error("a failed request pushes nothing")
	}
	got := r.Tap(ann, r.app.Name, map[string]string{id(0): "ban", id(1): "acceptWithAudio"})
	if got[id(0)] != "ban" || got[id(1)] != "acceptWithAudio" || r.Credits(ann, id(1)) != 1 || r.Credits(ann, id(0)) != 0 {
		t.Errorf("%v", got)
	}
	r.settled()
	if body := r.ear.last(t).plain; strings.Contains(body, id(0)) || !strings.Contains(body, `"SubscribeStatusString":"accept"`) {
		t.Errorf("ban is told to the front end only: %s", body)
	}
}

func TestLongTermTemplates(t *testing.T) {
	r := newRig(t, Options{})
	ann := r.User(r.app.Name, "ann")
	visit, policy := r.app.Templates[2].ID, r.app.Templates[3].ID
	m := map[string]any{"touser": ann, "template_id": visit, "data": map[string]any{"name1": value("张三"), "thing2": value("门诊")}}
	want(t, "before", r.send(m), 43101)
	r.Accept(ann, visit, policy)
	for range 3 {
		want(t, "open", r.send(m), 0)
	}
	r.ChangeSetting(ann, visit, "reject")
	want(t, "closed", r.send(m), 43101)

	p := map[string]any{"touser": ann, "template_id": policy, "data": map[string]any{"character_string1": value("P1"), "enum_string2": value("生效")}}
	want(t, "rate-limited, first", r.send(p), 0)
	want(t, "rate-limited, second", r.send(p), 40038)
	p["data"].(map[string]any)["character_string1"] = value("P2")
	want(t, "another value of the keyword", r.send(p), 0)
	r.Advance(24 * time.Hour)
	want(t, "next day", r.send(p), 0)
	p["data"].(map[string]any)["enum_string2"] = value("失效")
	want(t, "not in the enum", r.send(p), 47003)
}

func TestConcurrentSendsToOneOpenid(t *testing.T) {
	r := newRig(t, Options{})
	ann, bob, tmpl := r.User(r.app.Name, "ann"), r.User(r.app.Name, "bob"), r.app.Templates[0].ID
	r.Grant(ann, tmpl, 10)
	r.Grant(bob, tmpl, 10)
	inHand := func(n int32) {
		t.Helper()
		for ctx := r.ctx(); r.world.account(ann).sending.Load() != n; runtime.Gosched() {
			if ctx.Err() != nil {
				t.Fatalf("never %d in hand", n)
			}
		}
	}
	r.Force(Forced{Mood: Slow, Delay: time.Minute, OpenID: ann})
	r.token()
	ctx, leave := context.WithCancel(r.ctx())
	order := r.order(ann)
	delete(order, "page") // json.Marshal would write \u0026
	body, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, "POST", r.url+"/cgi-bin/message/subscribe/send?access_token="+r.token(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
		}
	}()
	inHand(1)
	got := r.send(r.order(ann))
	want(t, "while one is in hand", got, 43108)
	if !strings.HasPrefix(got.Errmsg, concurrentText) {
		t.Error(got.Errmsg)
	}
	want(t, "to somebody else", r.send(r.order(bob)), 0)
	leave()
	<-gone
	inHand(0)
	want(t, "afterwards", r.send(r.order(ann)), 0)
}

func TestTemplateLibrary(t *testing.T) {
	r := newRig(t, Options{})
	got := r.do("GET", "/wxaapi/newtmpl/gettemplate?access_token="+r.token(), nil)
	var list struct {
		Data []struct {
			ID                   string `json:"priTmplId"`
			Type                 int
			Content              string
			KeywordEnumValueList []struct {
				KeywordCode   string
				EnumValueList []string
			}
		}
	}
	if err := json.Unmarshal(got.body, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Data) != 4 || list.Data[3].Type != 3 || list.Data[3].KeywordEnumValueList[0].KeywordCode != "enum_string2.DATA" {
		t.Fatalf("%s", got.raw)
	}
	added := r.call("/wxaapi/newtmpl/addtemplate", map[string]any{"tid": "99", "kidList": []int{2, 1}, "sceneDesc": "付款"})
	want(t, "add", added, 0)
	want(t, "add twice", r.call("/wxaapi/newtmpl/addtemplate", map[string]any{"tid": "99", "kidList": []int{2, 1}}), 200022)
	want(t, "bad tid", r.call("/wxaapi/newtmpl/addtemplate", map[string]any{"tid": "1", "kidList": []int{2, 1}}), 200014)
	want(t, "one kid", r.call("/wxaapi/newtmpl/addtemplate", map[string]any{"tid": "99", "kidList": []int{2}}), 200020)
	var id struct {
		ID string `json:"priTmplId"`
	}
	if err := json.Unmarshal(added.body, &id); err != nil {
		t.Fatal(err)
	}
	ann := r.User(r.app.Name, "ann")
	r.Accept(ann, id.ID)
	m := map[string]any{"touser": ann, "template_id": id.ID, "data": map[string]any{"thing2": value("苹果"), "amount1": value("¥1")}}
	want(t, "send with it", r.send(m), 0)
	want(t, "delete", r.call("/wxaapi/newtmpl/deltemplate", map[string]any{"priTmplId": id.ID}), 0)
	want(t, "send without it", r.send(m), 40037)
	want(t, "delete again", r.call("/wxaapi/newtmpl/deltemplate", map[string]any{"priTmplId": id.ID}), 200002)
	want(t, "titles", r.do("GET", "/wxaapi/newtmpl/getpubtemplatetitles?ids=2,616&start=0&limit=30&access_token="+r.token(), nil), 0)
	want(t, "titles, limit", r.do("GET", "/wxaapi/newtmpl/getpubtemplatetitles?ids=2&start=0&limit=31&access_token="+r.token(), nil), 200017)
	want(t, "keywords", r.do("GET", "/wxaapi/newtmpl/getpubtemplatekeywords?tid=99&access_token="+r.token(), nil), 0)
	want(t, "category", r.do("GET", "/wxaapi/newtmpl/getcategory?access_token="+r.token(), nil), 0)
}
