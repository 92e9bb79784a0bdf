package wechatsim

import (
	"bytes"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"
)

func text(openid, content string) map[string]any {
	return map[string]any{"touser": openid, "msgtype": "text", "text": map[string]any{"content": content}}
}

// TestCustomAllowance: a trigger raises the allowance to its own, it never adds.
func TestCustomAllowance(t *testing.T) {
	r := newRig(t, Options{})
	ann := r.User(r.app.Name, "ann")
	send := func() said { return r.call("/cgi-bin/message/custom/send", text(ann, "hi")) }
	got := send()
	want(t, "never spoke", got, 45015)
	if !strings.HasPrefix(got.Errmsg, "response out of time limit or subscription is canceled rid: ") {
		t.Error(got.Errmsg)
	}
	r.EnterSession(ann, "card")
	for range 2 {
		want(t, "entered", send(), 0)
	}
	got = send()
	want(t, "third of two", got, 45047)
	if !strings.HasPrefix(got.Errmsg, "out of response count limit rid: ") {
		t.Error(got.Errmsg)
	}
	r.Say(ann, "hello")
	for range 3 {
		want(t, "said", send(), 0)
	}
	r.EnterSession(ann, "card")
	if left, _ := r.Allowance(ann); left != 2 {
		t.Errorf("3 of 5 used, then entered: %d left, want 2", left)
	}
	r.Advance(2 * time.Minute)
	want(t, "the minute is over, the 48 hours are not", send(), 0)
	r.Advance(48 * time.Hour)
	want(t, "48 hours are over", send(), 45015)
	if got := len(r.Inbox(ann)); got != 6 {
		t.Errorf("%d received", got)
	}
	r.Say(ann, "again")
	want(t, "not a user", r.call("/cgi-bin/message/custom/send", text("nobody", "hi")), 40003)
	want(t, "empty", r.call("/cgi-bin/message/custom/send", text(ann, "")), 44004)
	want(t, "too long", r.call("/cgi-bin/message/custom/send", text(ann, strings.Repeat("字", 700))), 45002)
	want(t, "unknown type", r.call("/cgi-bin/message/custom/send", map[string]any{"touser": ann, "msgtype": "smoke"}), 40008)
	want(t, "link", r.call("/cgi-bin/message/custom/send", map[string]any{"touser": ann, "msgtype": "link",
		"link": map[string]any{"title": "t", "url": "https://example.com"}}), 0)
	r.Block(ann, true)
	want(t, "blocked", send(), 48002)
}

func TestTyping(t *testing.T) {
	r := newRig(t, Options{})
	ann := r.User(r.app.Name, "ann")
	type_ := func(command string) said {
		return r.call("/cgi-bin/message/custom/business/typing", map[string]any{"touser": ann, "command": command})
	}
	want(t, "no interaction", type_("Typing"), 45080)
	r.Say(ann, "hello")
	want(t, "typing", type_("Typing"), 0)
	want(t, "already", type_("Typing"), 45081)
	want(t, "cancel", type_("CancelTyping"), 0)
	want(t, "bad command", type_("Dance"), 45072)
	want(t, "the OA's path", r.call("/cgi-bin/message/custom/typing", map[string]any{"touser": ann, "command": "Typing"}), 48001)
}

func (r *rig) upload(kind string, content []byte) said {
	var b bytes.Buffer
	mw := multipart.NewWriter(&b)
	part, err := mw.CreateFormFile("media", "a.png")
	if err != nil {
		r.t.Fatal(err)
	}
	_, _ = part.Write(content)
	_ = mw.Close()
	res, err := http.Post(r.url+"/cgi-bin/media/upload?type="+kind+"&access_token="+r.token(), mw.FormDataContentType(), &b)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	var raw json.RawMessage
	if err := json.NewDecoder(res.Body).Decode(&raw); err != nil {
		r.t.Fatal(err)
	}
	got := said{raw: string(raw), body: raw}
	if err := json.Unmarshal(raw, &got); err != nil {
		r.t.Fatal(err)
	}
	return got
}

func TestMedia(t *testing.T) {
	r := newRig(t, Options{})
	ann := r.User(r.app.Name, "ann")
	got := r.upload("image", []byte("\x89PNG"))
	want(t, "upload", got, 0)
	var m struct {
		ID string `json:"media_id"`
	}
	if err := json.Unmarshal(got.body, &m); err != nil {
		t.Fatal(err)
	}
	want(t, "bad type", r.upload("hologram", []byte("x")), 40004)
	want(t, "thumb too large", r.upload("thumb", make([]byte, 65<<10)), 40006)
	want(t, "no part", r.do("POST", "/cgi-bin/media/upload?type=image&access_token="+r.token(), "x"), 41005)
	if back := r.do("GET", "/cgi-bin/media/get?media_id="+m.ID+"&access_token="+r.token(), nil); back.raw != "\x89PNG" {
		t.Errorf("%q", back.raw)
	}
	r.Say(ann, "picture please")
	image := map[string]any{"touser": ann, "msgtype": "image", "image": map[string]any{"media_id": m.ID}}
	page := map[string]any{"touser": ann, "msgtype": "miniprogrampage", "miniprogrampage": map[string]any{"title": "t", "pagepath": "pages/a", "thumb_media_id": m.ID}}
	want(t, "image", r.call("/cgi-bin/message/custom/send", image), 0)
	want(t, "page", r.call("/cgi-bin/message/custom/send", page), 0)
	r.Advance(73 * time.Hour)
	r.Say(ann, "once more")
	want(t, "image after three days", r.call("/cgi-bin/message/custom/send", image), 40007)
	want(t, "get after three days", r.do("GET", "/cgi-bin/media/get?media_id="+m.ID+"&access_token="+r.token(), nil), 40007)
}

func twoApps() Options {
	return Options{Apps: []App{{Name: "shop", Platform: "acme"}, {Name: "news", Kind: OfficialAccount, Platform: "acme", Mode: Secure, Format: XML}}}
}

func TestOfficialTemplateMessage(t *testing.T) {
	r := newRig(t, twoApps())
	r.app = r.App("news")
	r.ear.app = func() App { return r.App("news") }
	ann, tmpl := r.User("news", "ann"), r.app.Templates[0].ID
	m := map[string]any{"touser": ann, "template_id": tmpl, "client_msg_id": "c1", "data": map[string]any{"thing2": value("苹果")},
		"miniprogram": map[string]any{"appid": r.App("shop").AppID, "pagepath": "pages/a?x=1"}}
	first := r.call("/cgi-bin/message/template/send", m)
	want(t, "send", first, 0)
	again := r.call("/cgi-bin/message/template/send", m)
	want(t, "same client_msg_id", again, 0)
	if first.MsgID == 0 || again.MsgID != first.MsgID || len(r.Inbox(ann)) != 1 {
		t.Errorf("%s %s, %d received", first.raw, again.raw, len(r.Inbox(ann)))
	}
	r.settled()
	if body := r.ear.last(t).plain; !strings.Contains(body, "<Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event><MsgID>") ||
		!strings.Contains(body, "<Status><![CDATA[success]]></Status>") {
		t.Error(body)
	}
	r.Advance(11 * time.Minute)
	want(t, "after ten minutes", r.call("/cgi-bin/message/template/send", m), 0)
	if len(r.Inbox(ann)) != 2 {
		t.Error("the window is ten minutes")
	}
	delete(m, "client_msg_id")
	r.Block(ann, true)
	want(t, "blocked is found out later", r.call("/cgi-bin/message/template/send", m), 0)
	r.settled()
	if body := r.ear.last(t).plain; !strings.Contains(body, "failed:user block") {
		t.Error(body)
	}
	r.SetApp("news", func(a *App) { a.FollowersOnly = true })
	r.Follow(ann, false)
	want(t, "not following", r.call("/cgi-bin/message/template/send", m), 43004)
	m["template_id"] = "x"
	want(t, "template", r.call("/cgi-bin/message/template/send", m), 40037)
	m["touser"] = r.User("shop", "ann")
	want(t, "the mini-program's openid", r.call("/cgi-bin/message/template/send", m), 40003)
	want(t, "a mini-program's API", r.call("/cgi-bin/message/subscribe/send", m), 48001)

	biz := map[string]any{"touser": ann, "template_id": r.app.Templates[1].ID, "page": "https://example.com/a",
		"data": map[string]any{"thing1": value("开业"), "time2": value("15:01")}}
	want(t, "bizsend without consent", r.call("/cgi-bin/message/subscribe/bizsend", biz), 43101)
	r.Accept(ann, r.app.Templates[1].ID)
	got := r.call("/cgi-bin/message/subscribe/bizsend", biz)
	want(t, "bizsend", got, 0)
	if strings.Contains(got.raw, "msgid") {
		t.Errorf("bizsend answers without msgid: %s", got.raw)
	}
	r.SetApp("news", func(a *App) { a.IPWhitelist = []string{"10.9.9.9"} })
	if got := r.do("POST", "/cgi-bin/message/subscribe/bizsend?access_token="+r.Sim.lastToken(r.app.Name), biz); got.Errcode != 40164 {
		t.Errorf("an OA's allow-list holds for every API: %s", got.raw)
	}
}

// lastToken is what stable_token handed out last.
func (s *Sim) lastToken(app string) string {
	keys := &s.mustApp(app).keys
	keys.mu.Lock()
	defer keys.mu.Unlock()
	return keys.stable.value
}

func TestRetiredAPIs(t *testing.T) {
	r := newRig(t, twoApps())
	ann := r.User("shop", "ann")
	form := r.SubmitForm(ann)
	legacy := map[string]any{"touser": ann, "template_id": r.app.Templates[4].ID, "form_id": form, "page": "pages/a",
		"emphasis_keyword": "keyword1.DATA", "data": map[string]any{"keyword1": map[string]any{"value": "苹果", "color": "#173177"}}}
	const path = "/cgi-bin/message/wxopen/template/send"
	got := r.call(path, legacy)
	want(t, "today", got, 45103)
	if !strings.HasPrefix(got.Errmsg, "This API has been unsupported rid: ") {
		t.Error(got.Errmsg)
	}
	want(t, "uniform today", r.call("/cgi-bin/message/wxopen/template/uniform_send", legacy), 45109)

	r.SetEra(Era2018)
	want(t, "2018", r.call(path, legacy), 0)
	got = r.call(path, legacy)
	want(t, "a form_id is good once", got, 41029)
	if !strings.Contains(got.Errmsg, "form id used count reach limit hint: [") {
		t.Error(got.Errmsg)
	}
	legacy["form_id"] = "the formId is a mock one"
	want(t, "mock", r.call(path, legacy), 41028)
	legacy["form_id"] = r.SubmitForm(r.User("shop", "bob"))
	want(t, "somebody else's", r.call(path, legacy), 41028)
	legacy["form_id"] = r.SubmitForm(ann)
	r.Advance(7 * 24 * time.Hour)
	want(t, "after seven days", r.call(path, legacy), 41028)

	r.SetApp("shop", func(a *App) { a.PrepayUses, a.PrepayLag = 3, 10*time.Second })
	pay := r.Pay(ann)
	legacy["form_id"] = pay
	want(t, "right after the payment", r.call(path, legacy), 41028)
	r.Advance(11 * time.Second)
	for range 3 {
		want(t, "paid", r.call(path, legacy), 0)
	}
	want(t, "a fourth time", r.call(path, legacy), 41029)
	open, finish := r.PayUnfinished(ann)
	legacy["form_id"] = open
	want(t, "payment not finished", r.call(path, legacy), 41028)
	finish()
	r.Advance(11 * time.Second)
	want(t, "finished", r.call(path, legacy), 0)
	legacy["template_id"] = r.app.Templates[0].ID
	want(t, "a subscribe template", r.call(path, legacy), 40037)

	news := r.App("news")
	uniform := map[string]any{"touser": ann, "mp_template_msg": map[string]any{"appid": news.AppID, "template_id": news.Templates[0].ID,
		"url": "https://example.com", "data": map[string]any{"thing2": value("苹果")}}}
	want(t, "uniform by the official account", r.call("/cgi-bin/message/wxopen/template/uniform_send", uniform), 0)
	if got := r.Inbox(r.User("news", "ann")); len(got) != 1 || got[0].Channel != "uniform" {
		t.Errorf("%+v", got)
	}
	uniform["weapp_template_msg"] = map[string]any{"template_id": r.app.Templates[4].ID, "form_id": r.SubmitForm(ann), "data": map[string]any{}}
	before := len(r.Inbox(ann))
	want(t, "uniform by the mini-program", r.call("/cgi-bin/message/wxopen/template/uniform_send", uniform), 0)
	if len(r.Inbox(ann)) != before+1 {
		t.Error("the mini-program's part goes first")
	}
	r.SetApp("news", func(a *App) { a.Platform = "another company" })
	delete(uniform, "weapp_template_msg")
	want(t, "not bound", r.call("/cgi-bin/message/wxopen/template/uniform_send", uniform), 40013)
}
