package binding

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/testredis"
)

func bind(t *testing.T, b *Book, partner, user, openid string, want error) {
	t.Helper()
	if err := b.Bind(context.Background(), partner, "shop", user, openid, NewSerial()); !errors.Is(err, want) {
		t.Errorf("Bind(%s, %s, %s) = %v, want %v", partner, user, openid, err, want)
	}
}

// unbind ends whatever binding the user has, as a caller does.
func unbind(b *Book, partner, app, user string) (openid string, err error) {
	h, err := b.Find(context.Background(), partner, app, user)
	if err != nil {
		return "", err
	}
	return h.OpenID, b.Unbind(context.Background(), partner, app, user, h.Serial)
}

type Bound struct{ Partner, User string }

// redeem binds by a ticket, as a caller does.
func redeem(b *Book, app, ticket, openid string) (Bound, error) {
	ctx := context.Background()
	to, err := b.Show(ctx, app, ticket, openid)
	if err != nil || to.Used {
		return Bound{to.Partner, to.User}, err
	}
	if err := b.Bind(ctx, to.Partner, app, to.User, openid, to.Serial); err != nil {
		return Bound{}, err
	}
	return Bound{to.Partner, to.User}, b.Use(ctx, ticket)
}

func usersOf(t *testing.T, b *Book, openid string) map[string]string {
	t.Helper()
	users, err := b.UsersOf(context.Background(), "shop", openid)
	if err != nil {
		t.Fatal(err)
	}
	return users
}

// byUser is "" when the user is not bound.
func byUser(t *testing.T, b *Book, partner, user string) string {
	t.Helper()
	openid, err := b.ByUser(context.Background(), partner, "shop", user)
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	return openid
}

func TestBindingRules(t *testing.T) {
	ctx := context.Background()
	rules := map[string]func(t *testing.T, b *Book){
		"found from both sides": func(t *testing.T, b *Book) {
			bind(t, b, "orders", "u1", "oAnn", nil)
			bind(t, b, "orders", "u1", "oAnn", nil) // again is harmless
			bind(t, b, "news", "n9", "oAnn", nil)   // another partner has its own
			if got := byUser(t, b, "orders", "u1"); got != "oAnn" {
				t.Error(got)
			}
			if diff := cmp.Diff(map[string]string{"orders": "u1", "news": "n9"}, usersOf(t, b, "oAnn")); diff != "" {
				t.Error(diff)
			}
			if got := byUser(t, b, "news", "u1") + byUser(t, b, "orders", "n9") + byUser(t, b, "orders", "nobody"); got != "" {
				t.Error(got)
			}
			if users := usersOf(t, b, "oBob"); len(users) != 0 {
				t.Error(users)
			}
		},
		"a user has one openid per app": func(t *testing.T, b *Book) {
			bind(t, b, "orders", "u1", "oAnn", nil)
			bind(t, b, "orders", "u1", "oBob", ErrBound)
			if err := b.Bind(ctx, "orders", "mall", "u1", "oBob", NewSerial()); err != nil {
				t.Errorf("another app: %v", err)
			}
			if len(usersOf(t, b, "oBob")) != 0 || byUser(t, b, "orders", "u1") != "oAnn" {
				t.Error("the refused one left something")
			}
		},
		"an openid has one user per partner": func(t *testing.T, b *Book) {
			bind(t, b, "orders", "u1", "oAnn", nil)
			bind(t, b, "orders", "u2", "oAnn", ErrBound)
			if byUser(t, b, "orders", "u2") != "" {
				t.Error("the refused one left something")
			}
			bind(t, b, "orders", "u2", "oBob", nil)
		},
		"unbound is free on both sides": func(t *testing.T, b *Book) {
			bind(t, b, "orders", "u1", "oAnn", nil)
			if openid, err := unbind(b, "orders", "shop", "u1"); openid != "oAnn" || err != nil {
				t.Error(openid, err)
			}
			if _, err := unbind(b, "orders", "shop", "u1"); !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
			if byUser(t, b, "orders", "u1") != "" || len(usersOf(t, b, "oAnn")) != 0 {
				t.Error("still bound")
			}
			bind(t, b, "orders", "u2", "oAnn", nil)
			bind(t, b, "orders", "u1", "oBob", nil)
		},
		"forgotten": func(t *testing.T, b *Book) {
			w := platform()
			s, err := b.Login(ctx, "shop", "c1", w.exchange("c1"))
			if err != nil {
				t.Fatal(err)
			}
			bind(t, b, "orders", "u1", "oAnn", nil)
			bind(t, b, "news", "n9", "oAnn", nil)
			add(t, b, FormID, "f1", 1)
			want := map[string]string{"orders": "u1", "news": "n9"}
			for n := range 2 { // the second is the one after a crash
				users, err := b.Forget(ctx, "shop", "oAnn")
				if diff := cmp.Diff(want, users); diff != "" || err != nil {
					t.Errorf("time %d: %s %v", n, diff, err)
				}
			}
			if byUser(t, b, "orders", "u1")+byUser(t, b, "news", "n9") != "" || len(usersOf(t, b, "oAnn")) != 0 {
				t.Error("still bound")
			}
			_, e1 := b.Session(ctx, "shop", s.Token)
			_, e2 := b.SessionKey(ctx, "shop", "oAnn")
			_, e3 := b.ByUnionID(ctx, "shop", "uAnn")
			_, e4 := b.UnionID(ctx, "shop", "oAnn")
			_, e5 := b.Take(ctx, "shop", "oAnn", "", "m1")
			for i, want := range []error{ErrSession, ErrNotFound, ErrNotFound, ErrNotFound, ErrEmpty} {
				if got := []error{e1, e2, e3, e4, e5}[i]; !errors.Is(got, want) {
					t.Errorf("%d: %v, want %v", i, got, want)
				}
			}
			bind(t, b, "orders", "u1", "oBob", nil)
			bind(t, b, "orders", "u2", "oAnn", nil)
			users, err := b.Forget(ctx, "shop", "oAnn")
			if diff := cmp.Diff(map[string]string{"orders": "u2"}, users); diff != "" || err != nil {
				t.Errorf("a second leave-taking tells of the second time only: %s %v", diff, err)
			}
			if again, err := b.Login(ctx, "shop", "c2", w.exchange("c2")); err != nil || !again.IsNew {
				t.Errorf("who was forgotten is new: %+v %v", again, err)
			}
		},
		"nobody to forget": func(t *testing.T, b *Book) {
			if users, err := b.Forget(ctx, "shop", "oNobody"); len(users) != 0 || err != nil {
				t.Error(users, err)
			}
		},
		"tickets": func(t *testing.T, b *Book) {
			before := time.Now()
			ticket, expires, err := b.NewTicket(ctx, "orders", "shop", "u1")
			if err != nil || ticket == "" {
				t.Fatal(err)
			}
			if d := expires.Sub(before); before.Year() < 2023 || d < -4*365*24*time.Hour && expires.Unix() != 1_700_000_600 || d > 11*time.Minute {
				t.Errorf("expires %v", expires)
			}
			if _, err := redeem(b, "mall", ticket, "oAnn"); !errors.Is(err, ErrTicket) {
				t.Errorf("for another app: %v", err)
			}
			if to, err := redeem(b, "shop", ticket, "oAnn"); to != (Bound{"orders", "u1"}) || err != nil {
				t.Errorf("%v %v", to, err)
			}
			if byUser(t, b, "orders", "u1") != "oAnn" {
				t.Error("not bound")
			}
			if again, err := b.Show(ctx, "shop", ticket, "oAnn"); err != nil || !again.Used {
				t.Errorf("shown again by ann: %+v %v", again, err)
			}
			if _, err := redeem(b, "shop", ticket, "oBob"); !errors.Is(err, ErrTicket) {
				t.Errorf("shown again by bob: %v", err)
			}
			for _, bad := range []string{"", "tkt_nonsense"} {
				if _, err := redeem(b, "shop", bad, "oAnn"); !errors.Is(err, ErrTicket) {
					t.Errorf("%q: %v", bad, err)
				}
			}
		},
		"a ticket for a user bound elsewhere": func(t *testing.T, b *Book) {
			bind(t, b, "orders", "u1", "oAnn", nil)
			ticket, _, err := b.NewTicket(ctx, "orders", "shop", "u1")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := redeem(b, "shop", ticket, "oBob"); !errors.Is(err, ErrBound) {
				t.Error(err)
			}
			if _, err := redeem(b, "shop", ticket, "oAnn"); !errors.Is(err, ErrTicket) {
				t.Errorf("shown by bob, redeemed by ann: %v", err)
			}
			if _, err := unbind(b, "orders", "shop", "u1"); err != nil {
				t.Fatal(err)
			}
			if _, err := redeem(b, "shop", ticket, "oBob"); err != nil {
				t.Errorf("bob again, the user being free now: %v", err)
			}
		},
	}
	for rule, check := range rules {
		t.Run(rule, func(t *testing.T) {
			testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) { check(t, New(rdb, gcm(t))) })
		})
	}
}

func TestTicketExpires(t *testing.T) {
	ctx := context.Background()
	s, rdb := testredis.InProcess(t)
	b := New(rdb, Sealer{})
	ticket, expires, err := b.NewTicket(ctx, "orders", "shop", "u1")
	if err != nil || !expires.Equal(s.Now.Add(10*time.Minute)) {
		t.Fatal(expires, err)
	}
	s.Pass(10*time.Minute + time.Second)
	if _, err := redeem(b, "shop", ticket, "oAnn"); !errors.Is(err, ErrTicket) {
		t.Error(err)
	}
	if len(s.Keys()) != 0 {
		t.Errorf("left behind: %q", s.Keys())
	}
}

// Many at once for the same thing: exactly one gets it, and everybody else is told.
func TestBindRace(t *testing.T) {
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		replicas := []*Book{New(rdb, Sealer{}), New(rdb, Sealer{})}
		race := func(name string, at func(n int) (user, openid string)) {
			var mu sync.Mutex
			won := 0
			var wg sync.WaitGroup
			for n := range 12 {
				wg.Go(func() {
					user, openid := at(n)
					err := replicas[n%2].Bind(context.Background(), "p", "shop", user, openid, NewSerial())
					switch {
					case err == nil:
						mu.Lock()
						won++
						mu.Unlock()
						if got := byUser(t, replicas[0], "p", user); got != openid {
							t.Errorf("%s: %s won %s and has %q", name, user, openid, got)
						}
						if got := usersOf(t, replicas[1], openid)["p"]; got != user {
							t.Errorf("%s: %s won %s, which has %q", name, user, openid, got)
						}
					case !errors.Is(err, ErrBound) && !errors.Is(err, ErrBusy):
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if won != 1 {
				t.Errorf("%s: %d won", name, won)
			}
		}
		race("one user", func(n int) (string, string) { return "u", fmt.Sprint("o", n) })
		race("one openid", func(n int) (string, string) { return fmt.Sprint("v", n), "oX" })
	})
}

// crashes makes commands fail at random, before or after Redis did them: what a process sees when a connection breaks,
// and what Redis sees when the process dies.
type crashes struct {
	mu   sync.Mutex
	rnd  *rand.Rand
	rate float64
}

var errCrash = errors.New("cut")

func (c *crashes) DialHook(next redis.DialHook) redis.DialHook { return next }
func (c *crashes) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (c *crashes) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.mu.Lock()
		dice := c.rnd.Float64()
		c.mu.Unlock()
		if dice < c.rate/2 {
			cmd.SetErr(errCrash)
			return errCrash
		}
		err := next(ctx, cmd)
		if dice < c.rate {
			cmd.SetErr(errCrash)
			return errCrash
		}
		return err
	}
}

// Whatever is cut off wherever: in the end both sides say the same, and what was promised and not taken back holds.
func TestBindingsSurviveCrashes(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(25) {
		s, sound := testredis.InProcess(t)
		shaky := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1})
		t.Cleanup(func() { shaky.Close() })
		rnd := rand.New(rand.NewPCG(seed, 7))
		shaky.AddHook(&crashes{rnd: rand.New(rand.NewPCG(seed, 8)), rate: 0.15})
		b, calm := impatient(shaky), impatient(sound)
		users, openids := []string{"u1", "u2", "u3"}, []string{"oA", "oB", "oC"}
		agree := func(step int) {
			seen := map[string]string{}
			for _, o := range openids {
				for partner, user := range usersOf(t, calm, o) {
					if before, twice := seen[user]; twice {
						t.Fatalf("seed %d step %d: %s is %s's and %s's", seed, step, user, before, o)
					}
					seen[user] = o
					if partner != "p" {
						t.Fatal(partner)
					}
				}
			}
			for _, u := range users {
				if o := byUser(t, calm, "p", u); o != seen[u] {
					t.Fatalf("seed %d step %d: %s has %q, the other side says %q", seed, step, u, o, seen[u])
				}
			}
		}
		for step := range 60 {
			u, o := users[rnd.IntN(3)], openids[rnd.IntN(3)]
			before := byUser(t, calm, "p", u)
			switch rnd.IntN(5) {
			case 0, 1, 2:
				err := b.Bind(ctx, "p", "shop", u, o, NewSerial())
				if err == nil && byUser(t, calm, "p", u) != o {
					t.Fatalf("seed %d step %d: bound and not bound", seed, step)
				}
				if errors.Is(err, ErrBound) && byUser(t, calm, "p", u) != before {
					t.Fatalf("seed %d step %d: refused and changed", seed, step)
				}
			case 3:
				if _, err := unbind(b, "p", "shop", u); err == nil && byUser(t, calm, "p", u) != "" {
					t.Fatalf("seed %d step %d: unbound and bound", seed, step)
				}
			case 4: // whoever forgets repeats it until it is done
				for {
					if _, err := b.Forget(ctx, "shop", o); err == nil {
						break
					}
				}
			}
			agree(step)
			s.Pass(claimTime + time.Second) // claims of the dead lapse
			agree(step)
		}
		for _, u := range users { // nothing is left that blocks anybody
			unbind(calm, "p", "shop", u)
		}
		for i, u := range users {
			bind(t, calm, "p", u, openids[(i+1)%3], nil)
		}
		if want := map[string]string{"p": "u1"}; !maps.Equal(usersOf(t, calm, "oB"), want) {
			t.Fatalf("seed %d: %v", seed, usersOf(t, calm, "oB"))
		}
	}
}

// intruder does something of its own right before the nth command of somebody else.
type intruder struct {
	crashes
	n  int
	do func()
}

func (i *intruder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if i.n--; i.n == 0 {
			i.do()
		}
		return next(ctx, cmd)
	}
}

// Every operation, with every other one in between any two of its commands: both sides agree, and who is told that it
// is done finds it done, unless the other one undid it after.
func TestBindingsBetweenAnyTwoCommands(t *testing.T) {
	ctx := context.Background()
	mine := map[string]func(*Book) error{
		"bind":    func(b *Book) error { return b.Bind(ctx, "p", "shop", "u", "oA", NewSerial()) },
		"one try": func(b *Book) error { return pairing{b, "p", "shop", "u", "oA", NewSerial()}.bind(ctx) },
		"unbind":  func(b *Book) error { _, err := unbind(b, "p", "shop", "u"); return err },
		"forget":  func(b *Book) error { _, err := b.Forget(ctx, "shop", "oA"); return err },
	}
	serial := NewSerial() // of a ticket that is shown twice
	mine["by ticket"] = func(b *Book) error { return b.Bind(ctx, "p", "shop", "u", "oA", serial) }
	theirs := map[string]func(*testredis.Clocked, *Book){
		"the same ticket": func(_ *testredis.Clocked, b *Book) {
			if err := b.Bind(ctx, "p", "shop", "u", "oA", serial); err == nil && byUser(t, b, "p", "u") != "oA" {
				t.Error("the ticket's binding is said to be made, and is not")
			}
		},
		"nothing":      func(*testredis.Clocked, *Book) {},
		"the same":     func(_ *testredis.Clocked, b *Book) { b.Bind(ctx, "p", "shop", "u", "oA", NewSerial()) },
		"other openid": func(_ *testredis.Clocked, b *Book) { b.Bind(ctx, "p", "shop", "u", "oB", NewSerial()) },
		"other user":   func(_ *testredis.Clocked, b *Book) { b.Bind(ctx, "p", "shop", "v", "oA", NewSerial()) },
		"unbind":       func(_ *testredis.Clocked, b *Book) { unbind(b, "p", "shop", "u") },
		"forget":       func(_ *testredis.Clocked, b *Book) { b.Forget(ctx, "shop", "oA") },
		"unbind and the same": func(_ *testredis.Clocked, b *Book) {
			unbind(b, "p", "shop", "u")
			b.Bind(ctx, "p", "shop", "u", "oA", NewSerial())
		},
		"forget and the same": func(_ *testredis.Clocked, b *Book) {
			b.Forget(ctx, "shop", "oA")
			b.Bind(ctx, "p", "shop", "u", "oA", NewSerial())
		},
		"forget and the other user": func(_ *testredis.Clocked, b *Book) {
			b.Forget(ctx, "shop", "oA")
			b.Bind(ctx, "p", "shop", "v", "oA", NewSerial())
		},
		"unbind and the other openid": func(_ *testredis.Clocked, b *Book) {
			unbind(b, "p", "shop", "u")
			b.Bind(ctx, "p", "shop", "u", "oB", NewSerial())
		},
		"a long pause": func(s *testredis.Clocked, _ *Book) { s.Pass(claimTime + time.Second) },
		"a long pause, the same and unbind": func(s *testredis.Clocked, b *Book) {
			s.Pass(claimTime + time.Second)
			b.Bind(ctx, "p", "shop", "u", "oA", NewSerial())
			unbind(b, "p", "shop", "u")
		},
		"a long pause and the same": func(s *testredis.Clocked, b *Book) {
			s.Pass(claimTime + time.Second)
			b.Bind(ctx, "p", "shop", "u", "oA", NewSerial())
		},
		"a long pause and the other openid": func(s *testredis.Clocked, b *Book) {
			s.Pass(claimTime + time.Second)
			b.Bind(ctx, "p", "shop", "u", "oB", NewSerial())
		},
		"a long pause and the other user": func(s *testredis.Clocked, b *Book) {
			s.Pass(claimTime + time.Second)
			b.Bind(ctx, "p", "shop", "v", "oA", NewSerial())
		},
	}
	s, sound := testredis.InProcess(t)
	calm := impatient(sound)
	hook := &intruder{}
	hooked := redis.NewClient(&redis.Options{Addr: s.Addr()})
	defer hooked.Close()
	hooked.Ping(ctx) // its greeting is no command of ours
	hooked.AddHook(hook)
	for m, op := range mine {
		for o, other := range theirs {
			for _, start := range []string{"", "oA", "oB"} {
				for n := 1; ; n++ {
					s.FlushAll()
					if start != "" {
						bind(t, calm, "p", "u", start, nil)
					}
					hook.n, hook.do = n, func() { other(s, calm) }
					err := op(impatient(hooked))
					at := fmt.Sprintf("%s from %q, %s before command %d (%v)", m, start, o, n, err)
					s.Pass(claimTime + time.Second)
					consistent(t, calm, at)
					if o == "nothing" || o == "a long pause" || o == "the same ticket" && m == "by ticket" {
						done := map[string]bool{"bind": byUser(t, calm, "p", "u") == "oA", "one try": byUser(t, calm, "p", "u") == "oA", "by ticket": byUser(t, calm, "p", "u") == "oA", "unbind": byUser(t, calm, "p", "u") == "", "forget": len(usersOf(t, calm, "oA")) == 0}
						if err == nil && !done[m] {
							t.Errorf("%s: said to be done", at)
						}
					}
					if hook.n > 0 { // it had fewer commands than that
						break
					}
				}
			}
		}
	}
}

// A bind that made its claim count and then stalls confirms its entry while, or after, the user is unbound.
func TestLateConfirmation(t *testing.T) {
	ctx := context.Background()
	for n := 1; ; n++ {
		s, sound := testredis.InProcess(t)
		calm := impatient(sound)
		bind(t, calm, "p", "u", "oA", nil)
		entry, err := calm.entry(ctx, "shop", "oA", "p")
		if err != nil {
			t.Fatal(err)
		}
		stalled := half{entered, entry.serial, "u"}
		if ok, err := calm.swapped(ctx, openidTag("shop", "oA")+"u", "p", entry.String(), stalled.String()); !ok || err != nil {
			t.Fatal(ok, err)
		}
		hooked := redis.NewClient(&redis.Options{Addr: s.Addr()})
		hook := &intruder{n: n, do: func() { calm.confirm(ctx, "shop", "oA", "p", stalled) }}
		hooked.AddHook(hook)
		if _, err := unbind(impatient(hooked), "p", "shop", "u"); err != nil {
			t.Errorf("confirmed before command %d: %v", n, err)
		}
		hooked.Close()
		consistent(t, calm, fmt.Sprint("confirmed before command ", n))
		if hook.n > 0 {
			break
		}
	}
}

// Forgotten before its entry is confirmed, and Redis fails when the user's half is to go: that is not told as "busy", which
// would mean that nothing has been left behind.
func TestAHalfThatStaysIsAFault(t *testing.T) {
	ctx, failed := t.Context(), false
	for n := 1; ; n++ {
		s, sound := testredis.InProcess(t)
		calm := impatient(sound)
		hooked := redis.NewClient(&redis.Options{Addr: s.Addr()})
		defer hooked.Close()
		hooked.Ping(ctx) // its greeting is no command of ours
		lost := &intruder{n: n + 1, do: func() { s.SetError("ERR gone") }}
		forget := &intruder{n: n, do: func() { _, _ = calm.Forget(ctx, "shop", "oA") }}
		hooked.AddHook(lost)
		hooked.AddHook(forget)
		err := pairing{impatient(hooked), "p", "shop", "u", "oA", NewSerial()}.bind(ctx)
		s.SetError("")
		if left := byUser(t, calm, "p", "u") == "oA" && usersOf(t, calm, "oA")["p"] == ""; left {
			failed = true
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("forgotten before command %d: a half is left, and the error is %v", n, err)
			}
		}
		if forget.n > 0 {
			break
		}
	}
	if !failed {
		t.Error("no half was left: the test has lost its case")
	}
}

// Forget that dies halfway blocks nobody, and when it is repeated it spares what was bound since.
func TestForgetHalfway(t *testing.T) {
	ctx := context.Background()
	_, rdb := testredis.InProcess(t)
	b := impatient(rdb)
	bind(t, b, "p", "u", "oA", nil)
	at := openidTag("shop", "oA")
	if _, err := b.run(ctx, forgetScript, []string{at + "f", at + "u", at + "i", at + "s", at + "k", at + "p", at + "h"}, foundTime.Milliseconds()); err != nil {
		t.Fatal(err)
	}
	bind(t, b, "p", "v", "oB", nil)
	bind(t, b, "p", "u", "oC", nil)
	bind(t, b, "p", "w", "oA", nil)
	bind(t, b, "q", "x", "oA", nil)
	if _, err := unbind(b, "p", "shop", "w"); err != nil {
		t.Fatal(err)
	}
	if _, err := unbind(b, "q", "shop", "x"); err != nil {
		t.Fatal(err)
	}
	users, err := b.Forget(ctx, "shop", "oA")
	if diff := cmp.Diff(map[string]string{"p": "u"}, users); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if got := byUser(t, b, "p", "u"); got != "oC" {
		t.Errorf("the repetition took the new binding: %q", got)
	}
}

// impatient does not rest between two looks.
func impatient(rdb redis.UniversalClient) *Book {
	b := New(rdb, Sealer{})
	b.rest = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return b
}

func consistent(t *testing.T, b *Book, at string) {
	t.Helper()
	seen := map[string]string{}
	for _, o := range []string{"oA", "oB"} {
		if u, ok := usersOf(t, b, o)["p"]; ok {
			if seen[u] != "" {
				t.Errorf("%s: %s is %s's and %s's", at, u, seen[u], o)
			}
			seen[u] = o
		}
	}
	for _, u := range []string{"u", "v"} {
		if o := byUser(t, b, "p", u); o != seen[u] {
			t.Errorf("%s: %s has %q, the other side says %q", at, u, o, seen[u])
		}
	}
}

// The same with many at once, on both Redis: in the end both sides agree.
func TestBindingsInACrowd(t *testing.T) {
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := context.Background()
		b := New(rdb, Sealer{})
		users, openids := []string{"u1", "u2", "u3", "u4"}, []string{"oA", "oB", "oC"}
		var wg sync.WaitGroup
		for n := range uint64(8) {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(n, 9))
				for range 60 {
					u, o := users[rnd.IntN(4)], openids[rnd.IntN(3)]
					var err error
					switch rnd.IntN(6) {
					case 0, 1, 2, 3:
						err = b.Bind(ctx, "p", "shop", u, o, NewSerial())
					case 4:
						_, err = unbind(b, "p", "shop", u)
					case 5:
						_, err = b.Forget(ctx, "shop", o)
					}
					if err != nil && !errors.Is(err, ErrBound) && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrNotFound) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		seen := map[string]string{}
		for _, o := range openids {
			if u, ok := usersOf(t, b, o)["p"]; ok {
				if seen[u] != "" {
					t.Errorf("%s is %s's and %s's", u, seen[u], o)
				}
				seen[u] = o
			}
		}
		for _, u := range users {
			if o := byUser(t, b, "p", u); o != seen[u] {
				t.Errorf("%s has %q, the other side says %q", u, o, seen[u])
			}
		}
	})
}
