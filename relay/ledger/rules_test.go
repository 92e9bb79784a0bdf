package ledger

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// step is one operation and what it must answer: "delta credits reserved status", "!" before a refusal's reason.
type step struct {
	move func(b *bench) []string
	want string
}

func popup(status, name string, at int64) func(*bench) []string {
	return func(b *bench) []string { return Answer(b.l, b.p, status, "popup", name, b.at(at)) }
}
func change(status, name string, at int64) func(*bench) []string {
	return func(b *bench) []string { return Answer(b.l, b.p, status, "change", name, b.at(at)) }
}
func report(value, name string) func(*bench) []string {
	return func(b *bench) []string { return Report(b.l, b.p, value, name) }
}
func setting(value, name string) func(*bench) []string {
	return func(b *bench) []string { return Setting(b.l, b.p, value, name) }
}
func take(id string) func(*bench) []string {
	return func(b *bench) []string { return Reserve(b.l, id, false) }
}
func try(id string) func(*bench) []string {
	return func(b *bench) []string { return Reserve(b.l, id, true) }
}
func spend(id string) func(*bench) []string {
	return func(b *bench) []string { return Spend(b.l, id) }
}
func giveBack(id string) func(*bench) []string {
	return func(b *bench) []string { return Return(b.l, id) }
}
func void(id string) func(*bench) []string {
	return func(b *bench) []string { return Void(b.l, id, "43101") }
}

func elsewhere(name string) func(*bench) []string {
	return func(b *bench) []string { return SpentElsewhere(b.l, name) }
}

// wait lets time pass and moves nothing.
func wait(d time.Duration) func(*bench) []string {
	return func(b *bench) []string { b.pass(d); return nil }
}

// at is seconds after the test's beginning; 0 stays 0, which says that the time is not known.
func (b *bench) at(s int64) int64 {
	if s == 0 {
		return 0
	}
	return testBegin + s
}

func TestRules(t *testing.T) {
	for _, tt := range []struct {
		name  string
		p     Policy
		kind  Kind
		steps []step
	}{
		{"one-time credits accumulate", Policy{}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {popup("accept", "e2", 1), "1 2 0 accepted"}, {popup("acceptWithAudio", "e3", 2), "1 3 0 accepted"}}},
		{"an unknown kind counts like one-time", Policy{}, "", []step{{popup("accept", "e1", 1), "1 1 0 accepted"}, {take("m1"), "0 0 1 accepted"}, {take("m2"), "!no_credit"}}},
		{"a cause counts once", Policy{}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {popup("accept", "e1", 1), "0 1 0 accepted"},
			{take("m1"), "0 0 1 accepted"}, {spend("m1"), "-1 0 0 accepted"}, {popup("accept", "e1", 1), "0 0 0 accepted"}}},
		{"a popup reject keeps free credits", Policy{}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {popup("reject", "e2", 2), "0 1 0 rejected"}, {take("m1"), "0 0 1 rejected"}}},
		{"a popup reject clears them when the operator says so", Policy{PopupReject: "clear"}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {popup("reject", "e2", 2), "-1 0 0 rejected"}, {take("m1"), "!no_credit"}}},
		{"a change reject takes free credits", Policy{}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {popup("accept", "e2", 2), "1 2 0 accepted"}, {take("m1"), "0 1 1 accepted"},
			{change("reject", "e3", 3), "-1 0 1 cancelled"}, {change("reject", "e3", 3), "0 0 1 cancelled"}, {spend("m1"), "-1 0 0 cancelled"},
			{popup("accept", "e4", 4), "1 1 0 accepted"}}},
		{"a credit that comes back after a change reject is worth nothing", Policy{}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {take("m1"), "0 0 1 accepted"}, {change("reject", "e2", 2), "0 0 1 cancelled"}, {giveBack("m1"), "-1 0 0 cancelled"}}},
		{"a credit granted after the change reject does come back", Policy{}, OneTime, []step{
			{popup("accept", "e3", 3), "1 1 0 accepted"}, {take("m1"), "0 0 1 accepted"}, {change("reject", "e2", 2), "0 0 1 accepted"}, {giveBack("m1"), "0 1 0 accepted"}}},
		{"switching on again grants nothing", Policy{}, OneTime, []step{
			{change("reject", "e1", 1), "0 0 0 cancelled"}, {change("accept", "e2", 2), "0 0 0 accepted"}, {take("m1"), "!no_credit"}}},
		{"an answer of an unknown word moves nothing", Policy{}, OneTime, []step{{popup("ban", "e1", 1), "0 0 0 unknown"}, {popup("perhaps", "e2", 2), "0 0 0 unknown"}}},

		{"a late change reject leaves the later accept alone", Policy{}, OneTime, []step{
			{popup("accept", "e1", 10), "1 1 0 accepted"}, {popup("accept", "e3", 30), "1 2 0 accepted"}, {change("reject", "e2", 20), "-1 1 0 accepted"}}},
		{"a late accept from before the change reject grants nothing", Policy{}, OneTime, []step{
			{change("reject", "e2", 20), "0 0 0 cancelled"}, {popup("accept", "e1", 10), "0 0 0 cancelled"}, {popup("accept", "e3", 30), "1 1 0 accepted"}}},
		{"a late popup reject does not hide a later accept", Policy{}, OneTime, []step{
			{popup("accept", "e3", 30), "1 1 0 accepted"}, {popup("reject", "e2", 20), "0 1 0 accepted"}}},
		{"a returned credit keeps its time", Policy{}, OneTime, []step{
			{popup("accept", "e2", 20), "1 1 0 accepted"}, {take("m1"), "0 0 1 accepted"}, {giveBack("m1"), "0 1 0 accepted"}, {change("reject", "e1", 10), "0 1 0 accepted"}}},
		{"a late reject finds the newest credit used first", Policy{}, OneTime, []step{
			{popup("accept", "e1", 10), "1 1 0 accepted"}, {popup("accept", "e3", 30), "1 2 0 accepted"}, {take("m1"), "0 1 1 accepted"}, {change("reject", "e2", 20), "-1 0 1 accepted"}}},
		{"within one second the order of arrival counts", Policy{}, OneTime, []step{
			{popup("accept", "e1", 5), "1 1 0 accepted"}, {change("reject", "e2", 5), "-1 0 0 cancelled"}, {popup("accept", "e3", 5), "1 1 0 accepted"}}},
		{"a time far in the future is not believed", Policy{}, OneTime, []step{
			{change("reject", "e1", 1e9), "0 0 0 cancelled"}, {wait(time.Second), ""}, {popup("accept", "e2", 0), "1 1 0 accepted"}}},

		{"event, then report: one grant", Policy{}, OneTime, []step{{popup("accept", "e1", 1), "1 1 0 accepted"}, {report("accept", "r1"), "0 1 0 accepted"}}},
		{"report, then event: one grant", Policy{}, OneTime, []step{{report("accept", "r1"), "1 1 0 accepted"}, {popup("accept", "e1", 1), "0 1 0 accepted"}}},
		{"two taps are two", Policy{}, OneTime, []step{
			{report("accept", "r1"), "1 1 0 accepted"}, {popup("accept", "e1", 1), "0 1 0 accepted"}, {popup("accept", "e2", 2), "1 2 0 accepted"}, {report("accept", "r2"), "0 2 0 accepted"}}},
		{"outside the window they are two", Policy{PairingWindow: 30 * time.Second}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {wait(32 * time.Second), ""}, {report("accept", "r1"), "1 2 0 accepted"}}},
		{"a repeated report counts once", Policy{}, OneTime, []step{{report("accept", "r1"), "1 1 0 accepted"}, {wait(time.Hour), ""}, {report("accept", "r1"), "0 1 0 accepted"}}},
		{"reports grant at most so many unproven credits", Policy{UnprovenMax: 2}, OneTime, []step{
			{report("accept", "r1"), "1 1 0 accepted"}, {report("accept", "r2"), "1 2 0 accepted"}, {report("accept", "r3"), "0 2 0 accepted"},
			{take("m1"), "0 1 1 accepted"}, {report("accept", "r4"), "0 1 1 accepted"}, {spend("m1"), "-1 1 0 accepted"}, {report("accept", "r5"), "1 2 0 accepted"}}},
		{"or none", Policy{UnprovenMax: -1}, OneTime, []step{{report("accept", "r1"), "0 0 0 unknown"}, {popup("accept", "e1", 1), "1 1 0 accepted"}}},
		{"a report that was not granted still belongs to its event", Policy{UnprovenMax: -1}, OneTime, []step{
			{report("accept", "r1"), "0 0 0 unknown"}, {popup("accept", "e1", 1), "1 1 0 accepted"}, {report("accept", "r2"), "0 1 0 accepted"}, {popup("accept", "e2", 2), "1 2 0 accepted"}}},
		{"an event proves what granted rather than what was only noted", Policy{UnprovenMax: 1}, OneTime, []step{
			{report("accept", "r0"), "1 1 0 accepted"}, {report("accept", "r1"), "0 1 0 accepted"}, {take("m1"), "0 0 1 accepted"}, {spend("m1"), "-1 0 0 accepted"},
			{report("accept", "r2"), "1 1 0 accepted"}, {popup("accept", "e1", 1), "0 1 0 accepted"}, {popup("accept", "e2", 1), "0 1 0 accepted"}, {popup("accept", "e3", 1), "1 2 0 accepted"}}},
		{"a credit proven while it is reserved comes back proven", Policy{UnprovenMax: 1}, OneTime, []step{
			{report("accept", "r1"), "1 1 0 accepted"}, {take("m1"), "0 0 1 accepted"}, {popup("accept", "e1", 1), "0 0 1 accepted"}, {giveBack("m1"), "0 1 0 accepted"},
			{wait(time.Hour), ""}, {report("accept", "r2"), "1 2 0 accepted"}}},
		{"trust event: reports are noted", Policy{Trust: "event"}, OneTime, []step{
			{report("accept", "r1"), "0 0 0 unknown"}, {popup("accept", "e1", 1), "1 1 0 accepted"}, {report("reject", "r2"), "0 1 0 accepted"}}},
		{"trust client: events prove, and grant nothing", Policy{Trust: "client", UnprovenMax: 1}, OneTime, []step{
			{popup("accept", "e1", 1), "0 0 0 unknown"}, {report("accept", "r1"), "1 1 0 accepted"}, {report("accept", "r2"), "1 2 0 accepted"}, {report("accept", "r3"), "1 3 0 accepted"},
			{popup("accept", "e2", 2), "0 3 0 accepted"}, {popup("accept", "e2", 2), "0 3 0 accepted"}, {take("m1"), "0 2 1 accepted"}, {spend("m1"), "-1 2 0 accepted"}}},
		{"trust client: rejects of either count", Policy{Trust: "client"}, OneTime, []step{
			{report("accept", "r1"), "1 1 0 accepted"}, {wait(time.Minute), ""}, {change("reject", "e1", 60), "-1 0 0 cancelled"}, {wait(time.Minute), ""},
			{popup("accept", "e2", 120), "0 0 0 cancelled"}, {wait(time.Minute), ""}, {report("accept", "r2"), "1 1 0 accepted"}, {report("reject", "r3"), "0 1 0 rejected"}}},
		{"trust client: a tap before the closing grants nothing, however late its word", Policy{Trust: "client"}, OneTime, []step{
			{popup("accept", "e1", 1), "0 0 0 unknown"}, {change("reject", "e2", 5), "0 0 0 cancelled"}, {wait(10 * time.Second), ""}, {report("accept", "r1"), "0 0 0 cancelled"}}},
		{"trust client: an event opens no long-term subscription", Policy{Trust: "client"}, LongTerm, []step{
			{popup("accept", "e1", 1), "0 0 0 unknown"}, {take("m1"), "!no_credit"}, {wait(2 * time.Second), ""}, {report("accept", "r1"), "0 0 0 accepted"}, {take("m1"), "0 0 0 accepted"}}},
		{"an event proves that the tap was before the change reject", Policy{}, OneTime, []step{
			{change("reject", "e2", 2), "0 0 0 cancelled"}, {wait(5 * time.Second), ""}, {report("accept", "r1"), "1 1 0 accepted"}, {popup("accept", "e1", 1), "-1 0 0 cancelled"}}},
		{"ban and filter say nothing about consent", Policy{}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {report("ban", "r1"), "0 1 0 accepted"}, {report("filter", "r2"), "0 1 0 accepted"}}},
		{"a client's reject", Policy{}, OneTime, []step{{popup("accept", "e1", 1), "1 1 0 accepted"}, {wait(time.Minute), ""}, {report("reject", "r1"), "0 1 0 rejected"}}},

		{"a kept accept adds no credit", Policy{}, OneTime, []step{{setting("accept", "s1"), "0 0 0 accepted"}, {take("m1"), "!no_credit"}}},
		{"a kept accept opens a long-term subscription", Policy{}, LongTerm, []step{{setting("accept", "s1"), "0 0 0 accepted"}, {take("m1"), "0 0 0 accepted"}}},
		{"but not where clients open nothing", Policy{UnprovenMax: -1}, LongTerm, []step{{setting("accept", "s1"), "0 0 0 unknown"}, {take("m1"), "!no_credit"}}},
		{"a kept accept does not undo a cancellation", Policy{}, LongTerm, []step{{change("reject", "e1", 1), "0 0 0 cancelled"}, {setting("accept", "s1"), "0 0 0 cancelled"}}},
		{"a kept reject", Policy{}, LongTerm, []step{{popup("accept", "e1", 1), "0 0 0 accepted"}, {wait(time.Minute), ""}, {setting("reject", "s1"), "0 0 0 rejected"}}},
		{"the main switch off closes", Policy{Trust: "event"}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {wait(time.Minute), ""}, {setting("main_off", "s1"), "-1 0 0 cancelled"}, {take("m1"), "!no_credit"}}},
		{"the main switch off closes what WeChat's clock, ahead of ours, granted", Policy{}, OneTime, []step{
			{popup("accept", "e1", 200), "1 1 0 accepted"}, {wait(time.Second), ""}, {setting("main_off", "s1"), "-1 0 0 cancelled"}, {take("m1"), "!no_credit"},
			{popup("accept", "e2", 260), "1 1 0 accepted"}}},
		{"a client's reject is later than the accept that WeChat's clock dates ahead", Policy{PopupReject: "clear"}, OneTime, []step{
			{popup("accept", "e1", 200), "1 1 0 accepted"}, {report("reject", "r1"), "-1 0 0 rejected"}}},

		{"a send that was not ours uses a credit, proven ones first", Policy{}, OneTime, []step{
			{report("accept", "r1"), "1 1 0 accepted"}, {wait(time.Hour), ""}, {popup("accept", "e2", 3600), "1 2 0 accepted"}, {elsewhere("s1"), "-1 1 0 accepted"},
			{elsewhere("s1"), "0 1 0 accepted"}, {elsewhere("s2"), "-1 0 0 accepted"}, {elsewhere("s3"), "0 0 0 accepted"}, {take("m1"), "!no_credit"}}},
		{"it leaves what is reserved alone", Policy{}, OneTime, []step{
			{elsewhere("s0"), "0 0 0 unknown"}, {popup("accept", "e1", 1), "1 1 0 accepted"}, {take("m1"), "0 0 1 accepted"}, {elsewhere("s1"), "0 0 1 accepted"},
			{giveBack("m1"), "0 1 0 accepted"}, {change("reject", "e2", 2), "-1 0 0 cancelled"}}},

		{"a second reserve of a message agrees without moving", Policy{}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {take("m1"), "0 0 1 accepted"}, {take("m1"), "0 0 1 accepted"}, {spend("m1"), "-1 0 0 accepted"},
			{spend("m1"), "0 0 0 accepted"}, {take("m1"), "0 0 0 accepted"}, {giveBack("m1"), "0 0 0 accepted"}, {void("m1"), "0 0 0 accepted"}}},
		{"a returned credit is free again, once", Policy{}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {take("m1"), "0 0 1 accepted"}, {giveBack("m1"), "0 1 0 accepted"}, {giveBack("m1"), "0 1 0 accepted"}, {take("m1"), "0 0 1 accepted"}}},
		{"try costs nothing and gives nothing back", Policy{}, OneTime, []step{
			{try("m1"), "0 0 0 unknown"}, {popup("accept", "e1", 1), "1 1 0 accepted"}, {spend("m1"), "0 1 0 accepted"}, {try("m2"), "0 0 1 accepted"},
			{try("m3"), "0 0 1 accepted"}, {giveBack("m3"), "0 0 1 accepted"}, {giveBack("m2"), "0 1 0 accepted"}}},
		{"43101 takes all that is free", Policy{}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {popup("accept", "e2", 1), "1 2 0 accepted"}, {take("m1"), "0 1 1 accepted"}, {void("m1"), "-2 0 0 unknown"},
			{popup("accept", "e3", 2), "1 1 0 accepted"}, {void("m1"), "0 1 0 accepted"}}},
		{"43101 takes what other messages have reserved", Policy{}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {popup("accept", "e2", 1), "1 2 0 accepted"}, {popup("accept", "e3", 1), "1 3 0 accepted"},
			{take("later"), "0 2 1 accepted"}, {take("m1"), "0 1 2 accepted"}, {void("m1"), "-3 0 0 unknown"},
			{giveBack("later"), "0 0 0 unknown"}, {spend("later"), "0 0 0 unknown"}, {void("later"), "0 0 0 unknown"}, {take("later"), "!no_credit"},
			{popup("accept", "e4", 2), "1 1 0 accepted"}, {take("later"), "0 0 1 accepted"}, {spend("later"), "-1 0 0 accepted"}}},
		{"43101 leaves a refusal a refusal", Policy{}, OneTime, []step{
			{popup("accept", "e1", 1), "1 1 0 accepted"}, {popup("reject", "e2", 2), "0 1 0 rejected"}, {take("m1"), "0 0 1 rejected"}, {void("m1"), "-1 0 0 rejected"}}},
		{"unproven credits are spent last", Policy{}, OneTime, []step{
			{report("accept", "r1"), "1 1 0 accepted"}, {wait(time.Hour), ""}, {popup("accept", "e2", 3600), "1 2 0 accepted"}, {take("m1"), "0 1 1 accepted"},
			{spend("m1"), "-1 1 0 accepted"}, {report("accept", "r2"), "0 1 0 accepted"}}},
		{"no credit, no reservation", Policy{}, OneTime, []step{{take("m1"), "!no_credit"}, {popup("reject", "e1", 1), "0 0 0 rejected"}, {take("m1"), "!no_credit"}}},

		{"long-term: open until a reject", Policy{}, LongTerm, []step{
			{take("m0"), "!no_credit"}, {popup("accept", "e1", 1), "0 0 0 accepted"}, {take("m1"), "0 0 0 accepted"}, {take("m2"), "0 0 0 accepted"}, {spend("m1"), "0 0 0 accepted"},
			{popup("reject", "e2", 2), "0 0 0 rejected"}, {take("m3"), "!no_credit"}, {giveBack("m2"), "0 0 0 rejected"}}},
		{"long-term: 43101 closes", Policy{}, Device, []step{
			{popup("accept", "e1", 1), "0 0 0 accepted"}, {take("m1"), "0 0 0 accepted"}, {void("m1"), "0 0 0 unknown"}, {take("m2"), "!no_credit"}}},
		{"long-term: a client's word opens, an old one does not", Policy{}, LongTerm, []step{
			{report("accept", "r1"), "0 0 0 accepted"}, {wait(time.Second), ""}, {popup("accept", "e1", 1), "0 0 0 accepted"},
			{popup("accept", "e2", 2), "0 0 0 accepted"}, {change("reject", "e3", 3), "0 0 0 cancelled"}, {report("accept", "r2"), "0 0 0 cancelled"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
				b := newBench(t, rdb)
				b.p, b.l.Kind = tt.p, tt.kind
				for i, s := range tt.steps {
					move := s.move(b)
					if move == nil {
						continue
					}
					out := b.raw(move)[0]
					got := "!" + out[1:]
					if out[0] == '1' {
						r, err := ParseReply(out[1:])
						if err != nil {
							t.Fatal(err)
						}
						got = show(r)
					}
					if got != s.want {
						t.Fatalf("step %d: %q, want %q", i+1, got, s.want)
					}
				}
				checkStatement(t, b.line())
			})
		})
	}
}

// checkStatement: every balance follows from the one before, the last is what the subscription holds.
func checkStatement(t testing.TB, st Statement) {
	t.Helper()
	balance := st.Credits + st.Reserved
	for _, m := range slices.Backward(st.History) {
		if m.Balance != balance || m.Balance < 0 {
			t.Fatalf("%s: balance %d, want %d: %+v", m.Cause, m.Balance, balance, st)
		}
		balance -= m.Delta
	}
	if len(st.History) > 6 {
		t.Fatalf("a statement of %d movements: %+v", len(st.History), st)
	}
	if len(st.History) < 6 && balance != 0 {
		t.Fatalf("the account began at %d: %+v", balance, st)
	}
	if st.Unproven > st.Credits {
		t.Fatalf("more unproven credits than credits: %+v", st)
	}
}

func TestStatementSpeaksOfEveryMovement(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		b := newBench(t, rdb)
		at := time.Unix(b.now, 0)
		for _, m := range []func(*bench) []string{popup("accept", "e1", 1), popup("accept", "e2", 2), popup("accept", "e3", 3), take("m1"), spend("m1"), take("m2"),
			giveBack("m2"), change("reject", "e4", 4)} {
			b.book(m(b))
		}
		want := Statement{App: "shop", OpenID: b.l.OpenID, TemplateID: "tpl-1", Kind: OneTime, Status: "cancelled", UpdatedAt: at.Add(4 * time.Second), History: []Movement{
			{at.Add(1 * time.Second), "popup_accept", 1, 1}, {at.Add(2 * time.Second), "popup_accept", 1, 2}, {at.Add(3 * time.Second), "popup_accept", 1, 3},
			{at, "sent", -1, 2}, {at, "returned", 0, 2}, {at.Add(4 * time.Second), "change_reject", -2, 0}}}
		if diff := cmp.Diff(want, b.line()); diff != "" {
			t.Error(diff)
		}
		for _, id := range []string{"e5", "e6", "e7", "e8", "e9"} {
			b.book(popup("accept", id, 5)(b))
		}
		if st := b.line(); len(st.History) != 6 || st.History[0].Balance != 0 || st.History[5].Balance != 5 {
			t.Errorf("the last six: %+v", st.History)
		}
	})
}

// A subscription remembers which messages it sent by the whole hash of their ids: another message that shares half of
// it with one of them takes a credit of its own.
func TestHalfANameIsNoName(t *testing.T) {
	half := map[uint16]string{}
	first, second := "", ""
	for i := 0; second == ""; i++ {
		id := "msg_" + strconv.Itoa(i)
		h := uint16(hash8(id))
		if other, ok := half[h]; ok && uint32(hash8(other)) != uint32(hash8(id)) {
			first, second = other, id
		}
		half[h] = id
	}
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		b := newBench(t, rdb)
		b.book(popup("accept", "e1", 1)(b))
		b.book(popup("accept", "e2", 2)(b))
		b.book(Reserve(b.l, first, false))
		b.book(Spend(b.l, first))
		if r := b.book(Reserve(b.l, second, false)); r.Credits != 0 || r.Reserved != 1 {
			t.Errorf("%s after %s: %+v", second, first, r)
		}
	})
}

func TestRateLimitedLine(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		b := newBench(t, rdb)
		b.l.Kind, b.l.Every, b.l.Value = RateLimited, time.Hour, "policy-1"
		b.book(Answer(b.l, b.p, "accept", "popup", "e1", b.now))
		b.book(Reserve(b.l, "m1", false))
		b.book(Reserve(b.l, "m1", false))
		tooSoon := func(l Subscription, id string, try bool) (wait time.Duration) {
			t.Helper()
			reason, wait := ParseRefusal(b.refused(Reserve(l, id, try)))
			if reason != TooSoon {
				t.Fatalf("%s of the period: %q", id, reason)
			}
			return wait
		}
		b.pass(10 * time.Minute)
		for _, try := range []bool{false, true} {
			if wait := tooSoon(b.l, "m2", try); wait != 50*time.Minute {
				t.Errorf("wait %s", wait)
			}
		}
		other := b.l
		other.Value = "policy-2"
		b.book(Reserve(other, "m3", false))
		b.book(Return(b.l, "m1"))
		b.book(Reserve(b.l, "m2", false))
		b.pass(10 * time.Minute)
		b.book(Spend(Subscription{App: b.l.App, OpenID: b.l.OpenID, TemplateID: b.l.TemplateID}, "m2"))
		if wait := tooSoon(b.l, "m4", false); wait != time.Hour {
			t.Errorf("after the send it runs anew: %s", wait)
		}
		keys, err := rdb.Keys(context.Background(), "*lv:*").Result()
		if err != nil || len(keys) != 1 {
			t.Fatalf("periods: %v %v", keys, err)
		}
		if ttl := rdb.PTTL(context.Background(), keys[0]).Val(); ttl <= 0 || ttl > time.Hour {
			t.Errorf("kept for %s", ttl)
		}
		b.pass(time.Hour)
		b.book(Reserve(b.l, "m4", false))
	})
}

// The values of other days go when a user's hash of periods has grown.
func TestPastPeriodsGo(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		b := newBench(t, rdb)
		b.l.Kind, b.l.Every = RateLimited, time.Hour
		b.book(Answer(b.l, b.p, "accept", "popup", "e1", b.now))
		for i := range 200 {
			b.l.Value = "policy-" + strconv.Itoa(i)
			b.book(Reserve(b.l, "m"+strconv.Itoa(i), false))
			b.book(Spend(b.l, "m"+strconv.Itoa(i)))
			b.pass(2 * time.Hour)
		}
		if n := rdb.HLen(context.Background(), testPrefix+"lv:shop:"+b.l.OpenID).Val(); n == 0 || n > 64 {
			t.Errorf("%d periods are kept", n)
		}
	})
}

// TestValuesStayInAListpack: the fullest line there can be, closed, with messages under way and a period, has no value
// that would turn its user's hash into a table.
func TestValuesStayInAListpack(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		b := newBench(t, rdb)
		b.l.Every = time.Hour
		b.book(Reserve(b.l, "period", true)) // makes the period known
		b.book(Return(b.l, "period"))
		b.book(change("reject", "e0", 1)(b))
		for i := range 9 {
			b.book(popup("accept", "e"+strconv.Itoa(i+1), 2)(b))
			b.book(take("m" + strconv.Itoa(i))(b))
			for field, v := range rdb.HGetAll(context.Background(), testPrefix+"l:shop:"+b.l.OpenID).Val() {
				if len(v) > 64 {
					t.Fatalf("field %s has %d bytes", field, len(v))
				}
			}
		}
		if st := b.line(); st.Reserved != 9 || st.Credits != 0 || len(st.History) != 6 {
			t.Fatalf("%+v", st)
		}
		for i := range 9 {
			b.book(spend("m" + strconv.Itoa(i))(b))
			checkStatement(t, b.line())
		}
		b.l.TemplateID, b.l.Every = "tpl-2", 0 // its state grows while a message is under way, and shrinks again
		for i := range 8 {
			b.book(popup("accept", "e"+strconv.Itoa(i), 1)(b))
		}
		b.book(take("n1")(b))
		b.book(popup("accept", "e8", 1)(b))
		b.book(spend("n1")(b))
		b.book(popup("accept", "e9", 1)(b))
		if st := b.line(); st.Credits != 9 || len(st.History) != 6 {
			t.Fatalf("%+v", st)
		}
	})
}

func TestForgetLeavesNothing(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		b := newBench(t, rdb)
		for _, id := range []string{"tpl-2", "tpl\n\"3", "tpl-1"} {
			b.l.TemplateID = id
			b.book(Answer(b.l, b.p, "accept", "popup", "e1", b.now))
		}
		b.book(Reserve(b.l, "m1", false))
		rated := b.l
		rated.TemplateID, rated.Kind, rated.Every, rated.Value = "tpl-2", RateLimited, time.Hour, "policy-1"
		b.book(Reserve(rated, "m2", false))
		sts, err := b.ledger().List(context.Background(), b.l.App, b.l.OpenID)
		if err != nil || len(sts) != 3 || sts[1].TemplateID != "tpl-1" || sts[1].Reserved != 1 || sts[2].Credits != 1 {
			t.Fatalf("subscriptions: %+v %v", sts, err)
		}
		reply := b.raw(Forget(b.l.App, b.l.OpenID))[0]
		if reply != "1" {
			t.Errorf("forgotten: %q", reply)
		}
		if r := b.book(Spend(b.l, "m1")); r.Changed || r.Delta != 0 {
			t.Errorf("a send outlived its user's account: %+v", r)
		}
		if keys := rdb.Keys(context.Background(), "*"+b.l.OpenID+"*").Val(); len(keys) != 0 {
			t.Errorf("left behind: %v", keys)
		}
		if reply := b.raw(Forget(b.l.App, b.l.OpenID))[0]; reply != "1" {
			t.Errorf("forgotten twice: %q", reply)
		}
	})
}

func TestKindIsKept(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		b := newBench(t, rdb)
		b.l.Kind = LongTerm
		if r := b.book(Answer(b.l, b.p, "other", "popup", "e", b.now)); r.Kind != "long_term" || r.Changed {
			t.Errorf("set: %+v", r)
		}
		for _, k := range []Kind{"", Unknown} {
			b.l.Kind = k
			if r := b.book(Answer(b.l, b.p, "accept", "popup", "e"+string(k), b.now)); r.Kind != "long_term" || !r.LongTerm || r.Credits != 0 {
				t.Errorf("kind %q: %+v", k, r)
			}
		}
	})
}

func TestClientsMakeNoEndlessSubscriptions(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		b := newBench(t, rdb)
		for i := range 140 {
			b.l.TemplateID = "tpl-" + strconv.Itoa(i)
			b.book(Report(b.l, b.p, "accept", "r1"))
		}
		sts, err := b.ledger().List(context.Background(), b.l.App, b.l.OpenID)
		if err != nil || len(sts) != 128 {
			t.Fatalf("%d subscriptions, %v", len(sts), err)
		}
		b.l.TemplateID = "proven"
		if r := b.book(Answer(b.l, b.p, "accept", "popup", "e1", b.now)); r.Credits != 1 {
			t.Errorf("an event was refused: %+v", r)
		}
	})
}

// An event of WeChat's is booked whatever else there is; beyond the bound another subscription goes for it: the one
// whose last answer is the oldest, one without credits first, and none with a message under way.
func TestEventsHaveABoundToo(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		b := newBench(t, rdb)
		answer := func(id, status string, after int) {
			l := b.l
			l.TemplateID = id
			b.book(Answer(l, b.p, status, "popup", "e-"+id, b.now+int64(after)))
		}
		answer("under-way", "accept", 0)
		reserved := b.l
		reserved.TemplateID = "under-way"
		b.book(Reserve(reserved, "m1", false))
		answer("oldest", "accept", 1)
		answer("empty-later", "reject", 3)
		answer("empty", "reject", 2)
		kept := func() map[string]bool {
			sts, err := b.ledger().List(context.Background(), b.l.App, b.l.OpenID)
			if err != nil {
				t.Fatal(err)
			}
			out := map[string]bool{}
			for _, st := range sts {
				out[st.TemplateID] = true
			}
			return out
		}
		for i := range eventFields - 5 { // with the four, and one reservation
			answer("tpl-"+strconv.Itoa(i), "accept", 4)
		}
		if n := len(kept()); n != eventFields-1 {
			t.Fatalf("%d subscriptions at the bound", n)
		}
		for i, gone := range []string{"empty", "empty-later", "oldest"} {
			answer("more-"+strconv.Itoa(i), "accept", 5)
			have := kept()
			if len(have) != eventFields-1 || have[gone] || !have["more-"+strconv.Itoa(i)] {
				t.Fatalf("%d kept, %s among them: %v", len(have), gone, have[gone])
			}
		}
		if r := b.book(Spend(reserved, "m1")); r.Delta != -1 {
			t.Errorf("a message under way lost its credit: %+v", r)
		}
		b.l.TemplateID = "by a client"
		b.book(Report(b.l, b.p, "accept", "r1"))
		if kept()["by a client"] {
			t.Error("a client's word made one more")
		}
	})
}

func TestSubscriptionNeverSeen(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		b := newBench(t, rdb)
		want := Statement{App: "shop", OpenID: b.l.OpenID, TemplateID: "tpl-1", Kind: Unknown, Status: "unknown"}
		if diff := cmp.Diff(want, b.line()); diff != "" {
			t.Error(diff)
		}
		if sts, err := b.ledger().List(context.Background(), "shop", b.l.OpenID); err != nil || len(sts) != 0 {
			t.Errorf("%v %v", sts, err)
		}
	})
}

func TestReplies(t *testing.T) {
	for _, bad := range []string{"", NoCredit, TooSoon, "1 2 3", "1 2 3 9 0 0 0", "1 2 3 0 7 0 0", "a 2 3 0 0 0 0", "1 2 3 0 0 0 99"} {
		if r, err := ParseReply(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, r)
		}
	}
}
