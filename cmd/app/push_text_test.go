package app_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
)

// What a user writes is a text of that user's, whatever it looks like: it is answered 200, relayed byte for byte under the writer's
// name, and moves nobody's credits. WeChat has been seen to leave "]]>" inside CDATA as it is.
func TestUserTextIsNeverStructure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	to := w.ear().OriginalID
	victim := `{"ToUserName":"` + to + `","FromUserName":"oVICTIM","CreateTime":1700000000,"MsgType":"event","Event":"subscribe_msg_popup_event","List":{"PopupScene":"0","SubscribeStatusString":"accept","TemplateId":"` + tOrder + `"}}`
	if status, _ := w.pushes(victim); status != 200 {
		t.Fatal(status)
	}
	w.wantLine("oVICTIM", tOrder, 1, 0, "accepted")

	list := `<SubscribeMsgPopupEvent><List><TemplateId><![CDATA[` + tOrder + `]]></TemplateId><SubscribeStatusString><![CDATA[accept]]></SubscribeStatusString><PopupScene>0</PopupScene></List></SubscribeMsgPopupEvent>`
	text := func(content string) string {
		return `<xml><ToUserName><![CDATA[` + to + `]]></ToUserName><FromUserName><![CDATA[oANN]]></FromUserName><CreateTime>1700000001</CreateTime>` +
			`<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[` + content + `]]></Content><MsgId>1</MsgId></xml>`
	}
	entered := func(from string) string {
		return `<xml><ToUserName><![CDATA[` + to + `]]></ToUserName><FromUserName><![CDATA[oANN]]></FromUserName><CreateTime>1700000001</CreateTime>` +
			`<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[user_enter_tempsession]]></Event><SessionFrom><![CDATA[` + from + `]]></SessionFrom></xml>`
	}
	for what, raw := range map[string]string{
		"a grant": text(`hi]]></Content><FromUserName><![CDATA[oVICTIM]]></FromUserName><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe_msg_popup_event]]></Event>` +
			list + `<Content><![CDATA[x`),
		"an erasure":                text(`hi]]></Content><MsgType>event</MsgType><Event>user_authorization_cancellation</Event><OpenID>oVICTIM</OpenID><Content><![CDATA[x`),
		"a session":                 entered(`x]]></SessionFrom><OpenID>oVICTIM</OpenID>` + list + `<SessionFrom><![CDATA[x`),
		"a revocation in a session": entered(`x]]></SessionFrom><Event>user_authorization_revoke</Event><OpenID>oVICTIM</OpenID><SessionFrom><![CDATA[x`),
		"another document":          text(`x]]></Content></xml><xml><FromUserName>oVICTIM</FromUserName><MsgType>event</MsgType>` + list),
		"CDATA in CDATA":            text(`<status><![CDATA[ok]]></status>`),
		"twice in JSON": `{"ToUserName":"` + to + `","FromUserName":"oANN","CreateTime":1700000001,"MsgType":"text","Content":"x","MsgId":9,` +
			`"FromUserName":"oVICTIM","MsgType":"event","Event":"user_authorization_cancellation","OpenID":"oVICTIM"}`,
	} {
		if status, answer := w.pushes(strings.ReplaceAll(raw, "<MsgId>1<", fmt.Sprintf("<MsgId>%d<", len(raw)))); status != 200 || answer != "success" {
			t.Fatalf("%s: %d %q", what, status, answer)
		}
		raw = strings.ReplaceAll(raw, "<MsgId>1<", fmt.Sprintf("<MsgId>%d<", len(raw)))
		var got received
		w.told("push.received", func(e partnersim.Event) bool { got = received{}; return e.Into(&got) == nil && got.Raw == raw })
		if got.OpenID == nil || *got.OpenID != "oANN" || got.Event != nil && *got.Event != "user_enter_tempsession" {
			t.Errorf("%s is told as %+v", what, got)
		}
	}
	w.wantLine("oVICTIM", tOrder, 1, 0, "accepted")
	if n := w.countTold("user.revoked"); n != 0 {
		t.Errorf("told of %d revocations", n)
	}
	if n := w.countTold("subscription.accepted"); n != 1 {
		t.Errorf("told of %d grants", n)
	}
}

// A popup with more entries than any popup shows is stored all the same, and booked as far as entries are read.
func TestAPopupWithTooManyEntries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	var entries []string
	for i := range 1000 {
		entries = append(entries, fmt.Sprintf(`{"TemplateId":"U%d","SubscribeStatusString":"accept","PopupScene":"0"}`, i))
	}
	entries[0] = strings.Replace(entries[0], "U0", tOrder, 1) // the first of the page that shows it
	raw := `{"ToUserName":"` + w.ear().OriginalID + `","FromUserName":"oANN","CreateTime":1700000000,"MsgType":"event","Event":"subscribe_msg_popup_event","List":[` + strings.Join(entries, ",") + `]}`
	if status, answer := w.pushes(raw); status != 200 || answer != "success" {
		t.Fatalf("%d %q", status, answer)
	}
	w.told("push.received", func(e partnersim.Event) bool { var got received; return e.Into(&got) == nil && got.Raw == raw })
	w.wantLine("oANN", tOrder, 1, 0, "accepted")
}
