package app_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// replied is the push the user made last, once WeChat is content with the answer to it.
func (w *world) replied() wechatsim.Push {
	w.t.Helper()
	w.settled()
	all := w.sim.Pushes()
	p := all[len(all)-1]
	if p.Result != wechatsim.Taken {
		w.t.Fatalf("WeChat is not content: %+v", p)
	}
	return p
}

// pushesTold counts push.received as the partner took it for good, the question for a reply left out.
func (w *world) pushesTold() (n int) {
	for _, e := range w.partner.Events() {
		if e.Type == "push.received" && strings.HasPrefix(e.ID, "evt_") {
			n++
		}
	}
	return n
}

// A message is handed over to the customer service tool, sealed in the format of the push; an event is not. Either way the
// event goes its durable way.
func TestReplyTransfersMessages(t *testing.T) {
	t.Parallel()
	for _, format := range []wechatsim.Format{wechatsim.JSON, wechatsim.XML} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{push: ", reply: transfer_customer_service", sim: func(o *wechatsim.Options) { o.Apps[0].Format = format }})
			ann := w.sim.User("shop", "ann")
			w.sim.Say(ann, "在吗")
			p := w.replied()
			if !strings.Contains(p.Reply, "transfer_customer_service") || !strings.Contains(p.Reply, ann) || (p.Reply[0] == '<') != (format == wechatsim.XML) {
				t.Errorf("%+v", p)
			}
			if d := p.Deliveries[0]; !strings.Contains(d.Answer, "Encrypt") || strings.Contains(d.Answer, ann) {
				t.Errorf("the reply is not sealed: %s", d.Answer)
			}
			w.told("push.received", func(e partnersim.Event) bool { return strings.Contains(string(e.Data), "在吗") })
			w.accept(ann, tOrder)
			if p := w.replied(); p.Reply != "" || p.Deliveries[0].Answer != "success" {
				t.Errorf("an event: %+v", p)
			}
			w.wantLine(ann, tOrder, 1, 0, "accepted")
		})
	}
}

// With reply: partner the endpoint is asked, and what it says becomes the passive reply if WeChat can read it. Whatever it
// does instead, WeChat hears success and the event goes its durable way, once.
func TestReplyOfThePartner(t *testing.T) {
	t.Parallel()
	passive := func(ann string, f wechatsim.Format, text string) string {
		if f == wechatsim.XML {
			return fmt.Sprintf("<xml><ToUserName><![CDATA[%s]]></ToUserName><FromUserName><![CDATA[gh]]></FromUserName><CreateTime>1</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[%s]]></Content></xml>", ann, text)
		}
		return fmt.Sprintf(`{"ToUserName":%q,"FromUserName":"gh","CreateTime":1,"MsgType":"text","Content":%q}`, ann, text)
	}
	other := map[wechatsim.Format]wechatsim.Format{wechatsim.JSON: wechatsim.XML, wechatsim.XML: wechatsim.JSON}
	for _, format := range []wechatsim.Format{wechatsim.JSON, wechatsim.XML} {
		for name, c := range map[string]struct {
			does  func(ann string) partnersim.Behaviour
			reply bool
		}{
			"good": {func(ann string) partnersim.Behaviour {
				return partnersim.Behaviour{Body: passive(ann, format, "您好")}
			}, true},
			"good, padded": {func(ann string) partnersim.Behaviour {
				return partnersim.Behaviour{Body: "\n " + passive(ann, format, "您好") + "\r\n"}
			}, true},
			"good, 40 KiB": {func(ann string) partnersim.Behaviour {
				return partnersim.Behaviour{Body: passive(ann, format, "您好"+strings.Repeat("x", 40<<10))}
			}, true},
			"too long": {func(ann string) partnersim.Behaviour {
				return partnersim.Behaviour{Body: passive(ann, format, strings.Repeat("x", 64<<10))}
			}, false},
			"nothing":     {func(string) partnersim.Behaviour { return partnersim.Behaviour{} }, false},
			"success":     {func(string) partnersim.Behaviour { return partnersim.Behaviour{Body: "success\n"} }, false},
			"ok":          {func(string) partnersim.Behaviour { return partnersim.Behaviour{Body: "ok"} }, false},
			"JSON of its": {func(string) partnersim.Behaviour { return partnersim.Behaviour{Body: `{"ok":true}`} }, false},
			"other format": {func(ann string) partnersim.Behaviour {
				return partnersim.Behaviour{Body: passive(ann, other[format], "您好")}
			}, false},
			"500": {func(ann string) partnersim.Behaviour {
				return partnersim.Behaviour{Status: 500, Body: passive(ann, format, "您好")}
			}, false},
			"breaks off": {func(string) partnersim.Behaviour { return partnersim.Behaviour{Close: true} }, false},
			"late": {func(ann string) partnersim.Behaviour {
				return partnersim.Behaviour{Delay: time.Minute, Body: passive(ann, format, "您好")}
			}, false},
			"somebody else": {func(string) partnersim.Behaviour {
				return partnersim.Behaviour{Body: passive("oSomebody", format, "您好")}
			}, false},
		} {
			t.Run(string(format)+" "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, wish{push: ", reply: partner, reply_endpoint: orders/main", sim: func(o *wechatsim.Options) { o.Apps[0].Format = format }})
				ann := w.sim.User("shop", "ann")
				does := c.does(ann)
				does.ID = "ask_" // the question; the event itself is told as always
				w.partner.Misbehave(does)
				w.sim.Say(ann, "在吗")
				p := w.replied()
				if (p.Reply != "") != c.reply || c.reply && !strings.Contains(p.Reply, "您好") || len(p.Deliveries) != 1 {
					t.Errorf("%d deliveries, reply %.200q", len(p.Deliveries), p.Reply)
				}
				if !c.reply && p.Deliveries[0].Answer != "success" {
					t.Errorf("answer %.200q", p.Deliveries[0].Answer)
				}
				w.told("push.received", func(e partnersim.Event) bool { return strings.HasPrefix(e.ID, "evt_") })
				if n := w.pushesTold(); n != 1 {
					t.Errorf("told %d times", n)
				}
			})
		}
	}
}

// A push that comes twice is answered twice and told once; the partner sees by the webhook-id that it is asked the same.
func TestReplyToADuplicate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{push: ", reply: partner, reply_endpoint: orders/main"})
	ann := w.sim.User("shop", "ann")
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Duplicate})
	w.sim.Say(ann, "在吗")
	if p := w.replied(); len(p.Deliveries) != 2 {
		t.Fatalf("%+v", p)
	}
	w.told("push.received", func(e partnersim.Event) bool { return strings.HasPrefix(e.ID, "evt_") })
	asked := map[string]int{}
	for _, d := range w.partner.Deliveries() {
		if strings.HasPrefix(d.ID, "ask_") {
			asked[d.ID]++
			var body struct {
				Type string
				Data struct{ Raw string }
			}
			if err := json.Unmarshal([]byte(d.Body), &body); err != nil || body.Type != "push.received" || !strings.Contains(body.Data.Raw, "在吗") {
				t.Errorf("%s", d.Body)
			}
		}
	}
	if len(asked) != 1 || w.pushesTold() != 1 {
		t.Errorf("asked %v, told %d times", asked, w.pushesTold())
	}
}
