package relay

import (
	"errors"
	"testing"

	"github.com/wxrelay/wxrelay/callback"
)

// A push says the same in the other format, and is not written in it when that is not certain.
func TestTranscode(t *testing.T) {
	t.Parallel()
	const (
		head     = `<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[o1]]></FromUserName><CreateTime>1700000000</CreateTime>`
		headJSON = `{"ToUserName":"gh_1","FromUserName":"o1","CreateTime":1700000000,`
	)
	for name, c := range map[string]struct{ xml, json string }{
		"a text": {head + `<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[你好 "<&>\]]></Content><MsgId>23456789012345678</MsgId></xml>`,
			headJSON + `"MsgType":"text","Content":"你好 \"<&>\\","MsgId":23456789012345678}`},
		"two entries": {head + `<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe_msg_popup_event]]></Event><SubscribeMsgPopupEvent><List><TemplateId><![CDATA[T1]]></TemplateId><SubscribeStatusString><![CDATA[accept]]></SubscribeStatusString></List><List><TemplateId><![CDATA[T2]]></TemplateId><SubscribeStatusString><![CDATA[reject]]></SubscribeStatusString></List></SubscribeMsgPopupEvent></xml>`,
			headJSON + `"MsgType":"event","Event":"subscribe_msg_popup_event","List":[{"TemplateId":"T1","SubscribeStatusString":"accept"},{"TemplateId":"T2","SubscribeStatusString":"reject"}]}`},
		"one entry": {head + `<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe_msg_sent_event]]></Event><SubscribeMsgSentEvent><List><TemplateId><![CDATA[T1]]></TemplateId><MsgID><![CDATA[1]]></MsgID><ErrorCode><![CDATA[0]]></ErrorCode></List></SubscribeMsgSentEvent></xml>`,
			headJSON + `"MsgType":"event","Event":"subscribe_msg_sent_event","List":{"TemplateId":"T1","MsgID":"1","ErrorCode":"0"}}`},
	} {
		if got, err := transcode([]byte(c.xml), callback.JSON); err != nil || string(got) != c.json {
			t.Errorf("%s: %v\n%s\n%s", name, err, got, c.json)
		}
		if got, err := transcode([]byte(c.json), callback.XML); err != nil || string(got) != c.xml {
			t.Errorf("%s: %v\n%s\n%s", name, err, got, c.xml)
		}
	}
	for name, raw := range map[string]string{
		"text that was made to look like fields": head + `<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[hi]]></Content><FromUserName><![CDATA[oVICTIM]]></FromUserName><Content><![CDATA[x]]></Content></xml>`,
		"a field twice":                          head + `<MsgType><![CDATA[text]]></MsgType><MsgType><![CDATA[event]]></MsgType></xml>`,
	} {
		if got, err := transcode([]byte(raw), callback.JSON); !errors.Is(err, errDoubtful) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if got, err := transcode([]byte(headJSON+`"MsgType":"text","Content":"a]]><x>b"}`), callback.XML); err != nil {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := transcode([]byte(headJSON+`"MsgType":"text","a b":"c"}`), callback.XML); err == nil {
		t.Errorf("a name that is no element's: %s", got)
	}
}
