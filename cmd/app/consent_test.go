package app_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
	"github.com/wxrelay/wxrelay/relay/queue"
)

const listPath = "call:/wxaapi/newtmpl/gettemplate"

// ask is a line as a mini-program reads it.
type ask struct {
	TemplateID string `json:"template_id"`
	Credits    int    `json:"credits"`
	LongTerm   bool   `json:"long_term"`
	Status     string `json:"status"`
	Ask        bool   `json:"ask"`
}

// tells posts a client's word and gives the lines it was answered.
func (w *world) tells(path, session string, body any, header ...string) []ask {
	w.t.Helper()
	status, raw := w.ask("POST", path, session, body, header...)
	var page struct{ Items []ask }
	if err := json.Unmarshal(raw, &page); err != nil || status != 200 {
		w.t.Fatalf("POST %s: %d %s", path, status, raw)
	}
	return page.Items
}

// listed waits until the gateway has WeChat's list of templates: a message that has to be checked against it waits for it.
func (w *world) listed() {
	w.t.Helper()
	w.send(409, order(w.sim.User("shop", "nobody"), nil))
}

// A long-term template, as WeChat lists it, opens a line: no credits, any number of messages, until the user rejects.
func TestALongTermLineIsOpenUntilTheReject(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	w.listed()
	ann := w.sim.User("shop", "ann")
	session := w.login(ann)
	long := order(ann, map[string]any{"template_id": tLong, "data": map[string]any{"thing1": "一杯咖啡"}})
	w.send(409, long)
	w.accept(ann, tLong)
	w.wantLine(ann, tLong, 0, 0, "accepted")
	if l := w.line(ann, tLong); l.Kind != "long_term" {
		t.Errorf("%+v", l)
	}
	if got := w.tells("subscriptions", session, map[string]any{"errMsg": "requestSubscribeMessage:ok", tLong: "accept"}); len(got) != 1 || !got[0].LongTerm || got[0].Ask || got[0].Credits != 0 {
		t.Errorf("%+v", got)
	}
	for range 2 {
		w.toldOf(w.send(202, long).Message().ID, "message.delivered")
	}
	w.wantLine(ann, tLong, 0, 0, "accepted")
	w.ahead.Add(int64(2 * time.Second))
	w.sim.ChangeSetting(ann, tLong, "reject")
	w.told("subscription.cancelled", nil)
	if a := w.send(409, long); a.Code() != "no_credit" {
		t.Errorf("%s", a.Body)
	}
	if n := len(w.sim.Inbox(ann)); n != 2 {
		t.Errorf("ann received %d", n)
	}
}

// 40037 has the list fetched anew: after the first refusal of a template that is gone, the next message is told so at once.
func TestARefusedTemplateIsLookedUpAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 2)
	w.listed()
	w.sim.SetApp("shop", func(a *wechatsim.App) {
		a.Templates = slices.DeleteFunc(slices.Clone(a.Templates), func(t wechatsim.Template) bool { return t.ID == tOrder })
	})
	asked := w.sim.Count(listPath)
	if got := w.toldOf(w.send(202, order(ann, nil)).Message().ID, "message.failed"); got.Errcode == nil || *got.Errcode != 40037 {
		t.Fatalf("%+v", got)
	}
	if err := w.until(func() bool {
		a, err := w.client.Send(w.ctx, "", order(ann, nil))
		return err == nil && a.Status == 422 && strings.Contains(string(a.Body), "is not a template of this app")
	}); err != nil {
		t.Fatalf("the list was not fetched again: asked %d times, before %d", w.sim.Count(listPath), asked)
	}
	if n := w.sim.Count(listPath) - asked; n != 1 {
		t.Errorf("asked %d times for one doubt", n)
	}
	w.wantLine(ann, tOrder, 2, 0, "accepted")
}

// A line that was opened before the list was there shows the kind that WeChat tells since, to partners and mini-programs.
func TestTheKindOfALineIsWhatWeChatLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "gettemplate", Errcode: -1, Times: -1})
	w.stop()
	w.start()
	ann := w.sim.User("shop", "ann")
	session := w.login(ann)
	w.accept(ann, tLong)
	w.wantLine(ann, tLong, 1, 0, "accepted")
	if l := w.line(ann, tLong); l.Kind != "unknown" {
		t.Fatalf("%+v", l)
	}
	w.sim.Calm()
	w.stop()
	w.start()
	if err := w.until(func() bool { return w.line(ann, tLong).Kind == "long_term" }); err != nil {
		t.Errorf("%+v", w.line(ann, tLong))
	}
	var page struct{ Items []ask }
	if _, raw := w.ask("GET", "subscriptions?template_id="+tLong, session, nil); json.Unmarshal(raw, &page) != nil || len(page.Items) != 1 || !page.Items[0].LongTerm {
		t.Errorf("%s", raw)
	}
}

// Who is ready knows what WeChat lists: the first push after a start is booked by its template's kind.
func TestTheFirstPushIsBookedByItsKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	w.stop()
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Slow, Path: "newtmpl/gettemplate", Delay: 300 * time.Millisecond})
	w.start()
	w.accept(ann, tLong)
	w.told("subscription.accepted", func(e partnersim.Event) bool {
		var l line
		if err := e.Into(&l); err != nil || l.Kind != "long_term" || l.Credits != 0 {
			t.Errorf("%v %+v", err, l)
		}
		return true
	})
}

// A partner that bound the user is told of the line under its own name for them; whoever did not is told null.
func TestSubscriptionEventsNameTheUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	w.stop()
	w.yaml = strings.Replace(w.yaml, "\nlimits:", "\n  - {id: crm, secrets: ["+whsec+"], apps: [shop], endpoints: [{id: crm, url: \""+w.hook+"/crm\", events: [\"subscription.*\"], secrets: ["+whsec+"]}]}\nlimits:", 1)
	w.start()
	ann, bob := w.sim.User("shop", "ann"), w.sim.User("shop", "bob")
	if a, err := w.client.Do(w.ctx, "PUT", "bindings/shop/u-42", map[string]any{"openid": ann}); err != nil || a.Status != 200 {
		t.Fatalf("%v %+v", err, a)
	}
	heard := func(path, openid string) (user *string) {
		t.Helper()
		w.told("subscription.accepted", func(e partnersim.Event) bool {
			var l struct {
				OpenID string
				User   *string
			}
			if e.Path != path || e.Into(&l) != nil || l.OpenID != openid {
				return false
			}
			user = l.User
			return true
		})
		return user
	}
	w.accept(ann, tOrder)
	if u := heard("/hook", ann); u == nil || *u != "u-42" {
		t.Errorf("the partner that bound her is told %v", u)
	}
	if u := heard("/crm", ann); u != nil {
		t.Errorf("the other partner is told %q", *u)
	}
	w.accept(bob, tOrder)
	if u := heard("/hook", bob); u != nil {
		t.Errorf("of bob: %q", *u)
	}
	// a client's word goes the same way
	w.tells("subscriptions", w.login(ann), map[string]any{tOther: "accept"})
	w.told("subscription.accepted", func(e partnersim.Event) bool {
		var l struct {
			User       *string
			TemplateID string `json:"template_id"`
		}
		return e.Path == "/hook" && e.Into(&l) == nil && l.TemplateID == tOther && l.User != nil && *l.User == "u-42"
	})
}

// An event shows the line as its own movement left it, though it was told when the line had moved on.
func TestAnEventShowsTheLineAsOfItsMovement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	for _, shard := range w.shards() { // pushes are taken, and followed later
		w.redis.HSet(shard+"p", "push:shop", "99999999999999")
	}
	w.accept(ann, tOrder)
	w.accept(ann, tOrder)
	w.ahead.Add(int64(time.Second))
	w.sim.ChangeSetting(ann, tOrder, "reject")
	w.wantLine(ann, tOrder, 0, 0, "cancelled")
	bob := w.sim.User("shop", "bob") // of eight movements the statement has kept six
	for range 8 {
		w.accept(bob, tOrder)
	}
	w.wantLine(bob, tOrder, 8, 0, "accepted")
	for _, shard := range w.shards() {
		w.redis.HDel(shard+"p", "push:shop")
	}
	type told struct {
		OpenID  string
		Credits int
		Status  string
		Updated time.Time `json:"updated_at"`
		History []struct {
			At             time.Time
			Delta, Balance int
		}
	}
	for _, want := range []struct {
		openid, typ, status string
		credits, of         int
	}{
		{ann, "subscription.accepted", "accepted", 1, 1}, {ann, "subscription.accepted", "accepted", 2, 2}, {ann, "subscription.cancelled", "cancelled", 0, 3},
		{bob, "subscription.accepted", "accepted", 1, 1}, {bob, "subscription.accepted", "accepted", 2, 1}, {bob, "subscription.accepted", "accepted", 3, 1},
		{bob, "subscription.accepted", "accepted", 5, 3}, {bob, "subscription.accepted", "accepted", 8, 6},
	} {
		w.told(want.typ, func(e partnersim.Event) bool {
			var l told
			if e.Into(&l) != nil || l.OpenID != want.openid || l.Credits != want.credits {
				return false
			}
			if n := len(l.History); n != want.of || l.Status != want.status || l.History[n-1].Balance != want.credits || !l.Updated.Equal(l.History[n-1].At) {
				t.Errorf("%s, %d credits: %+v", want.typ, want.credits, l)
			}
			return true
		})
	}
}

// shards are the prefixes of what a gateway keeps in Redis by user.
func (w *world) shards() (prefixes []string) {
	for i := range 16 {
		prefixes = append(prefixes, queue.Prefix(i))
	}
	return prefixes
}

// subscription waits for the event about one line, and gives its cause.
func (w *world) subscription(typ, openid, template string) (cause string) {
	w.t.Helper()
	w.told(typ, func(e partnersim.Event) bool {
		var l struct {
			OpenID     string
			TemplateID string `json:"template_id"`
			Cause      string
		}
		if e.Into(&l) != nil || l.OpenID != openid || l.TemplateID != template {
			return false
		}
		cause = l.Cause
		return true
	})
	return cause
}

// What wx.getSetting shows: a kept choice tells of a line, absence proves nothing, the main switch off closes every line, in
// whatever form the client sends it; partners hear what it means.
func TestSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	w.listed()
	ann := w.sim.User("shop", "ann")
	session := w.login(ann)
	w.accept(ann, tOrder, tOther)
	w.wantLine(ann, tOther, 1, 0, "accepted")
	w.subscription("subscription.accepted", ann, tOther)

	items := w.tells("settings", session, map[string]any{"subscriptionsSetting": map[string]any{"mainSwitch": true, "itemSettings": map[string]any{tOther: "reject", tLong: "accept"}}})
	want := []ask{{tLong, 0, true, "accepted", false}, {tOther, 1, false, "rejected", false}}
	if diff := cmp.Diff(want, items); diff != "" {
		t.Error(diff)
	}
	if cause := w.subscription("subscription.rejected", ann, tOther); cause != "settings_reject" {
		t.Errorf("cause %q", cause)
	}
	if cause := w.subscription("subscription.accepted", ann, tLong); cause != "settings_accept" {
		t.Errorf("cause %q", cause)
	}
	w.wantLine(ann, tOrder, 1, 0, "accepted") // absent: not rejected
	w.sim.Grant(ann, tLong, 1)                // the choice was kept in a popup that nobody told us of
	w.toldOf(w.send(202, order(ann, map[string]any{"template_id": tLong, "data": map[string]any{"thing1": "x"}})).Message().ID, "message.delivered")

	w.sim.MainSwitch(ann, false)
	if got := w.tells("settings", session, w.sim.Settings(ann)); len(got) != 3 {
		t.Errorf("%+v", got)
	}
	for _, id := range []string{tOrder, tOther, tLong} {
		w.wantLine(ann, id, 0, 0, "cancelled")
		if cause := w.subscription("subscription.cancelled", ann, id); cause != "settings_off" {
			t.Errorf("%s: cause %q", id, cause)
		}
	}
	w.send(409, order(ann, nil))

	// an older client, ids beside mainSwitch; switched on again nothing comes back but by a new tap
	w.tells("settings", session, map[string]any{"mainSwitch": true, tLong: "accept"})
	w.wantLine(ann, tLong, 0, 0, "cancelled")
	bob := w.sim.User("shop", "bob")
	w.tells("settings", w.login(bob), map[string]any{"mainSwitch": true, tLong: "acceptWithAudio"})
	w.wantLine(bob, tLong, 0, 0, "accepted")
	if status, raw := w.ask("POST", "settings", session, map[string]any{"authSetting": map[string]any{}}); status != 400 {
		t.Errorf("%d %s", status, raw)
	}
}

// The report comes first, WeChat's event after it: one grant, and partners hear once. What is no accept grants nothing.
func TestReportThenEvent(t *testing.T) {
	t.Parallel()
	for _, accept := range []string{"accept", "acceptWithAudio", "acceptWithAlert", "acceptWithForcePush"} {
		t.Run(accept, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{})
			ann := w.sim.User("shop", "ann")
			session := w.login(ann)
			w.sim.Force(wechatsim.Forced{Mood: wechatsim.Reorder, Path: "subscribe_msg_popup_event", Delay: 300 * time.Millisecond})
			w.ahead.Add(int64(time.Second))
			result := w.sim.Tap(ann, "shop", map[string]string{tOrder: accept})
			if got := w.tells("subscriptions", session, result); len(got) != 1 || got[0].Credits != 1 || got[0].Ask {
				t.Fatalf("%+v", got)
			}
			if cause := w.subscription("subscription.accepted", ann, tOrder); cause != "client_accept" {
				t.Errorf("cause %q", cause)
			}
			w.settled()
			w.told("push.received", nil)
			w.wantLine(ann, tOrder, 1, 0, "accepted")
			w.accept(ann, tOther) // whatever the push had to tell is told before this
			w.subscription("subscription.accepted", ann, tOther)
			if n := w.countTold("subscription.accepted"); n != 2 {
				t.Errorf("told %d times of two taps", n)
			}
			if l := w.line(ann, tOrder); len(l.History) != 2 || l.History[0].Cause != "client_accept" || l.History[1].Cause != "popup_accept" || l.History[1].Delta != 0 {
				t.Errorf("%+v", l.History)
			}
		})
	}
	t.Run("outside the window they are two", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, wish{config: "subscriptions: {pairing_window: 10s}"})
		ann := w.sim.User("shop", "ann")
		result := map[string]any{"errMsg": "requestSubscribeMessage:ok", tOrder: "accept"}
		w.tells("subscriptions", w.login(ann), result)
		w.ahead.Add(int64(30 * time.Second))
		w.accept(ann, tOrder)
		w.wantLine(ann, tOrder, 2, 0, "accepted")
	})
	t.Run("what grants nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, wish{})
		ann := w.sim.User("shop", "ann")
		session := w.login(ann)
		got := w.tells("subscriptions", session, w.sim.Tap(ann, "shop", map[string]string{tOrder: "ban", tOther: "filter"}))
		want := []ask{{tOrder, 0, false, "unknown", true}, {tOther, 0, false, "unknown", true}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		w.sim.MainSwitch(ann, false)
		if got := w.tells("subscriptions", session, w.sim.Tap(ann, "shop", map[string]string{tOrder: "accept"})); len(got) != 2 || got[0].Credits != 0 {
			t.Errorf("a tap that failed: %+v", got)
		}
		w.send(409, order(ann, nil))
	})
}

// Who takes back authorisation or closes the account is forgotten: lines, identity, sessions, waiting allowances. Partners
// are told once, each with its own name for the user, however often WeChat pushes it.
func TestRevocation(t *testing.T) {
	t.Parallel()
	for _, event := range []string{"user_authorization_revoke", "user_authorization_cancellation"} {
		t.Run(event, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{})
			ann, bob := w.granted("ann", 2), w.granted("bob", 1)
			session := w.login(ann)
			if a, err := w.client.Do(w.ctx, "PUT", "bindings/shop/u-42", map[string]any{"openid": ann}); err != nil || a.Status != 200 {
				t.Fatalf("%v %+v", err, a)
			}
			w.says(ann)
			w.sim.Force(wechatsim.Forced{Mood: wechatsim.Duplicate, Path: event})
			w.ahead.Add(int64(time.Second))
			w.sim.Revoke(ann, event)
			w.settled()
			var u struct {
				App, OpenID  string
				User, Reason *string
			}
			if err := w.told("user.revoked", nil).Into(&u); err != nil || u.OpenID != ann || u.User == nil || *u.User != "u-42" || u.Reason == nil || *u.Reason != event {
				t.Errorf("%+v %v", u, err)
			}
			if l := w.line(ann, tOrder); l.TemplateID != "" {
				t.Errorf("her line stands: %+v", l)
			}
			w.send(409, order(ann, nil))
			if a, err := w.client.Get(w.ctx, "bindings/shop/u-42", nil); err != nil || a.Status != 404 {
				t.Errorf("her binding stands: %v %+v", err, a)
			}
			if status, _ := w.ask("GET", "subscriptions", session, nil); status != 401 {
				t.Errorf("her session stands: %d", status)
			}
			w.send(409, text(ann, "hello", nil)) // nor may customer service write to her
			w.wantLine(bob, tOrder, 1, 0, "accepted")
			w.toldOf(w.send(202, order(bob, nil)).Message().ID, "message.delivered")
			if n := w.countTold("user.revoked"); n != 1 {
				t.Errorf("told %d times", n)
			}
			for _, key := range w.redis.Keys() {
				if strings.Contains(key, "l:shop:"+ann) || strings.Contains(key, "la:shop:"+ann) || strings.Contains(key, "lr:shop:"+ann) {
					t.Errorf("left behind: %s", key)
				}
			}
		})
	}
}

// Whose word grants is decided per app, from the config to the ledger: what a report alone, an event alone, and both about
// one tap are worth, and how many reports count that nothing proves.
func TestWhomAnAppTrusts(t *testing.T) {
	t.Parallel()
	const elsewise = "subscriptions: {trust: event, unproven_max: 0, pairing_window: 30s}" // of all other apps
	for name, c := range map[string]struct {
		all, app                        string
		report, event, both, reports, n int // credits after each; reports: after n of them
	}{
		"both, as it comes":      {"", "", 1, 1, 1, 3, 5},
		"event":                  {"", "    subscriptions: {trust: event}", 0, 1, 1, 0, 5},
		"client":                 {elsewise, "    subscriptions: {trust: client, unproven_max: 1}", 1, 0, 1, 5, 5},
		"both, one of it alone":  {elsewise, "    subscriptions: {trust: both, unproven_max: 2}", 1, 1, 1, 2, 5},
		"both, nothing unproven": {"subscriptions: {unproven_max: 0}", "", 0, 1, 1, 0, 5},
		"event for all":          {elsewise, "", 0, 1, 1, 0, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{config: c.all, app: c.app})
			word := map[string]any{"errMsg": "requestSubscribeMessage:ok", tOrder: "accept"}
			credits := func(who string) int { return w.line(w.sim.User("shop", who), tOrder).Credits }
			w.tells("subscriptions", w.login(w.sim.User("shop", "ann")), word)
			if n := credits("ann"); n != c.report {
				t.Errorf("a report alone: %d, want %d", n, c.report)
			}
			w.accept(w.sim.User("shop", "bob"), tOrder)
			w.settled()
			if n := credits("bob"); n != c.event {
				t.Errorf("an event alone: %d, want %d", n, c.event)
			}
			for i, who := range []string{"cid", "dan"} {
				openid := w.sim.User("shop", who)
				session := w.login(openid)
				if i == 0 {
					w.tells("subscriptions", session, word)
				}
				w.accept(openid, tOrder)
				w.settled()
				if i == 1 {
					w.tells("subscriptions", session, word)
				}
				if n := credits(who); n != c.both {
					t.Errorf("%s, one tap of which both tell: %d, want %d", who, n, c.both)
				}
			}
			eve := w.sim.User("shop", "eve")
			session := w.login(eve)
			for range c.n {
				w.tells("subscriptions", session, word)
			}
			if n := credits("eve"); n != c.reports {
				t.Errorf("%d reports: %d, want %d", c.n, n, c.reports)
			}
		})
	}
}

const tPolicy = "TpolicyTpolicyTpolicyTpolicyTpolicyTpolicy0" // long-term at WeChat; once a day for each character_string1

// A rate-limited template, which WeChat lists as any long-term one: one message in its period for each value of its keyword.
// The next is refused before WeChat is asked, and told when it may go; it does not wait for an accept that changes nothing.
func TestARateLimitedTemplate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{app: `    templates:
      - {id: policy, template_id: ` + tPolicy + `, kind: rate_limited, every: 24h, keyword: character_string1, data: {number: character_string1, text: thing2}}
      - {id: lamp, template_id: ` + tLong + `, kind: device}`,
		sim: func(o *wechatsim.Options) {
			o.Apps[0].Templates = append(o.Apps[0].Templates, wechatsim.Template{ID: tPolicy, Title: "Policy", Type: 3, Content: "no:{{character_string1.DATA}}\ntext:{{thing2.DATA}}\n"})
		}})
	w.listed()
	ann := w.sim.User("shop", "ann")
	policy := func(number, mode string) map[string]any {
		return map[string]any{"app": "shop", "to": map[string]any{"openid": ann}, "template": "policy", "no_credit": mode, "data": map[string]any{"number": number, "text": "x"}}
	}
	if a := w.send(409, policy("P-1", "refuse")); a.Code() != "no_credit" || a.Header.Get("Retry-After") != "" {
		t.Errorf("not open yet: %s", a.Body)
	}
	held, second := w.send(202, policy("P-1", "hold")).Message(), w.send(202, policy("P-1", "hold")).Message()
	if held.State != "held" {
		t.Fatalf("%+v", held)
	}
	w.accept(ann, tPolicy)
	w.toldOf(held.ID, "message.delivered")
	if l := w.line(ann, tPolicy); l.Kind != "rate_limited" || l.Credits != 0 {
		t.Errorf("%+v", l)
	}
	if err := w.until(func() bool { return w.message(second.ID).State == "scheduled" }); err != nil {
		t.Fatalf("the second waits for an accept that will not come: %+v", w.message(second.ID))
	}
	for _, mode := range []string{"refuse", "try", "hold"} {
		a := w.send(409, policy("P-1", mode))
		after, err := strconv.Atoi(a.Header.Get("Retry-After"))
		if a.Code() != "no_credit" || err != nil || after < 86000 || after > 86400 || !strings.Contains(string(a.Body), `once in 24h0m0s for each character_string1`) || !strings.Contains(string(a.Body), "P-1") {
			t.Errorf("%s: %q %s", mode, a.Header.Get("Retry-After"), a.Body)
		}
	}
	w.toldOf(w.send(202, policy("P-2", "refuse")).Message().ID, "message.delivered")
	calls := w.sim.Count("call:" + sendPath)
	if calls != 2 {
		t.Errorf("WeChat was asked %d times", calls)
	}
	w.later(24*time.Hour + time.Minute)
	w.toldOf(second.ID, "message.delivered")
	w.send(409, policy("P-1", "refuse"))
	if a := w.send(422, map[string]any{"app": "shop", "to": map[string]any{"openid": ann}, "template_id": tPolicy, "data": map[string]any{"thing2": "x"}}); !strings.Contains(string(a.Body), "data.character_string1") {
		t.Errorf("%s", a.Body)
	}
	// what the message did not use is free again
	w.refuse(47003, 1)
	w.toldOf(w.send(202, policy("P-3", "refuse")).Message().ID, "message.failed")
	w.toldOf(w.send(202, policy("P-3", "refuse")).Message().ID, "message.delivered")

	w.accept(ann, tLong)
	w.wantLine(ann, tLong, 0, 0, "accepted")
	if l := w.line(ann, tLong); l.Kind != "device" {
		t.Errorf("%+v", l)
	}
}

// The operator's page of a user is the statement: every movement with its cause and the balance after it, and how much of it
// rests on the client's word alone.
func TestTheConsoleShowsTheStatement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	session := w.login(ann)
	w.tells("subscriptions", session, map[string]any{"errMsg": "requestSubscribeMessage:ok", tOrder: "accept"})
	w.ahead.Add(int64(2 * time.Minute)) // another tap
	w.accept(ann, tOrder)
	w.wantLine(ann, tOrder, 2, 0, "accepted")
	page := func() string {
		t.Helper()
		res, err := http.Get("http://" + w.app.AdminAddr() + "/users?lang=en&app=shop&openid=" + ann)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%d %v", res.StatusCode, err)
		}
		return string(body)
	}
	wants := func(html string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			i := strings.Index(html, part)
			if i < 0 {
				t.Errorf("no %q, or not in this order, in\n%s", part, html)
				return
			}
			html = html[i+len(part):]
		}
	}
	row := func(cause, delta, balance string) string {
		return `class="code">` + cause + `</td><td data-label="Movement" class="n">` + delta + `</td><td data-label="Balance" class="n">` + balance + `</td>`
	}
	wants(page(), `id="line-`+tOrder, `<dd class="figure">2 <small class="soft">1 unproven</small></dd>`, row("client_accept", "&#43;1", "1"), row("popup_accept", "&#43;1", "2"))
	w.toldOf(w.send(202, order(ann, nil)).Message().ID, "message.delivered")
	w.refuse(43101, 1)
	w.toldOf(w.send(202, order(ann, nil)).Message().ID, "message.refused")
	wants(page(), `id="line-`+tOrder, `>unknown</span>`, `<dd class="figure">0</dd>`, row("client_accept", "&#43;1", "1"), row("popup_accept", "&#43;1", "2"), row("sent", "-1", "1"), row("wechat_43101", "-1", "0"))
}
