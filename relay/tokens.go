package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/wechat"
)

// AccessToken is a token as a partner gets it.
type AccessToken struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"` // seconds
}

// AccessToken returns the app's current token: one for all who ask, so that nobody evicts anybody. from is the caller's
// address, for the audit log.
func (r *Relay) AccessToken(ctx context.Context, partner, app, from string) (AccessToken, error) {
	if _, err := r.appOf(partner, app); err != nil {
		return AccessToken{}, err
	}
	t, err := r.wechat.Token(ctx, app)
	if err == nil {
		r.tokenGiven(partner, app, from, t.Value)
	}
	return AccessToken{AccessToken: t.Value, ExpiresIn: max(int(time.Until(t.ExpiresAt).Seconds()), 0)}, err
}

// ReportToken takes a partner's word that a token is bad; it is renewed only if it is still the current one.
func (r *Relay) ReportToken(ctx context.Context, partner, app, from, token string, errcode int) error {
	if _, err := r.appOf(partner, app); err != nil {
		return err
	}
	r.log.Info("token reported", zap.String("app", app), zap.String("partner", partner), zap.String("from", from),
		zap.String("token", wechat.Fingerprint(token)), zap.Int("errcode", errcode))
	err := r.wechat.ReportBad(ctx, app, token, errcode, wechat.Reporter{By: partner, From: from})
	if errors.Is(err, wechat.ErrNotTokenCode) {
		return invalid("errcode", "must be 40001, 40014 or 42001: others do not speak against a token")
	}
	return err
}

// given remembers which token each partner was given last, so that the audit log says it once per token and address.
type given struct {
	mu   sync.Mutex
	last map[[2]string][2]string // partner, app -> fingerprint, address
}

// tokenGiven writes an audit line: who was given which token, never the token.
func (r *Relay) tokenGiven(partner, app, from, token string) {
	key, now := [2]string{partner, app}, [2]string{wechat.Fingerprint(token), from}
	r.given.mu.Lock()
	known := r.given.last[key] == now
	if r.given.last == nil {
		r.given.last = map[[2]string][2]string{}
	}
	r.given.last[key] = now
	r.given.mu.Unlock()
	if !known {
		r.log.Info("token given", zap.String("app", app), zap.String("partner", partner), zap.String("from", from), zap.String("token", now[0]))
	}
}

// TokenChanged writes the audit line of a token's change. It is for wechat.Options.OnChange.
func (r *Relay) TokenChanged(app string, c wechat.TokenChange) {
	fields := []zap.Field{zap.String("app", app), zap.String("cause", c.Cause), zap.String("token", c.Fingerprint)}
	if c.Errcode != 0 {
		fields = append(fields, zap.Int("errcode", c.Errcode), zap.String("errmsg", c.Errmsg), zap.String("rid", c.RID))
	}
	if c.By != "" {
		fields = append(fields, zap.String("by", c.By), zap.String("from", c.From), zap.Int("seconds_left", int(c.Left.Seconds())))
	}
	r.log.Info("token changed", fields...)
}

// TokenState is how an app's token stands, and the latest changes of it with their causes.
type TokenState = wechat.TokenState

// Tokens reads the token state of an app. Errors: ErrNotFound, and those of Redis.
func (r *Relay) Tokens(ctx context.Context, app string) (TokenState, error) {
	s, err := r.wechat.TokenState(ctx, app)
	if errors.Is(err, wechat.ErrUnknownApp) {
		return s, ErrNotFound
	}
	return s, err
}

// AlertApp tells what the token keeper noticed: the log at once, and the app's partners what it means and what to do. It is
// for wechat.Options.OnAlert, which must not wait, so the event is queued on the side.
func (r *Relay) AlertApp(app string, cause error) {
	r.log.Error("app needs its operator", zap.String("app", app), zap.Error(cause))
	var config *wechat.ConfigError
	var changed *wechat.TokenChanged
	now := time.Now()
	switch {
	case errors.As(cause, &config):
		go r.alert(app, config.API, now)
	case errors.As(cause, &changed):
		data := Alert{App: app, Errcode: &changed.Code, RID: some(changed.RID)}
		data.Meaning, data.MeaningZH, data.Cure, data.CureZH = changed.Advice()
		go r.notifyAlert(app, "token_changed", data, now)
	}
}
