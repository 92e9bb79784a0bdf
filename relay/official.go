package relay

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/message"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// oa_template goes by an official account, where the same person has another openid. What joins the two is the unionid:
// the mini-program's comes with the login, the account's is asked for when the user follows it.

// sender is the app by which channel n goes.
func (o *order) sender(n int) string {
	if o.Channels[n] == ChannelOATemplate && o.Account != "" {
		return o.Account
	}
	return o.App
}

// byAccount finds the official account by which a request's oa_template goes, and the addressee there. The message
// itself stays with the mini-program's user, for whom the other channels are.
func (r *Relay) byAccount(ctx context.Context, f *message.Facts, req *SendRequest) error {
	name, where := req.Account(), req.At(ChannelOATemplate, "app")
	account, err := r.appOf(f.Partner, name)
	if err != nil {
		return err
	}
	if account.Kind != wechat.KindOfficialAccount {
		f.Issues.Add(where, "must be an official account: name one under oa_template when the message is by a mini-program")
		return nil
	}
	if name == req.App {
		return nil
	}
	openid, err := r.openidAt(ctx, f, req, name)
	if errors.Is(err, binding.ErrNotFound) {
		f.Issues.Add(where, "the user's openid there is not known: they have to follow the account, or be bound to it")
		return nil
	}
	f.Account, f.AccountOpenID = name, openid
	return err
}

// openidAt finds the addressee of a request at another app: by the partner's own name for them, else by unionid.
func (r *Relay) openidAt(ctx context.Context, f *message.Facts, req *SendRequest, app string) (string, error) {
	if req.To.User != "" {
		if openid, err := r.bindings.ByUser(ctx, f.Partner, app, req.To.User); !errors.Is(err, binding.ErrNotFound) {
			return openid, err
		}
	}
	unionid := req.To.UnionID
	if unionid == "" {
		var err error
		if unionid, err = r.bindings.UnionID(ctx, req.App, f.OpenID); err != nil {
			return "", err
		}
	}
	return r.bindings.ByUnionID(ctx, app, unionid)
}

// meet learns the unionid of a follower. An account without an Open Platform has none.
func (r *Relay) meet(ctx context.Context, app, openid string) error {
	unionid, err := r.wechat.UnionID(ctx, app, openid)
	if err == nil {
		_, err = r.bindings.Meet(ctx, app, binding.Identity{OpenID: openid, UnionID: unionid})
	}
	if err != nil {
		r.log.Warn("follower's unionid not learnt", zap.String("app", app), zap.String("openid", ShortID(openid)), zap.Error(err))
	}
	return err
}
