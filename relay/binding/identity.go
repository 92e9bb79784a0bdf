package binding

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Meet notes an identity learnt otherwise than by a login (a follower of an official account); isNew as in Login: the
// first time this openid is seen for the app.
func (b *Book) Meet(ctx context.Context, app string, who Identity) (isNew bool, err error) {
	isNew, _, err = b.note(ctx, app, who, "")
	return isNew, err
}

// note writes who is who: the openid's own record first, then the unionid's openid. A crash between them leaves an
// openid that is not found by its unionid until it is met again.
func (b *Book) note(ctx context.Context, app string, who Identity, session string) (isNew bool, unionid string, err error) {
	at := openidTag(app, who.OpenID)
	kept := ""
	if who.SessionKey != "" {
		if kept, err = b.sealed(at+"k", []byte(who.SessionKey)); err != nil {
			return false, "", err
		}
	}
	v, err := b.run(ctx, noteScript, []string{at + "i", at + "k", at + "s"},
		who.UnionID, kept, sessionTime.Milliseconds(), session, sessionTime.Milliseconds(), sessionsKept, newsTime.Milliseconds())
	if err != nil {
		return false, "", err
	}
	r := words(v) // is new, unionid before, unionid now
	if r[1] != "" && r[1] != r[2] {
		if _, err := b.run(ctx, removeScript, []string{unionKey(app, r[1])}, who.OpenID); err != nil {
			return false, "", err
		}
	}
	if r[2] != "" {
		if err := b.rdb.Set(ctx, unionKey(app, r[2]), who.OpenID, 0).Err(); err != nil {
			return false, "", away(err)
		}
	}
	return r[0] == "1", r[2], nil
}

// Greeted says that the news of a new user is safe: no later login is told that the user is new. A login that dies before
// leaves the news to the first login a minute later.
func (b *Book) Greeted(ctx context.Context, app, openid string) error {
	if err := b.rdb.HDel(ctx, openidTag(app, openid)+"i", "w").Err(); err != nil {
		return away(err)
	}
	return nil
}

// SessionKey is the openid's current session_key: the only way one leaves this package. ErrNotFound.
func (b *Book) SessionKey(ctx context.Context, app, openid string) (string, error) {
	key := openidTag(app, openid) + "k"
	kept, err := b.get(ctx, key)
	if err != nil {
		return "", err
	}
	if kept == "" {
		return "", ErrNotFound
	}
	plain, err := b.unsealed(key, kept)
	return string(plain), err
}

// ByUnionID is the openid of app that has this unionid. ErrNotFound.
func (b *Book) ByUnionID(ctx context.Context, app, unionid string) (string, error) {
	openid, err := b.get(ctx, unionKey(app, unionid))
	if err == nil && openid == "" {
		err = ErrNotFound
	}
	return openid, err
}

// UnionID is the unionid of an openid. ErrNotFound when the openid, or its unionid, is not known.
func (b *Book) UnionID(ctx context.Context, app, openid string) (string, error) {
	unionid, err := b.rdb.HGet(ctx, openidTag(app, openid)+"i", "u").Result()
	switch {
	case err == redis.Nil:
		return "", ErrNotFound
	case err != nil:
		return "", away(err)
	}
	return unionid, nil
}
