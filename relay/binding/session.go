package binding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Session is whom a bearer token stands for (SessionKey is always empty here). A session lives on for two hours from its last
// use, counted to the hour; so do its openid's session_key and the list of its sessions. ErrSession.
func (b *Book) Session(ctx context.Context, app, bearer string) (Identity, error) {
	if bearer == "" || len(bearer) > 64 {
		return Identity{}, ErrSession
	}
	key := sessionKey(app, bearer)
	pipe := b.rdb.Pipeline()
	kept, left := pipe.Get(ctx, key), pipe.PTTL(ctx, key)
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return Identity{}, away(err)
	}
	if kept.Val() == "" {
		return Identity{}, ErrSession
	}
	plain, err := b.unsealed(key, kept.Val())
	if err != nil {
		return Identity{}, err
	}
	var h holder
	if err := json.Unmarshal(plain, &h); err != nil {
		return Identity{}, fmt.Errorf("binding: kept session: %w", err)
	}
	if left.Val() < sessionTime/2 {
		if err := b.slide(ctx, app, h.OpenID, key); err != nil {
			return Identity{}, err
		}
	}
	return Identity{OpenID: h.OpenID, UnionID: h.UnionID}, nil
}

// slide has a session live on. One that its openid does not know any more, since it was logged out or forgotten, ends.
func (b *Book) slide(ctx context.Context, app, openid, key string) error {
	at := openidTag(app, openid)
	v, err := b.run(ctx, sessionSlideScript, []string{at + "s", at + "k"}, key, sessionTime.Milliseconds())
	if err != nil {
		return err
	}
	if v != int64(1) {
		if err := b.rdb.Del(ctx, key).Err(); err != nil {
			return away(err)
		}
		return ErrSession
	}
	if err := b.rdb.PExpire(ctx, key, sessionTime).Err(); err != nil {
		return away(err)
	}
	return nil
}

// EndSession logs a bearer out. ErrSession when it is no session.
func (b *Book) EndSession(ctx context.Context, app, bearer string) error {
	who, err := b.Session(ctx, app, bearer)
	if err != nil {
		return err
	}
	return b.endSessions(ctx, app, who.OpenID, sessionKey(app, bearer))
}

// EndSessions logs an openid out everywhere, and tells of how many sessions.
func (b *Book) EndSessions(ctx context.Context, app, openid string) (int, error) {
	names, err := b.rdb.ZRange(ctx, openidTag(app, openid)+"s", 0, -1).Result()
	if err != nil {
		return 0, away(err)
	}
	return len(names), b.endSessions(ctx, app, openid, names...)
}

// endSessions ends sessions by their names: first the sessions, so that a repeat after a crash finds their names.
func (b *Book) endSessions(ctx context.Context, app, openid string, names ...string) error {
	args := make([]any, len(names))
	for i, name := range names {
		if err := b.rdb.Del(ctx, name).Err(); err != nil { // each in a slot of its own
			return away(err)
		}
		args[i] = name
	}
	at := openidTag(app, openid)
	_, err := b.run(ctx, sessionEndScript, []string{at + "s", at + "k"}, args...)
	return err
}

// Person is what is kept about an openid besides its bindings.
type Person struct {
	FirstSeen  time.Time // zero: never seen
	UnionID    string
	Sessions   int
	SessionKey bool // one is kept
	FormIDs    bool // legacy credentials are kept
}

// Person reads what is kept about an openid. One round trip.
func (b *Book) Person(ctx context.Context, app, openid string) (Person, error) {
	at := openidTag(app, openid)
	pipe := b.rdb.Pipeline()
	who, sessions := pipe.HMGet(ctx, at+"i", "f", "u"), pipe.ZRangeWithScores(ctx, at+"s", 0, -1)
	key, pool, now := pipe.Exists(ctx, at+"k"), pipe.Exists(ctx, at+"p"), pipe.Time(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		return Person{}, away(err)
	}
	p := Person{SessionKey: key.Val() == 1, FormIDs: pool.Val() == 1}
	if first, ok := who.Val()[0].(string); ok {
		if ms, err := strconv.ParseFloat(first, 64); err == nil {
			p.FirstSeen = time.UnixMilli(int64(ms)).UTC()
		}
	}
	p.UnionID, _ = who.Val()[1].(string)
	for _, s := range sessions.Val() {
		if s.Score > float64(now.Val().UnixMilli()) {
			p.Sessions++
		}
	}
	return p, nil
}

// MemberOf lists the partner's audiences of an app in which a person is: by openid, or by the partner's user when there is one.
func (b *Book) MemberOf(ctx context.Context, partner, app, openid, user string) ([]string, error) {
	all, err := b.Audiences(ctx, partner)
	if err != nil {
		return nil, err
	}
	pipe := b.rdb.Pipeline()
	in := make([]*redis.FloatCmd, len(all))
	for i, a := range all {
		member := openid
		if a.Users {
			member = user
		}
		if a.App == app && member != "" {
			in[i] = pipe.ZScore(ctx, audienceTag(partner)+"m"+a.generation, member)
		}
	}
	if pipe.Len() > 0 {
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
			return nil, away(err)
		}
	}
	names := []string{}
	for i, c := range in {
		if c != nil && c.Err() == nil {
			names = append(names, all[i].Name)
		}
	}
	return names, nil
}
