package app_test

import (
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// 43101 takes what was granted before it, reserved or not. A message that had a credit is, at its time, one without: refused,
// held or tried, as its no_credit says; one that is cancelled before brings nothing back.
func TestWhatWeChatRevokedIsGoneForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 6)
	soon := func(noCredit string) string {
		return w.send(202, order(ann, map[string]any{"no_credit": noCredit, "send_at": inFuture(4 * time.Minute)})).Message().ID
	}
	refuse, hold, try, cancelled := soon("refuse"), soon("hold"), soon("try"), soon("refuse")
	w.wantLine(ann, tOrder, 2, 4, "accepted")
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "subscribe/send", Errcode: 43101, Errmsg: "user refuse to accept the msg"})
	w.toldOf(w.send(202, order(ann, nil)).Message().ID, "message.refused")
	w.wantLine(ann, tOrder, 0, 0, "unknown")
	w.cancel(200, cancelled)
	w.wantLine(ann, tOrder, 0, 0, "unknown")
	calls := w.sim.Count("call:" + sendPath)

	w.later(5 * time.Minute)
	if got := w.toldOf(refuse, "message.refused"); got.Errcode != nil || got.Attempts != 0 {
		t.Errorf("WeChat was asked about a message without credit: %+v", got)
	}
	w.toldOf(try, "message.sent")
	w.toldOf(hold, "message.held")
	if n := w.sim.Count("call:"+sendPath) - calls; n != 1 {
		t.Errorf("%d calls, want that of try alone", n)
	}
	w.wantLine(ann, tOrder, 0, 0, "unknown")
	w.accept(ann, tOrder)
	w.toldOf(hold, "message.delivered")
	w.wantLine(ann, tOrder, 0, 0, "accepted")
}
