package callback

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/silenceper/wechat/v2/util"
)

var (
	key1 = Key{Token: "token-one", EncodingAESKey: "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR"}
	key2 = Key{Token: "token-two", EncodingAESKey: "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"}
	key3 = Key{Token: "token-one", EncodingAESKey: "zyxwvutsrqponmlkjihgfedcba9876543210ZYXWVUT"}
	now  = time.Unix(1714112445, 0)
)

const (
	textJSONPush = `{"ToUserName":"gh_1","FromUserName":"oX","CreateTime":1714112445,"MsgType":"text","Content":"hi","MsgId":1234567890123456789}`
	textXMLPush  = "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[oX]]></FromUserName><CreateTime>1714112445</CreateTime>" +
		"<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[<Encrypt>no</Encrypt>]]></Content><MsgId>1234567890123456789</MsgId></xml>"
)

// TestModes: what each mode takes, sealed as WeChat seals for each mode, in both formats.
func TestModes(t *testing.T) {
	for _, raw := range []string{textJSONPush, textXMLPush} {
		format, _, err := Decode([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		for _, sent := range []Mode{Secure, Compat, Plain} {
			for _, mode := range []Mode{Secure, Compat, Plain} {
				as := App{Name: "a", AppID: "wx1", Mode: sent, Key: key1}
				query, body, err := ComposeRequest(as, format, []byte(raw), "42", now)
				if err != nil {
					t.Fatal(err)
				}
				as.Mode = mode
				p, err := verifier(t, as).Verify(ParseQuery(query), body, now)
				if weaker := sent == Plain && mode != Plain; weaker {
					if !errors.Is(err, ErrUnproven) {
						t.Errorf("%s, a %s push in %s: %v", format, sent, mode, err)
					}
					continue
				}
				if err != nil || string(p.Raw) != raw || p.Encrypted != (sent != Plain) || p.Event.MsgID != "1234567890123456789" {
					t.Errorf("%s, a %s push in %s: %+v, %v", format, sent, mode, p, err)
				}
			}
		}
	}
}

// TestCompatSealedContentCounts: the plain fields beside Encrypt are nobody's word.
func TestCompatSealedContentCounts(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Mode: Compat, Key: key1}
	query, body, err := ComposeRequest(a, JSON, []byte(textJSONPush), "42", now)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(string(body), `"Content":"hi"`, `"Content":"forged"`, 1)
	if forged == string(body) {
		t.Fatal("nothing forged")
	}
	p, err := verifier(t, a).Verify(ParseQuery(query), []byte(forged), now)
	if err != nil || p.Event.Message.Content != "hi" || string(p.Raw) != textJSONPush {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestPlainAppWithoutKey cannot open a sealed push, whatever it is sealed with.
func TestPlainAppWithoutKey(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Mode: Compat, Key: key1}
	query, body, err := ComposeRequest(a, JSON, []byte(textJSONPush), "42", now)
	if err != nil {
		t.Fatal(err)
	}
	a.Mode, a.Key.EncodingAESKey = Plain, ""
	if _, err := verifier(t, a).Verify(ParseQuery(query), body, now); !errors.Is(err, ErrUnproven) {
		t.Errorf("%v", err)
	}
}

// TestRotation: previous keys still open, also when only half of the pair changed, and a reply is sealed with the key
// that opened the push.
func TestRotation(t *testing.T) {
	for _, c := range []struct {
		name     string
		previous []Key
		sent     Key
		want     bool
	}{
		{"current", []Key{key2}, key1, true},
		{"previous", []Key{key2}, key2, true},
		{"second previous", []Key{key2, key3}, key3, true},
		{"same token, previous key", []Key{key3}, key3, true},
		{"only the key given", []Key{{EncodingAESKey: key3.EncodingAESKey}}, key3, true},
		{"only the token given", []Key{{Token: key2.Token}}, Key{key2.Token, key1.EncodingAESKey}, true},
		{"no longer", nil, key2, false},
		{"token of one, key of the other", []Key{key2}, Key{key1.Token, key2.EncodingAESKey}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			query, body, err := ComposeRequest(App{Name: "a", AppID: "wx1", Key: c.sent}, XML, []byte(textXMLPush), "42", now)
			if err != nil {
				t.Fatal(err)
			}
			p, err := verifier(t, App{Name: "a", AppID: "wx1", Key: key1, Previous: c.previous}).Verify(ParseQuery(query), body, now)
			if !c.want {
				if !errors.Is(err, ErrUnproven) {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			reply, err := p.EncryptReply([]byte("<xml>reply</xml>"), now)
			if err != nil {
				t.Fatal(err)
			}
			checkReply(t, reply, XML, c.sent, "wx1", "42", "<xml>reply</xml>")
		})
	}
}

var replyField = regexp.MustCompile(`(Encrypt|MsgSignature|TimeStamp|Nonce)(?:"?:"?|>(?:<!\[CDATA\[)?)([^"\]<,}]*)`)

// checkReply opens a sealed reply as WeChat would, with the SDK's own means.
func checkReply(t *testing.T, reply []byte, format Format, k Key, appID, nonce, want string) {
	t.Helper()
	got := make(map[string]string)
	for _, m := range replyField.FindAllStringSubmatch(string(reply), -1) {
		if got[m[1]] == "" {
			got[m[1]] = m[2]
		}
	}
	if (format == XML) != strings.HasPrefix(string(reply), "<xml>") || got["Nonce"] != nonce {
		t.Errorf("reply %s", reply)
	}
	if util.Signature(k.Token, got["TimeStamp"], got["Nonce"], got["Encrypt"]) != got["MsgSignature"] {
		t.Errorf("MsgSignature of %s", reply)
	}
	_, msg, err := util.DecryptMsg(appID, got["Encrypt"], k.EncodingAESKey)
	if err != nil || string(msg) != want {
		t.Errorf("reply %q, %v, want %q", msg, err, want)
	}
}

// TestNames: a delivery again is the same push, whatever its nonce; two events of one second are two.
func TestNames(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Key: key1}
	name := func(a App, raw string, nonce string, at time.Time) string {
		t.Helper()
		format, _, err := Decode([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		query, body, err := ComposeRequest(a, format, []byte(raw), nonce, at)
		if err != nil {
			t.Fatal(err)
		}
		p, err := verifier(t, a).Verify(ParseQuery(query), body, now)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.ID) != 28 || strings.ContainsAny(p.ID, "./{}: ") {
			t.Errorf("name %q", p.ID)
		}
		return p.ID
	}
	event := func(openid, event string, at int, more string) string {
		return fmt.Sprintf(`{"ToUserName":"gh_1","FromUserName":%q,"CreateTime":%d,"MsgType":"event","Event":%q%s}`, openid, at, event, more)
	}
	first := event("oX", "subscribe_msg_sent_event", 5, `,"List":{"TemplateId":"T","MsgID":"1"}`)
	if name(a, first, "1", now) != name(a, first, "2", now.Add(5*time.Second)) {
		t.Error("a delivery again is another push")
	}
	b := a
	b.Name = "b"
	names := map[string]string{
		name(a, first, "1", now): "the first",
		name(b, first, "1", now): "the same at another app",
		name(a, event("oX", "subscribe_msg_sent_event", 5, `,"List":{"TemplateId":"T","MsgID":"2"}`), "1", now): "another of the same second",
		name(a, event("oX", "subscribe_msg_popup_event", 5, ""), "1", now):                                      "another event",
		name(a, event("oX", "subscribe_msg_popup_event", 6, ""), "1", now):                                      "a second later",
		name(a, event("oY", "subscribe_msg_popup_event", 6, ""), "1", now):                                      "another user",
		name(a, textJSONPush, "1", now):                                                                         "a message",
		name(a, strings.Replace(textJSONPush, "6789}", "6788}", 1), "1", now):                                   "the next message",
		name(a, strings.Replace(textJSONPush, `"oX"`, `"oY"`, 1), "1", now):                                     "another user's message of that number",
		name(a, `{"MsgType":"event","Event":"TEMPLATESENDJOBFINISH","MsgID":1}`, "1", now):                      "a receipt",
		name(a, `{"MsgType":"event","Event":"TEMPLATESENDJOBFINISH","MsgID":1,"Status":"success"}`, "1", now):   "its second half",
	}
	if len(names) != 11 {
		t.Errorf("%d names for 11 pushes: %v", len(names), names)
	}
	if name(a, textJSONPush, "1", now) != name(a, textXMLPush, "2", now) {
		t.Error("a message is its user and MsgId, whatever else differs")
	}
}

// TestRawIsKept: nothing of a push changes when its scratch is used for the next.
func TestRawIsKept(t *testing.T) {
	for _, mode := range []Mode{Secure, Plain} {
		a := App{Name: "a", AppID: "wx1", Mode: mode, Key: key1}
		query, body, err := ComposeRequest(a, JSON, []byte(textJSONPush), "42", now)
		if err != nil {
			t.Fatal(err)
		}
		e := verifier(t, a)
		p, err := e.Verify(ParseQuery(query), body, now)
		if err != nil {
			t.Fatal(err)
		}
		other := strings.Replace(textJSONPush, "hi", "XX", 1)
		query, next, err := ComposeRequest(a, JSON, []byte(other), "43", now)
		if err != nil {
			t.Fatal(err)
		}
		clear(body)
		for range 100 {
			if _, err := e.Verify(ParseQuery(query), next, now); err != nil {
				t.Fatal(err)
			}
		}
		if string(p.Raw) != textJSONPush || p.Event.Message.Content != "hi" || p.Event.FromUserName != "oX" {
			t.Errorf("%s: %s, %+v", mode, p.Raw, p.Event)
		}
	}
}

func TestConfigFaults(t *testing.T) {
	good := App{Name: "a", AppID: "wx1", Key: key1}
	for name, spoil := range map[string]func(*App){
		"mode":                              func(a *App) { a.Mode = "off" },
		"appid":                             func(a *App) { a.AppID = "" },
		"reply":                             func(a *App) { a.Reply = "echo" },
		"max_age":                           func(a *App) { a.MaxAge = -1 },
		"push.token":                        func(a *App) { a.Key.Token = "" },
		"push.encoding_aes_key":             func(a *App) { a.Key.EncodingAESKey = "" },
		"43 characters":                     func(a *App) { a.Key.EncodingAESKey += "A" },
		"want 43":                           func(a *App) { a.Key.EncodingAESKey = strings.Repeat("!", 43) },
		"push.previous[1].encoding_aes_key": func(a *App) { a.Previous = []Key{key2, {EncodingAESKey: "short-and-secret"}} },
	} {
		a := good
		spoil(&a)
		_, err := NewVerifier(a)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, secret := range []string{key1.EncodingAESKey, "short-and-secret", key1.Token} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the fault tells a secret: %v", name, err)
			}
		}
	}
	if _, err := NewHandler([]App{good, good}, nil, HandlerOptions{}); err == nil {
		t.Error("two apps of one name")
	}
}

// TestSecretsDoNotPrint, however they are printed.
func TestSecretsDoNotPrint(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Key: key1, Previous: []Key{key2}, PayAppKey: "pay-key"}
	query, body := sealedPush(t, a, JSON, []byte(textJSONPush))
	p, err := verifier(t, a).Verify(query, body, benchTime)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{key1, &key1, a, &a, []App{a}, verifier(t, a), *p, p} {
			got := fmt.Sprintf(verb, v)
			for _, secret := range []string{key1.Token, key1.EncodingAESKey, key2.Token, key2.EncodingAESKey, "pay-key", fmt.Sprint([]byte(key1.Token))} {
				if strings.Contains(got, secret) {
					t.Errorf("%s of %T tells %s", verb, v, secret)
				}
			}
		}
	}
}

func TestParseQuery(t *testing.T) {
	for raw, want := range map[string]Query{
		"":                              {},
		"a=1&signature=x&timestamp=2":   {Signature: "x", Timestamp: "2"},
		"nonce=a%2Bb+c&echostr=%3Cb%3E": {Nonce: "a+b c", EchoStr: "<b>"},
		"signature=first&signature=second&msg_signature": {Signature: "first"},
		"nonce=%zz&timestamp=1&&=&":                      {Timestamp: "1"},
	} {
		if got := ParseQuery(raw); got != want {
			t.Errorf("%q: %+v", raw, got)
		}
	}
}

// TestEnvelope: every Encrypt is found, wherever it stands and however it is spelled.
func TestEnvelope(t *testing.T) {
	a, b := strings.Repeat("A", 44), strings.Repeat("B/+=", 11)
	for body, want := range map[string]string{
		`{"ToUserName":"gh_1","Encrypt":"` + a + `"}`:                                                                      a,
		`{"Content":"\"Encrypt\":\"` + a + `\"","Encrypt":"` + b + `"}`:                                                    b,
		`{"Content":"Encrypt","a":{"Encrypt":"` + a + `"},"b":[{"Encrypt":"short"}],"Encrypt" : "` + b + `"}`:              a + " " + b,
		`{"Content":"\\","Encrypt":"` + strings.ReplaceAll(b, "/", `\/`) + `"}`:                                            b,
		`{"Content":"\\","Encrypt":"` + strings.NewReplacer("+", `\u002B`, "=", `\u003d`, "B", `\u0042`).Replace(b) + `"}`: b,
		`{"Encrypt":["` + a + `"]}`:                                 "",
		`{"Encrypt"}`:                                               "",
		`{"Encrypt":"` + a:                                          "",
		`{"Encrypt":"` + a + `\x"}`:                                 "",
		`{"Encrypt":"` + a + `\"}`:                                  "",
		`["Encrypt","` + a + `"]`:                                   "",
		"<xml><Encrypt><![CDATA[" + a + "]]></Encrypt></xml>":       a,
		"<xml><Encrypt> " + a + " </Encrypt></xml>":                 a,
		"<xml><Encrypt>\n<![CDATA[ " + a + " ]]>\n</Encrypt></xml>": a,
		"<xml><Encrypt>" + strings.NewReplacer("+", "&#43;", "=", "&#x3d;", "/", "&#047;").Replace(b) + "</Encrypt></xml>": b,
		"<xml><Content><![CDATA[<Encrypt>" + a + "</Encrypt>]]></Content><Encrypt>" + b + "</Encrypt>":                     a + " " + b,
		"<xml></xml><Encrypt>" + a + "</Encrypt>":                      a,
		"<xml><Encrypt><Encrypt><![CDATA[<Encrypt>" + a + "</Encrypt>": a,
		"<xml><Encrypt><![CDATA[" + a + "</Encrypt></xml>":             "",
		"<xml><Encrypt>" + a: "",
		"":                   "",
		"\xef\xbb\xbf ":      "",
		"Encrypt":            "",
	} {
		var got []string
		e := newEnvelope([]byte(body))
		for v := e.next(new(scratch)); v != nil; v = e.next(new(scratch)) {
			got = append(got, string(v))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

// TestEnvelopeIsLinear: values that look alike and never end cost no more than reading the body.
func TestEnvelopeIsLinear(t *testing.T) {
	for _, piece := range []string{"<Encrypt>", "<Encrypt><![CDATA[", `"Encrypt":"`, `"Encrypt":"\`, "<Encrypt>&", "<Encrypt>" + strings.Repeat("A", 44), `"Encrypt":"` + strings.Repeat("A", 44) + `"`} {
		for _, first := range []string{"<", "{"} {
			s, read := new(scratch), 0
			body := []byte(first + strings.Repeat(piece, 256<<10/len(piece)))
			e := newEnvelope(body)
			for v := e.next(s); v != nil; v = e.next(s) {
				read += len(v)
			}
			if read > len(body) {
				t.Errorf("%s: %d bytes of values in %d", piece, read, len(body))
			}
		}
	}
}

// TestCompose: what is written as WeChat writes is read as it was meant, whatever stands in it.
func TestCompose(t *testing.T) {
	for _, ev := range []Event{
		{ToUserName: "gh_1", FromUserName: "oX", OpenID: "oX", CreateTime: 5, MsgType: "event", Event: "subscribe_msg_popup_event",
			Subscribes: []Subscribe{{TemplateID: "T1", Status: "accept", PopupScene: "0"}}},
		{ToUserName: "gh_1", FromUserName: "oX", OpenID: "oX", CreateTime: 5, MsgType: "event", Event: "subscribe_msg_sent_event",
			Subscribes: []Subscribe{{TemplateID: "T1", MsgID: "3395159288267931652", ErrorCode: "0", ErrorStatus: "success"}, {TemplateID: "T2"}}},
		{ToUserName: "gh_1", FromUserName: "oX", OpenID: "oX", CreateTime: 5, MsgType: "event", Event: "TEMPLATESENDJOBFINISH", MsgID: "200163836", Status: "failed:user block"},
		{ToUserName: "gh_1", FromUserName: "oX", OpenID: "oX", CreateTime: 5, MsgType: "event", Event: "user_enter_tempsession", SessionFrom: "a&b"},
		{ToUserName: "gh_1", FromUserName: "oX", OpenID: "oX", CreateTime: 5, MsgType: "text", MsgID: "1234567890123456789",
			Message: &Message{Content: "]]> <b>&amp;</b> \"quoted\" \\ \t\n 你好 😀"}},
		{FromUserName: "oX", OpenID: "oX", CreateTime: 5, MsgType: "text", MsgID: "49d72d67_15", Message: &Message{Content: "x"}},
	} {
		for _, format := range []Format{JSON, XML} {
			raw, err := Compose(format, ev)
			if err != nil {
				t.Fatal(err)
			}
			got, back, err := Decode(raw)
			if err != nil || got != format {
				t.Fatalf("%s: %v", raw, err)
			}
			if diff := cmp.Diff(ev, back); diff != "" {
				t.Errorf("%s\nmeant -, read +:\n%s", raw, diff)
			}
		}
	}
	if _, err := Compose("yaml", Event{}); err == nil {
		t.Error("another format")
	}
	if _, _, err := ComposeRequest(App{Name: "a", AppID: "wx1", Key: key1}, XML, []byte(textJSONPush), "1", now); err == nil {
		t.Error("sealed as the other format")
	}
}
