package wechat

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"time"
)

const (
	viewAge     = time.Minute      // how old the view of Redis may grow: another replica may have replaced the token
	viewAgeSoon = 5 * time.Second  // while another replica renews, or Redis is away
	leaseOver   = 5 * time.Second  // what a lease lasts beyond two exchanges with WeChat (plain and forced)
	lifeFloor   = 60 * time.Second // stable_token answers the remainder, which may be 3 s: never cache for less, healing covers the rest
)

// keeper keeps one app's token in this process: what is served, and the one renewal in hand.
type keeper struct {
	c   *Client
	app App
	// configID is a fingerprint of the app's config: a refusal recorded under another config does not count.
	configID string

	mu       sync.Mutex
	tok      Token
	digest   string
	due      time.Time     // when Redis is to be read again in the background
	seenAt   time.Time     // when Redis was last read
	bad      string        // digest found bad while Redis was away, and not reported to it yet
	badAt    time.Time     // ... and when
	epoch    int           // counts forgotten tokens: a renewal's older view must not bring one back
	failed   *TokenError   // last failure, which callers get
	until    time.Time     // ... until then
	fails    int           // failures in a row with Redis away
	renewing bool          // a renewal is in hand
	changed  chan struct{} // closed and replaced when any of the above changed
}

func newKeeper(c *Client, a App) *keeper {
	return &keeper{c: c, app: a, configID: fingerprint(a), changed: make(chan struct{})}
}

func (k *keeper) sameAs(a App) bool {
	return k.app.AppID == a.AppID && k.app.Kind == a.Kind && k.configID == fingerprint(a)
}

func (k *keeper) keys() []string {
	key := "wx:{t:" + k.app.AppID + "}"
	return []string{key, key + ":log"}
}

// token serves what works, and else waits for a change.
func (k *keeper) token(ctx context.Context) (Token, error) {
	for {
		tok, changed, err := k.serve(time.Now())
		if changed == nil {
			if err != nil {
				return Token{}, err
			}
			return tok, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Token{}, &TokenError{App: k.app.Name, Err: ctx.Err()}
		}
	}
}

// serve answers at once (changed is nil) or says what to wait for.
func (k *keeper) serve(now time.Time) (Token, <-chan struct{}, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.usable(now) {
		if k.refreshDue(now) {
			k.startRenewal()
		}
		return k.tok, nil, nil
	}
	if !k.renewing && now.Before(k.until) {
		e := *k.failed
		e.RetryAfter = k.until.Sub(now)
		return Token{}, nil, &e
	}
	k.startRenewal()
	return Token{}, k.changed, nil
}

func (k *keeper) usable(now time.Time) bool { return k.tok.Value != "" && now.Before(k.tok.ExpiresAt) }

func (k *keeper) refreshDue(now time.Time) bool {
	return !now.Before(k.due) || now.Sub(k.seenAt) >= viewAge
}

func (k *keeper) held() (Token, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tok, k.usable(time.Now())
}

// poll starts a renewal when one is due and says when to come again.
func (k *keeper) poll(now time.Time) time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.renewing:
		return time.Second
	case k.usable(now) && !k.refreshDue(now):
		return min(k.due.Sub(now), viewAge-now.Sub(k.seenAt))
	case !k.usable(now) && now.Before(k.until):
		return k.until.Sub(now)
	}
	k.startRenewal()
	return time.Second
}

// startRenewal starts the one renewal of this process. Its context is its own: a caller that gives up must not end what
// others wait for. Callers hold mu.
func (k *keeper) startRenewal() {
	if k.renewing {
		return
	}
	k.renewing = true
	k.c.renewals.add(1)
	go func() {
		defer k.c.renewals.add(-1)
		ctx, cancel := context.WithTimeout(context.Background(), 2*k.lease())
		defer cancel()
		err := k.renew(ctx)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.renewing = false
		if err != nil && !time.Now().Before(k.until) {
			k.setFailure(err, time.Second)
		}
		k.notify()
	}()
}

func (k *keeper) notify() {
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *keeper) lease() time.Duration { return 2*k.c.o.Timeout + leaseOver }

// lead is how long before its end a token is renewed. WeChat rotates a stable token 5 minutes before its end, and
// answers the old one before that; a classic one's predecessor lives 5 minutes, so there is time for every replica to read the new one.
func (k *keeper) lead() time.Duration {
	if k.app.source() == SourceClassic {
		return 10 * time.Minute
	}
	return 4*time.Minute + 30*time.Second
}

func (k *keeper) dueIn(life time.Duration) time.Duration {
	return max(life-min(k.lead(), life/4), 5*time.Second)
}

// setFailure holds mu.
func (k *keeper) setFailure(err error, d time.Duration) {
	k.failed = &TokenError{App: k.app.Name, Err: err}
	k.until = time.Now().Add(d)
	if k.usable(time.Now()) { // still served; ask again after the pause
		k.seenAt, k.due = time.Now(), k.until
	}
}

func (k *keeper) noteFailure(err error, d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.setFailure(err, d)
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
