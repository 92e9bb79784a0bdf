package app_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
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
	w.ahead.Add(2e9)
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
