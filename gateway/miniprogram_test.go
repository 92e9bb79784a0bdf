package gateway

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

func TestLogin(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		ann := w.sim.User("shop", "ann")
		code := w.sim.Login(ann)
		first := w.mp("POST", "/shop/login", "", `{"code":"`+code+`","version":"1.2"}`).got(200, "")
		again := w.mp("POST", "/shop/login", "", `{"code":"`+code+`"}`).got(200, "")
		if diff := cmp.Diff(first.Body.String(), again.Body.String()); diff != "" {
			t.Errorf("the same code got another answer: %s", diff)
		}
		if key := w.sim.SessionKey(ann); key == "" || strings.Contains(first.Body.String(), key) {
			t.Errorf("the session_key left the house: %s", first.Body)
		}
		p := w.mp("POST", "/shop/login", "", `{"code":"made-up-code-0000000000000000000000"}`).got(401, CodeInvalid).problem()
		if p.Errcode == nil || *p.Errcode != 40029 || p.Errmsg == nil {
			t.Errorf("WeChat's words are missing: %+v", p)
		}
		w.sim.Risky(ann, true)
		if p := w.mp("POST", "/shop/login", "", `{"code":"`+w.sim.Login(ann)+`"}`).got(403, UserBlocked).problem(); p.Errcode == nil || *p.Errcode != 40226 {
			t.Errorf("%+v", p)
		}
		if f := w.mp("POST", "/shop/login", "", `{}`).got(422, InvalidRequest).fields(); f != "code" {
			t.Errorf("blames %q", f)
		}
		w.mp("POST", "/shop/login", "", `{"code":7}`).got(400, Malformed)
		w.mp("POST", "/shop/login", "", ``).got(400, Malformed)
		w.mp("POST", "/shop/login", "", `{"code":"`+strings.Repeat("x", 9000)+`"}`).got(413, TooLarge)
		w.mp("POST", "/nowhere/login", "", `{"code":"x"}`).got(404, NotFound)

		bob := w.sim.User("shop", "bob")
		lift := w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "jscode2session", Errcode: 40125, Errmsg: "invalid appsecret", Times: -1})
		p = w.mp("POST", "/shop/login", "", `{"code":"`+w.sim.Login(bob)+`"}`).got(502, WeChatConfig).problem()
		if p.Errcode == nil || *p.Errcode != 40125 || strings.Contains(p.Detail+*p.Errmsg, w.sim.App("shop").Secret) {
			t.Errorf("%+v", p)
		}
		lift()
		lift = w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "jscode2session", Errcode: 45011, Errmsg: "minute quota", Times: -1})
		w.mp("POST", "/shop/login", "", `{"code":"`+w.sim.Login(bob)+`"}`).got(429, RateLimited)
		lift()
		lift = w.sim.Force(wechatsim.Forced{Mood: wechatsim.CutBefore, Path: "jscode2session", Times: -1})
		w.mp("POST", "/shop/login", "", `{"code":"`+w.sim.Login(bob)+`"}`).got(502, WeChatError)
		lift()
		w.mp("POST", "/shop/login", "", `{"code":"`+w.sim.Login(bob)+`"}`).got(200, "")
	})
}

func TestSubscriptionsOfAMiniProgram(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, session := w.login("ann")
		if body := w.mp("GET", "/shop/subscriptions", session, "").got(200, "").Body.String(); body != `{"items":[],"next_cursor":null}` {
			t.Errorf("nothing is %s", body)
		}
		unknown := `{"items":[{"template_id":"` + tOrder + `","credits":0,"long_term":false,"status":"unknown","ask":true}],"next_cursor":null}`
		one := `{"items":[{"template_id":"` + tOrder + `","credits":1,"long_term":false,"status":"accepted","ask":false}],"next_cursor":null}`
		if body := w.mp("GET", "/shop/subscriptions?template_id="+tOrder, session, "").got(200, "").Body.String(); body != unknown {
			t.Errorf("an unknown line is %s", body)
		}
		report := `{"errMsg":"requestSubscribeMessage:ok","` + tOrder + `":"accept"}`
		if body := w.mp("POST", "/shop/subscriptions", session, report).got(200, "").Body.String(); body != one {
			t.Errorf("after the report: %s", body)
		}
		tell := func(id, report string) string {
			r := httptest.NewRequest("POST", "/mp/shop/subscriptions", strings.NewReader(report))
			r.Header.Set("Authorization", "bearer "+session)
			r.Header.Set("X-Request-Id", id)
			return w.do(r).got(200, "").Body.String()
		}
		first, again := tell("tap 2, odd id", report), tell("tap 2, odd id", report)
		if first != again {
			t.Errorf("a repeated report moved the line: %s %s", first, again)
		}
		if body := tell("tap 2, odd id", `{"errMsg":"requestSubscribeMessage:ok","`+tOther+`":"accept"}`); !strings.Contains(body, `"template_id":"`+tOther+`","credits":1`) {
			t.Errorf("another report under the same id: %s", body)
		}
		if body := tell("tap 3", `{"errMsg":"requestSubscribeMessage:fail main switch is off","errCode":20004,"`+tOrder+`":"accept"}`); !strings.Contains(body, `"credits":2`) {
			t.Errorf("a call that failed granted something: %s", body)
		}
		two := strings.Replace(one, `"credits":1`, `"credits":2`, 1)
		for _, q := range []string{"?template_id=" + tOrder, "?template_id=" + tOrder + ","} {
			if body := w.mp("GET", "/shop/subscriptions"+q, session, "").got(200, "").Body.String(); body != two {
				t.Errorf("%q: %s", q, body)
			}
		}
		if body := w.mp("GET", "/shop/subscriptions", session, "").got(200, "").Body.String(); !strings.Contains(body, tOrder) || !strings.Contains(body, tOther) {
			t.Errorf("all lines: %s", body)
		}
		var other struct{ Items []struct{ Credits int } }
		w.mp("GET", "/shop/subscriptions?template_id=A,"+tOrder+"&template_id=B", session, "").got(200, "").into(&other)
		if len(other.Items) != 3 || other.Items[1].Credits != 2 {
			t.Errorf("%+v", other)
		}
		w.mp("GET", "/shop/subscriptions?template_id="+strings.Repeat("x,", 51), session, "").got(422, InvalidRequest)
		if f := w.mp("GET", "/shop/subscriptions?template_id=%ED%A0%BD", session, "").got(422, InvalidRequest).fields(); f != "template_id" {
			t.Errorf("names %q", f)
		}
		w.mp("GET", "/shop/subscriptions?template_id="+strings.Repeat("x", 9<<10), session, "").got(422, InvalidRequest)
		if f := w.ask("GET", "/messages?user=%FF&openid=%C0", "").got(422, InvalidRequest).fields(); f != "openid user" {
			t.Errorf("names %q", f)
		}
		w.mp("POST", "/shop/settings", session, `{"mainSwitch":true,"itemSettings":{"`+tOrder+`":"reject"}}`).got(200, "")
		w.mp("POST", "/shop/settings", session, `{"nothing":1}`).got(400, Malformed)
		w.mp("POST", "/shop/subscriptions", session, `["accept"]`).got(400, Malformed)
		w.mp("POST", "/shop/subscriptions", session, "{\"x\":\"\xff\"}").got(422, InvalidRequest)
		if f := w.mp("POST", "/shop/settings", session, `{"itemSettings":{"a":"\ud83d"}}`).got(422, InvalidRequest).fields(); f != "itemSettings.a" {
			t.Errorf("names %q", f)
		}

		var lines struct {
			Items []struct{ OpenID, Status string }
			Next  *string `json:"next_cursor"`
		}
		w.ask("GET", "/subscriptions?app=shop&openid="+openid, "").got(200, "").into(&lines)
		if len(lines.Items) != 2 || lines.Items[0].OpenID != openid {
			t.Errorf("the partner reads %+v", lines)
		}
		if f := w.ask("GET", "/subscriptions?openid="+openid, "").got(422, InvalidRequest).fields(); f != "app" {
			t.Errorf("blames %q", f)
		}
		w.ask("GET", "/subscriptions?app=shop", "").got(422, InvalidRequest)
		w.ask("GET", "/subscriptions?app=shop&user=nobody", "").got(404, NotFound)
	})
}

// What a client says makes subscriptions of the app's templates only: names of switches and of nobody's templates are passed over.
func TestOnlyTemplatesOfTheAppCount(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		_, session := w.login("ann")
		stranger := strings.Repeat("X", 43)
		body := w.mp("POST", "/shop/subscriptions", session, `{"errMsg":"accept","a":"accept","mainSwitch":"accept","SYS_MSG_TYPE_INTERACTIVE":"accept","`+
			stranger+`":"accept","`+tOrder+`":"accept"}`).got(200, "").Body.String()
		if !strings.Contains(body, tOrder) || strings.Count(body, "template_id") != 1 {
			t.Errorf("%s", body)
		}
		w.mp("POST", "/shop/settings", session, `{"mainSwitch":true,"itemSettings":{"SYS_MSG_TYPE_INTERACTIVE":"accept","`+stranger+`":"reject"}}`).got(200, "")
		w.mp("POST", "/shop/settings", session, `{"mainSwitch":true,"SYS_MSG_TYPE_RANK":"accept","`+tOrder+`":"accept"}`).got(200, "")
		if body := w.mp("GET", "/shop/subscriptions", session, "").got(200, "").Body.String(); strings.Count(body, "template_id") != 1 {
			t.Errorf("%s", body)
		}
	})
}

func TestSessionsOfAMiniProgram(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		_, session := w.login("ann")
		for _, r := range w.gate.mpRoutes() {
			if !r.session {
				continue
			}
			for name, header := range map[string][]string{"none": nil, "wrong": {"Bearer nonsense"}, "another scheme": {"Basic " + session}, "bare": {session}, "two": {"Bearer " + session, "Bearer x"}} {
				q := httptest.NewRequest(r.method, "/mp/shop"+r.path, strings.NewReader("{}"))
				q.Header["Authorization"] = header
				got := w.do(q).got(401, SessionInvalid)
				if got.Header().Get("Www-Authenticate") != "Bearer" {
					t.Errorf("%s %s: Www-Authenticate %q", r.path, name, got.Header().Get("Www-Authenticate"))
				}
			}
		}
		w.mp("GET", "/other/subscriptions", session, "").got(401, SessionInvalid) // a session is of one app
		got := w.mp("GET", "/shop/subscriptions", session, "").got(200, "")
		for name := range got.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("a CORS header: %s", name)
			}
		}
	})
}

func TestBinding(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		ann, session := w.login("ann")
		bob, _ := w.login("bob")
		var ticket struct{ Ticket, ExpiresAt string }
		w.ask("POST", "/bindings/tickets", `{"app":"shop","user":"u/42 +"}`).got(200, "").into(&ticket)
		w.mp("POST", "/shop/bind", session, `{"ticket":"`+ticket.Ticket+`"}`).got(200, "")
		w.mp("POST", "/shop/bind", session, `{"ticket":"made-up"}`).got(410, TicketExpired)
		if f := w.mp("POST", "/shop/bind", session, `{}`).got(422, InvalidRequest).fields(); f != "ticket" {
			t.Errorf("blames %q", f)
		}
		var b struct{ OpenID, User string }
		w.ask("GET", "/bindings/shop/u%2F42%20+", "").got(200, "").into(&b) // a user's id may hold what paths are made of
		if b.OpenID != ann || b.User != "u/42 +" {
			t.Errorf("%+v", b)
		}
		w.ask("GET", "/bindings/shop/u/42", "").got(404, NotFound)
		w.ask("PUT", "/bindings/shop/u%2F42%20+", `{"openid":"`+bob+`"}`).got(409, AlreadyBound)
		w.ask("PUT", "/bindings/shop/u7", `{"openid":"`+bob+`"}`).got(200, "")
		w.ask("PUT", "/bindings/shop/u7", `{"openid":"`+bob+`","x":1}`).got(422, InvalidRequest)
		w.ask("PUT", "/bindings/shop/u7", `{"openid":7}`).got(400, Malformed)
		w.ask("DELETE", "/bindings/shop/u7", "").got(200, "")
		w.ask("DELETE", "/bindings/shop/u7", "").got(404, NotFound)
		if f := w.ask("POST", "/bindings/tickets", `{"app":"shop"}`).got(422, InvalidRequest).fields(); f != "user" {
			t.Errorf("blames %q", f)
		}
	})
}

func TestFormIDsAndPhones(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		ann, session := w.login("ann")
		w.mp("POST", "/shop/form-ids", session, `{"form_id":"`+w.sim.SubmitForm(ann)+`"}`).got(200, "")
		if f := w.mp("POST", "/shop/form-ids", session, `{"form_id":"the formId is a mock one"}`).got(422, InvalidRequest).fields(); f != "form_id" {
			t.Errorf("blames %q", f)
		}
		w.mp("POST", "/shop/form-ids", session, `{}`).got(422, InvalidRequest)
		got := w.mp("POST", "/shop/phone", session, `{"code":"`+w.sim.PhoneCode(ann)+`"}`).got(200, "")
		if number := wechatsim.PhoneOf(ann); strings.Contains(got.Body.String(), number) {
			t.Errorf("the number is echoed: %s", got.Body)
		}
		w.mp("POST", "/shop/phone", session, `{"code":"made-up"}`).got(401, CodeInvalid)
		w.mp("POST", "/shop/phone", session, `{}`).got(422, InvalidRequest)
	})
}

func TestMiniProgramRates(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		_, session := w.login("ann")
		_, bobs := w.login("bob")
		w.gate.SetLimits(Limits{MPPerIP: Rate{0.001, 8}, MPPerOpenID: Rate{0.001, 2}})
		from := func(ip, session string) answer {
			r := httptest.NewRequest("GET", "/mp/shop/subscriptions", nil)
			r.RemoteAddr = ip + ":4711"
			r.Header.Set("Authorization", "Bearer "+session)
			return w.do(r)
		}
		from("203.0.113.1", session).got(200, "")
		from("203.0.113.2", session).got(200, "")
		from("203.0.113.3", session).got(429, RateLimited) // the user, wherever from
		from("203.0.113.3", bobs).got(200, "")
		for range 6 {
			from("203.0.113.3", "nonsense").got(401, SessionInvalid)
		}
		from("203.0.113.3", bobs).got(429, RateLimited) // the address, whoever it is
		from("203.0.113.4", bobs).got(200, "")
	})
}

// Text that is not Unicode is named wherever it stands, at every door; one byte order mark before a body is passed over.
func TestEveryTextIsUnicode(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		openid, session := w.login("ann")
		const half = `\ud83d`
		for _, c := range []struct{ path, body, field string }{
			{"/shop/login", `{"code":"` + half + `"}`, "code"},
			{"/shop/bind", `{"ticket":"x` + half + `"}`, "ticket"},
			{"/shop/form-ids", `{"form_id":"` + half + `x"}`, "form_id"},
			{"/shop/phone", "{\"code\":\"\xc0\x80\"}", "code"},
			{"/shop/subscriptions", `{"` + tOrder + `":"accept` + half + `"}`, tOrder},
		} {
			if f := w.mp("POST", c.path, session, c.body).got(422, InvalidRequest).fields(); f != c.field {
				t.Errorf("%s names %q", c.path, f)
			}
		}
		for _, c := range []struct{ method, path, body, field string }{
			{"POST", "/bindings/tickets", `{"app":"shop","user":"u` + half + `"}`, "user"},
			{"PUT", "/bindings/shop/u1", `{"openid":"` + half + `"}`, "openid"},
			{"PUT", "/bindings/shop/%ED%A0%BD", `{"openid":"` + openid + `"}`, "user"},
			{"POST", "/form-ids", `{"app":"shop","openid":"` + openid + `","form_id":"` + half + `"}`, "form_id"},
			{"POST", "/apps/shop/access_token/report", `{"access_token":"` + half + `","errcode":40001}`, "access_token"},
			{"POST", "/messages/batch", `{"messages":[],"` + half + `":1}`, "\ufffd messages"},
		} {
			if f := w.ask(c.method, c.path, c.body).got(422, InvalidRequest).fields(); f != c.field {
				t.Errorf("%s names %q", c.path, f)
			}
		}
		w.mp("POST", "/shop/subscriptions", session, "\ufeff"+`{"`+tOrder+`":"accept"}`).got(200, "")
		w.ask("POST", "/messages", "\ufeff"+order(openid, "")).got(202, "")
		w.ask("PUT", "/bindings/shop/u1", "\ufeff"+`{"openid":"`+openid+`"}`).got(200, "")
	})
}
