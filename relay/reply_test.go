package relay

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wxrelay/wxrelay/callback"
)

// The partner's time to think ends before the door's: a push that took long to store is answered success, not 500.
func TestTimeToThink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got := timeToThink(t.Context()); got != 3500*time.Millisecond {
			t.Errorf("without a deadline: %s", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		for _, c := range []struct{ stored, want time.Duration }{
			{0, 3500 * time.Millisecond}, {time.Second, 2700 * time.Millisecond}, {2800 * time.Millisecond, -100 * time.Millisecond}} {
			time.Sleep(c.stored)
			if got := timeToThink(ctx); got != c.want {
				t.Errorf("%s later: %s, want %s", c.stored, got, c.want)
			}
		}
	})
}

// Only what WeChat can show as an answer to this push becomes one.
func TestUnfit(t *testing.T) {
	push := func(f callback.Format) *callback.Push {
		return &callback.Push{Format: f, Event: callback.Event{FromUserName: "oAnn", ToUserName: "gh_1"}}
	}
	const good = `{"ToUserName":"oAnn","FromUserName":"gh_1","CreateTime":1,"MsgType":"text","Content":"hello"}`
	const goodXML = `<xml><ToUserName>oAnn</ToUserName><FromUserName>gh_1</FromUserName><CreateTime>1</CreateTime><MsgType>text</MsgType></xml>`
	for body, want := range map[string]bool{
		good: true, "ok": false, `{"ok":true}`: false, `{"ToUserName":"oBob","FromUserName":"gh_1","MsgType":"text"}`: false,
		`{"ToUserName":"oAnn","MsgType":"text"}`: false, goodXML: false, good[:40]: false, good[:len(good)-1]: false, good + "}": false, "[]": false} {
		if why := unfit(push(callback.JSON), []byte(body)); (why == "") != want {
			t.Errorf("%s: %q", body, why)
		}
	}
	if why := unfit(push(callback.XML), []byte(goodXML)); why != "" {
		t.Error(why)
	}
	if why := unfit(push(callback.XML), []byte(good)); why == "" {
		t.Error("JSON answers XML")
	}
}
