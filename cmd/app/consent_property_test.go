package app_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
	"github.com/wxrelay/wxrelay/scripts/slow"
	"github.com/wxrelay/wxrelay/scripts/testredis"
)

// answered is one accepted message of a random day.
type answered struct {
	id, openid, word string
}

// Whatever goes wrong in whatever order (calls without an answer, refusals, quotas, reports early, doubled or lost, requests
// repeated, answers of users doubled, late and told by the client too, rejects, the gateway restarted): every accepted message
// comes to rest in one state, its partner hears of it, nobody gets it twice, and the ledger is what WeChat would say: it
// promises nothing that WeChat would not keep, and loses no grant.
func TestRandomAnswers(t *testing.T) {
	t.Parallel()
	seeds := uint64(3)
	if slow.On() {
		seeds = 6
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			randomAnswers(t, rand.New(rand.NewPCG(seed, 99)), wish{push: ", max_age: 0", config: "messages: {unknown_deadline: 10m}"}, append(quickFaults, slowFaults...))
		})
	}
}

// The same on a real Redis: without what would rest for minutes.
func TestRandomAnswersOnRedis(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			url := testredis.URL(t)
			randomAnswers(t, rand.New(rand.NewPCG(seed, 77)), wish{redis: url, config: "messages: {unknown_deadline: 1s}"}, quickFaults)
		})
	}
}

var (
	quickFaults = []wechatsim.Forced{
		{Mood: wechatsim.Busy}, {Mood: wechatsim.BusyAccepted}, {Mood: wechatsim.Timeout}, {Mood: wechatsim.TimeoutBefore}, {Mood: wechatsim.Cut},
		{Mood: wechatsim.CutBefore}, {Mood: wechatsim.BadGateway}, {Mood: wechatsim.TokenDies}, {Mood: wechatsim.Concurrent},
		{Mood: wechatsim.Slow, Delay: 60 * time.Millisecond}, {Mood: wechatsim.Refuse, Errcode: 43101}, {Mood: wechatsim.Refuse, Errcode: 47003}}
	slowFaults = []wechatsim.Forced{{Mood: wechatsim.Refuse, Errcode: 45009}, {Mood: wechatsim.Refuse, Errcode: 45011}, {Mood: wechatsim.Refuse, Errcode: 48001}}
)

// answers is what a user does with the popup or in the settings, and what the client and the network make of it. It returns
// how many grants that is.
func (w *world) answers(rng *rand.Rand, openid, session string) int {
	held := func(path string) {
		w.sim.Force(wechatsim.Forced{Mood: []wechatsim.Mood{wechatsim.Reorder, wechatsim.Duplicate, wechatsim.SameSecond}[rng.IntN(3)], Path: path, OpenID: openid, Delay: 40 * time.Millisecond})
	}
	switch rng.IntN(9) {
	case 0, 8: // an old line is closed, whatever is still on its way
		held("subscribe_msg_popup_event")
		w.accept(openid, tOrder)
		w.ahead.Add(int64(time.Second))
		w.sim.ChangeSetting(openid, tOrder, "reject")
		w.settled() // what is reserved before a reject that nobody knows of yet is decided by WeChat (relay/ledger, DECISIONS 3)
		return 1
	case 1:
		held("subscribe_msg_popup_event")
		w.ahead.Add(int64(time.Second))
		w.sim.Reject(openid, tOrder)
		return 0
	case 2, 3: // the client tells first, or as fast
		held("subscribe_msg_popup_event")
		w.tells("subscriptions", session, w.accept(openid, tOrder))
		w.settled()
		return 1
	case 4: // the client tells later
		result := w.accept(openid, tOrder)
		w.settled()
		w.tells("subscriptions", session, result, "X-Request-Id", fmt.Sprint("tap-", w.ahead.Load()))
		w.tells("subscriptions", session, result, "X-Request-Id", fmt.Sprint("tap-", w.ahead.Load()))
		return 1
	case 5:
		held("subscribe_msg_popup_event")
	}
	w.accept(openid, tOrder)
	return 1
}

func randomAnswers(t *testing.T, rng *rand.Rand, wished wish, faults []wechatsim.Forced) {
	w := newWorld(t, wished)
	users, sessions := make([]string, 4), map[string]string{}
	taps, tried := map[string]int{}, map[string]bool{}
	for i := range users {
		users[i] = w.sim.User("shop", fmt.Sprintf("u%d", i))
		sessions[users[i]] = w.login(users[i])
	}
	reports := []wechatsim.Mood{wechatsim.SentFirst, wechatsim.SentFails, wechatsim.Duplicate, wechatsim.Lost, wechatsim.Reorder}
	failing := 0 // sends that WeChat takes and does not deliver: its report says so, unless it is lost
	modes := []string{"refuse", "hold", "hold", "try"}[:3+rng.IntN(2)]
	var sent []answered
	seen := map[string]bool{}
	for step := range 60 {
		openid := users[rng.IntN(len(users))]
		switch n := rng.IntN(20); {
		case n < 5:
			taps[openid] += w.answers(rng, openid, sessions[openid])
		case n < 8:
			f := faults[rng.IntN(len(faults))]
			f.Path, f.Errmsg = "subscribe/send", "so it is"
			w.sim.Force(f)
		case n < 9:
			mood := reports[rng.IntN(len(reports))]
			if mood == wechatsim.SentFails {
				failing++
			}
			w.sim.Force(wechatsim.Forced{Mood: mood, Path: "subscribe_msg_sent_event", Delay: 50 * time.Millisecond})
		case n < 10 && step%3 == 0:
			w.stop()
			w.start()
		default:
			word := fmt.Sprintf("no %d", step)
			mode := modes[rng.IntN(len(modes))]
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
					sent = append(sent, answered{a.Message().ID, openid, word})
				case a.Status != 202 && a.Code() != "no_credit":
					t.Fatalf("%d %s", a.Status, a.Body)
				}
			}
		}
	}
	cancel := func(id string) {
		if a, err := w.client.Do(w.ctx, "DELETE", "messages/"+id, nil); err != nil || a.Status != 200 && a.Status != 409 {
			t.Fatalf("%v %+v", err, a)
		}
	}
	w.sim.Calm()
	w.settled()
	ends := map[string]bool{"sent": true, "delivered": true, "failed": true, "refused": true, "cancelled": true, "expired": true}
	atRest := func(m partnersim.Message) bool {
		return ends[m.State] || m.State == "unknown" && m.Timeline[len(m.Timeline)-1].Cause == "deadline"
	}
	if err := w.until(func() bool {
		w.later(40 * time.Second)
		for _, m := range sent {
			got := w.message(m.id)
			if got.State == "held" { // the user will not come again
				cancel(m.id)
			}
			if !atRest(got) {
				return false
			}
		}
		return true
	}); err != nil {
		for _, m := range sent {
			if got := w.message(m.id); !atRest(got) {
				t.Errorf("does not come to rest: %+v", got)
			}
		}
		t.Fatalf("at rest too late: %v", err)
	}
	w.settled()
	w.inStep()
	for _, openid := range users { // what nobody spends shows what it is worth
		for range 4 {
			taps[openid] += w.answers(rng, openid, sessions[openid])
		}
	}
	w.settled()
	reached, doubted := map[string]int{}, map[string]bool{}
	for _, m := range sent {
		doubted[m.openid] = doubted[m.openid] || doubtful(w.message(m.id))
	}
	for _, openid := range users {
		for _, in := range w.sim.Inbox(openid) {
			reached[in.Values["thing1"]]++
		}
		l, has := w.line(openid, tOrder), w.sim.Credits(openid, tOrder)
		// A try that overtakes the event of its own credit spends at WeChat what is booked here after it; 43101 will tell.
		if l.Credits < 0 || l.Reserved != 0 || l.Credits > has && !tried[openid] {
			t.Errorf("the ledger says %d free, %d reserved; WeChat has %d", l.Credits, l.Reserved, has)
		}
		if l.Credits < has && !doubted[openid] {
			t.Errorf("%d free, WeChat has %d: a grant is lost: %+v", l.Credits, has, l)
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
			if n == 0 && got.State == "sent" && failing > 0 {
				failing--
				continue
			}
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

// doubtful tells whether a message may have cost the ledger a credit that WeChat still has: its outcome was never known, or
// 43101 was said, which voids the line.
func doubtful(m partnersim.Message) bool {
	for _, step := range m.Timeline {
		if step.State == "unknown" || step.Errcode != nil && *step.Errcode == 43101 {
			return true
		}
	}
	return false
}
