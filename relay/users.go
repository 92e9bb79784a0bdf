package relay

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/message"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// ErrNoSession: no session_key is kept for the user, or it does not open what was sent.
var ErrNoSession = errors.New("no session_key is kept for this user, or not the one in use: the user has to log in again")

// User is what is kept about somebody, as one partner may see it.
type User struct {
	App           string         `json:"app"`
	OpenID        string         `json:"openid"`
	UnionID       *string        `json:"unionid"`
	User          *string        `json:"user"`        // whom the partner bound it to
	FirstSeen     *time.Time     `json:"first_seen"`  // null: never logged in
	Sessions      int            `json:"sessions"`    // that live
	SessionKey    bool           `json:"session_key"` // one is kept
	FormIDs       bool           `json:"form_ids"`    // legacy credentials are kept
	Subscriptions []Subscription `json:"subscriptions"`
	Audiences     []string       `json:"audiences"` // the partner's, by name
	Messages      map[string]int `json:"messages"`  // the partner's, by state; the newest 1,000
}

// person checks a partner's word for somebody.
func (r *Relay) person(partner, app, openid string) (App, error) {
	a, err := r.appOf(partner, app)
	if err == nil && !message.IsOpenID(openid) {
		err = invalid("openid", "must be an openid of this app")
	}
	return a, err
}

// User tells what is kept about somebody. ErrNotFound when nothing is.
func (r *Relay) User(ctx context.Context, partner, app, openid string) (User, error) {
	if _, err := r.person(partner, app, openid); err != nil {
		return User{}, err
	}
	p, err := r.bindings.Person(ctx, app, openid)
	if err != nil {
		return User{}, err
	}
	users, err := r.bindings.UsersOf(ctx, app, openid)
	if err != nil {
		return User{}, err
	}
	u := User{App: app, OpenID: openid, UnionID: some(p.UnionID), User: some(users[partner]), Sessions: p.Sessions, SessionKey: p.SessionKey,
		FormIDs: p.FormIDs, Subscriptions: []Subscription{}, Messages: map[string]int{}}
	if !p.FirstSeen.IsZero() {
		u.FirstSeen = &p.FirstSeen
	}
	sts, err := r.ledger.List(ctx, app, openid)
	if err != nil {
		return User{}, err
	}
	for _, st := range sts {
		u.Subscriptions = append(u.Subscriptions, r.subscriptionOf(st, users[partner]))
	}
	if u.Audiences, err = r.bindings.MemberOf(ctx, partner, app, openid, users[partner]); err != nil {
		return User{}, err
	}
	for cursor, looked := "", 0; looked < 1000; looked += 200 {
		recs, next, err := r.q.List(ctx, userTag(app, openid), r.q.Shard(app, openid), cursor, 200)
		if err != nil {
			return User{}, err
		}
		for _, rec := range recs {
			if m, d, err := viewRecord(rec); err == nil && d.Partner == partner {
				u.Messages[m.State]++
			}
		}
		if cursor = next; next == "" {
			break
		}
	}
	if u.FirstSeen == nil && u.User == nil && u.Sessions == 0 && !u.SessionKey && !u.FormIDs && len(u.Subscriptions)+len(u.Audiences)+len(u.Messages) == 0 {
		return User{}, ErrNotFound
	}
	return u, nil
}

// LoggedOut is how many sessions have ended.
type LoggedOut struct {
	Ended int `json:"ended"`
}

// LogOut ends all sessions of somebody; the kept session_key goes with them.
func (r *Relay) LogOut(ctx context.Context, partner, app, openid string) (LoggedOut, error) {
	if _, err := r.person(partner, app, openid); err != nil {
		return LoggedOut{}, err
	}
	n, err := r.bindings.EndSessions(ctx, app, openid)
	return LoggedOut{n}, err
}

// MPLogOut ends the session of a bearer, or all of its openid. ErrSessionInvalid.
func (r *Relay) MPLogOut(ctx context.Context, app, openid, bearer string, all bool) error {
	if all {
		_, err := r.bindings.EndSessions(ctx, app, openid)
		return err
	}
	err := r.bindings.EndSession(ctx, app, bearer)
	if errors.Is(err, binding.ErrSession) {
		return ErrSessionInvalid
	}
	return err
}

// readsSessionKeys tells whether a partner of the app is allowed session_keys: else none is kept.
func (r *Relay) readsSessionKeys(app string) bool {
	for _, p := range r.rules.Load().Partners {
		if p.Allow["session_keys"] && p.MayUse(app) {
			return true
		}
	}
	return false
}

func (r *Relay) sessionKey(ctx context.Context, partner, app, openid string) (App, string, error) {
	a, err := r.person(partner, app, openid)
	if err != nil {
		return a, "", err
	}
	key, err := r.bindings.SessionKey(ctx, app, openid)
	if errors.Is(err, binding.ErrNotFound) {
		err = ErrNoSession
	}
	return a, key, err
}

// OpenedData is what was encrypted for a mini-program.
type OpenedData struct {
	Data json.RawMessage `json:"data"`
}

// DecryptUserData decrypts what WeChat encrypted for a mini-program, with the kept session_key. ErrNoSession: there is none, or
// it is another one's than was used: the user has to log in again.
func (r *Relay) DecryptUserData(ctx context.Context, partner, app, openid, encrypted, iv string) (OpenedData, error) {
	a, key, err := r.sessionKey(ctx, partner, app, openid)
	if err != nil {
		return OpenedData{}, err
	}
	data, err := wechat.OpenUserData(key, encrypted, iv, a.AppID, time.Now())
	switch {
	case errors.Is(err, wechat.ErrSessionKey):
		return OpenedData{}, ErrNoSession
	case errors.Is(err, wechat.ErrUserData):
		return OpenedData{}, invalid("encryptedData", "is not encrypted data: base64 of it, and an iv of 16 bytes in base64")
	case errors.Is(err, wechat.ErrWatermark):
		return OpenedData{}, invalid("encryptedData", "has the watermark of another app, or is older than a day: ask the user again")
	}
	return OpenedData{data}, err
}

// Validity tells whether something holds.
type Validity struct {
	Valid bool `json:"valid"`
}

// VerifyUserData tells whether WeChat signed rawData under the kept session_key. ErrNoSession.
func (r *Relay) VerifyUserData(ctx context.Context, partner, app, openid, rawData, signature string) (Validity, error) {
	_, key, err := r.sessionKey(ctx, partner, app, openid)
	return Validity{err == nil && wechat.SignedUserData(key, rawData, signature)}, err
}

// CheckSession asks WeChat whether the kept session_key still holds. ErrNoSession.
func (r *Relay) CheckSession(ctx context.Context, partner, app, openid string) (Validity, error) {
	_, key, err := r.sessionKey(ctx, partner, app, openid)
	if err != nil {
		return Validity{}, err
	}
	valid, err := r.wechat.CheckSession(ctx, app, openid, key)
	return Validity{valid}, err
}
