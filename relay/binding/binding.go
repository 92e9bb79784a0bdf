// Package binding owns who is who: which openid a login code stood for, which session a mini-program holds, which of a
// partner's users an openid is, and which credentials of a legacy template message an openid has left.
package binding

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// What may be wrong.
var (
	ErrSession     = errors.New("binding: no such session")
	ErrTicket      = errors.New("binding: ticket gone, used or expired")
	ErrBound       = errors.New("binding: already bound to another")
	ErrBusy        = errors.New("binding: the same binding is being changed") // try again in a moment
	ErrNotFound    = errors.New("binding: not known")
	ErrUnavailable = errors.New("binding: redis") // wraps every failure of Redis
)

// Sealer keeps secrets unreadable in Redis. aad is the name of the key they are kept under, so that a sealed text is
// good at its own place only. Nil funcs keep them in clear: for trying things out.
type Sealer struct {
	Seal   func(plain, aad []byte) ([]byte, error)
	Unseal func(sealed, aad []byte) ([]byte, error)
}

// Book is where it is all written.
//
// Its keys, each expiring unless said otherwise:
//
//	wx:{b:H(openid)}:i   who it is: u unionid, f first seen   never
//	                     w who has the news that it is new
//	                :k   session_key, sealed                   with the last session
//	                :s   its sessions' names                   with the last of them
//	                :u   partner -> user                       never
//	                :f   what Forget found                     1 day
//	                :p   legacy credentials, sealed, :h held   7 days
//	wx:{b:H(user)}:o     the openid of a partner's user        never, once bound
//	wx:{b:H(unionid)}:n  its openid                            never
//	wx:{b:H(code)}:c     a login's or phone's answer, sealed   5 min
//	wx:{b:H(session)}:e  whom a session stands for, sealed     2 h from its last use
//	wx:{b:H(ticket)}:t   a ticket                              10 min
type Book struct {
	rdb  redis.UniversalClient
	seal Sealer
	rest func(context.Context, time.Duration) error // between two looks at what another process has in hand
}

// New keeps the book in rdb.
func New(rdb redis.UniversalClient, seal Sealer) *Book {
	return &Book{rdb: rdb, seal: seal, rest: rest}
}

func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Identity is what WeChat says about a user.
type Identity struct{ OpenID, UnionID, SessionKey string }

// tag names the slot of one thing: what makes it (its kind first), hashed. 128 bits, because a collision would take one
// user for another.
func tag(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return "wx:{b:" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16]) + "}:"
}

func openidTag(app, openid string) string      { return tag("openid", app, openid) }
func userKey(partner, app, user string) string { return tag("user", partner, app, user) + "o" }
func unionKey(app, unionid string) string      { return tag("unionid", app, unionid) + "n" }
func codeKey(app, code string) string          { return tag("code", app, code) + "c" }
func phoneKey(app, openid, code string) string { return tag("phone", app, openid, code) + "c" }
func sessionKey(app, token string) string      { return tag("session", app, token) + "e" }
func ticketKey(ticket string) string           { return tag("ticket", ticket) + "t" }

// token is prefix and 192 random bits.
func token(prefix string) string {
	var b [24]byte
	rand.Read(b[:]) // never fails: https://pkg.go.dev/crypto/rand#Read
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

func away(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// run runs a script over keys of one slot. redis.Nil is no failure.
func (b *Book) run(ctx context.Context, s *redis.Script, keys []string, args ...any) (any, error) {
	v, err := s.Run(ctx, b.rdb, keys, args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, away(err)
	}
	return v, nil
}

// get reads a string; "" when there is none.
func (b *Book) get(ctx context.Context, key string) (string, error) {
	v, err := b.rdb.Get(ctx, key).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", away(err)
	}
	return v, nil
}

func (b *Book) sealed(key string, plain []byte) (string, error) {
	if b.seal.Seal == nil {
		return string(plain), nil
	}
	s, err := b.seal.Seal(plain, []byte(key))
	if err != nil {
		return "", fmt.Errorf("binding: sealing: %w", err)
	}
	return string(s), nil
}

func (b *Book) unsealed(key, sealed string) ([]byte, error) {
	if b.seal.Unseal == nil {
		return []byte(sealed), nil
	}
	p, err := b.seal.Unseal([]byte(sealed), []byte(key))
	if err != nil {
		return nil, fmt.Errorf("binding: unsealing: %w", err)
	}
	return p, nil
}

// words reads a script's list of strings.
func words(v any) []string {
	list, _ := v.([]any)
	out := make([]string, len(list))
	for i := range list {
		switch w := list[i].(type) {
		case string:
			out[i] = w
		case int64:
			out[i] = fmt.Sprint(w)
		}
	}
	return out
}
