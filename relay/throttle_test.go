package relay

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestThrottleLearnsFromRefusalsAndRecovers(t *testing.T) {
	p := throttle{slots: func(route, int) {}}
	shop := route{"shop", ChannelSubscribe}
	at := time.Date(2026, 1, 1, 12, 0, 10, 0, time.UTC)
	for range 120 {
		if d := p.admit(shop, at).wait; d != 0 {
			t.Fatal("an app nobody refused is slowed")
		}
	}
	for range 100 { // the other 20 are refused, or have no answer yet
		p.succeeded(shop, at)
	}
	p.refused(shop, at)
	got := p.admit(shop, at)
	if got.wait < 50*time.Second || got.wait > 52*time.Second || !got.first || got.why == "" {
		t.Fatalf("after a refusal: %+v, want the rest of the minute", got)
	}
	if p.admit(shop, at).first {
		t.Fatal("the lanes are put to rest twice")
	}
	for _, other := range []route{{"other", ChannelSubscribe}, {"shop", ChannelCustomerService}} {
		if d := p.admit(other, at).wait; d != 0 {
			t.Fatalf("a refusal slows %v", other)
		}
	}
	sent := func(minute int) (n int) {
		at := at.Add(time.Duration(minute) * time.Minute)
		for p.admit(shop, at).wait == 0 {
			n++
			p.succeeded(shop, at)
		}
		return n
	}
	for minute, want := range []int{1: 80, 2: 88, 3: 97} {
		if minute > 0 {
			if n := sent(minute); n != want {
				t.Errorf("minute %d takes %d, want %d", minute, n, want)
			}
		}
	}
	p.refused(shop, at.Add(4*time.Minute)) // at once: WeChat's minute began before ours
	if n := sent(5); n != 78 {
		t.Errorf("after a refusal at once %d, want four fifths of the 97 that passed before: 78", n)
	}
}

// A refusal halves how many sends of a lane are under way, once a minute, to one at last; a quiet minute gives a sixteenth of
// all back. The queue is told of each change.
func TestThrottleNarrowsAndWidens(t *testing.T) {
	var told []int
	shop, other := route{"shop", ChannelSubscribe}, route{"other", ChannelSubscribe}
	p := throttle{slots: func(at route, n int) {
		if at != shop {
			t.Errorf("%v is narrowed", at)
		}
		told = append(told, n)
	}}
	at := time.Date(2026, 1, 1, 12, 0, 10, 0, time.UTC)
	minute := func(refusals int) {
		at = at.Add(time.Minute)
		p.admit(other, at)
		p.admit(shop, at)
		for range refusals {
			p.refused(shop, at)
		}
	}
	for _, refusals := range []int{0, 100, 0, 2, 1, 0} {
		minute(refusals)
	}
	// The minute after one with a refusal first where that left it.
	if diff := cmp.Diff([]int{64, 72, 36, 18}, told); diff != "" {
		t.Errorf("%v: %s", told, diff)
	}
	for range 10 {
		minute(1)
	}
	if n := told[len(told)-1]; n != 1 {
		t.Errorf("never less than one, not %d", n)
	}
	for range 20 {
		minute(0)
	}
	if n := told[len(told)-1]; n != sendsPerLane {
		t.Errorf("%d after 20 minutes without a refusal", n)
	}
}

// A rest of the app holds whatever it does, one of a channel only that, and says WeChat's code to all it holds; at its end one probe goes, and its answer frees the
// others.
func TestThrottleRestsAndProbes(t *testing.T) {
	at := time.Date(2026, 1, 1, 12, 0, 10, 0, time.UTC)
	shop, kf := route{"shop", ChannelSubscribe}, route{"shop", ChannelCustomerService}
	for name, c := range map[string]struct {
		rest  route
		other bool // customer service waits too
	}{"app": {shop.whole(), true}, "channel": {shop, false}} {
		var p throttle
		code := 40164
		if !p.pause(c.rest, time.Minute, "why", &code, at) || p.pause(c.rest, time.Minute, "why", &code, at) {
			t.Errorf("%s: a rest first once", name)
		}
		if got := p.admit(shop, at); got.wait != time.Minute || got.why != "why" || got.errcode == nil || *got.errcode != 40164 {
			t.Errorf("%s: %+v", name, got)
		}
		if got := p.admit(kf, at).wait != 0; got != c.other {
			t.Errorf("%s: customer service waits: %v", name, got)
		}
		p.succeeded(shop, at) // was under way
		over := at.Add(time.Minute)
		if p.admit(shop, over).wait != 0 || p.admit(shop, over).wait != probePause {
			t.Errorf("%s: one probe, and the others wait", name)
		}
		p.succeeded(shop, over)
		if p.admit(shop, over).wait != 0 || p.admit(kf, over).wait != 0 {
			t.Errorf("%s: not free after the probe", name)
		}
	}
}

// Another's send to the same user that does not end is waited for longer and longer, within bounds.
func TestSerialPause(t *testing.T) {
	for attempts, most := range map[int]time.Duration{0: time.Second, 3: time.Second, 5: 3 * time.Second, 10: 78 * time.Second, 1000: 78 * time.Second} {
		if d := serialPause(attempts); d < most/4 || d > most {
			t.Errorf("%v after %d attempts", d, attempts)
		}
	}
}
