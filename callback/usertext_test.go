package callback

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// userField is a push with a field that a user fills: %s stands for the text.
type userField struct{ name, xml, json string }

// userFields are the fields that users write, directly or through what they choose, name or open: everything of a
// message, and of events the session's origin, scenes, menu links, what a client attached to an order, and a
// complaint.
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/customer-message/receive.html
// https://developers.weixin.qq.com/doc/service/guide/product/message/Receiving_standard_messages.html
var userFields = func() []userField {
	const (
		headXML  = "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[oX]]></FromUserName><CreateTime>1700000000</CreateTime>"
		headJSON = `{"ToUserName":"gh_1","FromUserName":"oX","CreateTime":1700000000,`
	)
	var all []userField
	add := func(what, field string, before, after [2]string) {
		all = append(all, userField{what + "." + field,
			headXML + before[0] + "<" + field + "><![CDATA[%s]]></" + field + ">" + after[0] + "</xml>",
			headJSON + before[1] + `"` + field + `":"%s"` + after[1] + "}"})
	}
	id := [2]string{"<MsgId>23</MsgId>", `,"MsgId":23`}
	for kind, fields := range map[string]string{"text": "Content", "miniprogrampage": "Title AppId PagePath ThumbUrl", "image": "PicUrl MediaId",
		"location": "Label Location_X", "link": "Title Description Url", "voice": "Recognition Format", "never_seen": "Words"} {
		for field := range strings.FieldsSeq(fields) {
			add(kind, field, [2]string{"<MsgType><![CDATA[" + kind + "]]></MsgType>", `"MsgType":"` + kind + `",`}, id)
		}
	}
	for event, field := range map[string]string{"user_enter_tempsession": "SessionFrom", "VIEW": "EventKey", "CLICK": "EventKey", "subscribe": "Ticket",
		"xpay_complaint_notify": "ComplaintDetail", "never_seen": "Words", "TEMPLATESENDJOBFINISH": "Status"} {
		before := [2]string{"<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[" + event + "]]></Event>", `"MsgType":"event","Event":"` + event + `",`}
		if strings.HasPrefix(event, "xpay") {
			before[0] += "<OpenId><![CDATA[oX]]></OpenId>"
			before[1] += `"OpenId":"oX",`
		}
		add(event, field, before, [2]string{})
	}
	return all
}()

// aimed is an attack through this field.
func (f userField) aimed(text string) string {
	_, field, _ := strings.Cut(f.name, ".")
	return strings.ReplaceAll(text, "§", field)
}

// inXML leaves the text in CDATA as it is, as WeChat has been seen to.
func (f userField) inXML(text string) string { return strings.Replace(f.xml, "%s", text, 1) }

func (f userField) inJSON(t testing.TB, text string) string {
	t.Helper()
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(f.json, `"%s"`, string(quoted), 1)
}

// unescapedJSON is what a careless writer would make of the text.
func (f userField) unescapedJSON(text string) string { return strings.Replace(f.json, "%s", text, 1) }

// attacks are texts that try to be somebody else's event. § is the field they stand in.
var attacks = []string{
	`hi]]></§><FromUserName><![CDATA[oVICTIM]]></FromUserName><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe_msg_popup_event]]></Event>` +
		`<SubscribeMsgPopupEvent><List><TemplateId>T1</TemplateId><SubscribeStatusString>accept</SubscribeStatusString></List></SubscribeMsgPopupEvent><§><![CDATA[x`,
	`hi]]></§><FromUserName>oVICTIM</FromUserName><MsgType>event</MsgType><Event>user_authorization_cancellation</Event><OpenID>oVICTIM</OpenID><§><![CDATA[x`,
	`]]></§><OpenID>oVICTIM</OpenID><OpenId>oVICTIM</OpenId><openid>oVICTIM</openid><§><![CDATA[`,
	`]]></§></xml><xml><FromUserName>oVICTIM</FromUserName><MsgType>event</MsgType><Event>user_authorization_revoke</Event><OpenID>oVICTIM</OpenID><§><![CDATA[`,
	`]]></§><MsgId>1</MsgId><MsgID>2</MsgID><Status>success</Status><List><TemplateId>T1</TemplateId></List><§><![CDATA[`,
	`]]></§><Payload>{"OpenId":"oVICTIM"}</Payload><PayEventSig>00</PayEventSig><§><![CDATA[`,
	`]]></§><InfoType>component_verify_ticket</InfoType><§><![CDATA[`,
	`]]><MsgType>event</MsgType><Event>subscribe_msg_popup_event</Event><List><TemplateId>T1</TemplateId></List><![CDATA[`,
	`]]></§><!-- `, `]]><!-- `, `]]><? `, `]]></§><!DOCTYPE x [<!ENTITY a "b">]><§><![CDATA[`, `]]></§></xml>`, `]]>`, `]]>]]>`, `]]`, `]`, `<![CDATA[`, `]]></§`,
	`<status><![CDATA[ok]]></status>`, `<![CDATA[<status><![CDATA[ok]]></status>`, `<b>bold</b> &amp; &lt; &#0;`, `]]> and on`, `a]]><b>c</b><![CDATA[d`,
	strings.Repeat("]]><a>", 100), strings.Repeat("]]></§><a>", 100), `]]></§><FromUserName/><MsgType/><§><![CDATA[`,
	`","FromUserName":"oVICTIM","MsgType":"event","Event":"subscribe_msg_popup_event","List":{"TemplateId":"T1","SubscribeStatusString":"accept"},"x":"`,
	`","MsgType":"event","Event":"user_authorization_revoke","OpenID":"oVICTIM","OpenId":"oVICTIM","openid":"oVICTIM","MsgId":7,"x":"`,
	`"},{"FromUserName":"oVICTIM`, `\`, `"`, `"}`, "\x00\x01\x7f\ufeff\u2028", "\xff\xfe\xed\xa0\x80", "\r\n", "", " ",
}

// identity is what no text may change: who, whose, what and when, and that nothing else is anybody's.
func identity(ev Event) Event {
	return Event{ToUserName: ev.ToUserName, FromUserName: ev.FromUserName, OpenID: ev.OpenID, CreateTime: ev.CreateTime, MsgType: ev.MsgType,
		Event: ev.Event, Subscribes: ev.Subscribes, Authorization: ev.Authorization, Component: ev.Component}
}

func checkUserText(t *testing.T, f userField, text string) {
	t.Helper()
	_, plain, err := Decode([]byte(f.inXML("x")))
	if err != nil {
		t.Fatal(err)
	}
	for dress, raw := range map[string]string{"XML": f.inXML(text), "JSON": f.inJSON(t, text), "careless JSON": f.unescapedJSON(text)} {
		_, ev, err := Decode([]byte(raw))
		if err != nil {
			t.Fatalf("%s %s is lost: %v\n%q", f.name, dress, err, raw)
		}
		if diff := cmp.Diff(identity(plain), identity(ev)); diff != "" {
			t.Fatalf("%s %s: %q changed, without -, with +:\n%s", f.name, dress, raw, diff)
		}
		if dress == "JSON" && ev.Doubtful {
			t.Fatalf("%s %s: well-formed, but in doubt: %q", f.name, dress, raw)
		}
	}
}

// TestUserTextIsNoStructure: whatever a user writes, in whatever field, the push stays that user's and of its kind.
func TestUserTextIsNoStructure(t *testing.T) {
	for _, f := range userFields {
		for _, text := range attacks {
			checkUserText(t, f, f.aimed(text))
		}
	}
}

// FuzzUserText is the same for texts nobody thought of.
func FuzzUserText(f *testing.F) {
	for i := range userFields {
		for j, text := range attacks {
			if (i+j)%7 == 0 {
				f.Add(uint(i), text)
			}
		}
	}
	f.Fuzz(func(t *testing.T, field uint, text string) {
		checkUserText(t, userFields[field%uint(len(userFields))], text)
	})
}

// TestUserTextIsRead: a text with tags and ends of CDATA in it is the text.
func TestUserTextIsRead(t *testing.T) {
	f := userFields[0]
	for _, c := range userFields {
		if c.name == "text.Content" {
			f = c
		}
	}
	for _, text := range []string{"<status><![CDATA[ok]]></status>", "]]>", "]]> and on", "a]]><b>c</b><![CDATA[d", "]]><!-- ", "<![CDATA[", "]]></Conten", "]] >", "&amp;",
		"]]><MsgType>event</MsgType><![CDATA["} {
		_, ev, err := Decode([]byte(f.inXML(text)))
		if err != nil || ev.Doubtful || ev.Message == nil || ev.Message.Content != text || ev.MsgID != "23" {
			t.Errorf("%q: %+v %+v, %v", text, ev, ev.Message, err)
		}
	}
}

// TestFirstCounts: of equal keys the first counts, on every level of JSON and for every field of XML.
func TestFirstCounts(t *testing.T) {
	popup := Event{ToUserName: "gh_1", FromUserName: "oX", OpenID: "oX", CreateTime: 5, MsgType: "event", Event: "subscribe_msg_popup_event",
		Subscribes: []Subscribe{{TemplateID: "T1", Status: "reject"}}}
	none := popup
	none.Subscribes, none.Doubtful = nil, true
	head := `{"ToUserName":"gh_1","FromUserName":"oX","CreateTime":5,"MsgType":"event","Event":"subscribe_msg_popup_event"`
	headXML := "<xml><ToUserName>gh_1</ToUserName><FromUserName>oX</FromUserName><CreateTime>5</CreateTime><MsgType>event</MsgType><Event>subscribe_msg_popup_event</Event>"
	list := `,"List":{"TemplateId":"T1","SubscribeStatusString":"reject"}`
	listXML := "<SubscribeMsgPopupEvent><List><TemplateId>T1</TemplateId><SubscribeStatusString>reject</SubscribeStatusString></List></SubscribeMsgPopupEvent>"
	for raw, want := range map[string]Event{
		head + list + `,"FromUserName":"oY","ToUserName":"gh_2","CreateTime":6,"MsgType":"text","Event":"user_authorization_revoke"}`:  popup,
		head + list + `,"List":{"TemplateId":"T2","SubscribeStatusString":"accept"}}`:                                                  popup,
		head + list + `,"List":[{"TemplateId":"T2","SubscribeStatusString":"accept"}],"List":"x","List":null}`:                         popup,
		head + `,"List":{"TemplateId":"T1","TemplateId":"T2","SubscribeStatusString":"reject","SubscribeStatusString":"accept"}}`:      popup,
		head + `,"List":[{"TemplateId":"T1","SubscribeStatusString":"reject","TemplateId":"T2","List":{"TemplateId":"T3"}}]}`:          popup,
		head + `,"SubscribeMsgPopupEvent":{"List":{"TemplateId":"T1","SubscribeStatusString":"reject"},"List":[{"TemplateId":"T2"}]}}`: popup,
		head + `,"List":null,"List":{"TemplateId":"T1","SubscribeStatusString":"reject","PopupScene":null}}`:                           popup,
		headXML + listXML + "</xml>":                                              popup,
		headXML + listXML + "<FromUserName>oY</FromUserName></xml>":               none,
		headXML + "<Event>user_authorization_revoke</Event>" + listXML + "</xml>": none,
		headXML + "<MsgType>text</MsgType>" + listXML + "</xml>":                  none,
		headXML + "<CreateTime>9</CreateTime>" + listXML + "</xml>":               none,
		headXML + listXML:          none,
		headXML + listXML + "</x>": none,
	} {
		_, ev, err := Decode([]byte(raw))
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if diff := cmp.Diff(want, ev); diff != "" {
			t.Errorf("%s\nwant -, read +:\n%s", raw, diff)
		}
	}
	// An empty first is a first.
	if _, ev, err := Decode([]byte(`{"FromUserName":"","FromUserName":"oY","MsgType":"text"}`)); err != nil || ev.FromUserName != "" {
		t.Errorf("%+v, %v", ev, err)
	}
	if _, ev, err := Decode([]byte("<xml><FromUserName/><FromUserName>oY</FromUserName><MsgType>text</MsgType></xml>")); err != nil || ev.FromUserName != "" {
		t.Errorf("%+v, %v", ev, err)
	}
	// More keys than are kept on the stack.
	var many strings.Builder
	for i := range 100 {
		many.WriteString(`,"k` + strings.Repeat("x", i) + `":1`)
	}
	if _, ev, err := Decode([]byte(`{"MsgType":"text"` + many.String() + `,"FromUserName":"oX","FromUserName":"oY"}`)); err != nil || ev.FromUserName != "oX" {
		t.Errorf("%+v, %v", ev, err)
	}
}

// TestUserTextThroughTheHandler: every attack, in every mode and format, is answered 200 and handed over as the user's
// own, once.
func TestUserTextThroughTheHandler(t *testing.T) {
	var received []*Push
	sink := func(_ context.Context, p *Push) ([]byte, error) {
		received = append(received, p)
		return nil, nil
	}
	for _, mode := range []Mode{Secure, Compat, Plain} {
		a := App{Name: "a", AppID: "wx1", OriginalID: "gh_1", Mode: mode, Key: key1, MaxAge: time.Hour, PayAppKey: "pay-key"}
		d, err := NewHandler([]App{a}, sink, HandlerOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range userFields {
			if mode == Plain && strings.HasPrefix(f.name, "xpay") {
				continue // a payment without its own proof is refused when it comes plain
			}
			for _, text := range attacks {
				text = f.aimed(text)
				_, want, err := Decode([]byte(f.inXML("x")))
				if err != nil {
					t.Fatal(err)
				}
				for _, raw := range []string{f.inXML(text), f.inJSON(t, text)} {
					received = received[:0]
					if w := post(t, d, a, raw); w.Code != 200 || w.Body.String() != "success" {
						t.Fatalf("%s: %d %q\n%q", mode, w.Code, w.Body, raw)
					}
					if len(received) != 1 || string(received[0].Raw) != raw {
						t.Fatalf("%s: %q came as %v", mode, raw, received)
					}
					if diff := cmp.Diff(identity(want), identity(received[0].Event)); diff != "" {
						t.Fatalf("%s: %q: %s", mode, raw, diff)
					}
				}
			}
		}
	}
}

// TestCompatUserText: in compat mode a user's text stands in the envelope too. Whatever Encrypt it writes, and
// whatever it does to the structure, the one that is signed is found.
func TestCompatUserText(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Mode: Compat, Key: key1}
	calls := 0
	d, err := NewHandler([]App{a}, func(context.Context, *Push) ([]byte, error) { calls++; return nil, nil }, HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fake := strings.Repeat("QUFB", 16)
	for _, text := range append([]string{
		"]]></Content><Encrypt>" + fake + "</Encrypt><Content><![CDATA[", "<Encrypt><![CDATA[" + fake + "]]></Encrypt>", "]]></Content></xml><Encrypt>", "]]><Encrypt><![CDATA[",
		strings.Repeat("<Encrypt>"+fake+"</Encrypt>", 100), `","Encrypt":"` + fake + `","x":"`,
	}, attacks...) {
		for _, format := range []Format{XML, JSON} {
			raw := `{"ToUserName":"gh_1","FromUserName":"oX","CreateTime":1,"MsgType":"text","Content":"hi","MsgId":1}`
			if format == XML {
				raw = textXMLPush
			}
			query, body, err := ComposeRequest(a, format, []byte(raw), "42", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if format == XML {
				body = bytes.Replace(body, []byte("<Content><![CDATA[hi"), []byte("<Content><![CDATA["+strings.ReplaceAll(text, "§", "Content")), 1)
			} else {
				quoted, err := json.Marshal(text)
				if err != nil {
					t.Fatal(err)
				}
				body = bytes.Replace(body, []byte(`"hi"`), quoted, 1)
			}
			calls = 0
			w := httptest.NewRecorder()
			d.ServeApp(w, httptest.NewRequest(http.MethodPost, "/callback/a?"+query, bytes.NewReader(body)), "a")
			if w.Code != 200 || calls != 1 {
				t.Errorf("%d, %d calls: %q", w.Code, calls, body)
			}
		}
	}
}

// TestDoubtfulNames: a MsgId that a user wrote names nothing: the same push again has the same name, another push
// another.
func TestDoubtfulNames(t *testing.T) {
	a := App{Name: "a", AppID: "wx1", Mode: Plain, Key: key1}
	name := func(raw string) string {
		t.Helper()
		query, body, err := ComposeRequest(a, XML, []byte(raw), "42", now)
		if err != nil {
			t.Fatal(err)
		}
		p, err := verifier(t, a).Verify(ParseQuery(query), body, now)
		if err != nil {
			t.Fatal(err)
		}
		return p.ID
	}
	forged := func(text string) string {
		return "<xml><FromUserName>oX</FromUserName><MsgType>text</MsgType><Content><![CDATA[" + text + "]]></Content><MsgId>1</MsgId><Content><![CDATA[]]></Content><MsgId>2</MsgId></xml>"
	}
	if one, again, other := name(forged("a")), name(forged("a")), name(forged("b")); one != again || one == other || one[0] != 'e' {
		t.Errorf("%s %s %s", one, again, other)
	}
}
