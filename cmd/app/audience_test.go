package app_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
)

// audienceSend is a send to an audience as its partner reads it.
type audienceSend struct {
	ID, State                                                                            string
	Total, Made                                                                          int
	NoCredit                                                                             int `json:"no_credit"`
	Unbound, Queued, Held, Sent, Delivered, Failed, Refused, Expired, Cancelled, Unknown int
}

// do asks as the partner, and reads the answer into v unless that is nil.
func (w *world) asks(want int, method, path string, body, v any) *partnersim.Answer {
	w.t.Helper()
	var a *partnersim.Answer
	var err error
	if method == "GET" {
		a, err = w.client.Get(w.ctx, path, nil)
	} else {
		a, err = w.client.Do(w.ctx, method, path, body)
	}
	if err != nil || a.Status != want {
		w.t.Fatalf("%s %s: %v %+v, want %d", method, path, err, a, want)
	}
	if v != nil {
		if err := json.Unmarshal(a.Body, v); err != nil {
			w.t.Fatalf("%s %s: %v: %s", method, path, err, a.Body)
		}
	}
	return a
}

func (w *world) audienceSend(id string) (s audienceSend) {
	w.t.Helper()
	w.asks(200, "GET", "audience-sends/"+id, nil, &s)
	return s
}

// to is a valid message to an audience.
func to(audience string, over map[string]any) map[string]any {
	m := order("", map[string]any{"to": map[string]any{"audience": audience}})
	for k, v := range over {
		m[k] = v
	}
	return m
}

// Each member with a credit gets one message, each of the others is counted, and the partner is told when it is over.
func TestAnAudienceGetsItsMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	var users []string
	reached := map[string]string{}
	for i := range 30 {
		user, openid := fmt.Sprintf("u-%02d", i), w.sim.User("shop", fmt.Sprintf("person%d", i))
		users = append(users, user)
		if i%10 == 9 {
			continue // bound to nobody
		}
		w.asks(200, "PUT", "bindings/shop/"+user, map[string]any{"openid": openid}, nil)
		if i%5 != 4 {
			w.accept(openid, tOrder)
			reached[openid] = user
		}
	}
	for openid := range reached {
		w.wantLine(openid, tOrder, 1, 0, "accepted")
	}
	w.asks(200, "PUT", "audiences/shipped", map[string]any{"app": "shop", "template_id": tOrder, "users": users}, nil)
	body := to("shipped", map[string]any{"template_id": nil, "metadata": map[string]any{"campaign": "c1"}})
	delete(body, "template_id") // the audience's
	a, err := w.client.Send(w.ctx, "campaign-1", body)
	var s audienceSend
	if err != nil || a.Status != 202 || json.Unmarshal(a.Body, &s) != nil {
		t.Fatalf("%v %+v", err, a)
	}
	if s.State != "expanding" || s.Total != 30 || s.Made != 0 {
		t.Errorf("accepted as %+v", s)
	}
	var done audienceSend
	w.told("audience.done", func(e partnersim.Event) bool { return e.Into(&done) == nil && done.ID == s.ID })
	n := len(reached)
	if done.State != "done" || done.Made != n || done.Unbound != 3 || done.NoCredit != 30-3-n || done.Queued != 0 || done.Sent+done.Delivered != n {
		t.Errorf("told %+v, want %d made", done, n)
	}
	for openid := range reached {
		w.received(openid, 1)
	}
	if err := w.until(func() bool { return w.audienceSend(s.ID).Delivered == n }); err != nil {
		t.Errorf("%+v", w.audienceSend(s.ID))
	}
	listed, _ := w.list(url.Values{"audience_send": {s.ID}, "limit": {"100"}})
	if len(listed) != n {
		t.Errorf("%d messages listed", len(listed))
	}
	for _, m := range listed {
		if m.User == nil || reached[m.OpenID] != *m.User {
			t.Errorf("message of %s to %v", m.OpenID, m.User)
		}
	}
	// The same request again is the first one; another one under its id is refused. What is over is not cancelled.
	if a, err := w.client.Send(w.ctx, "campaign-1", body); err != nil || a.Status != 202 || a.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%v %+v", err, a)
	}
	if a, err := w.client.Send(w.ctx, "campaign-1", to("shipped", nil)); err != nil || a.Code() != "id_reused" {
		t.Errorf("%v %+v", err, a)
	}
	if a := w.asks(409, "DELETE", "audience-sends/"+s.ID, nil, nil); a.Code() != "too_late" {
		t.Errorf("%s", a.Body)
	}
	if got := w.countTold("audience.done"); got != 1 {
		t.Errorf("told %d times", got)
	}
}

// What waits is cancelled with the send, once and with its events; members that come later are not in it.
func TestASendIsCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	var openids []string
	for i := range 12 {
		openids = append(openids, w.sim.User("shop", fmt.Sprintf("person%d", i)))
	}
	for _, o := range openids[:6] {
		w.accept(o, tOrder)
	}
	for _, o := range openids[:6] {
		w.wantLine(o, tOrder, 1, 0, "accepted")
	}
	w.asks(200, "PUT", "audiences/held", map[string]any{"app": "shop", "openids": openids}, nil)
	var s audienceSend
	a := w.send(202, to("held", map[string]any{"no_credit": "hold", "send_at": inFuture(time.Hour)}))
	if err := json.Unmarshal(a.Body, &s); err != nil {
		t.Fatal(err)
	}
	w.asks(200, "PATCH", "audiences/held", map[string]any{"add": []string{w.sim.User("shop", "late")}}, nil)
	if err := w.until(func() bool { s := w.audienceSend(s.ID); return s.Queued == 6 && s.Held == 6 }); err != nil {
		t.Fatalf("%+v", w.audienceSend(s.ID))
	}
	var got audienceSend
	w.asks(200, "DELETE", "audience-sends/"+s.ID, nil, &got)
	if got.State != "cancelled" {
		t.Errorf("%+v", got)
	}
	var done audienceSend
	w.told("audience.done", func(e partnersim.Event) bool { return e.Into(&done) == nil })
	want := audienceSend{ID: s.ID, State: "cancelled", Total: 12, Made: 12, Cancelled: 12}
	if diff := cmp.Diff(want, done); diff != "" {
		t.Error(diff)
	}
	if err := w.until(func() bool { return w.countTold("message.cancelled") == 12 }); err != nil {
		t.Errorf("%d told", w.countTold("message.cancelled"))
	}
	for _, o := range openids[:6] {
		w.wantLine(o, tOrder, 1, 0, "accepted")
	}
}

// A held message of a send is counted where it is when its credit comes.
func TestAHeldMessageOfASendGoesWithTheAccept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	w.asks(200, "PUT", "audiences/held", map[string]any{"app": "shop", "openids": []string{ann}}, nil)
	var s audienceSend
	if err := json.Unmarshal(w.send(202, to("held", map[string]any{"no_credit": "hold"})).Body, &s); err != nil {
		t.Fatal(err)
	}
	w.told("audience.done", nil)
	if s := w.audienceSend(s.ID); s.State != "done" || s.Held != 1 || s.Made != 1 {
		t.Fatalf("%+v", s)
	}
	w.accept(ann, tOrder)
	w.received(ann, 1)
	if err := w.until(func() bool { s := w.audienceSend(s.ID); return s.Delivered == 1 && s.Held == 0 && s.Sent == 0 }); err != nil {
		t.Errorf("%+v", w.audienceSend(s.ID))
	}
}

// What is wrong with a send is said at once, before anything is made.
func TestSendsThatCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	w.listed()
	w.asks(200, "PUT", "audiences/a", map[string]any{"app": "shop", "openids": []string{w.sim.User("shop", "ann")}}, nil)
	for name, body := range map[string]map[string]any{
		"an unknown audience":          to("b", nil),
		"two addressees":               to("a", map[string]any{"to": map[string]any{"audience": "a", "user": "u"}}),
		"wrong data":                   to("a", map[string]any{"data": map[string]any{"thing1": "x"}}),
		"a template that is not there": to("a", map[string]any{"template_id": "T"}),
	} {
		if a := w.send(422, body); a.Code() != "invalid_message" {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	a, err := w.client.SendBatch(w.ctx, "", []any{to("a", nil)})
	var batch struct{ Results []struct{ Status int } }
	if err != nil || json.Unmarshal(a.Body, &batch) != nil || len(batch.Results) != 1 || batch.Results[0].Status != 422 {
		t.Errorf("in a batch: %v %+v", err, a)
	}
	w.asks(404, "GET", "audience-sends/aud_0000000000000000000000000000", nil, nil)
	w.asks(404, "DELETE", "audience-sends/nothing", nil, nil)
	if n := w.sim.Count("call:" + sendPath); n != 0 {
		t.Errorf("%d calls", n)
	}
}
