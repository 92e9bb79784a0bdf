package wechat

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"time"
)

const (
	lookEvery = time.Minute      // how old the view of Redis may grow: another replica may have replaced the token
	lookSoon  = 5 * time.Second  // while another replica renews, or Redis is away
	leaseOver = 5 * time.Second  // what a lease lasts beyond two exchanges with WeChat (plain and forced)
	lifeFloor = 60 * time.Second // stable_token answers the remainder, which may be 3 s: never cache for less, healing covers the rest
)

// keeper keeps one app's token in this process: what is served, and the one flight that renews it.
type keeper struct {
	c     *Client
	app   App
	print string // fingerprint of the app's config: a refusal recorded under another config does not count

	mu     sync.Mutex
	tok    Token
	digest string
	due    time.Time     // when a background look is wanted
	looked time.Time     // when Redis was last seen
	bad    string        // digest found bad while Redis was away, and not reported to it yet
	badAt  time.Time     // ... and when
	epoch  int           // counts forgotten tokens: a flight's older view must not bring one back
	failed *TokenError   // last failure, told to callers
	until  time.Time     // ... until then
	fails  int           // failures in a row with Redis away
	flying bool          // a renewal is in hand
	news   chan struct{} // closed and replaced when any of the above changed
}

func newKeeper(c *Client, a App) *keeper {
	return &keeper{c: c, app: a, print: fingerprint(a), news: make(chan struct{})}
}

func (k *keeper) sameAs(a App) bool {
	return k.app.AppID == a.AppID && k.app.Kind == a.Kind && k.print == fingerprint(a)
}

func (k *keeper) key() string { return "wx:{t:" + k.app.AppID + "}" }

// token serves what works and waits for news otherwise.
func (k *keeper) token(ctx context.Context) (Token, error) {
	for {
		tok, news, err := k.serve(time.Now())
		if news == nil {
			if err != nil {
				return Token{}, err
			}
			return tok, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return Token{}, &TokenError{App: k.app.Name, Err: ctx.Err()}
		}
	}
}

// serve answers at once (news nil) or says what to wait for.
func (k *keeper) serve(now time.Time) (Token, <-chan struct{}, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.usable(now) {
		if k.lookDue(now) {
			k.fly()
		}
		return k.tok, nil, nil
	}
	if !k.flying && now.Before(k.until) {
		e := *k.failed
		e.RetryAfter = k.until.Sub(now)
		return Token{}, nil, &e
	}
	k.fly()
	return Token{}, k.news, nil
}

func (k *keeper) usable(now time.Time) bool { return k.tok.Value != "" && now.Before(k.tok.ExpiresAt) }

func (k *keeper) lookDue(now time.Time) bool {
	return !now.Before(k.due) || now.Sub(k.looked) >= lookEvery
}

func (k *keeper) held() (Token, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tok, k.usable(time.Now())
}

// tend starts a flight when one is due and says when to come again.
func (k *keeper) tend(now time.Time) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.flying:
		return time.Second
	case k.usable(now) && !k.lookDue(now):
		return min(k.due.Sub(now), lookEvery-now.Sub(k.looked))
	case !k.usable(now) && now.Before(k.until):
		return k.until.Sub(now)
	}
	k.fly()
	return time.Second
}

// fly starts the one flight of this process. Its context is its own: a caller that gives up must not end what others
// wait for. Callers hold mu.
func (k *keeper) fly() {
	if k.flying {
		return
	}
	k.flying = true
	k.c.flights.add(1)
	go func() {
		defer k.c.flights.add(-1)
		ctx, cancel := context.WithTimeout(context.Background(), 2*k.lease())
		defer cancel()
		err := k.renew(ctx)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.flying = false
		if err != nil && !time.Now().Before(k.until) {
			k.refuse(err, time.Second)
		}
		k.tell()
	}()
}

func (k *keeper) tell() {
	close(k.news)
	k.news = make(chan struct{})
}

func (k *keeper) lease() time.Duration { return 2*k.c.o.Timeout + leaseOver }

// renew is one flight: look, and ask WeChat if the lease is ours. An error is one for which no pause is noted yet.
func (k *keeper) renew(ctx context.Context) error {
	owner, wontDo := newOwner(), ""
	if err := k.reportLate(ctx); err != nil {
		return k.renewAlone(ctx, err)
	}
	for n := 0; ; n++ {
		epoch := k.epochNow()
		r, err := k.runLease(ctx, owner, wontDo)
		if err != nil {
			return k.renewAlone(ctx, err)
		}
		if r.sealed != "" && r.digest != wontDo {
			tok, err := k.open(r)
			if err != nil { // sealed under another master key: as good as none
				wontDo = r.digest
				continue
			}
			if !k.adopt(tok, r, epoch) {
				continue
			}
		}
		switch r.state {
		case "fresh":
			return nil
		case "waiting":
			k.noteRefusal(k.recorded(r), r.pause)
			return nil
		case "yours":
			return k.renewLeased(ctx, owner, r)
		}
		if k.lookAgainSoon() { // busy, and the old token works: nobody waits
			return nil
		}
		if err := pause(ctx, min(20*time.Millisecond<<min(n, 5), 400*time.Millisecond)); err != nil {
			return errors.New("another replica is asking for a token and does not finish")
		}
	}
}

// renewLeased asks WeChat, as the only one. The token goes to callers even when it cannot be written.
func (k *keeper) renewLeased(ctx context.Context, owner string, r leaseReply) error {
	if tok, digest, ok := k.toRestore(r); ok { // Redis lost what we still have
		_, _ = k.runStore(ctx, owner, r.fence, tok, digest, true)
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, k.lease()-time.Second) // never write after the lease lapsed
	defer cancel()
	got, err := k.fetchStubbornly(asking, r.bad)
	if err != nil {
		k.fail(ctx, owner, err)
		return nil
	}
	digest := digestOf(got.Value)
	kept, err := k.runStore(ctx, owner, r.fence, got, digest, false)
	if err == nil && kept.state == "late" && kept.sealed != "" { // a later lease wrote before us: its token counts
		if tok, err := k.open(kept); err == nil {
			k.adopt(tok, kept, k.epochNow())
			return nil
		}
	}
	k.take(got, digest)
	return nil
}

// renewAlone is a flight with Redis away. A classic token is not fetched then: each fetch kills the other replicas'.
func (k *keeper) renewAlone(ctx context.Context, redisErr error) error {
	k.mu.Lock()
	now := time.Now()
	enough := k.usable(now) && k.tok.ExpiresAt.Sub(now) > k.lead()
	k.looked, k.due = now, now.Add(jitter(lookSoon))
	bad := k.bad
	k.mu.Unlock()
	if enough {
		return nil
	}
	if k.app.source() == SourceClassic {
		return errors.New("Redis is away: " + redisErr.Error())
	}
	got, err := k.fetch(ctx, bad)
	if err != nil {
		k.mu.Lock()
		k.fails++
		fails := k.fails
		k.mu.Unlock()
		first, limit := backoff(err)
		k.noteRefusal(err, min(first<<min(fails-1, 12), limit))
		if isRefusal(err) && fails == 1 {
			k.alert(err)
		}
		return nil
	}
	k.take(got, digestOf(got.Value))
	k.mu.Lock()
	k.due = time.Now().Add(jitter(lookSoon))
	k.mu.Unlock()
	return nil
}

// take serves a token this process fetched itself.
func (k *keeper) take(tok Token, digest string) {
	life := time.Until(tok.ExpiresAt)
	k.mu.Lock()
	defer k.mu.Unlock()
	if tok.ExpiresAt = time.Now().Add(max(life, lifeFloor)); tok.FetchedAt.IsZero() {
		tok.FetchedAt = time.Now()
	}
	k.serveFrom(tok, digest, k.dueIn(life))
}

// adopt serves a token seen in Redis, unless one was forgotten since that was read.
func (k *keeper) adopt(tok Token, r leaseReply, epoch int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.epoch != epoch {
		return false
	}
	k.serveFrom(tok, r.digest, r.due)
	return true
}

// serveFrom holds mu. Each replica looks a little after the token is due, not all at once.
func (k *keeper) serveFrom(tok Token, digest string, dueIn time.Duration) {
	now := time.Now()
	spread := min(max(tok.ExpiresAt.Sub(now)-dueIn, 0)/5, time.Minute)
	k.tok, k.digest = tok, digest
	k.looked, k.due = now, now.Add(dueIn+time.Duration(mathrand.Int64N(int64(spread)+1)))
	k.failed, k.until, k.fails = nil, time.Time{}, 0
	k.tell()
}

// lookAgainSoon postpones the next look when the token still works.
func (k *keeper) lookAgainSoon() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if !k.usable(now) {
		return false
	}
	k.looked, k.due = now, now.Add(jitter(lookSoon))
	return true
}

// toRestore says whether Redis has no token while ours works, is not due and was not found bad.
func (k *keeper) toRestore(r leaseReply) (Token, string, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if r.sealed != "" || !k.usable(now) {
		return Token{}, "", false
	}
	if r.bad != "" && r.bad == k.digest {
		k.forget()
		return Token{}, "", false
	}
	if k.tok.ExpiresAt.Sub(now) <= k.lead() {
		return Token{}, "", false
	}
	k.looked, k.due = now, now.Add(k.dueIn(k.tok.ExpiresAt.Sub(now)))
	return k.tok, k.digest, true
}

// forget holds mu.
func (k *keeper) forget() {
	k.tok, k.digest = Token{}, ""
	k.epoch++
}

func (k *keeper) epochNow() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.epoch
}

// lead is how long before its end a token is renewed. WeChat rotates a stable token 5 minutes before its end, and
// answers the old one before that; a classic one's predecessor lives 5 minutes, so there is time to spread the news.
func (k *keeper) lead() time.Duration {
	if k.app.source() == SourceClassic {
		return 10 * time.Minute
	}
	return 4*time.Minute + 30*time.Second
}

func (k *keeper) dueIn(life time.Duration) time.Duration {
	return max(life-min(k.lead(), life/4), 5*time.Second)
}

// refuse holds mu.
func (k *keeper) refuse(err error, d time.Duration) {
	k.failed = &TokenError{App: k.app.Name, Err: err}
	k.until = time.Now().Add(d)
	if k.usable(time.Now()) { // still served; ask again after the pause
		k.looked, k.due = time.Now(), k.until
	}
}

func (k *keeper) noteRefusal(err error, d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse(err, d)
}

func digestOf(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:16])
}

// fingerprint tells one config of an app from another without showing it. WeChat's secret has 128 random bits.
func fingerprint(a App) string {
	parts := []string{a.AppID, a.Secret, a.source(), a.Token.URL}
	for _, name := range sortedKeys(a.Token.Header) {
		parts = append(parts, name, a.Token.Header[name])
	}
	return digestOf(strings.Join(parts, "\x00"))
}

func newOwner() string { return rand.Text() }

func jitter(d time.Duration) time.Duration { return d + time.Duration(mathrand.Int64N(int64(d)/2)) }

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(jitter(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
