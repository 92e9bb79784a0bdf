package callback

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFieldsOfBothFormats: the same push is the same object in XML and JSON.
func TestFieldsOfBothFormats(t *testing.T) {
	for _, pair := range [][2]string{
		{`<xml><MsgType>event</MsgType><Event>x</Event><a><b>1</b><b>2</b></a><detail><c>3</c></detail><illegal_content>4</illegal_content><e/></xml>`,
			`{"MsgType":"event","Event":"x","a":{"b":["1",2]},"detail":{"c":3},"illegal_content":"4","e":""}`},
		{`<xml><MsgType>event</MsgType><Event>subscribe_msg_sent_event</Event><SubscribeMsgSentEvent><List><TemplateId>T</TemplateId><MsgID>7</MsgID></List></SubscribeMsgSentEvent></xml>`,
			`{"MsgType":"event","Event":"subscribe_msg_sent_event","List":{"TemplateId":"T","MsgID":"7"}}`},
		{`<xml><MsgType>text</MsgType><Content><![CDATA[<b>]]></Content></xml>`, `{"MsgType":"text","Content":"<b>","Content":"again","gone":null}`},
	} {
		xml, json := Fields([]byte(pair[0])), Fields([]byte(pair[1]))
		if xml == nil {
			t.Errorf("%s: nothing", pair[0])
		}
		if diff := cmp.Diff(xml, json); diff != "" {
			t.Errorf("%s\nXML -, JSON +:\n%s", pair[1], diff)
		}
	}
}

// TestFieldsAreBounded: what is in doubt, secret or endless has no fields.
func TestFieldsAreBounded(t *testing.T) {
	var many strings.Builder
	for i := range maxFields {
		fmt.Fprintf(&many, `,"k%d":1`, i)
	}
	for name, raw := range map[string]string{
		"malformed": "hello",
		"doubtful":  `{"MsgType":"event","Event":"wxa_punish_event","punish_id":"1"`,
		"twice":     "<xml><MsgType>text</MsgType><Content>a</Content><Content>b</Content></xml>",
		"secret":    "<xml><InfoType>component_verify_ticket</InfoType><ComponentVerifyTicket>secret</ComponentVerifyTicket></xml>",
		"too many":  `{"MsgType":"event"` + many.String() + "}",
		"an array":  `{"MsgType":"event","a":[` + strings.Repeat("1,", maxFields) + "1]}",
		"too deep":  `{"MsgType":"event","a":` + strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1) + "}",
	} {
		if got := Fields([]byte(raw)); got != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func BenchmarkFieldsXML(b *testing.B) {
	raw := popup(b, XML)
	b.ReportAllocs()
	for b.Loop() {
		if Fields(raw) == nil {
			b.Fatal("nothing")
		}
	}
}
