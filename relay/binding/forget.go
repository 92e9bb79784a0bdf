package binding

import (
	"context"
	_ "embed"
	"strings"
	"time"
)

// EraseExtension is the name by which the queue knows [EraseLua].
const EraseExtension = "erase"

// EraseLua takes part in changes of the queue: its arguments are names of keys behind the shard's prefix, which it deletes.
//
//go:embed erase.lua
var EraseLua string

// foundTime is how long Forget says the same again.
const foundTime = 24 * time.Hour

// What Forget found, by the first byte of a field.
const (
	foundUser    = "p" // + partner -> entry
	foundUnionID = "n" //           -> unionid
	foundSession = "s" // + name    -> 1
)

// Forget drops everything about an openid - who it is, its session_key, its sessions, its bindings, its credentials -
// and says whom each partner had bound it to. Asked again within a day it says the same, so that a crash between it and
// its consequences loses nothing: first all that is in the openid's slot becomes a note of what is to be done, then it
// is done elsewhere, as often as asked.
func (b *Book) Forget(ctx context.Context, app, openid string) (map[string]string, error) {
	at := openidTag(app, openid)
	v, err := b.run(ctx, forgetScript, []string{at + "f", at + "u", at + "i", at + "s", at + "k", at + "p", at + "h"}, foundTime.Milliseconds())
	if err != nil {
		return nil, err
	}
	found := words(v)
	users := map[string]string{}
	for i := 0; i+1 < len(found); i += 2 {
		name, value := found[i], found[i+1]
		switch name[:1] {
		case foundUser:
			e := readHalf(value)
			ended, err := b.run(ctx, removeScript, []string{userKey(name[1:], app, e.name)}, half{bound, e.serial, openid}.String())
			if err != nil {
				return nil, err
			}
			if e.kind == confirmed || ended == int64(1) {
				users[name[1:]] = e.name
			}
		case foundUnionID:
			if _, err := b.run(ctx, removeScript, []string{unionKey(app, value)}, openid); err != nil {
				return nil, err
			}
		case foundSession:
			if err := b.rdb.Del(ctx, strings.TrimPrefix(name, foundSession)).Err(); err != nil {
				return nil, away(err)
			}
		}
	}
	return users, nil
}

// Forgotten deletes what Forget found: all that came of it is safe. Forget says nothing any more then.
func (b *Book) Forgotten(ctx context.Context, app, openid string) error {
	if err := b.rdb.Del(ctx, openidTag(app, openid)+"f").Err(); err != nil {
		return away(err)
	}
	return nil
}
