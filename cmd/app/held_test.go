package app_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
)

// batchOf sends a batch and gives the messages it made, "" where there is none.
func (w *world) batchOf(items []any) (out []partnersim.Message) {
	w.t.Helper()
	a, err := w.client.SendBatch(w.ctx, "", items)
	var got struct {
		Results []struct {
			Status  int
			Message *partnersim.Message
		}
	}
	if err != nil || a.Status != 200 || a.Into(&got) != nil || len(got.Results) != len(items) {
		w.t.Fatalf("%v %+v", err, a)
	}
	for _, r := range got.Results {
		if r.Message == nil {
			r.Message = &partnersim.Message{}
		}
		out = append(out, *r.Message)
	}
	return out
}

// Of one supersede_key the newest waits, also when all come at once; the older ones are cancelled when its 202 is there.
func TestOfOneKeyTheNewestWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	hold := map[string]any{"no_credit": "hold", "supersede_key": "cart"}
	items := make([]any, 20)
	for i := range items {
		items[i] = order(ann, hold)
	}
	got := w.batchOf(items)
	for i, m := range got[:19] {
		if now := w.message(m.ID); now.State != "cancelled" || now.Timeline[len(now.Timeline)-1].Cause != "superseded" {
			t.Errorf("number %d: %+v", i, now)
		}
		w.toldOf(m.ID, "message.cancelled")
	}
	if now := w.message(got[19].ID); now.State != "held" {
		t.Errorf("the last one: %+v", now)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if a, err := w.client.Send(w.ctx, "", order(ann, hold)); err != nil || a.Status != 202 {
				t.Errorf("%v %+v", err, a)
			}
		})
	}
	wg.Wait()
	if held, _ := w.list(map[string][]string{"state": {"held"}}); len(held) != 1 {
		t.Errorf("%d wait", len(held))
	}
	w.accept(ann, tOrder)
	w.received(ann, 1)
	w.accept(ann, tOrder)
	w.wantLine(ann, tOrder, 1, 0, "accepted")
}

// One that had left for WeChat and came back gives way to the newer one of its key too.
func TestWhoComesBackGivesWayToTheNewerOfItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	w.stop()
	answer := make(chan struct{})
	var once sync.Once
	w.throughFront(func(rw http.ResponseWriter, r *http.Request) {
		first := false
		if strings.HasSuffix(r.URL.Path, "/subscribe/send") {
			once.Do(func() { first = true })
		}
		if !first {
			w.sim.ServeHTTP(rw, r)
			return
		}
		<-answer
		_, _ = rw.Write([]byte(`{"errcode":43101,"errmsg":"user refuse to accept the msg"}`))
	})
	w.start()
	ann := w.sim.User("shop", "ann")
	hold := func() string {
		return w.send(202, order(ann, map[string]any{"no_credit": "hold", "supersede_key": "cart"})).Message().ID
	}
	older := hold()
	w.accept(ann, tOrder)
	if err := w.until(func() bool { return w.message(older).State == "sending" }); err != nil {
		t.Fatalf("%+v", w.message(older))
	}
	newer := hold()
	close(answer)
	if err := w.until(func() bool { return w.message(older).State == "held" }); err != nil {
		t.Fatalf("%+v", w.message(older))
	}
	w.accept(ann, tOrder)
	w.toldOf(newer, "message.delivered")
	if got := w.toldOf(older, "message.cancelled"); got.Timeline[len(got.Timeline)-1].Cause != "superseded" {
		t.Errorf("%+v", got)
	}
	if n := len(w.sim.Inbox(ann)); n != 1 {
		t.Errorf("ann received %d", n)
	}
}

// held_per_user counts the user's messages over all templates, and holds for those that come at once.
func TestHeldPerUserHoldsForAllAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{config: "messages: {held_per_user: 3}"})
	ann, bob := w.sim.User("shop", "ann"), w.sim.User("shop", "bob")
	hold := func(openid string, i int) map[string]any {
		m := order(openid, map[string]any{"no_credit": "hold"})
		if i%2 == 1 {
			m["template_id"], m["data"] = tOther, map[string]any{"thing1": "x"}
		}
		return m
	}
	var mu sync.Mutex
	status := map[int]int{}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			a, err := w.client.Send(w.ctx, "", hold(ann, i))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			status[a.Status]++
		})
	}
	wg.Wait()
	if status[202] != 3 || status[422] != 17 {
		t.Errorf("%v", status)
	}
	w.send(202, hold(bob, 0))
	held, _ := w.list(map[string][]string{"app": {"shop"}, "openid": {ann}, "state": {"held"}})
	if len(held) != 3 {
		t.Fatalf("%d wait", len(held))
	}
	w.cancel(200, held[0].ID)
	w.send(202, hold(ann, 0))
	w.send(422, hold(ann, 1))
}

// A batch keeps the order of what is to one user.
func TestABatchKeepsAUsersOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann, bob := w.granted("ann", 1), w.sim.User("shop", "bob")
	w.accept(bob, tLong)
	if err := w.until(func() bool { return w.line(bob, tLong).Status == "accepted" }); err != nil {
		t.Fatalf("%+v", w.line(bob, tLong))
	}
	var items []any
	var want []string
	for i := range 20 {
		n := strconv.Itoa(i)
		items = append(items, order(ann, map[string]any{"no_credit": "hold"}),
			order(bob, map[string]any{"template_id": tLong, "data": map[string]any{"thing1": n}}))
		want = append(want, n)
	}
	got := w.batchOf(items)
	for i := 0; i < len(got); i += 2 {
		if held := got[i].State == "held"; held != (i > 0) {
			t.Errorf("number %d of ann: %s; the first has the credit", i/2, got[i].State)
		}
	}
	w.received(bob, 20)
	var order []string
	for _, m := range w.sim.Inbox(bob) {
		order = append(order, m.Values["thing1"])
	}
	if !slices.Equal(order, want) {
		t.Errorf("bob received %v", order)
	}
}

// A credit that comes back goes to who waits longest, and not to who comes next; what comes meanwhile waits behind.
func TestACreditThatComesBackGoesToWhoWaits(t *testing.T) {
	t.Parallel()
	hold := map[string]any{"no_credit": "hold"}
	// granted: A has the credit and is to be sent later, B and C wait.
	start := func(t *testing.T, over map[string]any) (w *world, ann string, a, b, c partnersim.Message) {
		w = newWorld(t, wish{})
		ann = w.granted("ann", 1)
		a = w.send(202, order(ann, over)).Message()
		b, c = w.send(202, order(ann, hold)).Message(), w.send(202, order(ann, hold)).Message()
		if b.State != "held" || c.State != "held" {
			t.Fatalf("%+v %+v", b, c)
		}
		return w, ann, a, b, c
	}
	gone := func(w *world, ann string, b, c partnersim.Message) {
		w.t.Helper()
		w.send(409, order(ann, nil))
		w.toldOf(b.ID, "message.delivered")
		if got := w.message(c.ID); got.State != "held" || len(w.sim.Inbox(ann)) != 1 {
			w.t.Errorf("%+v", got)
		}
	}
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		w, ann, a, b, c := start(t, map[string]any{"send_at": inFuture(time.Hour)})
		w.cancel(200, a.ID)
		gone(w, ann, b, c)
	})
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		w, ann, a, b, c := start(t, map[string]any{"send_at": inFuture(time.Hour), "expires_at": inFuture(2 * time.Hour)})
		w.later(3 * time.Hour)
		w.toldOf(a.ID, "message.expired")
		gone(w, ann, b, c)
	})
	t.Run("refused for another reason", func(t *testing.T) {
		t.Parallel()
		w, ann, a, b, c := start(t, map[string]any{"send_at": inFuture(time.Hour)})
		w.refuse(47003, 1)
		w.later(2 * time.Hour)
		w.toldOf(a.ID, "message.failed")
		gone(w, ann, b, c)
	})
	t.Run("an answer of customer service", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, wish{})
		ann := w.sim.User("shop", "ann")
		w.sim.EnterSession(ann, "")
		w.settled()
		a := w.send(202, text(ann, "1", map[string]any{"send_at": inFuture(30 * time.Second)})).Message()
		w.send(202, text(ann, "2", map[string]any{"send_at": inFuture(30 * time.Second)}))
		b := w.send(202, text(ann, "3", hold)).Message()
		if b.State != "held" {
			t.Fatalf("%+v", b)
		}
		w.cancel(200, a.ID)
		w.toldOf(b.ID, "message.sent")
	})
}

// What waits for a credit until after its send_at waits from then on; once it has the credit, only expires_at ends it.
func TestHeldForALateSendAt(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	w := newWorld(t, wish{config: patient})
	ann, bob := w.sim.User("shop", "ann"), w.sim.User("shop", "bob")
	m := w.send(202, order(ann, map[string]any{"no_credit": "hold", "send_at": inFuture(20 * day)})).Message()
	old := w.send(202, order(bob, map[string]any{"no_credit": "hold"})).Message()
	w.later(8 * day)
	if got := w.toldOf(old.ID, "message.expired"); got.Timeline[len(got.Timeline)-1].Cause != "retention" {
		t.Errorf("%+v", got)
	}
	w.accept(ann, tOrder)
	if err := w.until(func() bool { return w.message(m.ID).State == "scheduled" }); err != nil {
		t.Fatalf("%+v", w.message(m.ID))
	}
	lift := w.refuse(48001, -1)
	w.later(12*day + time.Hour)
	w.told("app.alert", nil)
	if err := w.until(func() bool { return w.message(m.ID).State == "queued" }); err != nil { // in hand, its lease would lapse
		t.Fatalf("%+v", w.message(m.ID))
	}
	w.later(10 * day)
	if got := w.message(m.ID); got.State != "queued" && got.State != "sending" {
		t.Fatalf("%+v", got)
	}
	lift()
	if err := w.overRests(func() bool { return w.message(m.ID).State == "delivered" }); err != nil {
		t.Fatalf("%+v", w.message(m.ID))
	}
	w.toldOf(m.ID, "message.delivered")
}
