package wechatsim

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

const zeroKey = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html
const officialEncrypt = "+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04="

func TestCryptOfficialVectors(t *testing.T) {
	signatures := []struct {
		want  string
		parts []string
	}{
		{"f464b24fc39322e44b38aa78f5edd27bd1441696", []string{"AAAAA", "1714036504", "1514711492"}},
		{"899cf89e464efb63f54ddac96b0a0a235f53aa78", []string{"AAAAA", "1714037059", "486452656"}},
		{"6c5c811b55cc85e0e1b54100749188c20beb3f5d", []string{"AAAAA", "1714112445", "415670741"}},
		{"046e02f8204d34f8ba5fa3b1db94908f3df2e9b3", []string{"AAAAA", "1714112445", "415670741", officialEncrypt}},
		{"dd6b9c95b495b3f7e2901bfbc76c664930ffdb96", []string{"123456", "1411443780", "437374425",
			"4ByGGj+sVCYcvGeQYhaKIk1o0pQRNbRjxybjTGblXrBaXlTXeOo1+bXFXDQQb1o6co6Yh9Bv41n7hOchLF6p+Q=="}},
		{"1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1", []string{"AAAAA", "1713424427", "415670741",
			"ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ=="}},
	}
	for _, s := range signatures {
		if got := signature(s.parts...); got != s.want {
			t.Errorf("signature(%.40q) = %s, want %s", s.parts, got, s.want)
		}
	}

	encrypted := []struct{ name, key, random, msg, appid, want string }{
		{"push", zeroKey, "a8eedb185eb2fecf", `{"ToUserName":"gh_97417a04a28d","FromUserName":"o9AgO5Kd5ggOC-bXrbNODIiE3bGY","CreateTime":1714112445,"MsgType":"event","Event":"debug_demo","debug_str":"hello world"}`,
			"wxba5fad812f8e6fb9", officialEncrypt},
		{"reply", zeroKey, "707722b803182950", `{"demo_resp":"good luck"}`, "wxba5fad812f8e6fb9",
			"ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ=="},
		{"non-zero key", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", "aaaabbbbccccdddd", "我是中文abcd123", "wxb11529c136998cb6",
			"jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg=="},
		{"non-zero key 2", "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR", "2304fc2fe146f1f8", "5927782489442352469", "wx49f0ab532d5d035a",
			"4ByGGj+sVCYcvGeQYhaKIk1o0pQRNbRjxybjTGblXrBaXlTXeOo1+bXFXDQQb1o6co6Yh9Bv41n7hOchLF6p+Q=="},
	}
	for _, v := range encrypted {
		key, err := aesKey(v.key)
		if err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		if got := encrypt(key, []byte(v.random), []byte(v.msg), v.appid); got != v.want {
			t.Errorf("%s: encrypted %s", v.name, got)
		}
		msg, appid, err := decrypt(key, v.want)
		if err != nil || string(msg) != v.msg || appid != v.appid {
			t.Errorf("%s: opened %q for %q, %v", v.name, msg, appid, err)
		}
	}
}

// TestEnvelopeIsTheOfficialOne encrypts with the fields of the official push: our plain body is theirs but for the random.
func TestEnvelopeIsTheOfficialOne(t *testing.T) {
	h := happening{to: "gh_97417a04a28d", from: "o9AgO5Kd5ggOC-bXrbNODIiE3bGY", stamp: 1714112445, msgType: "event", event: "debug_demo",
		fields: []Field{{"debug_str", "hello world"}}}
	want := `{"ToUserName":"gh_97417a04a28d","FromUserName":"o9AgO5Kd5ggOC-bXrbNODIiE3bGY","CreateTime":1714112445,"MsgType":"event","Event":"debug_demo","debug_str":"hello world"}`
	if got := string(h.render(JSON, Captured)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestUnsealRefusesEveryFlippedByte(t *testing.T) {
	key, err := aesKey("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG")
	if err != nil {
		t.Fatal(err)
	}
	const msg, appid = `{"a":"b"}`, "wxb11529c136998cb6"
	whole, err := base64.StdEncoding.DecodeString(encrypt(key, []byte("0123456789abcdef"), []byte(msg), appid))
	if err != nil {
		t.Fatal(err)
	}
	for i := 16; i < len(whole); i++ { // the first block only garbles the random bytes
		bent := append([]byte(nil), whole...)
		bent[i] ^= 1
		got, to, err := decrypt(key, base64.StdEncoding.EncodeToString(bent))
		if err == nil && string(got) == msg && to == appid {
			t.Errorf("byte %d flipped and nobody noticed", i)
		}
	}
	for _, bad := range []string{"", "AAAA", "%%%", strings.Repeat("A", 44)} {
		if _, _, err := decrypt(key, bad); err == nil {
			t.Errorf("opened %q", bad)
		}
	}
}

func TestShapesOfOneEvent(t *testing.T) {
	one := happening{to: "gh_1", from: "oX", stamp: 1610969440, msgType: "event", event: "subscribe_msg_popup_event"}.
		list("SubscribeMsgPopupEvent", entry{{"PopupScene", "0"}, {"SubscribeStatusString", "accept"}, {"TemplateId", "T1"}})
	two := one.list("SubscribeMsgPopupEvent", one.entries[0], entry{{"PopupScene", "0"}, {"SubscribeStatusString", "reject"}, {"TemplateId", "T2"}})
	head := `{"ToUserName":"gh_1","FromUserName":"oX","CreateTime":1610969440,"MsgType":"event","Event":"subscribe_msg_popup_event",`
	e1, e2 := `{"PopupScene":"0","SubscribeStatusString":"accept","TemplateId":"T1"}`, `{"PopupScene":"0","SubscribeStatusString":"reject","TemplateId":"T2"}`
	xmlHead := `<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[oX]]></FromUserName><CreateTime>1610969440</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe_msg_popup_event]]></Event>`
	x1 := `<List><PopupScene>0</PopupScene><SubscribeStatusString><![CDATA[accept]]></SubscribeStatusString><TemplateId><![CDATA[T1]]></TemplateId></List>`
	for _, c := range []struct {
		name  string
		h     happening
		f     Format
		shape Shape
		want  string
	}{
		{"captured, one", one, JSON, Captured, head + `"List":` + e1 + `}`},
		{"captured, two", two, JSON, Captured, head + `"List":[` + e1 + `,` + e2 + `]}`},
		{"documented, one", one, JSON, Documented, strings.Replace(head, "1610969440", `"1610969440"`, 1) + `"List":[` + e1 + `]}`},
		{"wrapped, one", one, JSON, Wrapped, head + `"SubscribeMsgPopupEvent":{"List":` + e1 + `}}`},
		{"xml, one", one, XML, Captured, xmlHead + `<SubscribeMsgPopupEvent>` + x1 + `</SubscribeMsgPopupEvent></xml>`},
	} {
		if got := string(c.h.render(c.f, c.shape)); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	var a, b any
	if err := json.Unmarshal(two.render(JSON, Pretty), &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(two.render(JSON, Captured), &b); err != nil {
		t.Fatal(err)
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if string(x) != string(y) || !strings.Contains(string(two.render(JSON, Pretty)), "\n  \"List\": [\n") {
		t.Errorf("pretty is another event: %s", two.render(JSON, Pretty))
	}
}
