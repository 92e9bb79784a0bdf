package wechat

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/silenceper/wechat/v2/credential"
)

// The APIs that take the AppSecret, and the name an external token centre goes by in errors: its URL may hold secrets.
const (
	pathStable   = "/cgi-bin/stable_token"
	pathClassic  = "/cgi-bin/token"
	pathLogin    = "/sns/jscode2session"
	pathExternal = "external token centre"
)

// sdkHost stands in every URL given to the SDK; roundTripper replaces it.
const sdkHost = "https://api.weixin.qq.com"

// endpoint names where the app's token comes from, for errors.
func (k *keeper) endpoint() string {
	switch k.app.source() {
	case SourceClassic:
		return pathClassic
	case SourceExternal:
		return pathExternal
	}
	return pathStable
}

// exchange prepares one request for this app. Its own secrets are always hidden; hide adds the call's.
func (k *keeper) exchange(path string, hide ...string) *exchange {
	return &exchange{c: k.c, app: k.app.Name, path: path, limit: answerLimit, hide: append(hide, k.app.Secret)}
}

// fetchRetrying repeats what passes by itself: callers wait, and a token request may be repeated.
func (k *keeper) fetchRetrying(ctx context.Context, bad string) (tok Token, forced bool, err error) {
	for n := range 3 {
		if tok, forced, err = k.fetch(ctx, bad); err == nil || isRefusal(err) {
			return tok, forced, err
		}
		if n == 2 || pause(ctx, 100*time.Millisecond<<n) != nil {
			break
		}
	}
	return tok, forced, err
}

// fetch asks for a token. bad is the digest of one WeChat refused and nobody has replaced: when the plain stable_token
// answers that very value again, and only then, force_refresh is used, as its quota allows; without quota the value
// is served again, for it is the one WeChat says is valid.
func (k *keeper) fetch(ctx context.Context, bad string) (tok Token, forced bool, err error) {
	switch k.app.source() {
	case SourceClassic:
		tok, err = k.fetchClassic(ctx)
		return tok, false, err
	case SourceExternal:
		tok, err = k.fetchExternal(ctx)
		return tok, false, err
	}
	tok, err = k.fetchStable(ctx, false)
	if err != nil || bad == "" || digestOf(tok.Value) != bad || !k.mayForce(ctx) {
		return tok, false, err
	}
	if forced, err := k.fetchStable(ctx, true); err == nil {
		return forced, true, nil
	}
	return tok, false, nil
}

func (k *keeper) fetchStable(ctx context.Context, force bool) (tok Token, err error) {
	sdk := credential.NewStableAccessToken(k.app.AppID, k.app.Secret, "", noCache{}).(*credential.StableAccessToken)
	x := k.exchange(pathStable)
	err = x.do(ctx, k.c.o.Timeout, func(ctx context.Context) error {
		_, err := sdk.GetAccessTokenDirectly(ctx, force)
		tok, err = x.asToken(err)
		return err
	})
	return tok, err
}

func (k *keeper) fetchClassic(ctx context.Context) (tok Token, err error) {
	q := url.Values{"grant_type": {"client_credential"}, "appid": {k.app.AppID}, "secret": {k.app.Secret}}
	x := k.exchange(pathClassic)
	err = x.do(ctx, k.c.o.Timeout, func(ctx context.Context) error {
		_, err := credential.GetTokenFromServerContext(ctx, sdkHost+pathClassic+"?"+q.Encode())
		tok, err = x.asToken(err)
		return err
	})
	return tok, err
}

var errNoToken = errors.New("no access_token in it")

// asToken reads the answer of a token endpoint. One that names no lifetime is good for a minute, as WeChat's guide tells
// the clients of a token centre.
func (x *exchange) asToken(sdkErr error) (Token, error) {
	var a struct {
		AccessToken looseText `json:"access_token"`
		ExpiresIn   looseInt  `json:"expires_in"`
	}
	if err := x.into(&a, sdkErr); err != nil {
		return Token{}, err
	}
	if a.AccessToken == "" {
		return Token{}, errNoToken
	}
	if a.ExpiresIn <= 0 {
		a.ExpiresIn = looseInt(lifeFloor / time.Second)
	}
	return newToken(string(a.AccessToken), int64(a.ExpiresIn)), nil
}

func newToken(value string, expiresIn int64) Token {
	now := time.Now()
	return Token{Value: value, ExpiresAt: now.Add(time.Duration(max(expiresIn, 1)) * time.Second), FetchedAt: now}
}

// fetchExternal asks another token centre: {"access_token","expires_in"}, or WeChat's errcode form.
func (k *keeper) fetchExternal(ctx context.Context) (tok Token, err error) {
	x := k.exchange(pathExternal, k.app.Token.URL)
	x.foreign, x.label = true, "external"
	for _, v := range k.app.Token.Header {
		x.hide = append(x.hide, v, strings.TrimPrefix(v, "Bearer "))
	}
	err = x.do(ctx, k.c.o.Timeout, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.app.Token.URL, nil)
		if err != nil {
			return errors.New("its URL does not parse")
		}
		if u := req.URL.User; u != nil {
			password, _ := u.Password()
			x.hide = append(x.hide, password)
			req.SetBasicAuth(u.Username(), password)
		}
		for name, v := range k.app.Token.Header {
			if http.CanonicalHeaderKey(name) == "Host" {
				req.Host = v
				continue
			}
			req.Header.Set(name, v)
		}
		_, err = roundTripper{}.RoundTrip(req)
		tok, err = x.asToken(err)
		return err
	})
	return tok, err
}

// noCache satisfies the SDK's constructor; GetAccessTokenDirectly never asks it.
type noCache struct{}

func (noCache) Get(string) interface{}                       { return nil }
func (noCache) Set(string, interface{}, time.Duration) error { return nil }
func (noCache) IsExist(string) bool                          { return false }
func (noCache) Delete(string) error                          { return nil }
