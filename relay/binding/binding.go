// Package binding owns who is who: which openid a login code stood for, which session a mini-program holds, which of a
// partner's users an openid is, and which credentials of a legacy template message an openid has left.
package binding

import (
	"context"
	"errors"
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

// Sealer keeps secrets unreadable in Redis. aad ties the sealed text to its place. Nil funcs keep it in clear.
type Sealer struct {
	Seal   func(plain, aad []byte) ([]byte, error)
	Unseal func(sealed, aad []byte) ([]byte, error)
}

// Book is where it is all written.
type Book struct {
	rdb  redis.UniversalClient
	seal Sealer
}

// New keeps the book in rdb.
func New(rdb redis.UniversalClient, seal Sealer) *Book { return &Book{rdb: rdb, seal: seal} }

// Identity is what WeChat says about a user.
type Identity struct{ OpenID, UnionID, SessionKey string }

// Session is the answer to a login.
type Session struct {
	Token           string
	OpenID, UnionID string
	ExpiresIn       int // seconds: 7200
	IsNew           bool
	First           bool // this call made the exchange; false when the answer is a repeated one
}

// Bound is one binding seen from the openid.
type Bound struct{ Partner, User string }

// Login exchanges a code once; the same code within 5 minutes gets the same answer. Errors of exchange pass through.
func (b *Book) Login(ctx context.Context, app, code string, exchange func(context.Context) (Identity, error)) (Session, error) {
	return Session{}, ErrUnavailable
}

// Session is whom a bearer token stands for (SessionKey is always empty here). ErrSession.
func (b *Book) Session(ctx context.Context, app, bearer string) (Identity, error) {
	return Identity{}, ErrSession
}

// SessionKey is the openid's current session_key. ErrNotFound.
func (b *Book) SessionKey(ctx context.Context, app, openid string) (string, error) {
	return "", ErrNotFound
}

// Meet notes an identity learnt otherwise than by a login (a follower of an official account); isNew as in Login.
func (b *Book) Meet(ctx context.Context, app string, who Identity) (isNew bool, err error) {
	return false, nil
}

// ByUnionID is the openid of app that has this unionid. ErrNotFound.
func (b *Book) ByUnionID(ctx context.Context, app, unionid string) (string, error) {
	return "", ErrNotFound
}

// UnionID is what is known of an openid. ErrNotFound.
func (b *Book) UnionID(ctx context.Context, app, openid string) (string, error) {
	return "", ErrNotFound
}

// NewTicket is a one-time ticket that binds whoever redeems it within 10 minutes to the partner's user.
func (b *Book) NewTicket(ctx context.Context, partner, app, user string) (ticket string, expires time.Time, err error) {
	return "", time.Time{}, nil
}

// Redeem binds openid by a ticket. ErrTicket, ErrBound.
func (b *Book) Redeem(ctx context.Context, app, ticket, openid string) (Bound, error) {
	return Bound{}, ErrTicket
}

// Bind binds a partner's user to an openid. ErrBound when either is bound to another by this partner.
func (b *Book) Bind(ctx context.Context, partner, app, user, openid string) error { return nil }

// Unbind ends it and says which openid it was. ErrNotFound.
func (b *Book) Unbind(ctx context.Context, partner, app, user string) (openid string, err error) {
	return "", ErrNotFound
}

// ByUser is the openid a partner's user is bound to. ErrNotFound.
func (b *Book) ByUser(ctx context.Context, partner, app, user string) (string, error) {
	return "", ErrNotFound
}

// UsersOf is whom each partner bound this openid to; empty when nobody.
func (b *Book) UsersOf(ctx context.Context, app, openid string) (map[string]string, error) {
	return nil, nil
}

// Forget drops everything about an openid and says whom each partner had bound it to. Asked again within a day it
// says the same, so that a crash between it and its consequences loses nothing.
func (b *Book) Forget(ctx context.Context, app, openid string) (map[string]string, error) {
	return nil, nil
}
