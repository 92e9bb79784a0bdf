package app_test

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
	"github.com/wxrelay/wxrelay/scripts/slow"
)

// list reads one page of messages.
func (w *world) list(q url.Values) (items []partnersim.Message, next string) {
	w.t.Helper()
	a, err := w.client.Get(w.ctx, "messages", q)
	var page struct {
		Items []partnersim.Message
		Next  *string `json:"next_cursor"`
	}
	if err != nil || a.Status != 200 || a.Into(&page) != nil {
		w.t.Fatalf("GET messages: %v %+v", err, a)
	}
	if page.Next != nil {
		next = *page.Next
	}
	return page.Items, next
}

func (w *world) cancel(want int, id string) *partnersim.Answer {
	w.t.Helper()
	a, err := w.client.Do(w.ctx, "DELETE", "messages/"+id, nil)
	if err != nil || a.Status != want {
		w.t.Fatalf("DELETE: %v %+v, want %d", err, a, want)
	}
	return a
}

// inFuture is a time as a message carries it.
func inFuture(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339Nano) }

// A batch has one result per item, in the order asked: what is wrong with one is its own affair.
func TestABatchAnswersEachItem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	batch := []any{
		order(ann, map[string]any{"metadata": map[string]any{"n": 0}}),
		order(ann, nil), // no credit left
		order(ann, map[string]any{"page": "https://example.com"}),
		map[string]any{"app": "other", "to": map[string]any{"openid": ann}},
		order(ann, map[string]any{"surprise": 1}),
		order(ann, map[string]any{"no_credit": "hold"}),
	}
	send := func() *partnersim.Answer {
		a, err := w.client.SendBatch(w.ctx, "batch-1", batch)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := send()
	var got struct {
		Results []struct {
			Status  int
			Message *partnersim.Message
			Problem *struct{ Code string }
		}
	}
	if err := a.Into(&got); err != nil || a.Status != 200 || len(got.Results) != len(batch) {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	codes := map[int]string{1: "no_credit", 2: "invalid_message", 3: "not_allowed", 4: "invalid_message"}
	for i, r := range got.Results {
		if code := codes[i]; code != "" && (r.Problem == nil || r.Problem.Code != code || r.Message != nil) || code == "" && (r.Status != 202 || r.Message == nil) {
			t.Errorf("item %d: %+v, want %q", i, r, code)
		}
	}
	if m := got.Results[5].Message; m == nil || m.State != "held" && m.State != "queued" {
		t.Errorf("%+v", m)
	}
	if again := send(); string(again.Body) != string(a.Body) {
		t.Errorf("the same batch again:\n%s\n%s", a.Body, again.Body)
	}
	if m := got.Results[0].Message; m != nil {
		w.toldOf(m.ID, "message.delivered")
	}

	tooMany := make([]any, 1001)
	for i := range tooMany {
		tooMany[i] = order(ann, nil)
	}
	if a, err := w.client.SendBatch(w.ctx, "", tooMany); err != nil || a.Status != 413 || a.Code() != "too_large" {
		t.Errorf("%v %d %s", err, a.Status, a.Code())
	}
}

// Lists: newest first, whole across pages, narrowed by app, user, openid and state.
func TestListsWithCursorsAndFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann, bob := w.sim.User("shop", "ann"), w.sim.User("shop", "bob")
	if a, err := w.client.Do(w.ctx, "PUT", "bindings/shop/u-1", map[string]any{"openid": ann}); err != nil || a.Status != 200 {
		t.Fatalf("%v %+v", err, a)
	}
	var anns, all []string
	for i := range 12 {
		who := ann
		if i%3 == 2 {
			who = bob
		}
		m := w.send(202, order(who, map[string]any{"no_credit": "hold"})).Message()
		all = append(all, m.ID)
		if who == ann {
			anns = append(anns, m.ID)
		}
	}
	w.cancel(200, anns[0])
	slices.Reverse(all)
	slices.Reverse(anns)
	walk := func(q url.Values) (ids []string) {
		for {
			items, next := w.list(q)
			for _, m := range items {
				ids = append(ids, m.ID)
			}
			if next == "" {
				return ids
			}
			q.Set("cursor", next)
		}
	}
	for name, c := range map[string]struct {
		q    url.Values
		want []string
	}{
		"everything":     {url.Values{"limit": {"5"}}, all},
		"one app":        {url.Values{"app": {"shop"}, "limit": {"5"}}, all},
		"one openid":     {url.Values{"app": {"shop"}, "openid": {ann}, "limit": {"3"}}, anns},
		"one user":       {url.Values{"app": {"shop"}, "user": {"u-1"}}, anns},
		"any app's user": {url.Values{"user": {"u-1"}, "limit": {"3"}}, anns},
		"any app's id":   {url.Values{"openid": {ann}, "limit": {"3"}}, anns},
		"nobody":         {url.Values{"user": {"u-2"}}, nil},
		"nobody there":   {url.Values{"app": {"shop"}, "user": {"u-2"}}, nil},
		"no such id":     {url.Values{"openid": {"oNobody00000000000000000000"}}, nil},
		"one state":      {url.Values{"state": {"cancelled"}}, anns[len(anns)-1:]},
		"state of an id": {url.Values{"app": {"shop"}, "openid": {bob}, "state": {"cancelled"}}, nil},
	} {
		if got := walk(c.q); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// WeChat's msgid finds its message, and every filter beside it must fit too.
func TestAMessageIsFoundByItsMsgID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 2)
	id := w.send(202, order(ann, nil)).Message().ID
	w.toldOf(id, "message.delivered")
	w.toldOf(w.send(202, order(ann, nil)).Message().ID, "message.delivered")
	var m struct {
		MsgID     string    `json:"msgid"`
		CreatedAt time.Time `json:"created_at"`
	}
	if a, err := w.client.Do(w.ctx, "GET", "messages/"+id, nil); err != nil || a.Into(&m) != nil || m.MsgID == "" {
		t.Fatalf("%v %s", err, a.Body)
	}
	after := m.CreatedAt.Add(time.Minute).Format(time.RFC3339)
	for q, found := range map[string]bool{"": true, "&app=shop": true, "&openid=" + ann: true, "&state=delivered": true, "&until=" + after: true,
		"&state=sent": false, "&openid=oNobody00000000000000000000": false, "&since=" + after: false, "1": false} {
		values, err := url.ParseQuery("msgid=" + m.MsgID + q)
		if err != nil {
			t.Fatal(err)
		}
		items, next := w.list(values)
		if next != "" || found != (len(items) == 1 && items[0].ID == id) {
			t.Errorf("%s: %+v", q, items)
		}
	}
}

// A wrong filter is named; what is listed says whom the partner calls so, also when it named an openid.
func TestListsNameWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	if a, err := w.client.Do(w.ctx, "PUT", "bindings/shop/u-1", map[string]any{"openid": ann}); err != nil || a.Status != 200 {
		t.Fatalf("%v %+v", err, a)
	}
	m := w.send(202, order(ann, nil)).Message()
	told := w.toldOf(m.ID, "message.delivered")
	listed, _ := w.list(url.Values{"user": {"u-1"}})
	if len(listed) != 1 {
		t.Fatalf("%+v", listed)
	}
	for where, u := range map[string]*string{"202": m.User, "event": told.User, "GET": w.message(m.ID).User, "list": listed[0].User} {
		if u == nil || *u != "u-1" {
			t.Errorf("%s: user %v", where, u)
		}
	}
	for name, c := range map[string]struct {
		path, query, code string
		status            int
	}{
		"a cursor of nobody's": {"messages", "cursor=nonsense", "invalid_request", 422},
		"half a cursor":        {"messages", "app=shop&openid=" + ann + "&cursor=1~x", "invalid_request", 422},
		"of deliveries":        {"deliveries", "endpoint=main&cursor=nonsense", "invalid_request", 422},
		"both":                 {"messages", "user=u-1&openid=" + ann, "invalid_request", 422},
		"not an openid":        {"messages", "openid=o%2F1", "invalid_request", 422},
		"a foreign app":        {"messages", "app=other&openid=" + ann, "not_allowed", 403},
	} {
		q, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		a, err := w.client.Get(w.ctx, c.path, q)
		if err != nil || a.Status != c.status || a.Code() != c.code {
			t.Errorf("%s: %v %d %s", name, err, a.Status, a.Body)
		}
		if strings.Contains(c.query, "cursor") && !strings.Contains(string(a.Body), `"field":"cursor"`) {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
}

// A message can be taken back while it waits, in each way of waiting; its credit is free again. Later it is too late.
func TestCancelWhileItWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 3)
	scheduled := w.send(202, order(ann, map[string]any{"send_at": inFuture(time.Hour)})).Message()
	if scheduled.State != "scheduled" {
		t.Fatalf("%+v", scheduled)
	}
	lift := w.refuse(48001, -1)
	queued := w.send(202, order(ann, nil)).Message()
	w.told("app.alert", nil) // from here on it waits for its app
	held := w.send(202, order(w.sim.User("shop", "bob"), map[string]any{"no_credit": "hold"})).Message()
	w.wantLine(ann, tOrder, 1, 2, "accepted")
	for _, m := range []partnersim.Message{scheduled, queued, held} {
		if err := w.until(func() bool { return w.message(m.ID).State == m.State }); err != nil {
			t.Fatalf("%+v", w.message(m.ID))
		}
		if got := w.cancel(200, m.ID).Message(); got.State != "cancelled" {
			t.Errorf("%+v", got)
		}
		w.toldOf(m.ID, "message.cancelled")
		if a := w.cancel(409, m.ID); a.Code() != "too_late" {
			t.Errorf("%s", a.Body)
		}
	}
	w.wantLine(ann, tOrder, 3, 0, "accepted")
	lift()
	w.later(2 * time.Hour)
	w.accept(w.sim.User("shop", "bob"), tOrder)
	sent := w.send(202, order(ann, nil)).Message()
	w.toldOf(sent.ID, "message.delivered")
	w.cancel(409, sent.ID)
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.CutBefore, Path: "subscribe/send"})
	unknown := w.send(202, order(ann, nil)).Message()
	w.toldOf(unknown.ID, "message.unknown")
	w.cancel(409, unknown.ID)
	if a := w.cancel(404, "msg_00nonesuch"); a.Code() != "not_found" {
		t.Errorf("%s", a.Body)
	}
	if n := len(w.sim.Inbox(ann)); n != 1 {
		t.Errorf("ann received %d", n)
	}
	if n := len(w.sim.Inbox(w.sim.User("shop", "bob"))); n != 0 {
		t.Errorf("bob received %d", n)
	}
}

// send_at is kept to, also across a restart and by a message that waited for its credit; the credit is reserved meanwhile.
func TestSendAt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann, bob := w.granted("ann", 1), w.sim.User("shop", "bob")
	m := w.send(202, order(ann, map[string]any{"send_at": inFuture(time.Hour)})).Message()
	h := w.send(202, order(bob, map[string]any{"send_at": inFuture(time.Hour), "no_credit": "hold"})).Message()
	w.send(409, order(ann, nil))
	w.accept(bob, tOrder)
	if err := w.until(func() bool { return w.message(h.ID).State == "scheduled" }); err != nil {
		t.Fatalf("%+v", w.message(h.ID))
	}
	w.stop()
	w.start()
	w.later(59 * time.Minute)
	if got := w.message(m.ID); got.State != "scheduled" || len(w.sim.Sends()) != 0 {
		t.Fatalf("%+v", got)
	}
	w.later(2 * time.Minute)
	w.toldOf(m.ID, "message.delivered")
	w.toldOf(h.ID, "message.delivered")
}

// expires_at ends a message in each way of waiting, and gives its credit back.
func TestExpiresAt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann, bob := w.granted("ann", 1), w.sim.User("shop", "bob")
	soon := map[string]any{"expires_at": inFuture(10 * time.Minute)}
	held := w.send(202, order(bob, map[string]any{"expires_at": soon["expires_at"], "no_credit": "hold"})).Message()
	w.refuse(48001, -1)
	queued := w.send(202, order(ann, soon)).Message()
	w.told("app.alert", nil)
	w.later(11 * time.Minute)
	for _, m := range []partnersim.Message{held, queued} {
		if got := w.toldOf(m.ID, "message.expired"); got.State != "expired" {
			t.Errorf("%+v", got)
		}
	}
	w.wantLine(ann, tOrder, 1, 0, "accepted")
	w.accept(bob, tOrder)
	w.wantLine(bob, tOrder, 1, 0, "accepted")
	for _, over := range []map[string]any{{"expires_at": inFuture(-time.Minute)}, {"send_at": inFuture(time.Hour), "expires_at": inFuture(time.Minute)}} {
		if a := w.send(422, order(ann, over)); a.Code() != "invalid_message" {
			t.Errorf("%s", a.Body)
		}
	}
}

// Of messages with one supersede_key only the newest waits; what waits for one user is bounded.
func TestHeldAreReplacedAndBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{config: "messages: {held_per_user: 3}"})
	ann := w.sim.User("shop", "ann")
	hold := func(want int, key string) partnersim.Message {
		return w.send(want, order(ann, map[string]any{"no_credit": "hold", "supersede_key": key})).Message()
	}
	old := hold(202, "cart")
	other := hold(202, "")
	fresh := hold(202, "cart")
	if got := w.toldOf(old.ID, "message.cancelled"); got.Timeline[len(got.Timeline)-1].Cause != "superseded" {
		t.Errorf("%+v", got)
	}
	hold(202, "third")
	hold(422, "fourth")
	hold(202, "third")
	w.accept(ann, tOrder)
	w.toldOf(other.ID, "message.delivered")
	w.accept(ann, tOrder)
	w.toldOf(fresh.ID, "message.delivered")
	if n := len(w.sim.Inbox(ann)); n != 2 {
		t.Errorf("ann received %d", n)
	}
}

// An accept lets the oldest held message go within a second, after a restart too.
func TestReleaseIsQuickAndOutlivesARestart(t *testing.T) {
	if !slow.On() { // measured alone
		t.Parallel()
	}
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	var ids []string
	for range 4 {
		ids = append(ids, w.send(202, order(ann, map[string]any{"no_credit": "hold"})).Message().ID)
	}
	w.stop()
	w.start()
	for i, id := range ids {
		started := time.Now()
		w.accept(ann, tOrder)
		w.received(ann, i+1)
		slow.Within(t, started, time.Second)
		w.toldOf(id, "message.delivered")
	}
}

// Metadata, timeline and the final id: the whole story, as the partner is told it.
func TestTheWholeStory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	a := w.send(202, order(ann, map[string]any{"metadata": map[string]any{"a": []int{1, 2}, "b": "<&>"}})).Message()
	got := w.toldOf(a.ID, "message.delivered")
	var meta map[string]any
	if err := json.Unmarshal(got.Metadata, &meta); err != nil || meta["b"] != "<&>" {
		t.Errorf("%s", got.Metadata)
	}
	var states []string
	for i, s := range got.Timeline {
		states = append(states, s.State)
		if s.Cause == "" || i > 0 && s.At.Before(got.Timeline[i-1].At.Add(-time.Second)) {
			t.Errorf("step %d: %+v", i, s)
		}
	}
	if !slices.Equal(states, []string{"queued", "sent", "delivered"}) {
		t.Errorf("%v", states)
	}
}
