package app_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

const tNews = "TnewsTnewsTnewsTnewsTnewsTnewsTnewsTnews000"

// newsWorld has an official account beside the mini-program, of one Open Platform account, so that one person has one
// unionid at both. WeChat's user/info is answered here.
func newsWorld(t *testing.T, over ...wish) *world {
	t.Helper()
	of := append(over, wish{})[0]
	besides := of.sim
	of.sim = func(o *wechatsim.Options) {
		if besides != nil {
			besides(o)
		}
		o.Apps[0].Platform = "group"
		o.Apps = append(o.Apps, wechatsim.App{Name: "news", Kind: wechatsim.OfficialAccount, Platform: "group",
			Templates: []wechatsim.Template{{ID: tNews, Title: "News", Content: "{{first.DATA}}\n", OfOA: true}}})
	}
	w := newWorld(t, of)
	w.stop()
	w.throughFront(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/cgi-bin/user/info" {
			w.sim.ServeHTTP(rw, r)
			return
		}
		openid := r.URL.Query().Get("openid")
		fmt.Fprintf(rw, `{"subscribe":1,"openid":%q,"unionid":%q}`, openid, w.sim.UnionID(openid))
	})
	news := w.sim.App("news")
	w.yaml = strings.Replace(w.yaml, "\npartners:", fmt.Sprintf("\n  - {id: news, appid: %s, secret: %s, original_id: %s, kind: official_account, push: {token: %s, encoding_aes_key: %s, mode: secure}}\npartners:",
		news.AppID, news.Secret, news.OriginalID, news.Token, news.EncodingAESKey), 1)
	w.yaml = strings.Replace(w.yaml, "apps: [shop]", "apps: [shop, news]", 1)
	w.accounts = append(w.accounts, "news")
	w.start()
	return w
}

// throughFront puts something before the platform, from the next start on.
func (w *world) throughFront(front http.HandlerFunc) {
	wx := httptest.NewServer(front)
	w.t.Cleanup(wx.Close)
	i, j := strings.Index(w.yaml, `base_url: "`)+len(`base_url: "`), strings.Index(w.yaml, `", timeout`)
	w.yaml = w.yaml[:i] + wx.URL + w.yaml[j:]
}

// news is a template message of the official account.
func news(to map[string]any, over map[string]any) map[string]any {
	m := map[string]any{"app": "news", "to": to, "channel": "oa_template", "template_id": tNews, "url": "https://example.com/a?b=1&c=2",
		"data": map[string]any{"first": "hello"}}
	for k, v := range over {
		m[k] = v
	}
	return m
}

// A follower is found by unionid; WeChat's TEMPLATESENDJOBFINISH is the receipt, and "failed:user block" a failure.
func TestOfficialAccountByUnionID(t *testing.T) {
	t.Parallel()
	w := newsWorld(t)
	shop, acc := w.sim.User("shop", "ann"), w.sim.User("news", "ann")
	union := map[string]any{"unionid": w.sim.UnionID(shop)}
	w.send(422, news(union, nil)) // nobody knows her there yet
	w.sim.Follow(acc, true)
	w.settled()
	if err := w.until(func() bool {
		a, err := w.client.Send(w.ctx, "first", news(union, nil))
		return err == nil && a.Status == 202
	}); err != nil {
		t.Fatal("the follower's unionid was not learnt")
	}
	m := w.sendAs("first", 202, news(union, nil)).Message()
	if m.OpenID != acc {
		t.Errorf("to %s, want %s", m.OpenID, acc)
	}
	w.toldOf(m.ID, "message.delivered")
	if in := w.sim.Inbox(acc); len(in) != 1 || string(in[0].Body["client_msg_id"]) != `"`+m.ID+`"` || string(in[0].Body["url"]) != `"https://example.com/a?b=1&c=2"` {
		t.Errorf("%+v", in)
	}
	w.sim.Block(acc, true)
	m = w.send(202, news(union, nil)).Message()
	got := w.toldOf(m.ID, "message.failed")
	if c := got.Timeline[len(got.Timeline)-1].Cause; !strings.Contains(c, "user block") {
		t.Errorf("cause %q", c)
	}
}

// A call without an answer is made again under its client_msg_id: the user gets one message. It ends within the ten
// minutes in which WeChat knows the id.
func TestOfficialAccountRepeatsSafely(t *testing.T) {
	t.Parallel()
	for _, mood := range []wechatsim.Mood{wechatsim.Cut, wechatsim.CutBefore, wechatsim.Busy, wechatsim.BusyAccepted, wechatsim.BadGateway} {
		t.Run(string(mood), func(t *testing.T) {
			t.Parallel()
			w := newsWorld(t)
			acc := w.sim.User("news", "ann")
			w.sim.Force(wechatsim.Forced{Mood: mood, Path: "template/send"})
			m := w.send(202, news(map[string]any{"openid": acc}, nil)).Message()
			if err := w.until(func() bool { return w.message(m.ID).Attempts == 1 || len(w.sim.Inbox(acc)) > 0 }); err != nil {
				t.Fatal(err)
			}
			w.later(3 * time.Second)
			w.toldOf(m.ID, "message.delivered")
			if n := len(w.sim.Inbox(acc)); n != 1 {
				t.Errorf("received %d", n)
			}
		})
	}
	t.Run("not for ever", func(t *testing.T) {
		t.Parallel()
		w := newsWorld(t)
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.CutBefore, Path: "template/send", Times: -1})
		m := w.send(202, news(map[string]any{"openid": w.sim.User("news", "ann")}, nil)).Message()
		for n := 1; w.message(m.ID).State != "unknown"; n++ {
			if err := w.until(func() bool { got := w.message(m.ID); return got.Attempts >= n || got.State == "unknown" }); err != nil {
				t.Fatalf("%+v", w.message(m.ID))
			}
			w.later(90 * time.Second)
		}
		tries := len(w.sim.Sends())
		w.toldOf(m.ID, "message.unknown")
		w.later(20 * time.Minute)
		w.settled()
		if n := len(w.sim.Sends()); n != tries || tries < 2 {
			t.Errorf("tried %d times, then %d", tries, n)
		}
	})
}

// A mini-program's chain ends at the official account of the same person.
func TestAChainEndsAtTheOfficialAccount(t *testing.T) {
	t.Parallel()
	w := newsWorld(t)
	shop, acc := w.sim.User("shop", "ann"), w.sim.User("news", "ann")
	w.login(shop)
	w.sim.Follow(acc, true)
	w.settled()
	m := order(shop, map[string]any{"channel": []string{"subscribe", "oa_template"},
		"oa_template": map[string]any{"app": "news", "template_id": tNews, "page": "", "data": map[string]any{"first": "shipped"}}})
	if err := w.until(func() bool {
		a, err := w.client.Send(w.ctx, "one", m)
		return err == nil && a.Status == 202
	}); err != nil {
		t.Fatal(err)
	}
	id := w.sendAs("one", 202, m).Message().ID
	if got := w.toldOf(id, "message.delivered"); got.Channel != "oa_template" {
		t.Errorf("%+v", got)
	}
	if in := w.sim.Inbox(acc); len(in) != 1 || in[0].Values["first"] != "shipped" || len(in[0].Values) != 1 {
		t.Errorf("%+v", in)
	}
	m["oa_template"].(map[string]any)["app"] = "shop"
	if a := w.send(422, m); a.Code() != "invalid_message" {
		t.Errorf("%s", a.Body)
	}
}

// One of the partner's users may have an openid in each of its apps: without an app all their messages are listed, in order.
func TestAUsersMessagesOfAllApps(t *testing.T) {
	t.Parallel()
	w := newsWorld(t)
	for app, openid := range map[string]string{"shop": w.sim.User("shop", "ann"), "news": w.sim.User("news", "ann")} {
		if a, err := w.client.Do(w.ctx, "PUT", "bindings/"+app+"/u-1", map[string]any{"openid": openid}); err != nil || a.Status != 200 {
			t.Fatalf("%v %+v", err, a)
		}
	}
	to := map[string]any{"user": "u-1"}
	var want []string
	for range 4 {
		want = append(want, w.send(202, news(to, nil)).Message().ID, w.send(202, order("", map[string]any{"to": to, "no_credit": "hold"})).Message().ID)
	}
	slices.Reverse(want)
	var got []string
	for q := (url.Values{"user": {"u-1"}, "limit": {"3"}}); ; {
		items, next := w.list(q)
		for _, m := range items {
			got = append(got, m.ID)
		}
		if next == "" {
			break
		}
		q.Set("cursor", next)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// The uniform message of 2018: the mini-program's half when there is one, spending its form_id, else the account's.
func TestUniformMessagesOf2018(t *testing.T) {
	t.Parallel()
	w := newsWorld(t)
	w.sim.SetApp("shop", func(a *wechatsim.App) {
		a.Templates = append(a.Templates, wechatsim.Template{ID: tLegacy, Title: "Old", Content: "a:{{keyword1.DATA}}\n", Legacy: true})
	})
	w.sim.SetEra(wechatsim.Era2018)
	shop, acc := w.sim.User("shop", "ann"), w.sim.User("news", "ann")
	form := w.sim.SubmitForm(shop)
	weapp := map[string]any{"template_id": tLegacy, "page": "pages/order?id=1", "form_id": form, "emphasis_keyword": "keyword1.DATA",
		"data": map[string]any{"keyword1": map[string]any{"value": "339208499"}}}
	mp := map[string]any{"appid": w.sim.App("news").AppID, "template_id": tNews, "url": "https://example.com/?a=1&b=2",
		"miniprogram": map[string]any{"appid": w.sim.App("shop").AppID, "pagepath": "pages/order"}, "data": map[string]any{"first": map[string]any{"value": "hello"}}}
	uniform := func(halves map[string]any) map[string]any {
		m := map[string]any{"app": "shop", "to": map[string]any{"openid": shop}, "channel": "uniform"}
		maps.Copy(m, halves)
		return m
	}
	w.toldOf(w.send(202, uniform(map[string]any{"weapp_template_msg": weapp, "mp_template_msg": mp})).Message().ID, "message.sent")
	if in := w.sim.Inbox(shop); len(in) != 1 || in[0].Values["keyword1"] != "339208499" || in[0].Page != "pages/order?id=1" || w.sim.FormUses(shop, form) != 0 {
		t.Errorf("%+v", in)
	}
	if n := len(w.sim.Inbox(acc)); n != 0 {
		t.Errorf("the account's half went too: %d", n)
	}
	w.toldOf(w.send(202, uniform(map[string]any{"mp_template_msg": mp})).Message().ID, "message.sent")
	if in := w.sim.Inbox(acc); len(in) != 1 || in[0].Values["first"] != "hello" || in[0].Page != "pages/order" || in[0].Channel != "uniform" {
		t.Errorf("%+v", in)
	}
	got := w.toldOf(w.send(202, uniform(map[string]any{"weapp_template_msg": weapp})).Message().ID, "message.failed")
	if got.Errcode == nil || *got.Errcode != 41029 || got.Attempts != 1 {
		t.Errorf("a form_id that is used up: %+v", got)
	}
}
