package wechat

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/silenceper/wechat/v2/miniprogram/auth"
	"github.com/silenceper/wechat/v2/miniprogram/business"
	"github.com/silenceper/wechat/v2/miniprogram/config"
	sdk "github.com/silenceper/wechat/v2/miniprogram/context"
	"github.com/silenceper/wechat/v2/util"
)

const (
	pathPhone    = "/wxa/business/getuserphonenumber"
	pathUserInfo = "/cgi-bin/user/info"
)

// Login is who a wx.login code belongs to. SessionKey never leaves the gateway.
type Login struct {
	OpenID     string
	UnionID    string // "" unless the app is bound to an Open Platform account
	SessionKey string `json:"-"`
}

// String keeps the session key out of logs.
func (l Login) String() string { return "wechat.Login{" + l.OpenID + "}" }

// GoString is String for %#v.
func (l Login) GoString() string { return l.String() }

// codeForm is much wider than any code seen. What does not fit is nobody's code; and nothing that means something in a URL's
// query fits, though it is escaped as well.
var codeForm = regexp.MustCompile(`^[A-Za-z0-9_.~|=+/:@,!*()$'-]{1,512}$`)

// Login exchanges a wx.login code. A -1 is repeated once; the code may be consumed by then (40163).
// Errors: *APIError (40029 also for a code that cannot be one, without asking WeChat; 41004 when the app has no
// secret here), ErrNoAnswer, ErrNotLeft, ErrUnknownApp.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/user-login/api_code2session
func (c *Client) Login(ctx context.Context, app, code string) (Login, error) {
	k, err := c.keeper(app)
	if err != nil {
		return Login{}, err
	}
	if !codeForm.MatchString(code) {
		return Login{}, newAPIError(pathLogin, 40029, "invalid code (not asked: it has not the form of one)")
	}
	if k.app.Secret == "" {
		return Login{}, newAPIError(pathLogin, 41004, "appsecret missing (not asked: none is configured)")
	}
	l, err := k.login(ctx, code)
	if codeOf(err) == -1 && pause(ctx, 100*time.Millisecond) == nil {
		return k.login(ctx, code)
	}
	return l, err
}

var errNoOpenID = errors.New("no openid in it")

func (k *keeper) login(ctx context.Context, code string) (l Login, err error) {
	// The SDK pastes all three into the query unescaped.
	a := auth.NewAuth(&sdk.Context{Config: &config.Config{AppID: url.QueryEscape(k.app.AppID), AppSecret: url.QueryEscape(k.app.Secret)}})
	x := k.exchange(pathLogin, code)
	err = x.do(ctx, k.c.o.Timeout, func(ctx context.Context) error {
		_, err := a.Code2SessionContext(ctx, url.QueryEscape(code))
		var who struct {
			OpenID     looseText `json:"openid"`
			UnionID    looseText `json:"unionid"`
			SessionKey looseText `json:"session_key"`
		}
		if err := x.into(&who, err); err != nil {
			return err
		}
		if who.OpenID == "" {
			return errNoOpenID
		}
		l = Login{OpenID: string(who.OpenID), UnionID: string(who.UnionID), SessionKey: string(who.SessionKey)}
		return nil
	})
	return l, err
}

// PhoneNumber is what a getPhoneNumber code stands for. CountryCode as WeChat gives it ("86").
type PhoneNumber struct {
	PhoneNumber, PurePhoneNumber, CountryCode string
}

// Phone exchanges the code of a getPhoneNumber button. Billed per success, so nothing but a token refusal is repeated.
// Errors: as Login.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/user-info/phone-number/api_getphonenumber
func (c *Client) Phone(ctx context.Context, app, code string) (p PhoneNumber, err error) {
	k, err := c.keeper(app)
	if err != nil {
		return PhoneNumber{}, err
	}
	if !codeForm.MatchString(code) {
		return PhoneNumber{}, newAPIError(pathPhone, 40029, "invalid code (not asked: it has not the form of one)")
	}
	err = k.withToken(ctx, func(ctx context.Context, token string) error {
		b := business.NewBusiness(&sdk.Context{AccessTokenContextHandle: fixedToken(token)})
		x := k.exchange(pathPhone, token, code)
		return x.do(ctx, k.c.o.Timeout, func(ctx context.Context) error {
			_, err := b.GetPhoneNumberWithContext(ctx, &business.GetPhoneNumberRequest{Code: code})
			var res struct {
				Info struct {
					Number  looseText `json:"phoneNumber"`
					Pure    looseText `json:"purePhoneNumber"`
					Country looseText `json:"countryCode"`
				} `json:"phone_info"`
			}
			if err := x.into(&res, err); err != nil {
				return err
			}
			p = PhoneNumber{PhoneNumber: string(res.Info.Number), PurePhoneNumber: string(res.Info.Pure), CountryCode: string(res.Info.Country)}
			if p.PurePhoneNumber == "" && p.PhoneNumber == "" {
				return errors.New("no phone number in it")
			}
			return nil
		})
	})
	return p, err
}

// UnionID is a follower's unionid, "" when the official account has no Open Platform. Errors: as Send.
// https://developers.weixin.qq.com/doc/service/api/usermanage/userinfo/api_userinfo.html
func (c *Client) UnionID(ctx context.Context, app, openid string) (unionID string, err error) {
	k, err := c.keeper(app)
	if err != nil {
		return "", err
	}
	err = k.withToken(ctx, func(ctx context.Context, token string) error {
		x := k.exchange(pathUserInfo, token)
		return x.do(ctx, k.c.o.Timeout, func(ctx context.Context) error {
			_, err := util.HTTPGetContext(ctx, sdkHost+pathUserInfo+tokenQuery(token)+"&openid="+url.QueryEscape(openid))
			var who struct {
				UnionID looseText `json:"unionid"`
			}
			err = x.into(&who, err)
			unionID = string(who.UnionID)
			return err
		})
	})
	return unionID, err
}

// fixedToken gives the SDK the token of this call: healing must know which value was used.
type fixedToken string

// GetAccessToken implements credential.AccessTokenHandle.
func (t fixedToken) GetAccessToken() (string, error) { return url.QueryEscape(string(t)), nil }

// GetAccessTokenContext implements credential.AccessTokenContextHandle.
func (t fixedToken) GetAccessTokenContext(context.Context) (string, error) { return t.GetAccessToken() }

var _ http.RoundTripper = roundTripper{}
