package app_test

import (
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// A send that WeChat answers with -1 and did nothing about is sent again, since it holds the line's only credit, and reaches
// the user once, whatever its on_unknown.
func TestBusyIsSentAgainWithTheLastCredit(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]map[string]any{"keep": nil, "retry": {"on_unknown": "retry"}, "hold": {"no_credit": "hold"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{})
			ann := w.granted("ann", 1)
			w.sim.Force(wechatsim.Forced{Mood: wechatsim.Busy, Path: "subscribe/send", Times: 2})
			m := w.send(202, order(ann, more)).Message()
			for n := 1; n <= 2; n++ {
				if err := w.until(func() bool { return w.message(m.ID).Attempts == n }); err != nil {
					t.Fatalf("%+v", w.message(m.ID))
				}
				if got := w.message(m.ID); got.State != "sending" || got.Errcode == nil || *got.Errcode != -1 {
					t.Errorf("while it waits: %+v", got)
				}
				w.later(11 * time.Second)
			}
			if got := w.toldOf(m.ID, "message.delivered"); got.Attempts != 3 || got.Errcode == nil || *got.Errcode != 0 {
				t.Errorf("%+v", got)
			}
			if n := len(w.sim.Inbox(ann)); n != 1 {
				t.Errorf("received %d", n)
			}
			if n := w.countTold("message.unknown"); n != 0 {
				t.Errorf("told unknown %d times", n)
			}
			w.wantLine(ann, tOrder, 0, 0, "accepted")
		})
	}
}

// A send that WeChat took and answered with -1 all the same: its report settles it before it is repeated.
func TestBusyThatWasTakenIsSettledByTheReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.BusyAccepted, Path: "subscribe/send"})
	m := w.send(202, order(ann, nil)).Message()
	if got := w.toldOf(m.ID, "message.delivered"); got.Attempts != 1 || got.MsgID == nil {
		t.Errorf("%+v", got)
	}
	w.later(time.Minute)
	w.settled()
	if n := len(w.sim.Inbox(ann)); n != 1 || w.sim.Count("call:"+sendPath) != 1 {
		t.Errorf("received %d, asked %d times", n, w.sim.Count("call:"+sendPath))
	}
	w.wantLine(ann, tOrder, 0, 0, "accepted")
}

// The same with the report lost: the repeat meets 43101, the user has the message once, and nobody is told that it failed.
func TestBusyThatWasTakenWithoutAReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wish{})
	ann := w.granted("ann", 1)
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.BusyAccepted, Path: "subscribe/send"})
	w.sim.Force(wechatsim.Forced{Mood: wechatsim.Lost, Path: "subscribe_msg_sent_event"})
	m := w.send(202, order(ann, nil)).Message()
	if err := w.until(func() bool { return w.message(m.ID).Attempts == 1 }); err != nil {
		t.Fatal(err)
	}
	w.later(6 * time.Second)
	if got := w.toldOf(m.ID, "message.unknown"); got.Attempts != 2 || got.Errcode == nil || *got.Errcode != 43101 {
		t.Errorf("%+v", got)
	}
	w.later(16 * time.Minute)
	w.wantLine(ann, tOrder, 0, 0, "accepted")
	if n := len(w.sim.Inbox(ann)); n != 1 || w.countTold("message.failed") != 0 {
		t.Errorf("received %d, told failed %d times", n, w.countTold("message.failed"))
	}
}

// With a second credit, or when the user accepts again while a repeat waits, a repeat could reach the user twice: it is not made.
func TestBusyIsNotSentAgainWithMoreCredits(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]int{"two credits": 2, "an accept meanwhile": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, wish{})
			ann := w.granted("ann", before)
			w.sim.Force(wechatsim.Forced{Mood: wechatsim.BusyAccepted, Path: "subscribe/send"})
			w.sim.Force(wechatsim.Forced{Mood: wechatsim.Lost, Path: "subscribe_msg_sent_event"})
			m := w.send(202, order(ann, nil)).Message()
			if before == 1 {
				if err := w.until(func() bool { return w.message(m.ID).Attempts == 1 }); err != nil {
					t.Fatal(err)
				}
				w.accept(ann, tOrder)
				w.wantLine(ann, tOrder, 1, 1, "accepted")
				w.later(6 * time.Second)
			}
			w.toldOf(m.ID, "message.unknown")
			w.later(16 * time.Minute)
			w.wantLine(ann, tOrder, 1, 0, "accepted")
			if n := len(w.sim.Inbox(ann)); n != 1 || w.sim.Count("call:"+sendPath) != 1 {
				t.Errorf("received %d, asked %d times", n, w.sim.Count("call:"+sendPath))
			}
		})
	}
}
