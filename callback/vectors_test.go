package callback

import (
	"encoding/hex"
	"testing"
	"time"
)

// The official vectors. Their key is 32 zero bytes, so they cannot tell an IV of zeros from the key's first half: the
// two sets below can. https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html
var official = App{Name: "official", AppID: "wxba5fad812f8e6fb9", Key: Key{Token: "AAAAA", EncodingAESKey: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}

const (
	officialQuery = "signature=6c5c811b55cc85e0e1b54100749188c20beb3f5d&timestamp=1714112445&nonce=415670741&openid=o9AgO5Kd5ggOC-bXrbNODIiE3bGY" +
		"&encrypt_type=aes&msg_signature=046e02f8204d34f8ba5fa3b1db94908f3df2e9b3"
	officialEncrypt = "+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7v" +
		"JVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VI" +
		"YnSeOBrebufAlr7F9mFUPAJGj04="
	officialBody = `{"ToUserName":"gh_97417a04a28d","Encrypt":"` + officialEncrypt + `"}`
	officialRaw  = `{"ToUserName":"gh_97417a04a28d","FromUserName":"o9AgO5Kd5ggOC-bXrbNODIiE3bGY","CreateTime":1714112445,"MsgType":"event","Event":"debug_demo","debug_str":"hello world"}`
)

func verifier(t testing.TB, a App) *Verifier {
	t.Helper()
	e, err := NewVerifier(a)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestOfficialURLCheck(t *testing.T) {
	q := ParseQuery("signature=f464b24fc39322e44b38aa78f5edd27bd1441696&echostr=4375120948345356249&timestamp=1714036504&nonce=1514711492")
	for _, mode := range []Mode{Secure, Compat, Plain} {
		a := official
		a.Mode = mode
		if echo, err := verifier(t, a).VerifyURL(q, time.Unix(1714036504, 0)); err != nil || echo != "4375120948345356249" {
			t.Errorf("%s: %q, %v", mode, echo, err)
		}
	}
}

func TestOfficialSecurePush(t *testing.T) {
	for name, body := range map[string]string{
		"as documented": officialBody,
		"as XML":        "<xml><ToUserName><![CDATA[gh_97417a04a28d]]></ToUserName><Encrypt><![CDATA[" + officialEncrypt + "]]></Encrypt></xml>",
		"XML, no CDATA": "<?xml version=\"1.0\"?>\n<xml>\n  <Encrypt>\n    " + officialEncrypt + "\n  </Encrypt>\n</xml>",
		"pretty, BOM":   "\xef\xbb\xbf{\n  \"Encrypt\" : \"" + officialEncrypt + "\",\n  \"ToUserName\" : \"gh_97417a04a28d\"\n}\n",
	} {
		p, err := verifier(t, official).Verify(ParseQuery(officialQuery), []byte(body), time.Unix(1714112445, 0))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if string(p.Raw) != officialRaw || p.Format != JSON || !p.Encrypted || p.App != "official" || p.AppID != official.AppID {
			t.Errorf("%s: %+v", name, p)
		}
		if p.Event.Event != "debug_demo" || p.Event.OpenID != "o9AgO5Kd5ggOC-bXrbNODIiE3bGY" || p.Event.CreateTime != 1714112445 {
			t.Errorf("%s: %+v", name, p.Event)
		}
	}
}

func TestOfficialPlainPush(t *testing.T) {
	a := official
	a.Mode = Plain
	body := `{"ToUserName":"gh_97417a04a28d","FromUserName":"o9AgO5Kd5ggOC-bXrbNODIiE3bGY","CreateTime":1714037059,"MsgType":"event","Event":"debug_demo","debug_str":"hello world"}`
	p, err := verifier(t, a).Verify(ParseQuery("signature=899cf89e464efb63f54ddac96b0a0a235f53aa78&timestamp=1714037059&nonce=486452656"), []byte(body), time.Unix(1714037059, 0))
	if err != nil || string(p.Raw) != body || p.Encrypted {
		t.Fatalf("%+v, %v", p, err)
	}
}

// TestOfficialReply: the documented answer, byte for byte.
func TestOfficialReply(t *testing.T) {
	const want = `{"Encrypt":"ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==",` +
		`"MsgSignature":"1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1","TimeStamp":1713424427,"Nonce":"415670741"}`
	got := encryptReply(verifier(t, official).keys[0], official.AppID, JSON, [16]byte([]byte("707722b803182950")), 1713424427, "415670741", []byte(`{"demo_resp":"good luck"}`))
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	got = encryptReply(verifier(t, official).keys[0], official.AppID, XML, [16]byte([]byte("707722b803182950")), 1713424427, "415670741", []byte(`{"demo_resp":"good luck"}`))
	const wantXML = "<xml><Encrypt><![CDATA[ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==]]></Encrypt>" +
		"<MsgSignature><![CDATA[1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1]]></MsgSignature><TimeStamp>1713424427</TimeStamp><Nonce><![CDATA[415670741]]></Nonce></xml>"
	if string(got) != wantXML {
		t.Errorf("got  %s\nwant %s", got, wantXML)
	}
}

// TestKeysThatAreNotZero: the IV is the key's first half, and a key's 43rd character may have bits beyond the 256th.
// From WxJava's WxCryptUtilTest and wechatpy's test_crypto.
func TestKeysThatAreNotZero(t *testing.T) {
	for _, v := range []struct {
		app          App
		encrypt      string
		random, want string
	}{
		{App{AppID: "wxb11529c136998cb6", Key: Key{Token: "pamtest", EncodingAESKey: "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"}},
			"jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg==", "aaaabbbbccccdddd", "我是中文abcd123"},
		{App{AppID: "wx49f0ab532d5d035a", Key: Key{Token: "123456", EncodingAESKey: "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR"}},
			"4ByGGj+sVCYcvGeQYhaKIk1o0pQRNbRjxybjTGblXrBaXlTXeOo1+bXFXDQQb1o6co6Yh9Bv41n7hOchLF6p+Q==", "2304fc2fe146f1f8", "5927782489442352469"},
	} {
		l := verifier(t, v.app).keys[0]
		msg, ok := l.decrypt(new(scratch), []byte(v.encrypt), v.app.AppID)
		if !ok || string(msg) != v.want {
			t.Errorf("%s: %q, %v", v.app.AppID, msg, ok)
		}
		if _, ok := l.decrypt(new(scratch), []byte(v.encrypt), "wxanother"); ok {
			t.Errorf("%s: opened for another appid", v.app.AppID)
		}
		if got := l.encrypt(v.app.AppID, [16]byte([]byte(v.random)), []byte(v.want)); got != v.encrypt {
			t.Errorf("%s: sealed as %s", v.app.AppID, got)
		}
	}
	sum := new(scratch).signature([]byte("123456"), "1411443780", "437374425", []byte("4ByGGj+sVCYcvGeQYhaKIk1o0pQRNbRjxybjTGblXrBaXlTXeOo1+bXFXDQQb1o6co6Yh9Bv41n7hOchLF6p+Q=="))
	if string(sum[:]) != "dd6b9c95b495b3f7e2901bfbc76c664930ffdb96" {
		t.Errorf("msg_signature %s", sum)
	}
}

// TestPayEventSig: a sum computed elsewhere (openssl dgst -sha256 -hmac).
func TestPayEventSig(t *testing.T) {
	const payload = `{"outTradeNo":"ORDER20260101001","productId":"prod_001"}`
	const sum = "fda68ccc3f2ac30a11aee40584ea021e1999026fbbb432875070ef1ce46074f0"
	a := official
	a.PayAppKey = "test_app_key_1234567890"
	e := verifier(t, a)
	flipped, err := hex.DecodeString(sum)
	if err != nil {
		t.Fatal(err)
	}
	flipped[31] ^= 1
	for _, c := range []struct {
		name   string
		ev     Event
		sealed bool
		want   bool
	}{
		{"right", Event{Event: "xpay_goods_deliver_notify", Payment: &Payment{Payload: payload, PayEventSig: sum}}, false, true},
		{"another event", Event{Event: "xpay_coin_pay_notify", Payment: &Payment{Payload: payload, PayEventSig: sum}}, true, false},
		{"another payload", Event{Event: "xpay_goods_deliver_notify", Payment: &Payment{Payload: payload + " ", PayEventSig: sum}}, true, false},
		{"another sum", Event{Event: "xpay_goods_deliver_notify", Payment: &Payment{Payload: payload, PayEventSig: hex.EncodeToString(flipped)}}, true, false},
		{"no sum", Event{Event: "xpay_goods_deliver_notify", Payment: &Payment{Payload: payload}}, true, false},
		{"sum without payload", Event{Event: "xpay_goods_deliver_notify", Payment: &Payment{PayEventSig: sum}}, true, false},
		{"flat and sealed", Event{Event: "xpay_goods_deliver_notify", Payment: &Payment{OpenID: "oX"}}, true, true},
		{"flat and plain", Event{Event: "xpay_goods_deliver_notify", Payment: &Payment{OpenID: "oX"}}, false, false},
		{"empty and plain", Event{Event: "xpay_goods_deliver_notify"}, false, false},
		{"not a payment", Event{Event: "subscribe_msg_popup_event"}, false, true},
	} {
		if got := e.paid(&c.ev, c.sealed); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
