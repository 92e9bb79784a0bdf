// Package wechatsim owns a whole simulated WeChat: the platform's API as a server meets it (the API handler), the
// phones of its users (Tap, Login, Say, ChangeSetting ...), and the push engine that tells an app's callback what they
// did. It is faithful where the documents are clear, strict where they are not, and unhelpful by default: a few percent
// of calls fail, tokens die early, pushes come doubled and out of order (see moods.go; Calm turns that off).
//
//	   phones (client.go)            gateway under test
//	Tap Login Say Pay ...             |            ^
//	        |                 API handler     pushes
//	        v                  (api.go)      (engine.go)
//	   accounts, credits  <-----------+            |
//	   (world.go)         ----- events (events.go)-+
//
// It uses the standard library only and shares no line with what it tests. State is in memory and gone at exit.
// README.md lists what is covered, DIVERGENCES.md where it is not WeChat.
package wechatsim

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// Options of a new platform. The zero value gives one mini-program "shop", an unhelpful temper and real spacing of pushes.
type Options struct {
	Seed uint64 // of everything random: ids, secrets, moods. 0 counts as 1
	Apps []App  // what Fill completes; none = one mini-program named "shop"
	Calm bool   // no moods; the same as calling Calm at once

	Clock   func() time.Time // what is stamped on the wire (CreateTime, timestamp, rid); nil = time.Now
	Latency time.Duration    // every API call takes at least this long (a load target: 30 ms)
	Hang    time.Duration    // how long a call that never answers is held at most; 0 = 20 s

	PushTimeout    time.Duration // WeChat waits this long for an answer; 0 = 5 s
	PushDeliveries int           // deliveries of one push in all; 0 = 3
	PushSpacing    time.Duration // between them; 0 = 5 s, tests use milliseconds
	MarkFailAfter  int           // failed deliveries in a row that make WeChat stop pushing for a minute; 0 = 5, <0 = never
	PushesInFlight int           // per app; 0 = 256

	Keep int // how many sends, pushes, calls and messages per user the records hold; 0 = 200,000, <0 = counts only
}

// Reset forgets all users, credits, records and forced moods, and the time that Advance added. Apps, tokens and odds stay.
// Whoever comes afterwards has another openid than before, so that nobody remembers them.
func (s *Sim) Reset() {
	s.world.forget()
	s.seen.forget()
	s.temper.mu.Lock()
	s.temper.forced = nil
	s.temper.count.Store(0)
	s.temper.mu.Unlock()
	s.aged.Store(0)
}

// Sim is one WeChat. It is the API handler itself (an http.Handler); Control is the other one.
type Sim struct {
	o      Options
	aged   atomic.Int64 // what Advance added, in nanoseconds
	dice   *dice
	world  *world
	routes map[string]*route
	tokens tokenBook
	codes  codeBook
	temper temper
	seen   *journal
	era    atomic.Int32

	client *http.Client // pushes leave through it
	stop   context.CancelFunc
	ctx    context.Context
	flying atomic.Int64 // pushes not yet ended
}

// New opens a platform. It panics when an app contradicts itself (a wrong key length, two apps with one appid): its
// caller is a test or a demo, and there is nobody to hand the fault to.
func New(o Options) *Sim {
	o = o.filled()
	s := &Sim{o: o, dice: newDice(o.Seed), seen: newJournal(o.Keep)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.world = newWorld(o.Seed)
	s.era.Store(int32(Today))
	if !o.Calm {
		s.SetMoods(Unhelpful())
	}
	s.client = newPushClient(o.PushesInFlight)
	s.routes = routes()
	for i, a := range o.Apps {
		s.world.addApp(a.filled(o.Seed, i))
	}
	return s
}

func (o Options) filled() Options {
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if len(o.Apps) == 0 {
		o.Apps = []App{{Name: "shop"}}
	}
	orDuration := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	orInt := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	orDuration(&o.Hang, 20*time.Second)
	orDuration(&o.PushTimeout, 5*time.Second)
	orDuration(&o.PushSpacing, 5*time.Second)
	orInt(&o.PushDeliveries, 3)
	orInt(&o.MarkFailAfter, 5)
	orInt(&o.PushesInFlight, 256)
	orInt(&o.Keep, 200_000)
	return o
}

// Seed the platform was made with: print it, so that a bad day can be had again.
func (s *Sim) Seed() uint64 { return s.o.Seed }

// Advance makes everything the platform remembers d older, without anybody sleeping: tokens, login codes, customer
// service windows, form_ids, quotas, the MarkFail minute. What is stamped on the wire stays on Options.Clock, so that a
// gateway with a real clock still finds pushes fresh.
func (s *Sim) Advance(d time.Duration) { s.aged.Add(int64(d)); s.seen.poke() }

// now is the time stamped on the wire.
func (s *Sim) now() time.Time { return s.o.Clock() }

// memory is the time by which things expire: the wire's plus what Advance added.
func (s *Sim) memory() time.Time { return s.o.Clock().Add(time.Duration(s.aged.Load())) }

// Close stops pushing and waits for what is in flight. The API handler keeps answering.
func (s *Sim) Close() {
	s.stop()
	_ = s.Settle(context.Background()) // ends: every push in flight gives up when stop is called
	s.client.CloseIdleConnections()
}

// Settle waits until every push has ended (taken, given up or dropped).
func (s *Sim) Settle(ctx context.Context) error {
	return s.Await(ctx, func() bool { return s.flying.Load() == 0 })
}

// Await waits until cond holds. It is asked again after everything the platform records, never on a timer; cond may
// call any method that reads (Inbox, Pushes, Sends, Counts). The error is ctx's.
func (s *Sim) Await(ctx context.Context, cond func() bool) error { return s.seen.await(ctx, cond) }

// Era is what WeChat allows: template and uniform messages were alive in 2018 and answer 45103 and 45109 today.
type Era int32

// The eras of SetEra.
const (
	Today   Era = 0
	Era2018 Era = 2018
)

// SetEra moves the platform to another era. It starts in Today.
func (s *Sim) SetEra(e Era) { s.era.Store(int32(e)) }

// pause waits d unless the platform closes or ctx ends first.
func (s *Sim) pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
}
