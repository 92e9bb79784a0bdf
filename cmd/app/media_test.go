package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// upload hands an image to the gateway and gives its media_id.
func (w *world) upload(content string) string {
	w.t.Helper()
	a, err := w.client.Upload(w.ctx, "apps/shop/media", "image/png", []byte(content))
	var m struct {
		ID      string `json:"media_id"`
		Type    string `json:"type"`
		Created int64  `json:"created_at"`
	}
	if err != nil || a.Status != 200 || a.Into(&m) != nil || m.ID == "" || m.Type != "image" || time.Since(time.Unix(m.Created, 0)).Abs() > time.Hour {
		w.t.Fatalf("%v %+v", err, a)
	}
	return m.ID
}

// An image is uploaded through the gateway, and reaches the user as a picture and on a card; a dead token is healed.
func TestImagesAndCards(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	w.says(ann)
	w.sim.KillToken("shop", false)
	content := "\x89PNG\r\n\x1a\n" + strings.Repeat("pixel", 20_000)
	id := w.upload(content)
	if got, ok := w.sim.Media("shop", id); !ok || string(got) != content {
		t.Errorf("WeChat has %d bytes, want %d", len(got), len(content))
	}
	kf := func(msgtype string, part map[string]any) map[string]any {
		m := text(ann, "", map[string]any{"msgtype": msgtype, msgtype: part})
		delete(m, "text")
		return m
	}
	w.toldOf(w.send(202, kf("image", map[string]any{"media_id": id})).Message().ID, "message.sent")
	w.toldOf(w.send(202, kf("miniprogrampage", map[string]any{"title": "订单", "pagepath": "pages/order?id=1", "thumb_media_id": id})).Message().ID, "message.sent")
	in := w.sim.Inbox(ann)
	if len(in) != 2 || in[0].Values["text"] != id || in[1].Values["text"] != "pages/order?id=1" ||
		!strings.Contains(string(in[1].Body["miniprogrampage"]), `"订单"`) {
		t.Errorf("%+v", in)
	}
	got := w.toldOf(w.send(202, kf("image", map[string]any{"media_id": "of long ago"})).Message().ID, "message.failed")
	if got.Errcode == nil || *got.Errcode != 40007 {
		t.Errorf("%+v", got)
	}

	// What does not fit is said, by whoever knows it.
	for name, c := range map[string]struct {
		path, ctype, body, code string
		status                  int
	}{
		"not an image":      {"apps/shop/media", "application/json", "{}", "invalid_request", 422},
		"of no type":        {"apps/shop/media", ";", "x", "invalid_request", 422},
		"empty":             {"apps/shop/media", "image/png", "", "invalid_request", 422},
		"a foreign app":     {"apps/other/media", "image/png", "x", "not_allowed", 403},
		"too large for us":  {"apps/shop/media", "image/png", strings.Repeat("x", 13<<20), "too_large", 413},
		"too large for him": {"apps/shop/media", "image/png", strings.Repeat("x", 10<<20+1), "wechat_error", 502},
	} {
		a, err := w.client.Upload(w.ctx, c.path, c.ctype, []byte(c.body))
		if err != nil || a.Status != c.status || a.Code() != c.code {
			t.Errorf("%s: %v %+v", name, err, a)
		}
		if c.status == 502 && !strings.Contains(string(a.Body), `"errcode":40006`) {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
}

// A channel that WeChat withdrew is said to be so at once, unless the message has another.
func TestARetiredChannelIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.sim.User("shop", "ann")
	w.says(ann)
	old := legacy(ann, map[string]any{"form_id": "1526000000001"})
	w.toldOf(w.send(202, old).Message().ID, "message.failed")
	if a := w.send(410, old); a.Code() != "channel_retired" {
		t.Errorf("%s", a.Body)
	}
	if n := w.sim.Count("call:/cgi-bin/message/wxopen/template/send"); n != 1 {
		t.Errorf("WeChat was asked %d times", n)
	}
	old["channel"], old["msgtype"], old["text"] = []string{"template", "customer_service"}, "text", map[string]any{"content": "hi"}
	if got := w.toldOf(w.send(202, old).Message().ID, "message.sent"); got.Channel != "customer_service" {
		t.Errorf("%+v", got)
	}
	if got := blamed(w.send(422, legacy(ann, map[string]any{"form_id": "the formId is a mock one"}))); got != "form_id" {
		t.Errorf("a mock one: blames %q", got)
	}
	if a := w.send(422, legacy(ann, map[string]any{"data": map[string]any{}})); a.Code() != "invalid_message" {
		t.Errorf("what is wrong with it comes first: %s", a.Body)
	}
}

// A prepay_id that the message itself carries is not known at once either (41028): it is tried again. A form_id is not.
func TestAPrepayIDOfTheMessageItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{sim: years2018(time.Hour)})
	w.sim.SetEra(wechatsim.Era2018)
	ann := w.sim.User("shop", "ann")
	m := w.send(202, legacy(ann, map[string]any{"form_id": "prepay_id=" + w.sim.Pay(ann)})).Message()
	if err := w.until(func() bool { return w.message(m.ID).Attempts == 1 }); err != nil {
		t.Fatalf("%+v", w.message(m.ID))
	}
	w.sim.Advance(2 * time.Hour)
	w.later(time.Minute)
	w.toldOf(m.ID, "message.sent")
	got := w.toldOf(w.send(202, legacy(ann, map[string]any{"form_id": "1526000000001"})).Message().ID, "message.failed")
	if got.Attempts != 1 || got.Errcode == nil || *got.Errcode != 41028 {
		t.Errorf("%+v", got)
	}
	never := w.send(202, legacy(ann, map[string]any{"form_id": "wx20141027200939" + "5522657a690389285100"})).Message()
	if err := w.until(func() bool { return w.message(never.ID).Attempts == 1 }); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		w.later(time.Minute)
	}
	w.toldOf(never.ID, "message.failed")
}
