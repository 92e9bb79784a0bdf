package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// Two sends of one template to one user without an answer, and then the report of each: it does not matter which is whose.
func TestReportsAlikeSettleAsManySends(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fail  bool
		state string
	}{"both arrived": {false, "delivered"}, "neither did": {true, "failed"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{})
			ann := w.granted("ann", 3)
			for range 2 {
				w.sim.Force(wechatsim.Forced{Mood: wechatsim.Cut, Path: "subscribe/send"})
				w.sim.Force(wechatsim.Forced{Mood: wechatsim.Reorder, Path: "subscribe_msg_sent_event", Delay: 2 * time.Second})
				if c.fail {
					w.sim.Force(wechatsim.Forced{Mood: wechatsim.SentFails})
				}
			}
			one, two := w.send(202, order(ann, nil)).Message().ID, w.send(202, order(ann, nil)).Message().ID
			w.toldOf(one, "message.unknown")
			w.toldOf(two, "message.unknown")
			first, second := w.toldOf(one, "message."+c.state), w.toldOf(two, "message."+c.state)
			if first.MsgID == nil || second.MsgID == nil || *first.MsgID == *second.MsgID {
				t.Errorf("%+v\n%+v", first, second)
			}
			w.told("message.unknown", func(e partnersim.Event) bool {
				var m struct {
					ID    string
					Final *bool
				}
				return e.Into(&m) == nil && m.ID == one && m.Final != nil && !*m.Final
			})
			w.wantLine(ann, tOrder, 1, 0, "accepted")
			if err := w.until(func() bool { return !strings.Contains(strings.Join(w.redis.Keys(), "\n"), "}:k:r/") }); err != nil {
				t.Error("a report is still kept")
			}
		})
	}
}
