package relay

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/wxrelay/wxrelay/callback"
)

// What is written by hand reads as what encoding/json writes.
func TestPushReceivedIsJSON(t *testing.T) {
	for _, raw := range []string{
		`<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[o"1\\]]></FromUserName><CreateTime>1</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[<b>&"
	</b>\\u4f60好 ]]></Content><MsgId>1</MsgId></xml>`,
		`{"ToUserName":"gh_1","FromUserName":"o1","CreateTime":1,"MsgType":"event","Event":"subscribe_msg_popup_event","List":[{"TemplateId":"T","SubscribeStatusString":"accept"},{"TemplateId":"U","SubscribeStatusString":"reject"}]}`,
		`not one`,
	} {
		_, ev, _ := callback.Decode([]byte(raw))
		p := pushReceived("shop", "xml", []byte(raw), &ev)
		var got, want any
		if err := json.Unmarshal(p.appendJSON(nil), &got); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if err := json.Unmarshal(encode(p), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", raw, diff)
		}
	}
}
