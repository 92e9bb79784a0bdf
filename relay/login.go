package relay

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// LoginAnswer is what a mini-program gets for its code. The session_key stays inside.
type LoginAnswer struct {
	Session   string            `json:"session"`
	ExpiresIn int               `json:"expires_in"` // seconds
	OpenID    string            `json:"openid"`
	Users     map[string]string `json:"users"` // whom each partner bound it to
	IsNew     bool              `json:"is_new"`
}

// Login exchanges a wx.login code. The same code again within 5 minutes gets the same answer.
func (r *Relay) Login(ctx context.Context, app, code string) (LoginAnswer, error) {
	if _, ok := r.App(app); !ok {
		return LoginAnswer{}, ErrNotFound
	}
	if code == "" {
		return LoginAnswer{}, invalid("code", "is required: the code of wx.login")
	}
	s, err := r.bindings.Login(ctx, app, code, func(ctx context.Context) (binding.Identity, error) {
		got, err := r.wechat.Login(ctx, app, code)
		who := binding.Identity{OpenID: got.OpenID, UnionID: got.UnionID}
		if r.readsSessionKeys(app) {
			who.SessionKey = got.SessionKey
		}
		return who, err
	})
	if err != nil {
		return LoginAnswer{}, loginError(err)
	}
	users, err := r.bindings.UsersOf(ctx, app, s.OpenID)
	if err != nil {
		return LoginAnswer{}, err
	}
	if users == nil {
		users = map[string]string{}
	}
	now := time.Now()
	shard := r.q.Shard(app, s.OpenID)
	data := UserEvent{App: app, OpenID: s.OpenID, UnionID: some(s.UnionID), IsNew: &s.IsNew}
	if err := r.commitOnce(ctx, shard, "login", app+"\x00"+code, r.notifyUser(ctx, shard, EventUserLoggedIn, data, users, now)); err != nil {
		return LoginAnswer{}, err
	}
	if s.IsNew {
		if err := r.bindings.Greeted(ctx, app, s.OpenID); err != nil {
			return LoginAnswer{}, err
		}
	}
	r.log.Info("login", zap.String("app", app), zap.String("openid", ShortID(s.OpenID)), zap.Bool("is_new", s.IsNew))
	return LoginAnswer{Session: s.Token, ExpiresIn: s.ExpiresIn, OpenID: s.OpenID, Users: users, IsNew: s.IsNew}, nil
}

// commitOnce queues what a code stood for, once for the code: whoever comes again with it gets the kept answer, and what could
// not be queued the first time is.
func (r *Relay) commitOnce(ctx context.Context, shard int, purpose, code string, jobs []queue.Job) error {
	if len(jobs) == 0 {
		return nil
	}
	digest := sha256.Sum256([]byte(code))
	once := purpose + "/" + base64.RawURLEncoding.EncodeToString(digest[:12])
	err := r.q.Commit(ctx, queue.Change{Shard: shard, Once: once, OnceFor: 10 * time.Minute, Jobs: jobs}).Err
	if errors.Is(err, queue.ErrTaken) {
		return nil
	}
	return err
}

// loginError puts WeChat's words about a code into ours; everything else passes.
func loginError(err error) error {
	var api *wechat.APIError
	if errors.As(err, &api) {
		switch api.Code {
		case 40029, 40163:
			return errors.Join(ErrCodeInvalid, err)
		case 40226:
			return errors.Join(ErrUserBlocked, err)
		}
	}
	return err
}

// MPSession is the openid a mini-program's bearer stands for; ErrSessionInvalid.
func (r *Relay) MPSession(ctx context.Context, app, bearer string) (string, error) {
	if _, ok := r.App(app); !ok {
		return "", ErrNotFound
	}
	who, err := r.bindings.Session(ctx, app, bearer)
	if errors.Is(err, binding.ErrSession) {
		return "", ErrSessionInvalid
	}
	return who.OpenID, err
}

// PhoneAnswer is what a mini-program gets for a phone code: that it was taken, and the number, in WeChat's words, where the
// app says so.
type PhoneAnswer struct {
	OK              bool   `json:"ok"`
	PhoneNumber     string `json:"phoneNumber,omitempty"`
	PurePhoneNumber string `json:"purePhoneNumber,omitempty"`
	CountryCode     string `json:"countryCode,omitempty"`
}

// Phone exchanges the code of a getPhoneNumber button; the number goes to the partners that bound this openid, and back to
// the mini-program only where the app says so.
func (r *Relay) Phone(ctx context.Context, app, openid, code string) (PhoneAnswer, error) {
	if code == "" {
		return PhoneAnswer{}, invalid("code", "is required: the code of the getPhoneNumber button")
	}
	users, err := r.bindings.UsersOf(ctx, app, openid)
	if err != nil {
		return PhoneAnswer{}, err
	}
	kept, err := r.bindings.Phone(ctx, app, openid, code, func(ctx context.Context) ([]byte, error) {
		got, err := r.wechat.Phone(ctx, app, code)
		return encode(got), err
	})
	if err != nil {
		return PhoneAnswer{}, loginError(err)
	}
	var got wechat.PhoneNumber
	if err := json.Unmarshal(kept, &got); err != nil {
		return PhoneAnswer{}, err
	}
	answer := PhoneAnswer{OK: true}
	if a, _ := r.App(app); a.PhoneEcho {
		answer.PhoneNumber, answer.PurePhoneNumber, answer.CountryCode = got.PhoneNumber, got.PurePhoneNumber, got.CountryCode
	}
	shard, now := r.q.Shard(app, openid), time.Now()
	number := "+" + got.CountryCode + got.PurePhoneNumber
	var jobs []queue.Job
	for partner, user := range users {
		jobs = append(jobs, r.notify(notification{shard: shard, app: app, partner: partner, typ: EventUserPhone, at: now, trace: r.traceOf(ctx),
			data: UserEvent{App: app, OpenID: openid, User: some(user), Phone: &number}})...)
	}
	return answer, r.commitOnce(ctx, shard, "phone", app+"\x00"+openid+"\x00"+code, jobs)
}
