package app_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// sentOnce is one accepted message of a random day.
type sentOnce struct {
	id, openid, word string
}

// Whatever goes wrong in whatever order (calls without an answer, refusals, quotas, reports early, doubled or lost, requests
// repeated, the gateway restarted): every accepted message comes to rest in one state, its partner hears of it, nobody gets
// it twice, and the ledger promises nothing that WeChat would not keep.
func TestRandomDays(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			randomDay(t, rand.New(rand.NewPCG(seed, 99)))
		})
	}
}

func randomDay(t *testing.T, rng *rand.Rand) {
	w := newWorld(t, wish{config: "messages: {unknown_deadline: 10m}"})
	users := make([]string, 4)
	taps, tried := map[string]int{}, map[string]bool{}
	for i := range users {
		users[i] = w.sim.User("shop", fmt.Sprintf("u%d", i))
	}
	faults := []wechatsim.Forced{
		{Mood: wechatsim.Busy}, {Mood: wechatsim.BusyAccepted}, {Mood: wechatsim.Timeout}, {Mood: wechatsim.TimeoutBefore}, {Mood: wechatsim.Cut},
		{Mood: wechatsim.CutBefore}, {Mood: wechatsim.BadGateway}, {Mood: wechatsim.TokenDies}, {Mood: wechatsim.Concurrent},
		{Mood: wechatsim.Slow, Delay: 60 * time.Millisecond}, {Mood: wechatsim.Refuse, Errcode: 43101}, {Mood: wechatsim.Refuse, Errcode: 47003},
		{Mood: wechatsim.Refuse, Errcode: 45009}, {Mood: wechatsim.Refuse, Errcode: 45011}, {Mood: wechatsim.Refuse, Errcode: 48001}}
	reports := []wechatsim.Mood{wechatsim.SentFirst, wechatsim.SentFails, wechatsim.Duplicate, wechatsim.Lost, wechatsim.Reorder}
	var sent []sentOnce
	seen := map[string]bool{}
	for step := range 60 {
		openid := users[rng.IntN(len(users))]
		switch n := rng.IntN(20); {
		case n < 5:
			w.accept(openid, tOrder)
			taps[openid]++
		case n < 8:
			f := faults[rng.IntN(len(faults))]
			f.Path, f.Errmsg = "subscribe/send", "so it is"
			w.sim.Force(f)
		case n < 9:
			w.sim.Force(wechatsim.Forced{Mood: reports[rng.IntN(len(reports))], Path: "subscribe_msg_sent_event", Delay: 50 * time.Millisecond})
		case n < 10 && step%3 == 0:
			w.stop()
			w.start()
		default:
			word := fmt.Sprintf("no %d", step)
			mode := []string{"refuse", "hold", "hold", "try"}[rng.IntN(4)]
			tried[openid] = tried[openid] || mode == "try"
			m := order(openid, map[string]any{"no_credit": mode,
				"data": map[string]any{"thing1": word, "amount2": "¥18"}})
			id := fmt.Sprintf("day-%d", step)
			for range 1 + rng.IntN(2) { // the partner may ask twice
				a, err := w.client.Send(w.ctx, id, m)
				switch {
				case err != nil:
					t.Fatal(err)
				case a.Status == 202 && !seen[a.Message().ID]:
					seen[a.Message().ID] = true
					sent = append(sent, sentOnce{a.Message().ID, openid, word})
				case a.Status != 202 && a.Code() != "no_credit":
					t.Fatalf("%d %s", a.Status, a.Body)
				}
			}
		}
	}
	w.sim.Calm()
	w.settled()
	atRest := map[string]bool{"sent": true, "delivered": true, "failed": true, "refused": true, "cancelled": true, "unknown": true, "expired": true}
	if err := w.until(func() bool {
		w.later(40 * time.Second)
		for _, m := range sent {
			switch got := w.message(m.id); {
			case got.State == "held": // the user will not come again
				if a, err := w.client.Do(w.ctx, "DELETE", "messages/"+m.id, nil); err != nil || a.Status != 200 && a.Status != 409 {
					t.Fatalf("%v %+v", err, a)
				}
				return false
			case !atRest[got.State], got.State == "unknown" && got.Timeline[len(got.Timeline)-1].Cause != "deadline":
				return false
			}
		}
		return true
	}); err != nil {
		for _, m := range sent {
			if got := w.message(m.id); !atRest[got.State] {
				t.Errorf("does not come to rest: %+v", got)
			}
		}
		t.FailNow()
	}
	w.settled()
	reached := map[string]int{}
	for _, openid := range users {
		for _, in := range w.sim.Inbox(openid) {
			reached[in.Values["thing1"]]++
		}
		l, has := w.line(openid, tOrder), w.sim.Credits(openid, tOrder)
		// A try that overtakes the event of its own credit spends at WeChat what is booked here after it; 43101 will tell.
		if l.Credits < 0 || l.Reserved != 0 || l.Credits > has && !tried[openid] {
			t.Errorf("the ledger says %d free, %d reserved; WeChat has %d", l.Credits, l.Reserved, has)
		}
		if n := len(w.sim.Inbox(openid)); n > taps[openid] {
			t.Errorf("%d messages for %d taps", n, taps[openid])
		}
	}
	for _, m := range sent {
		got := w.message(m.id)
		n := reached[m.word]
		switch got.State {
		case "delivered", "sent":
			if n != 1 {
				t.Errorf("%s and received %d times: %+v", got.State, n, got)
			}
		case "unknown":
			if n > 1 {
				t.Errorf("received %d times: %+v", n, got)
			}
		default:
			if n != 0 {
				t.Errorf("%s and received %d times: %+v", got.State, n, got)
			}
		}
		w.toldOf(m.id, "message."+got.State)
	}
}
