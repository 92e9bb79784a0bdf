package relay

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
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
		return LoginAnswer{}, &Invalid{Code: "invalid_request", Fields: []Field{{"code", "is required: the code of wx.login"}}}
	}
	var union string
	s, err := r.bindings.Login(ctx, app, code, func(ctx context.Context) (binding.Identity, error) {
		got, err := r.wechat.Login(ctx, app, code)
		return binding.Identity{OpenID: got.OpenID, UnionID: got.UnionID, SessionKey: got.SessionKey}, err
	})
	if err != nil {
		return LoginAnswer{}, loginError(err)
	}
	union = s.UnionID
	users, err := r.bindings.UsersOf(ctx, app, s.OpenID)
	if err != nil {
		return LoginAnswer{}, err
	}
	if users == nil {
		users = map[string]string{}
	}
	now := time.Now()
	shard := r.q.Shard(app, s.OpenID)
	digest := sha256.Sum256([]byte(app + "\x00" + code))
	data := UserEvent{App: app, OpenID: s.OpenID, UnionID: some(union), IsNew: &s.IsNew}
	if jobs := r.tellUser(shard, EventUserLoggedIn, data, users, now); len(jobs) > 0 {
		once := "login/" + base64.RawURLEncoding.EncodeToString(digest[:12])
		if res := r.q.Commit(ctx, queue.Change{Shard: shard, Once: once, OnceFor: 10 * time.Minute, Jobs: jobs}); res.Err != nil && !errors.Is(res.Err, queue.ErrTaken) {
			return LoginAnswer{}, res.Err
		}
	}
	r.log.Info("login", zap.String("app", app), zap.String("openid", ShortID(s.OpenID)), zap.Bool("is_new", s.IsNew))
	return LoginAnswer{Session: s.Token, ExpiresIn: s.ExpiresIn, OpenID: s.OpenID, Users: users, IsNew: s.IsNew}, nil
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

// Ticket binds whoever redeems it, once, to the partner's user.
type Ticket struct {
	Ticket    string    `json:"ticket"`
	ExpiresAt time.Time `json:"expires_at"`
}

// NewTicket makes a one-time ticket for a partner's user, good for 10 minutes.
func (r *Relay) NewTicket(ctx context.Context, partner, app, user string) (Ticket, error) {
	if err := r.checkUser(partner, app, user, true); err != nil {
		return Ticket{}, err
	}
	t, at, err := r.bindings.NewTicket(ctx, partner, app, user)
	return Ticket{Ticket: t, ExpiresAt: at.UTC()}, err
}

// checkUser wants an app and a name; a new binding's must also be one that can be shown. Bindings that older versions made
// under other names can still be read and deleted.
func (r *Relay) checkUser(partner, app, user string, isNew bool) error {
	var f faults
	if app == "" {
		f.add("app", "is required")
	}
	if user == "" || len(user) > 128 {
		f.add("user", "is required: 1 to 128 characters")
	} else if reason := checkName(user); isNew && reason != "" {
		f.add("user", reason)
	}
	if err := f.err("invalid_request"); err != nil {
		return err
	}
	_, err := r.appOf(partner, app)
	return err
}

// Binding is a partner's user and the openid it is.
type Binding struct {
	App    string `json:"app"`
	User   string `json:"user"`
	OpenID string `json:"openid"`
}

// Bind redeems a ticket for the session's openid.
func (r *Relay) Bind(ctx context.Context, app, openid, ticket string) (Binding, error) {
	if ticket == "" {
		return Binding{}, &Invalid{Code: "invalid_request", Fields: []Field{{"ticket", "is required"}}}
	}
	b, err := r.bindings.Redeem(ctx, app, ticket, openid)
	if err != nil {
		return Binding{}, bindError(err)
	}
	return Binding{App: app, User: b.User, OpenID: openid}, r.tellBinding(ctx, EventUserBound, b.Partner, app, b.User, openid)
}

func bindError(err error) error {
	switch {
	case errors.Is(err, binding.ErrTicket):
		return ErrTicketExpired
	case errors.Is(err, binding.ErrBound):
		return ErrAlreadyBound
	case errors.Is(err, binding.ErrNotFound):
		return ErrNotFound
	}
	return err
}

// tellBinding tells the partner itself; an event that could not be queued is an error, so that the request is repeated.
func (r *Relay) tellBinding(ctx context.Context, typ, partner, app, user, openid string) error {
	shard := r.q.Shard(app, openid)
	jobs := r.tell(telling{shard: shard, app: app, partner: partner, typ: typ, at: time.Now(), data: UserEvent{App: app, OpenID: openid, User: some(user)}})
	if len(jobs) == 0 {
		return nil
	}
	return r.q.Commit(ctx, queue.Change{Shard: shard, Jobs: jobs}).Err
}

// PutBinding binds a partner's user to an openid it knows. The same binding again is fine.
func (r *Relay) PutBinding(ctx context.Context, partner, app, user, openid string) (Binding, error) {
	if err := r.checkUser(partner, app, user, true); err != nil {
		return Binding{}, err
	}
	if !openIDForm.MatchString(openid) {
		return Binding{}, &Invalid{Code: "invalid_request", Fields: []Field{{"openid", "is required: an openid of this app"}}}
	}
	had, err := r.bindings.ByUser(ctx, partner, app, user)
	if err != nil && !errors.Is(err, binding.ErrNotFound) {
		return Binding{}, err
	}
	b := Binding{App: app, User: user, OpenID: openid}
	if err == nil && had == openid {
		return b, nil
	}
	if err := r.bindings.Bind(ctx, partner, app, user, openid); err != nil {
		return Binding{}, bindError(err)
	}
	return b, r.tellBinding(ctx, EventUserBound, partner, app, user, openid)
}

// Binding is the openid of a partner's user.
func (r *Relay) Binding(ctx context.Context, partner, app, user string) (Binding, error) {
	if err := r.checkUser(partner, app, user, false); err != nil {
		return Binding{}, err
	}
	openid, err := r.bindings.ByUser(ctx, partner, app, user)
	return Binding{App: app, User: user, OpenID: openid}, bindError(err)
}

// DeleteBinding ends a binding.
func (r *Relay) DeleteBinding(ctx context.Context, partner, app, user string) (Binding, error) {
	if err := r.checkUser(partner, app, user, false); err != nil {
		return Binding{}, err
	}
	openid, err := r.bindings.Unbind(ctx, partner, app, user)
	if err != nil {
		return Binding{}, bindError(err)
	}
	return Binding{App: app, User: user, OpenID: openid}, r.tellBinding(ctx, EventUserUnbound, partner, app, user, openid)
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
		return PhoneAnswer{}, &Invalid{Code: "invalid_request", Fields: []Field{{"code", "is required: the code of the getPhoneNumber button"}}}
	}
	users, err := r.bindings.UsersOf(ctx, app, openid)
	if err != nil {
		return PhoneAnswer{}, err
	}
	got, err := r.wechat.Phone(ctx, app, code)
	if err != nil {
		return PhoneAnswer{}, loginError(err)
	}
	answer := PhoneAnswer{OK: true}
	if a, _ := r.App(app); a.PhoneEcho {
		answer.PhoneNumber, answer.PurePhoneNumber, answer.CountryCode = got.PhoneNumber, got.PurePhoneNumber, got.CountryCode
	}
	shard, now := r.q.Shard(app, openid), time.Now()
	number := "+" + got.CountryCode + got.PurePhoneNumber
	var jobs []queue.Job
	for partner, user := range users {
		jobs = append(jobs, r.tell(telling{shard: shard, app: app, partner: partner, typ: EventUserPhone, at: now,
			data: UserEvent{App: app, OpenID: openid, User: some(user), Phone: &number}})...)
	}
	if len(jobs) == 0 {
		return answer, nil
	}
	return answer, r.q.Commit(ctx, queue.Change{Shard: shard, Jobs: jobs}).Err
}
