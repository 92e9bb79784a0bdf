package wechatsim

import (
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Mood is one way in which the platform is unhelpful. Each can come by chance (Moods) and be forced (Force).
type Mood string

// Moods of API calls. "Accepted" means that the call did all it does; the caller just does not learn it.
const (
	Busy          Mood = "busy"           // -1 system error, nothing done
	BusyAccepted  Mood = "busy_accepted"  // accepted, then -1: by force only
	Timeout       Mood = "timeout"        // accepted, then silence
	TimeoutBefore Mood = "timeout_before" // silence, nothing done
	Cut           Mood = "cut"            // accepted, then the connection is closed
	CutBefore     Mood = "cut_before"     // the connection is closed, nothing done
	BadGateway    Mood = "bad_gateway"    // accepted, then HTTP 502 with a page
	TokenDies     Mood = "token_dies"     // the token of this call is dead early: 40001 until another one is fetched
	TokenStuck    Mood = "token_stuck"    // the same, and stable_token keeps handing out the dead one until forced
	TokenStorm    Mood = "token_storm"    // 40001 for this and the next few calls although the token is good
	Concurrent    Mood = "concurrent"     // 43108
	DailyQuota    Mood = "daily_quota"    // 45009
	MinuteQuota   Mood = "minute_quota"   // 45011
	Slow          Mood = "slow"           // the answer takes a while (Forced.Delay, or a quarter of a second)
	Refuse        Mood = "refuse"         // Forced.Errcode and Forced.Errmsg; by force only
)

// Moods of pushes.
const (
	Duplicate  Mood = "duplicate"   // taken, and delivered again
	Reorder    Mood = "reorder"     // held back, so that later ones overtake it
	SameSecond Mood = "same_second" // carries the CreateTime of the user's push before
	SentFirst  Mood = "sent_first"  // the sent event is delivered before the send is answered
	SentFails  Mood = "sent_fails"  // the sent event reports a system failure and the user gets nothing
	Lost       Mood = "lost"        // never delivered: missing events are normal
)

// Moods is how often each happens, 0 to 1.
type Moods map[Mood]float64

// Unhelpful is the temper a platform starts with. A correct gateway lives with all of it.
func Unhelpful() Moods {
	return Moods{Busy: 0.05, Timeout: 0.005, TokenDies: 0.01, TokenStorm: 0.003, Concurrent: 0.01, Slow: 0.02,
		Duplicate: 0.10, Reorder: 0.10, SameSecond: 0.25, SentFirst: 0.10}
}

// sendsOnly come by chance to calls that write to a person; by force to any call.
var sendsOnly = map[Mood]bool{BusyAccepted: true, Timeout: true, Cut: true, BadGateway: true, Concurrent: true}

// tokenOnly make sense where a token is checked.
var tokenOnly = map[Mood]bool{TokenDies: true, TokenStuck: true, TokenStorm: true}

// ofPush are the moods of pushes, all others are of calls.
var ofPush = map[Mood]bool{Duplicate: true, Reorder: true, SameSecond: true, SentFirst: true, SentFails: true, Lost: true}

// callMoods in the order a die is read, so that one seed gives one history.
var callMoods = []Mood{Busy, BusyAccepted, Timeout, TimeoutBefore, Cut, CutBefore, BadGateway, TokenDies, TokenStuck,
	TokenStorm, Concurrent, DailyQuota, MinuteQuota, Slow}

// Forced is a mood that certainly comes.
type Forced struct {
	Mood    Mood          `json:"mood"`
	Path    string        `json:"path,omitempty"` // end of an API path, or a push's event name; "" = any
	App     string        `json:"app,omitempty"`  // name, appid or original id; "" = any
	OpenID  string        `json:"openid,omitempty"`
	Times   int           `json:"times,omitempty"` // 0 = once, negative = until lifted
	Errcode int           `json:"errcode,omitempty"`
	Errmsg  string        `json:"errmsg,omitempty"`
	Delay   time.Duration `json:"-"` // of Slow and Reorder; of SentFirst: how long after its event a send is answered
}

type temper struct {
	odds   atomic.Pointer[Moods]
	count  atomic.Int32 // of forced, so that a calm platform takes no lock
	mu     sync.Mutex
	forced []*Forced
}

// SetMoods replaces the temper; forced moods stay.
func (s *Sim) SetMoods(m Moods) {
	own := Moods{}
	for k, v := range m {
		own[k] = v
	}
	s.temper.odds.Store(&own)
}

// Moods in force by chance; empty when calm.
func (s *Sim) Moods() Moods {
	own := Moods{}
	if m := s.temper.odds.Load(); m != nil {
		for k, v := range *m {
			own[k] = v
		}
	}
	return own
}

// Calm turns every mood off, forced ones too.
func (s *Sim) Calm() {
	s.temper.odds.Store(nil)
	s.temper.mu.Lock()
	defer s.temper.mu.Unlock()
	s.temper.forced = nil
	s.temper.count.Store(0)
}

// Force makes a mood certain for the next call or push it fits. lift takes it back.
func (s *Sim) Force(f Forced) (lift func()) {
	if f.Times == 0 {
		f.Times = 1
	}
	s.temper.mu.Lock()
	defer s.temper.mu.Unlock()
	s.temper.forced = append(s.temper.forced, &f)
	s.temper.count.Add(1)
	return func() { s.temper.drop(&f) }
}

// Forced are the moods that still wait for what they fit.
func (s *Sim) Forced() []Forced {
	s.temper.mu.Lock()
	defer s.temper.mu.Unlock()
	all := []Forced{}
	for _, f := range s.temper.forced {
		all = append(all, *f)
	}
	return all
}

func (t *temper) drop(f *Forced) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(f)
}

func (t *temper) remove(f *Forced) {
	for i, g := range t.forced {
		if g == f {
			t.forced = append(t.forced[:i:i], t.forced[i+1:]...)
			t.count.Add(-1)
			return
		}
	}
}

// take finds a forced mood that fits and spends one of its times. whom is asked only when a mood names an openid.
func (t *temper) take(fits func(Mood) bool, path string, a *app, whom func() string) (Forced, bool) {
	if t.count.Load() == 0 {
		return Forced{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.forced {
		if !fits(f.Mood) || !strings.HasSuffix(path, f.Path) {
			continue
		}
		if f.App != "" && (a == nil || !a.answersTo(f.App)) {
			continue
		}
		if f.OpenID != "" && whom() != f.OpenID {
			continue
		}
		got := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				t.remove(f)
			}
		}
		return got, true
	}
	return Forced{}, false
}

func (a *app) answersTo(handle string) bool {
	c := a.conf()
	return handle == c.Name || handle == c.AppID || handle == c.OriginalID
}

// callMood decides how one call goes.
func (s *Sim) callMood(rt *route, a *app, whom func() string) Forced {
	fits := func(m Mood) bool { return !ofPush[m] && (rt.token || !tokenOnly[m]) }
	if f, ok := s.temper.take(fits, rt.path, a, whom); ok {
		return f
	}
	odds := s.temper.odds.Load()
	if odds == nil {
		return Forced{}
	}
	roll := s.dice.float()
	for _, m := range callMoods {
		p := (*odds)[m]
		if p == 0 || (sendsOnly[m] && !rt.writes) || (tokenOnly[m] && !rt.token) {
			continue
		}
		if roll < p {
			return Forced{Mood: m}
		}
		roll -= p
	}
	return Forced{}
}

// pushMood decides whether one mood comes over a push.
func (s *Sim) pushMood(m Mood, name string, acc *account) (Forced, bool) {
	fits := func(g Mood) bool { return g == m }
	if f, ok := s.temper.take(fits, name, acc.app, func() string { return acc.openid }); ok {
		return f, true
	}
	odds := s.temper.odds.Load()
	if odds == nil || (*odds)[m] == 0 {
		return Forced{}, false
	}
	return Forced{Mood: m}, s.dice.float() < (*odds)[m]
}

// dice is everything random of one platform, from one seed.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
	ids atomic.Int64
}

func newDice(seed uint64) *dice {
	d := &dice{rng: rand.New(rand.NewPCG(seed, 0x77656368617473))}
	d.ids.Store(1_988_810_812_324_364_291 + int64(seed%1000)*1_000_003)
	return d
}

func (d *dice) float() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Float64()
}

func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

func (d *dice) bits() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Uint64()
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// text is n characters of base64url.
func (d *dice) text(n int) string {
	b := make([]byte, n)
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := 0; i < n; {
		for bits, k := d.rng.Uint64(), 0; k < 10 && i < n; k, bits = k+1, bits>>6 {
			b[i] = alphabet[bits&63]
			i++
		}
	}
	return string(b)
}

func (d *dice) digits(n int) string {
	b := []byte(d.text(n))
	for i, c := range b {
		b[i] = '0' + c%10
	}
	return string(b)
}

// bigID is a growing number past 2^53, odd so that a float64 cannot carry it.
func (d *dice) bigID() int64 { return d.ids.Add(2*(1+int64(d.bits()%50_000))) | 1 }
