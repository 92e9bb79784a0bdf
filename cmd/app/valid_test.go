package app_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// blamed are the fields a 422 names, sorted.
func blamed(a *partnersim.Answer) string {
	var p struct{ Errors []struct{ Field string } }
	if a.Into(&p) != nil || a.Code() != "invalid_message" {
		return a.Code()
	}
	var out []string
	for _, e := range p.Errors {
		out = append(out, e.Field)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

const tAll = "TallTallTallTallTallTallTallTallTallTall000" // long-term, one keyword of every type

// What is accepted here is accepted by WeChat: the simulator judges the same values by its own reading of the documents.
func TestWhatPassesHerePassesAtWeChat(t *testing.T) {
	t.Parallel()
	values := map[string][]string{
		"thing1":            {"一杯咖啡", strings.Repeat("长", 20), strings.Repeat("长", 21), strings.Repeat("😀", 10), strings.Repeat("😀", 11), "a\u200bb", "a\u2028b", "a\tb"},
		"number2":           {"12", "3.14", "-3", "+3", "1,000", "1e3", ".5", "5.", "１２", strings.Repeat("1", 32), strings.Repeat("1", 33)},
		"letter3":           {"abcXYZ", "abc1", "é", "ab c"},
		"symbol4":           {"!@#", "! !", "，。", "！a", "→", "!!!!!!"},
		"character_string5": {"A-2019/11", "A 1", "单1", "é1", "１"},
		"time6":             {"15:01", "24:00", "24:30", "9:5", "2019-10-01 15:01", "2019-10-0115:01", "2019年10月1日15:01", "09:00~10:00", "09:00 ~ 10:00", " 15:01", "09:00～10:00", "2019-13-01 15:01"},
		"date7":             {"2019-10-01", "2019-13-45", "2019-10/01", "13月1日", "2019年10月", "10月1日", "01-01", "2019.10.01 15:01", "2019-10-01~2019-10-07", "2019-10-0115:01", "1/2"},
		"amount8":           {"¥18", "$1,000", "abc100", "100.5元", "￥100元", "¥¥1", "¥ 1", "1.", "CNY100", "¥12345678901", "1234567890", "￥1.23"},
		"phone_number9":     {"+86-0766-66888866", "0766 66888866", "(0766)6688#1", "6688/1", "call me"},
		"car_number10":      {"粤A8Z888挂", "A粤8Z888", "粤", "A8", "粤A 8"},
		"name11":            {"张三", "张3", "John R. T.", "张 三", "é", "O'Neil"},
		"phrase12":          {"审核通过", "ok", "审核通过啦啦", "通过！"},
		"enum_string13":     {"已发货", "在路上"},
	}
	enums := map[string][]string{"enum_string13": {"已发货", "已签收"}}
	good := map[string]string{}
	content := ""
	for _, key := range slices.Sorted(maps.Keys(values)) {
		good[key] = values[key][0]
		content += fmt.Sprintf("%s:{{%s.DATA}}\n", key, key)
	}
	w := newWorld(t, wish{sim: func(o *wechatsim.Options) {
		o.Apps[0].Templates = append(o.Apps[0].Templates, wechatsim.Template{ID: tAll, Title: "All", Type: 3, Content: content, Enums: enums})
	}})
	ann := w.sim.User("shop", "ann")
	w.accept(ann, tAll)
	if err := w.until(func() bool { return w.line(ann, tAll).Status == "accepted" }); err != nil {
		t.Fatal(err)
	}
	passed, refused := 0, 0
	for key, list := range values {
		for _, v := range list {
			data := map[string]any{}
			for k, g := range good {
				data[k] = g
			}
			data[key] = v
			a, err := w.client.Send(w.ctx, "", order(ann, map[string]any{"template_id": tAll, "data": data}))
			if err != nil {
				t.Fatal(err)
			}
			direct := wechatsim.Fits(key, v, enums)
			switch {
			case a.Status == 202 && direct:
				passed++
				if err := w.until(func() bool { return w.message(a.Message().ID).State == "delivered" }); err != nil {
					t.Errorf("%s %q: %+v", key, v, w.message(a.Message().ID))
				}
			case a.Status == 422 && !direct && blamed(a) == "data."+key:
				refused++
			default:
				t.Errorf("%s %q: %d %s, at WeChat %v", key, v, a.Status, a.Body, direct)
			}
		}
	}
	if passed < 30 || refused < 30 {
		t.Errorf("%d passed, %d refused", passed, refused)
	}
}

// The template's own list decides (gettemplate): what is missing, too much or of another list is named, each by its field.
func TestMessagesAreComparedWithTheirTemplate(t *testing.T) {
	t.Parallel()
	const tEnum = "TenumTenumTenumTenumTenumTenumTenumTenum000"
	w := newWorld(t, wish{sim: func(o *wechatsim.Options) {
		o.Apps[0].Templates = append(o.Apps[0].Templates, wechatsim.Template{ID: tEnum, Title: "Enum", Content: "s:{{enum_string1.DATA}}\n",
			Enums: map[string][]string{"enum_string1": {"已发货", "已签收"}}})
	}})
	ann := w.granted("ann", 1)
	for name, c := range map[string]struct {
		over   map[string]any
		fields string
	}{
		"missing":          {map[string]any{"data": map[string]any{"thing1": "x"}}, "data.amount2"},
		"too much":         {map[string]any{"data": map[string]any{"thing1": "x", "amount2": "1", "thing3": "y"}}, "data.thing3"},
		"another name":     {map[string]any{"data": map[string]any{"thing01": "x", "amount2": "1"}}, "data.thing01 data.thing1"},
		"empty":            {map[string]any{"data": map[string]any{"thing1": "", "amount2": " "}}, "data.amount2 data.thing1"},
		"of another type":  {map[string]any{"data": map[string]any{"thing1": true, "amount2": map[string]any{"valu": "1"}}}, "data.amount2 data.amount2.valu data.thing1"},
		"no such template": {map[string]any{"template_id": "Tnone"}, "template_id"},
		"enum":             {map[string]any{"template_id": tEnum, "data": map[string]any{"enum_string1": "在路上"}}, "data.enum_string1"},
		"lang":             {map[string]any{"lang": "fr_FR"}, "lang"},
		"state":            {map[string]any{"miniprogram_state": "beta"}, "miniprogram_state"},
		"page":             {map[string]any{"page": "/pages/order"}, "page"},
		"a page of blanks": {map[string]any{"page": "pages order"}, "page"},
		"all at once":      {map[string]any{"lang": "x", "page": "/p", "data": map[string]any{"thing1": strings.Repeat("长", 21)}}, "data.amount2 data.thing1 lang page"},
	} {
		if got := blamed(w.send(422, order(ann, c.over))); got != c.fields {
			t.Errorf("%s: blames %q, want %q", name, got, c.fields)
		}
	}
	a := w.send(422, order(ann, map[string]any{"data": map[string]any{"thing1": strings.Repeat("长", 23), "amount2": "1"}}))
	if !strings.Contains(string(a.Body), `"23 characters, at most 20"`) {
		t.Errorf("%s", a.Body)
	}
	if n := len(w.sim.Sends()); n != 0 {
		t.Errorf("WeChat was asked %d times", n)
	}
	w.wantLine(ann, tOrder, 1, 0, "accepted")
	w.accept(ann, tEnum)
	for _, over := range []map[string]any{
		{"lang": "en_US", "miniprogram_state": "trial"},
		{"template_id": tEnum, "data": map[string]any{"enum_string1": "已发货"}},
	} {
		w.toldOf(w.send(202, order(ann, over)).Message().ID, "message.delivered")
	}
	if in := w.sim.Inbox(ann); string(in[0].Body["lang"]) != `"en_US"` || string(in[0].Body["miniprogram_state"]) != `"trial"` {
		t.Errorf("%+v", in[0])
	}
}

// truncate shortens free text, and nothing whose meaning is in its end.
func TestTruncate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	over := map[string]any{"data": map[string]any{"thing1": strings.Repeat("长", 30), "amount2": "¥12345678901"}, "truncate": true}
	if got := blamed(w.send(422, order(ann, over))); got != "data.amount2" {
		t.Errorf("blames %q", got)
	}
	over["data"].(map[string]any)["amount2"] = "¥1"
	w.toldOf(w.send(202, order(ann, over)).Message().ID, "message.delivered")
	if got := w.sim.Inbox(ann)[0].Values["thing1"]; got != strings.Repeat("长", 19)+"…" {
		t.Errorf("received %q", got)
	}
}

// An alias stands for the template's id, its page and its keywords: the partner carries none of them.
func TestTemplateAliases(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{app: fmt.Sprintf(`    templates:
      - {id: order_shipped, template_id: %s, page: 'pages/order?from=alias', data: {item: thing1, price: amount2}}
      - {id: bare, template_id: %s}`, tOrder, tOther)})
	ann := w.granted("ann", 2)
	w.accept(ann, tOther)
	by := func(alias string, data map[string]any, over map[string]any) map[string]any {
		m := map[string]any{"app": "shop", "to": map[string]any{"openid": ann}, "template": alias, "data": data}
		maps.Copy(m, over)
		return m
	}
	shipped := map[string]any{"item": "一杯咖啡", "price": map[string]any{"value": "¥18"}}
	m := w.send(202, by("order_shipped", shipped, nil)).Message()
	if m.Template == nil || *m.Template != tOrder {
		t.Errorf("%+v", m)
	}
	w.toldOf(m.ID, "message.delivered")
	w.toldOf(w.send(202, by("order_shipped", shipped, map[string]any{"page": "pages/order?id=2"})).Message().ID, "message.delivered")
	w.toldOf(w.send(202, by("bare", map[string]any{"thing1": "x"}, nil)).Message().ID, "message.delivered")
	in := w.sim.Inbox(ann)
	if len(in) != 3 || in[0].Page != "pages/order?from=alias" || in[1].Page != "pages/order?id=2" || in[2].Page != "" ||
		in[0].Values["thing1"] != "一杯咖啡" || in[0].Values["amount2"] != "¥18" || in[2].Template != tOther {
		t.Errorf("%+v", in)
	}
	for name, c := range map[string]struct {
		m      map[string]any
		fields string
	}{
		"no such alias":      {by("order_lost", shipped, nil), "template template_id"},
		"and a template":     {by("order_shipped", shipped, map[string]any{"template_id": tOrder}), "data.amount2 data.item data.price data.thing1 template_id"},
		"a field is missing": {by("order_shipped", map[string]any{"item": "x"}, nil), "data.amount2"},
		"a wrong value":      {by("order_shipped", map[string]any{"item": "x", "price": "much"}, nil), "data.amount2"},
	} {
		if got := blamed(w.send(422, c.m)); got != c.fields {
			t.Errorf("%s: blames %q, want %q", name, got, c.fields)
		}
	}
}

// to.user is the partner's own name for somebody: bound it is sent to, else it is said what to do.
func TestSendToAUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	to := func(user string) map[string]any {
		return order("", map[string]any{"to": map[string]any{"user": user}})
	}
	if got := blamed(w.send(422, to("u-1"))); got != "to.user" {
		t.Errorf("not bound: blames %q", got)
	}
	if a, err := w.client.Do(w.ctx, "PUT", "bindings/shop/u-1", map[string]any{"openid": ann}); err != nil || a.Status != 200 {
		t.Fatalf("%v %+v", err, a)
	}
	m := w.send(202, to("u-1")).Message()
	if m.OpenID != ann || m.User == nil || *m.User != "u-1" {
		t.Errorf("%+v", m)
	}
	if got := w.toldOf(m.ID, "message.delivered"); got.User == nil || *got.User != "u-1" || got.OpenID != ann {
		t.Errorf("%+v", got)
	}
	w.received(ann, 1)
	if a, err := w.client.Do(w.ctx, "DELETE", "bindings/shop/u-1", nil); err != nil || a.Status/100 != 2 {
		t.Fatalf("%v %+v", err, a)
	}
	if got := blamed(w.send(422, to("u-1"))); got != "to.user" {
		t.Errorf("unbound: blames %q", got)
	}
	for _, both := range []map[string]any{{"user": "u-1", "openid": ann}, {}} {
		if got := blamed(w.send(422, order("", map[string]any{"to": both}))); got != "to" {
			t.Errorf("%v blames %q", both, got)
		}
	}
}

// What stands under a channel's name is that channel's alone: the others have the message's own.
func TestPartsDoNotLeak(t *testing.T) {
	t.Parallel()
	w := newsWorld(t)
	acc := w.sim.User("news", "ann")
	mini := map[string]any{"appid": w.sim.App("shop").AppID, "pagepath": "pages/order"}
	m := news(map[string]any{"openid": acc}, map[string]any{"channel": []string{"oa_template", "customer_service"}, "msgtype": "text",
		"text": map[string]any{"content": "the message's own"}, "oa_template": map[string]any{"miniprogram": mini, "data": map[string]any{"first": "the part's"}},
		"customer_service": map[string]any{"text": map[string]any{"content": "instead"}}, "miniprogram": map[string]any{"appid": "wx0000000000000000", "pagepath": "x"}})
	w.sim.Say(acc, "hello")
	w.settled()
	w.toldOf(w.send(202, m).Message().ID, "message.delivered")
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "template/send", Errcode: 43004, Errmsg: "require subscribe"})
	w.toldOf(w.send(202, m).Message().ID, "message.sent")
	in := w.sim.Inbox(acc)
	if len(in) != 2 || in[0].Values["first"] != "the part's" || in[0].Page != "pages/order" || in[1].Values["text"] != "instead" {
		t.Errorf("%+v", in)
	}
}

// An official account's templates are compared with its list too.
func TestOfficialAccountTemplatesAreCompared(t *testing.T) {
	t.Parallel()
	w := newsWorld(t)
	to := map[string]any{"openid": w.sim.User("news", "ann")}
	for name, c := range map[string]struct {
		over   map[string]any
		fields string
	}{
		"no such template": {map[string]any{"template_id": "Tnone"}, "template_id"},
		"wrong keyword":    {map[string]any{"data": map[string]any{"frist": "x"}}, "data.first data.frist"},
		"a wrong address":  {map[string]any{"url": "example.com"}, "url"},
		"no mini-program":  {map[string]any{"miniprogram": map[string]any{"pagepath": "x", "page": 1}}, "miniprogram.appid miniprogram.page"},
		"without appid":    {map[string]any{"miniprogram": map[string]any{"pagepath": "x"}}, "miniprogram.appid"},
	} {
		if got := blamed(w.send(422, news(to, c.over))); got != c.fields {
			t.Errorf("%s: blames %q, want %q", name, got, c.fields)
		}
	}
	w.toldOf(w.send(202, news(to, nil)).Message().ID, "message.delivered")
}

// What WeChat would refuse of a customer message is refused here; nobody is alarmed.
func TestCustomerServiceFormsThatAreFaulty(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	w.says(ann)
	kf := func(msgtype string, part any) map[string]any {
		m := text(ann, "", map[string]any{"msgtype": msgtype})
		delete(m, "text")
		if part != nil {
			m[msgtype] = part
		}
		return m
	}
	type m = map[string]any
	for name, c := range map[string]struct {
		m      map[string]any
		fields string
	}{
		"no text":          {kf("text", nil), "text"},
		"empty":            {kf("text", m{}), "text.content"},
		"blank":            {kf("text", m{"content": " "}), "text.content"},
		"3000 bytes":       {kf("text", m{"content": strings.Repeat("长", 1000)}), "text.content"},
		"of a wrong type":  {kf("text", m{"content": 7}), "text.content"},
		"unknown inside":   {kf("text", m{"content": "x", "contents": "y"}), "text.contents"},
		"no media":         {kf("image", m{}), "image.media_id"},
		"empty link":       {kf("link", m{}), "link.title link.url"},
		"link to nowhere":  {kf("link", m{"title": "x", "url": "pages/x"}), "link.url"},
		"empty page":       {kf("miniprogrampage", m{}), "miniprogrampage.pagepath miniprogrampage.thumb_media_id miniprogrampage.title"},
		"two at once":      {text(ann, "x", m{"image": m{"media_id": "y"}}), "image"},
		"in a part":        {text(ann, "", m{"customer_service": m{"text": m{"content": ""}}}), "text.content"},
		"of another":       {text(ann, "x", m{"form_id": "1", "subscribe": m{"page": "pages/x"}}), "form_id subscribe"},
		"half a uniform":   {m{"app": "shop", "to": m{"openid": ann}, "channel": "uniform", "weapp_template_msg": m{"template_id": "x", "formid": 1}}, "weapp_template_msg.form_id weapp_template_msg.formid"},
		"a uniform's page": {m{"app": "shop", "to": m{"openid": ann}, "channel": "uniform", "weapp_template_msg": m{"template_id": "x", "page": "/x", "form_id": "1"}, "mp_template_msg": m{}}, "mp_template_msg.appid mp_template_msg.template_id weapp_template_msg.page"},
		"emphasis on air":  {legacy(ann, m{"form_id": "1", "emphasis_keyword": "keyword3.DATA"}), "emphasis_keyword"},
	} {
		if got := blamed(w.send(422, c.m)); got != c.fields {
			t.Errorf("%s: blames %q, want %q", name, got, c.fields)
		}
	}
	for _, code := range []int{40008, 44004} {
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "custom/send", Errcode: code, Errmsg: "no"})
		w.toldOf(w.send(202, text(ann, "x", nil)).Message().ID, "message.failed")
	}
	if n := w.countTold("app.alert"); n != 0 {
		t.Errorf("%d alerts", n)
	}
}

// WeChat refuses \u escapes (40033), which many a JSON library writes for every Chinese character: they do not get there.
func TestEscapesAreUndone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{sim: years2018(0)})
	ann := w.sim.User("shop", "ann")
	w.says(ann)
	kf := text(ann, "", map[string]any{"text": json.RawMessage(`{"content":"\u4f60\u597d\u2028\"\ud83d\ude00<&>"}`)})
	w.toldOf(w.send(202, kf).Message().ID, "message.sent")
	if in := w.sim.Inbox(ann); len(in) != 1 || in[0].Values["text"] != "你好\n\"😀<&>" {
		t.Errorf("%+v", in)
	}
	if got := blamed(w.send(422, text(ann, "", map[string]any{"text": json.RawMessage(`{"content":"a\u0001b"}`)}))); got != "text" {
		t.Errorf("a control character: blames %q", got)
	}
	w.sim.SetEra(wechatsim.Era2018)
	uniform := map[string]any{"app": "shop", "to": map[string]any{"openid": ann}, "channel": "uniform",
		"weapp_template_msg": json.RawMessage(fmt.Sprintf(`{"template_id":%q,"form_id":%q,"data":{"keyword1":{"value":"\u4f60"},"keyword2":{"value":"b"}}}`, tLegacy, w.sim.SubmitForm(ann)))}
	w.toldOf(w.send(202, uniform).Message().ID, "message.sent")
	if in := w.sim.Inbox(ann); len(in) != 2 || in[1].Values["keyword1"] != "你" || in[1].Channel != "uniform" {
		t.Errorf("%+v", in)
	}
}
