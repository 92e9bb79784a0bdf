package wechatsim

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestPushesInEveryModeAndFormat(t *testing.T) {
	for _, mode := range []Mode{Plain, Compat, Secure} {
		for _, f := range []Format{JSON, XML} {
			for _, shape := range []Shape{Captured, Documented, Wrapped, Pretty, AnyShape} {
				t.Run(fmt.Sprint(mode, " ", f, " ", shape), func(t *testing.T) {
					r := newRig(t, Options{Apps: []App{{Name: "shop", Mode: mode, Format: f, Shape: shape}}})
					ann := r.User("shop", "ann")
					r.Accept(ann, r.app.Templates[0].ID, r.app.Templates[1].ID)
					r.Say(ann, `<b>&"你好"]]></b>`)
					r.settled()
					all := r.ear.all()
					pushes := r.Pushes()
					if len(all) != 2 || pushes[0].Result != Taken || pushes[1].Result != Taken {
						t.Fatalf("%d heard, %+v", len(all), pushes)
					}
					if (all[0].query["msg_signature"] == "") != (mode == Plain) || (all[0].query["openid"] == ann) != (mode != Plain) {
						t.Errorf("%v", all[0].query)
					}
					if beside := strings.Contains(all[0].body, "MsgType") && strings.Contains(all[0].body, "Encrypt"); beside != (mode == Compat) {
						t.Errorf("Encrypt beside plain fields is %v: %s", beside, all[0].body)
					}
					for _, h := range all {
						if h.ctype != map[Format]string{JSON: "application/json", XML: "text/xml"}[f] {
							t.Error(h.ctype)
						}
					}
					if all[0].plain != pushes[0].Body && mode != Plain {
						t.Errorf("opened %s, made %s", all[0].plain, pushes[0].Body)
					}
					if pushes[0].Event != "subscribe_msg_popup_event" || strings.Count(pushes[0].Body, "PopupScene") < 2 {
						t.Errorf("%+v", pushes[0])
					}
				})
			}
		}
	}
}

func TestDeliveriesAreThreeAndFreshlyEncrypted(t *testing.T) {
	r := newRig(t, Options{})
	ann := r.User(r.app.Name, "ann")
	r.ear.answers(func(n int, w http.ResponseWriter, _ heard) {
		if n < 3 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	r.Say(ann, "hello")
	r.settled()
	all := r.ear.all()
	p := r.Pushes()[0]
	if len(all) != 3 || p.Result != Taken || len(p.Deliveries) != 3 || p.Deliveries[0].Status != 500 || p.Deliveries[2].Fault != "" {
		t.Fatalf("%d heard, %+v", len(all), p)
	}
	if all[0].plain != all[1].plain || all[0].body == all[1].body || all[0].query["nonce"] == all[1].query["nonce"] {
		t.Error("a retry is the same message encrypted afresh")
	}
	r.ear.answers(func(_ int, w http.ResponseWriter, _ heard) { w.WriteHeader(http.StatusForbidden) })
	r.Say(ann, "again")
	r.settled()
	if p := r.Pushes()[1]; p.Result != Failed || len(p.Deliveries) != 3 {
		t.Errorf("%+v", p)
	}
}

func TestWhatWeChatTakesForAnAnswer(t *testing.T) {
	r := newRig(t, Options{PushDeliveries: 1, MarkFailAfter: -1})
	ann := r.User(r.app.Name, "ann")
	envelope1 := func(conf App, msg, nonce string) string {
		key, err := aesKey(conf.EncodingAESKey)
		if err != nil {
			t.Fatal(err)
		}
		encrypted := encrypt(key, []byte("0123456789abcdef"), []byte(msg), conf.AppID)
		b, err := json.Marshal(map[string]any{"Encrypt": encrypted, "MsgSignature": signature(conf.Token, "1713424427", nonce, encrypted),
			"TimeStamp": 1713424427, "Nonce": nonce})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	foreign := r.app
	foreign.AppID = "wx0000000000000000"
	other := r.app
	other.Token = "notthetoken"
	other.EncodingAESKey = base64.StdEncoding.EncodeToString(make([]byte, 32))[:43]
	for _, c := range []struct {
		what   string
		status int
		body   func(h heard) string
		good   bool
	}{
		{"success", 200, func(heard) string { return "success" }, true},
		{"empty", 200, func(heard) string { return "" }, true},
		{"encrypted", 200, func(h heard) string { return envelope1(r.app, `{"demo_resp":"good luck"}`, h.query["nonce"]) }, true},
		{"ok", 200, func(heard) string { return "ok" }, false},
		{"success in JSON", 200, func(heard) string { return `"success"` }, false},
		{"success with 201", 201, func(heard) string { return "success" }, false},
		{"redirect", 302, func(heard) string { return "success" }, false},
		{"a plain reply in secure mode", 200, func(heard) string { return `{"MsgType":"text"}` }, false},
		{"encrypted for another app", 200, func(h heard) string { return envelope1(foreign, `{}`, h.query["nonce"]) }, false},
		{"signed with another token", 200, func(h heard) string { return envelope1(other, `{}`, h.query["nonce"]) }, false},
	} {
		r.ear.answers(func(_ int, w http.ResponseWriter, h heard) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body(h))
		})
		r.Say(ann, c.what)
		r.settled()
		all := r.Pushes()
		p := all[len(all)-1]
		if (p.Result == Taken) != c.good {
			t.Errorf("%s: %s, %s", c.what, p.Result, p.Deliveries[0].Fault)
		}
		if c.what == "encrypted" && p.Reply != `{"demo_resp":"good luck"}` {
			t.Errorf("opened reply %q", p.Reply)
		}
	}
}

func TestAnswerIsAwaitedOnlySoLong(t *testing.T) {
	r := newRig(t, Options{PushTimeout: 20 * time.Millisecond, PushDeliveries: 2})
	ann := r.User(r.app.Name, "ann")
	r.ear.answers(func(_ int, _ http.ResponseWriter, _ heard) { <-r.ctx().Done() })
	stop := make(chan struct{})
	r.ear.answers(func(int, http.ResponseWriter, heard) { <-stop })
	r.Say(ann, "hello")
	r.settled()
	close(stop)
	p := r.Pushes()[0]
	if p.Result != Failed || len(p.Deliveries) != 2 || p.Deliveries[0].Fault != "request timeout" {
		t.Errorf("%+v", p)
	}
}

func TestMarkFailSilencesForAMinute(t *testing.T) {
	r := newRig(t, Options{PushDeliveries: 1, MarkFailAfter: 3})
	ann := r.User(r.app.Name, "ann")
	r.ear.answers(func(_ int, w http.ResponseWriter, _ heard) { w.WriteHeader(http.StatusBadGateway) })
	for range 3 {
		r.Say(ann, "hello")
		r.settled()
	}
	r.ear.answers(nil)
	if !r.Silenced(r.app.Name) {
		t.Fatal("not silenced after three failures")
	}
	r.Say(ann, "nobody hears this")
	r.settled()
	if p := r.Pushes()[3]; p.Result != Dropped || len(p.Deliveries) != 0 {
		t.Errorf("%+v", p)
	}
	r.Advance(time.Minute)
	r.Say(ann, "but this")
	r.settled()
	if p := r.Pushes()[4]; p.Result != Taken {
		t.Errorf("%+v", p)
	}
}

func TestOrderOfOneUserIsKept(t *testing.T) {
	r := newRig(t, Options{})
	ann := r.User(r.app.Name, "ann")
	for i := range 20 {
		r.Say(ann, fmt.Sprint("n", i))
	}
	r.settled()
	for i, h := range r.ear.all() {
		if !strings.Contains(h.plain, fmt.Sprintf(`"Content":"n%d"`, i)) {
			t.Fatalf("%d: %s", i, h.plain)
		}
	}
}

func TestPushMoods(t *testing.T) {
	r := newRig(t, Options{})
	ann := r.User(r.app.Name, "ann")
	heardOf := func(text string) (n int) {
		for _, h := range r.ear.all() {
			if strings.Contains(h.plain, `"`+text+`"`) {
				n++
			}
		}
		return n
	}
	r.Force(Forced{Mood: Duplicate})
	r.Say(ann, "twice")
	r.settled()
	if got := heardOf("twice"); got != 2 {
		t.Errorf("duplicate: %d", got)
	}
	r.Force(Forced{Mood: Lost, OpenID: ann})
	r.Say(r.User(r.app.Name, "bob"), "bob's")
	r.Say(ann, "lost")
	r.settled()
	if heardOf("lost") != 0 || heardOf("bob's") != 1 || r.Pushes()[2].Result != Gone {
		t.Errorf("lost: %+v", r.Pushes()[2])
	}
	r.Force(Forced{Mood: Reorder, Delay: 10 * time.Second})
	r.Say(ann, "first")
	r.Say(ann, "second")
	if err := r.Await(r.ctx(), func() bool { return heardOf("second") == 1 }); err != nil {
		t.Fatal(err)
	}
	if heardOf("first") != 0 {
		t.Error("reorder: the first was not held back")
	}
}

func TestSameSecond(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	r := newRig(t, Options{Clock: func() time.Time { return at }})
	ann := r.User(r.app.Name, "ann")
	r.Say(ann, "a")
	r.settled()
	at = at.Add(time.Second)
	r.Force(Forced{Mood: SameSecond})
	r.Say(ann, "b")
	r.Say(ann, "c")
	r.settled()
	for i, stamp := range []string{"1800000000", "1800000000", "1800000001"} {
		if body := r.Pushes()[i].Body; !strings.Contains(body, `"CreateTime":`+stamp+`,`) {
			t.Errorf("%d: %s", i, body)
		}
	}
}

// TestNoTwoPushesOfAUserAreAlike: two taps in one second would be one to everybody who dedupes by content.
func TestNoTwoPushesOfAUserAreAlike(t *testing.T) {
	r := newRig(t, Options{Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	ann, one, two := r.User(r.app.Name, "ann"), r.app.Templates[0].ID, r.app.Templates[1].ID
	r.Accept(ann, one)
	r.Accept(ann, two)
	r.Accept(ann, one)
	r.Reject(ann, two)
	r.settled()
	for i, stamp := range []string{"1800000000", "1800000000", "1800000001", "1800000001"} {
		if body := r.Pushes()[i].Body; !strings.Contains(body, `"CreateTime":`+stamp+`,`) {
			t.Errorf("%d: %s", i, body)
		}
	}
}

func TestSentEventsEarlyFailedAndOff(t *testing.T) {
	r := newRig(t, Options{})
	ann, tmpl := r.User(r.app.Name, "ann"), r.app.Templates[0].ID
	r.Grant(ann, tmpl, 10)
	r.Force(Forced{Mood: SentFirst})
	want(t, "send", r.send(r.order(ann)), 0)
	if all := r.ear.all(); len(all) != 1 || !strings.Contains(all[0].plain, "subscribe_msg_sent_event") {
		t.Errorf("the event came after the answer: %d heard", len(all))
	}
	r.settled()
	r.Force(Forced{Mood: SentFails, OpenID: ann})
	want(t, "send", r.send(r.order(ann)), 0)
	r.settled()
	if body := r.ear.last(t).plain; !strings.Contains(body, `"ErrorCode":"-1"`) || len(r.Inbox(ann)) != 1 {
		t.Errorf("%s, %d received", body, len(r.Inbox(ann)))
	}
	r.SetApp(r.app.Name, func(a *App) { a.NoSentEvents, a.NoMsgID = true, true })
	got := r.send(r.order(ann))
	want(t, "send", got, 0)
	r.settled()
	if len(r.ear.all()) != 2 || strings.Contains(got.raw, "msgid") {
		t.Errorf("%d heard, %s", len(r.ear.all()), got.raw)
	}
}

func TestPassiveReplies(t *testing.T) {
	r := newRig(t, Options{Apps: []App{{Name: "shop", Mode: Plain, Format: XML}, {Name: "news", Kind: OfficialAccount, Mode: Plain}}})
	ann, bob := r.User("shop", "ann"), r.User("news", "bob")
	r.ear.answers(func(_ int, w http.ResponseWriter, h heard) {
		kind := "text"
		who := bob
		if strings.Contains(h.plain, ann) {
			kind, who = "transfer_customer_service", ann
		}
		fmt.Fprintf(w, `<xml><ToUserName>%s</ToUserName><FromUserName>gh</FromUserName><CreateTime>1</CreateTime><MsgType>%s</MsgType><Content>welcome</Content></xml>`, who, kind)
	})
	r.EnterSession(ann, "card") // an event is never handed over
	r.Say(ann, "help")
	r.settled()
	r.Say(ann, "are you there?")
	r.settled()
	if got := len(r.Pushes()); got != 2 {
		t.Errorf("%d pushes: a session with a person bypasses the callback", got)
	}
	r.Advance(31 * time.Minute)
	r.Say(ann, "anybody?")
	r.settled()
	if got := len(r.Pushes()); got != 3 {
		t.Errorf("%d pushes: after half an hour they come again", got)
	}
	r.ear.app = func() App { return r.App("news") }
	r.Say(bob, "hello")
	r.settled()
	if in := r.Inbox(bob); len(in) != 1 || in[0].Values["text"] != "welcome" || in[0].Channel != "passive" {
		t.Errorf("%+v", in)
	}
}

func TestOtherEvents(t *testing.T) {
	r := newRig(t, Options{})
	ann, tmpl := r.User(r.app.Name, "ann"), r.app.Templates[0].ID
	r.Grant(ann, tmpl, 1)
	r.Revoke(ann, "user_authorization_cancellation")
	r.settled()
	body := r.ear.last(t).plain
	if !strings.Contains(body, `"OpenID":"`+ann+`"`) || strings.Contains(body, `"FromUserName":"`+ann+`"`) || !strings.Contains(body, `"RevokeInfo":"1"`) {
		t.Error(body)
	}
	want(t, "a closed account", r.send(r.order(ann)), 40003)
	r.PushEvent(ann, "wxa_media_check", Field{"trace_id", "x"}, Field{"isrisky", Number(0)})
	r.settled()
	if body := r.ear.last(t).plain; !strings.Contains(body, `"Event":"wxa_media_check","trace_id":"x","isrisky":0}`) {
		t.Error(body)
	}
	if err := r.VerifyCallback(r.ctx(), r.app.Name); err != nil {
		t.Error(err)
	}
	r.ear.answers(func(_ int, w http.ResponseWriter, h heard) { fmt.Fprintf(w, `"%s"`, h.query["echostr"]) })
	if err := r.VerifyCallback(r.ctx(), r.app.Name); err == nil {
		t.Error("an echostr in quotes is not the echostr")
	}
}
