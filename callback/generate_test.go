package callback

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// grower makes pushes no document shows: the right words in any order, nesting and dress.
type grower struct {
	*rand.Rand
	b strings.Builder
}

var (
	growKeys = strings.Fields(`ToUserName FromUserName CreateTime MsgType Event MsgId MsgID msgid Status List SubscribeMsgPopupEvent SubscribeMsgSentEvent
		TemplateId SubscribeStatusString PopupScene ErrorCode ErrorStatus OpenID openid OpenId AppID RevokeInfo detail result suggest label illegal_content
		MiniGame Payload PayEventSig GoodsInfo Quantity InfoType AppId Content PicUrl EventKey SessionFrom unknown
		List List List List TemplateId TemplateId TemplateId SubscribeMsgPopupEvent SubscribeMsgPopupEvent SubscribeMsgPopupEvent`)
	growTexts = []string{"", "event", "text", "subscribe_msg_popup_event", "subscribe_msg_sent_event", "user_authorization_revoke", "wxa_media_check",
		"wxa_punish_event", "xpay_goods_deliver_notify", "notify_service_msg_send_result", "component_verify_ticket", "accept", "T1", "1620973045",
		"3395159288267931652", "1.5e9", "-1", "你好😀", "a b", `{"OpenId":"o","GoodsInfo":{"Quantity":2}}`, "<b>&amp;]]</b>", `"\/`, "\t", "x\r\ny"}
)

func pick[T any](g *grower, of []T) T { return of[g.IntN(len(of))] }

func (g *grower) blank() string { return pick(g, []string{"", "", "", " ", "\n\t", "\r\n"}) }

func (g *grower) write(s ...string) {
	for _, s := range s {
		g.b.WriteString(s)
	}
}

func (g *grower) jsonText(s string) {
	g.write(`"`)
	for _, r := range s {
		switch {
		case g.IntN(8) == 0 && r < 0x10000:
			fmt.Fprintf(&g.b, `\u%04x`, r)
		case r == '"' || r == '\\' || r == '/' && g.IntN(2) == 0:
			g.write(`\`, string(r))
		case r == '\n':
			g.write(`\n`)
		case r < ' ':
			fmt.Fprintf(&g.b, `\u%04X`, r)
		default:
			g.write(string(r))
		}
	}
	g.write(`"`)
}

func (g *grower) jsonObject(depth int) {
	g.write("{", g.blank())
	named := depth == 0 && g.IntN(2) == 0
	if named {
		g.write(`"Event":`)
		g.jsonText(pick(g, growTexts[3:10]))
		g.write(`,"MsgType":"event"`)
	}
	for i := range g.IntN(7) {
		if i > 0 || named {
			g.write(",", g.blank())
		}
		g.jsonText(pick(g, growKeys))
		g.write(g.blank(), ":", g.blank())
		g.jsonValue(depth)
		g.write(g.blank())
	}
	g.write("}")
}

func (g *grower) jsonValue(depth int) {
	switch n := g.IntN(14); {
	case n < 2 && depth < 6:
		g.jsonObject(depth + 1)
	case n < 4 && depth < 6:
		g.write("[", g.blank())
		for i := range g.IntN(4) {
			if i > 0 {
				g.write(",", g.blank())
			}
			g.jsonValue(depth + 1)
			g.write(g.blank())
		}
		g.write("]")
	case n == 4:
		g.write(pick(g, []string{"null", "true", "false", "0", "-0.5", "1e3", "23637352235060880123"}))
	case n == 5:
		g.write(strconv.Itoa(g.IntN(1 << 30)))
	default:
		g.jsonText(pick(g, growTexts))
	}
}

func (g *grower) xmlElement(name string, depth int) {
	g.write("<", name, pick(g, []string{"", "", "", " ", ` a="b>" c='"'`}))
	if g.IntN(12) == 0 {
		g.write("/>")
		return
	}
	g.write(">", g.blank())
	switch n := g.IntN(10); {
	case depth == 0 || n < 3 && depth < 6:
		if depth == 0 && g.IntN(2) == 0 {
			g.write("<Event><![CDATA[", pick(g, growTexts[3:10]), "]]></Event><MsgType>event</MsgType>")
		}
		for range g.IntN(7) {
			g.xmlElement(pick(g, growKeys), depth+1)
			g.write(g.blank(), pick(g, []string{"", "", "", "<!-- <x> -->", "<?pi ?>"}))
		}
	case n < 7:
		g.write("<![CDATA[", trim(pick(g, growTexts)), "]]>")
		if g.IntN(6) == 0 {
			g.write(pick(g, []string{"<![CDATA[more]]>", " plain", "<!---->", "&lt;", " \n <![CDATA[apart]]>"}))
		}
	default:
		g.write(strings.NewReplacer("&", pick(g, []string{"&amp;", "&#38;", "&#x26;"}), "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(pick(g, growTexts)))
		if g.IntN(6) == 0 {
			g.write(pick(g, []string{"<![CDATA[and more]]>", "<!-- so --> it goes on", "\n"}))
		}
	}
	g.write(g.blank(), "</", name, pick(g, []string{"", "", " "}), ">")
}

// TestGenerated compares scanner and oracle on some thousands of grown pushes.
func TestGenerated(t *testing.T) {
	g := &grower{Rand: rand.New(rand.NewPCG(20260730, 1))}
	subscribes, families, n := 0, 0, 20000
	if raceEnabled {
		n /= 10 // ten times as slow
	}
	for range n {
		for _, format := range []Format{JSON, XML} {
			g.b.Reset()
			g.write(g.blank())
			oracle := oracleJSON
			if format == JSON {
				g.jsonObject(0)
			} else {
				g.xmlElement("xml", 0)
				oracle = oracleXML
			}
			g.write(g.blank())
			raw := g.b.String()
			want, ok := oracle([]byte(raw))
			if !ok {
				t.Fatalf("the oracle does not read %q", raw)
			}
			got, ev, err := Decode([]byte(raw))
			if err != nil || got != format {
				t.Fatalf("%v in %q", err, raw)
			}
			if format == XML {
				want, ev = trimmed(want), trimmed(ev)
			}
			if diff := cmp.Diff(want, ev); diff != "" {
				t.Fatalf("%q: oracle -, scanner +:\n%s", raw, diff)
			}
			if len(ev.Subscribes) > 0 {
				subscribes++
			}
			if ev.Payment != nil || ev.Authorization != nil || ev.Message != nil || ev.Component != nil {
				families++
			}
		}
	}
	if subscribes < n/400 || families < n/20 {
		t.Errorf("grown: %d subscribe events, %d of other families", subscribes, families)
	}
}
