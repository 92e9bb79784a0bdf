package ledger

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"
)

// fresh gives a property's case a user of its own.
func fresh(b *bench, cases *int) *bench {
	*cases++
	c := *b
	c.l.OpenID = "o-case-" + strconv.Itoa(*cases)
	return &c
}

// grant is one credit of the plain model.
type grant struct {
	at     int64
	state  byte // f free, r reserved, s spent, x gone
	proven bool
	paired bool // another word about the same tap has come
	event  bool // came as WeChat's event
	doubt  bool // reserved while it was unproven
	record int  // number of its record: a subscription remembers the last six (DECISIONS 2)
}

// plain is the account as one would write it with all the memory in the world: every tap a value of its own.
type plain struct {
	grants   []*grant
	words    []*grant // reports without a grant of their own, which may still meet their event
	held     map[string]*grant
	tried    map[string]bool
	heldAt   map[string]int64 // the closing known when the message was reserved
	closed   int64
	status   string
	statusAt int64
	max      int
	records  int
}

// recalls tells whether a subscription still remembers the word when the next one comes.
func (p *plain) recalls(g *grant) bool { return p.records-g.record < 6 }

func (p *plain) record() int {
	p.records++
	return p.records
}

func (p *plain) count(state byte) (n, unproven int) {
	for _, g := range p.grants {
		if g.state == state {
			n++
			if !g.proven {
				unproven++
			}
		}
	}
	return n, unproven
}

func (p *plain) says(status string, at int64) {
	if at >= p.statusAt {
		p.status, p.statusAt = status, at
	}
}

func (p *plain) accept(at int64) {
	p.grants = append(p.grants, &grant{at: at, state: 'f', proven: true, event: true, record: p.record()})
	p.says("accepted", at)
}

func (p *plain) report(at, window int64) {
	for _, g := range p.grants {
		if g.event && !g.paired && abs(g.at-at) <= window && p.recalls(g) {
			g.paired = true
			p.record()
			return
		}
	}
	_, doubtful := p.count('f')
	for _, g := range p.held {
		if g.doubt {
			doubtful++ // until the message's end, even if the event has come
		}
	}
	if doubtful >= p.max {
		p.words = append(p.words, &grant{at: at, record: p.record()})
		return
	}
	p.grants = append(p.grants, &grant{at: at, state: 'f', record: p.record()})
	p.says("accepted", at)
}

func (p *plain) prove(at, window int64) {
	for _, g := range p.grants {
		if !g.event && !g.paired && abs(g.at-at) <= window && p.recalls(g) {
			g.paired, g.proven, g.at = true, true, at
			p.record()
			p.says("accepted", at)
			return
		}
	}
	paired := false
	for _, w := range p.words {
		if !w.paired && abs(w.at-at) <= window && p.recalls(w) {
			w.paired, paired = true, true
			break
		}
	}
	p.accept(at)
	p.grants[len(p.grants)-1].paired = paired
}

func (p *plain) close(at int64) {
	p.closed = max(p.closed, at)
	for _, g := range p.grants {
		if g.state == 'f' && g.at <= at {
			g.state = 'x'
		}
	}
}

// reserve takes the newest proven credit, an unproven one last.
func (p *plain) reserve(id string, try bool) bool {
	var best *grant
	for _, g := range p.grants {
		if g.state == 'f' && (best == nil || g.proven && !best.proven || g.proven == best.proven && g.at >= best.at) {
			best = g
		}
	}
	if best == nil {
		if try {
			p.tried[id] = true
		}
		return try
	}
	best.state, best.doubt = 'r', !best.proven
	p.held[id], p.heldAt[id] = best, p.closed
	return true
}

func (p *plain) end(id string, state byte) {
	if g := p.held[id]; g != nil {
		if g.state = state; state == 'f' && g.doubt && !p.recalls(g) {
			g.proven = false // that its event came is forgotten
		}
		if state == 'f' && p.closed > p.heldAt[id] && g.at <= p.closed {
			g.state = 'x'
		}
		p.record()
		delete(p.held, id)
	} else if p.tried[id] && state != 'f' {
		p.record()
	}
	delete(p.tried, id)
}

func abs(n int64) int64 { return max(n, -n) }

// TestAccountAgreesWithPlainModel runs random interleavings of everything that can happen to a subscription, repeats
// included, and compares with the plain model after every move.
func TestAccountAgreesWithPlainModel(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		base, cases := newBench(t, rdb), 0
		rapid.Check(t, func(rt *rapid.T) {
			b := fresh(base, &cases)
			b.p = Policy{PairingWindow: 20 * time.Second, UnprovenMax: rapid.IntRange(1, 4).Draw(rt, "max")}
			if rapid.Bool().Draw(rt, "clear") {
				b.p.PopupReject = "clear"
			}
			m := &plain{held: map[string]*grant{}, tried: map[string]bool{}, heldAt: map[string]int64{}, status: "unknown", max: b.p.UnprovenMax}
			type named struct {
				move   []string
				record int
			}
			var repeats []named
			grants, sends, names := 0, 0, 0
			name := func() string { names++; return "n" + strconv.Itoa(names) }
			// do books an operation the model has done already; what it named is kept for repeats
			do := func(move []string) Reply {
				r := b.book(move)
				repeats = append(repeats, named{move, m.records})
				return r
			}
			message := func() string { return "m" + strconv.Itoa(rapid.IntRange(1, 6).Draw(rt, "message")) }
			spent := map[string]bool{}
			unspent := func(f func(id string)) func(*rapid.T) {
				return func(rt *rapid.T) {
					if id := message(); !spent[id] {
						f(id)
					}
				}
			}
			check := func(rt *rapid.T) {
				st, free, reserved := b.line(), 0, 0
				var unproven int
				free, unproven = m.count('f')
				reserved, _ = m.count('r')
				if st.Credits != free || st.Reserved != reserved || st.Unproven != unproven || st.Status != m.status {
					rt.Fatalf("line has %d free, %d reserved, %d unproven, %s; the model %d, %d, %d, %s", st.Credits, st.Reserved, st.Unproven, st.Status, free, reserved, unproven, m.status)
				}
				if sends > grants {
					rt.Fatalf("%d sends on %d grants", sends, grants)
				}
				checkStatement(b.t, st)
			}
			rt.Repeat(map[string]func(*rapid.T){
				"time": func(rt *rapid.T) { b.pass(time.Duration(rapid.IntRange(1, 30).Draw(rt, "s")) * time.Second) },
				"accept": func(rt *rapid.T) {
					before := len(m.grants)
					m.prove(b.now, 20)
					r := do(Answer(b.l, b.p, "accept", "popup", name(), b.now))
					if r.Delta != len(m.grants)-before {
						rt.Fatalf("an accept moved %d, the model %d", r.Delta, len(m.grants)-before)
					}
					grants += r.Delta
				},
				"report": func(*rapid.T) {
					m.report(b.now, 20)
					grants += do(Report(b.l, b.p, "accept", name())).Delta
				},
				"popup reject": func(*rapid.T) {
					if b.p.PopupReject == "clear" {
						m.close(b.now)
					}
					m.says("rejected", b.now)
					m.record()
					do(Answer(b.l, b.p, "reject", "popup", name(), b.now))
				},
				"change reject": func(*rapid.T) {
					m.close(b.now)
					m.says("cancelled", b.now)
					m.record()
					do(Answer(b.l, b.p, "reject", "change", name(), b.now))
				},
				"repeat": func(rt *rapid.T) {
					repeats = slices.DeleteFunc(repeats, func(n named) bool { return m.records-n.record >= 6 })
					if len(repeats) > 0 {
						if r := b.book(rapid.SampledFrom(repeats).Draw(rt, "which").move); r.Delta != 0 || r.Changed {
							rt.Fatalf("a repeat moved: %+v", r)
						}
					}
				},
				"reserve": unspent(func(id string) {
					want := m.held[id] != nil || m.tried[id]
					free, _ := m.count('f')
					out := b.raw(Reserve(b.l, id, false))[0]
					if !want {
						want = m.reserve(id, false)
					}
					if (out[0] == '1') != want {
						rt.Fatalf("reserve with %d free answered %s", free, out)
					}
				}),
				"try": unspent(func(id string) {
					if m.held[id] == nil && !m.tried[id] {
						m.reserve(id, true)
					}
					b.book(Reserve(b.l, id, true))
				}),
				"spend": unspent(func(id string) {
					if m.held[id] != nil || m.tried[id] {
						spent[id] = true // used no more: a subscription remembers the last spends only
						if m.held[id] != nil {
							sends++
						}
					}
					m.end(id, 's')
					r := b.book(Spend(b.l, id))
					if again := b.book(Spend(b.l, id)); again.Delta != 0 || again.Balance() != r.Balance() {
						rt.Fatalf("spent twice: %+v", again)
					}
				}),
				"return": unspent(func(id string) {
					m.end(id, 'f')
					b.book(Return(b.l, id))
				}),
				"void": unspent(func(id string) {
					if m.held[id] != nil || m.tried[id] {
						m.end(id, 'x')
						for _, g := range m.grants {
							if g.state == 'f' || g.state == 'r' {
								g.state = 'x'
							}
						}
						clear(m.held)
						clear(m.tried)
						if m.status == "accepted" {
							m.status = "unknown"
						}
					}
					b.book(Void(b.l, id, "43101"))
				}),
				"": check,
			})
		})
	})
}

// Balance is what the statement's last movement shows.
func (r Reply) Balance() int { return r.Credits + r.Reserved }

// TestOrderOfArrivalDoesNotMatter: the same answers in any order, repeats among them, end as they do in the order they
// were given.
func TestOrderOfArrivalDoesNotMatter(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		base, cases := newBench(t, rdb), 0
		rapid.Check(t, func(rt *rapid.T) {
			p := Policy{}
			if rapid.Bool().Draw(rt, "clear") {
				p.PopupReject = "clear"
			}
			words := rapid.SliceOfN(rapid.SampledFrom([]string{"accept", "reject", "change"}), 1, 6).Draw(rt, "answers")
			book := func(b *bench, i int) {
				status, scene := words[i], "popup"
				if status == "change" {
					status, scene = "reject", "change"
				}
				b.book(Answer(b.l, p, status, scene, "e"+strconv.Itoa(i), testBegin+int64(i)))
			}
			ordered, shuffled := fresh(base, &cases), fresh(base, &cases)
			order := make([]int, len(words))
			for i := range words {
				book(ordered, i)
				order[i] = i
			}
			for _, i := range rapid.Permutation(order).Draw(rt, "arrival") {
				book(shuffled, i)
				if rapid.Bool().Draw(rt, "again") {
					book(shuffled, i)
				}
			}
			want, got := ordered.line(), shuffled.line()
			if got.Credits != want.Credits || got.Status != want.Status {
				rt.Fatalf("%d credits, %s; in order %d, %s", got.Credits, got.Status, want.Credits, want.Status)
			}
			checkStatement(t, got)
		})
	})
}

// TestLateRejectFindsTheRightCredits: messages are reserved while rejects are still on their way. Where every
// reservation was one that the true order allows too, the subscription ends as the true order has it.
func TestLateRejectFindsTheRightCredits(t *testing.T) {
	type happening struct {
		what     string
		at, seen int64
	}
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		base, cases := newBench(t, rdb), 0
		rapid.Check(t, func(rt *rapid.T) {
			b := fresh(base, &cases)
			var story []happening
			for i, what := range rapid.SliceOfN(rapid.SampledFrom([]string{"accept", "accept", "change", "reserve"}), 1, 7).Draw(rt, "story") {
				h := happening{what, testBegin + int64(i)*10, testBegin + int64(i)*10}
				if what == "change" {
					h.seen += rapid.Int64Range(0, 60).Draw(rt, "late")
				}
				story = append(story, h)
			}
			arrival := slices.Clone(story)
			slices.SortStableFunc(arrival, func(x, y happening) int { return int(x.seen - y.seen) })
			agreed := map[int64]bool{}
			for _, h := range arrival {
				b.now = h.seen
				id := strconv.FormatInt(h.at, 10)
				switch h.what {
				case "accept":
					b.book(Answer(b.l, b.p, "accept", "popup", "e"+id, h.at))
				case "change":
					b.book(Answer(b.l, b.p, "reject", "change", "e"+id, h.at))
				case "reserve":
					agreed[h.at] = b.refused(Reserve(b.l, "m"+id, false)) == ""
				}
			}
			free := 0
			for _, h := range story {
				switch {
				case h.what == "accept":
					free++
				case h.what == "change":
					free = 0
				case agreed[h.at]:
					if free--; free < 0 {
						return // nobody could know: the reject was still on its way
					}
				}
			}
			if st := b.line(); st.Credits != free {
				rt.Fatalf("%d credits, in the true order %d: %+v", st.Credits, free, st)
			}
		})
	})
}

// TestOneTapOneGrant: taps heard of twice, by WeChat's event and by the client, in any interleaving, are one grant
// each; in the end all are proven.
func TestOneTapOneGrant(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		base, cases := newBench(t, rdb), 0
		rapid.Check(t, func(rt *rapid.T) {
			b := fresh(base, &cases)
			b.p.UnprovenMax = rapid.SampledFrom([]int{-1, 1, 2, 0, 9}).Draw(rt, "max")
			b.p.Trust = rapid.SampledFrom([]string{"both", "client"}).Draw(rt, "trust")
			taps := rapid.IntRange(1, 3).Draw(rt, "taps") // a subscription remembers six words
			var words []int                               // +n the event of tap n, -n the client's word
			for n := 1; n <= taps; n++ {
				words = append(words, n, -n)
			}
			total := 0
			for _, w := range rapid.Permutation(words).Draw(rt, "arrival") {
				b.pass(time.Duration(rapid.IntRange(0, 5).Draw(rt, "s")) * time.Second)
				var r Reply
				if w > 0 {
					r = b.book(Answer(b.l, b.p, "accept", "popup", "e"+strconv.Itoa(w), testBegin+int64(w)))
				} else {
					r = b.book(Report(b.l, b.p, "accept", "r"+strconv.Itoa(-w)))
				}
				if total += r.Delta; total > taps {
					rt.Fatalf("%d grants of %d taps", total, taps)
				}
			}
			if st := b.line(); st.Credits != taps || st.Unproven != 0 {
				rt.Fatalf("%d credits, %d of them unproven, of %d taps", st.Credits, st.Unproven, taps)
			}
		})
	})
}

// TestLinesDoNotTouchOneAnother: many subscriptions of many users in one script call, against counters.
func TestLinesDoNotTouchOneAnother(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		base, cases := newBench(t, rdb), 0
		rapid.Check(t, func(rt *rapid.T) {
			cases++
			want := map[string]map[string]int{}
			var moves [][]string
			for i := range rapid.IntRange(1, 40).Draw(rt, "n") {
				l := base.l
				l.OpenID = "o" + strconv.Itoa(cases) + "-" + strconv.Itoa(rapid.IntRange(0, 2).Draw(rt, "user"))
				l.TemplateID = "tpl-" + strconv.Itoa(rapid.IntRange(0, 5).Draw(rt, "template"))
				moves = append(moves, Answer(l, base.p, "accept", "popup", "e"+strconv.Itoa(i), base.now))
				if want[l.OpenID] == nil {
					want[l.OpenID] = map[string]int{}
				}
				want[l.OpenID][l.TemplateID]++
			}
			base.raw(moves...)
			for user, subscriptions := range want {
				sts, err := base.ledger().List(context.Background(), base.l.App, user)
				if err != nil || len(sts) != len(subscriptions) || !slices.IsSortedFunc(sts, func(a, b Statement) int { return len(a.TemplateID) - len(b.TemplateID) }) {
					rt.Fatalf("%+v %v", sts, err)
				}
				for _, st := range sts {
					if st.Credits != subscriptions[st.TemplateID] {
						rt.Fatalf("%s of %s: %d credits, want %d", st.TemplateID, user, st.Credits, subscriptions[st.TemplateID])
					}
				}
			}
		})
	})
}
