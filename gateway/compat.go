package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/wxrelay/wxrelay/relay"
)

// The WeChat-compatible face: systems that were made for WeChat's API change only its address. appid is an app's, secret
// the partner's wechat_secret, and the access_token they get is ours. Errors are WeChat's: HTTP 200, errcode, errmsg, rid.

// compatRoutes adds the face to the routes.
func (g *Handler) compatRoutes(e *gin.Engine) {
	for _, root := range []string{"/cgi-bin/*path", "/wxa/*path", "/wxaapi/*path", "/sns/*path"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			e.Handle(method, root, g.compat)
		}
	}
}

func (g *Handler) compat(c *gin.Context) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler || c.Writer.Written() {
			panic(http.ErrAbortHandler)
		}
		g.fault("", c.FullPath(), panicked(p))
		g.refuseCompat(c, errSystem)
	}()
	if g.stopping() {
		g.refuseCompat(c, errSystem)
		return
	}
	var err error
	switch path := c.Request.URL.EscapedPath(); path {
	case "/cgi-bin/token":
		err = g.compatToken(c)
	case "/cgi-bin/stable_token":
		err = g.compatStableToken(c)
	case "/sns/jscode2session":
		err = g.compatLogin(c)
	default:
		err = g.compatCall(c, path)
	}
	if err != nil {
		g.refuseCompat(c, err)
	}
}

// What this face refuses in WeChat's words by itself.
var (
	errSystem       = &relay.Refusal{Code: -1, Msg: "system error"}
	errGrantType    = &relay.Refusal{Code: 40002, Msg: "invalid grant_type"}
	errPostRequired = &relay.Refusal{Code: 43002, Msg: "require POST method"}
	errNotJSON      = &relay.Refusal{Code: 47001, Msg: "data format error"}
	errNoAPI        = &relay.Refusal{Code: 48001, Msg: "api unauthorized"}
	errTooMany      = &relay.Refusal{Code: 45011, Msg: "api minute-quota reach limit, must slower, retry next minute"}
	errShareSpent   = &relay.Refusal{Code: 45009, Msg: "reach max api daily quota limit"}
	errTooLong      = &relay.Refusal{Code: 45002, Msg: "content size out of limit"}
	errNoCode       = &relay.Refusal{Code: 41008, Msg: "missing code"}
)

// refuseCompat answers an error as WeChat would. What the outside hears less about than it means goes to the operator.
func (g *Handler) refuseCompat(c *gin.Context, err error) {
	code, msg := -1, "system error"
	var refusal *relay.Refusal
	var api *relay.WeChatError
	var share *relay.QuotaShared
	switch {
	case errors.As(err, &refusal):
		code, msg = refusal.Code, refusal.Msg
	case errors.Is(err, relay.ErrNotAllowed):
		code, msg = errNoAPI.Code, errNoAPI.Msg
	case errors.As(err, &share):
		code, msg = errShareSpent.Code, errShareSpent.Msg
	case errors.As(err, &api) && !errors.Is(err, relay.ErrNotLeft): // WeChat's own word
		code, msg, _ = api.Code, api.Msg, api.RID
	case errors.Is(err, relay.ErrNotPassable):
		code, msg = 40066, "invalid url"
	}
	if code == -1 && c.Request.Context().Err() == nil && !errors.Is(err, errSystem) {
		g.fault("", c.FullPath(), err)
	}
	if c.Writer.Written() {
		return
	}
	if !strings.Contains(msg, "rid: ") {
		sep := " rid: "
		if isSNS(c) {
			sep = ", rid: "
		}
		msg += sep + newRID(time.Now())
	}
	writeCompat(c, struct {
		Errcode int    `json:"errcode"`
		Errmsg  string `json:"errmsg"`
	}{code, msg})
}

func isSNS(c *gin.Context) bool { return strings.HasPrefix(c.Request.URL.Path, "/sns/") }

func writeCompat(c *gin.Context, v any) {
	kind := "application/json; encoding=utf-8"
	if isSNS(c) {
		kind = "text/plain" // as WeChat's
	}
	c.Header("Cache-Control", "no-store")
	c.Data(http.StatusOK, kind, encodeWeChat(v))
}

// newRID is a request id of WeChat's form: three groups of eight hex digits, the first is the time in Unix seconds.
func newRID(now time.Time) string {
	return fmt.Sprintf("%08x-%08x-%08x", uint32(now.Unix()), rand.Uint32(), rand.Uint32())
}

// caller proves appid and secret. Wrong ones are counted by address, so that guessing is slow.
func (g *Handler) caller(c *gin.Context, appid, secret string) (relay.Caller, error) {
	limits := g.limits.Load()
	who, err := g.relay.CallerBySecret(appid, secret)
	if err != nil {
		if g.clients.take("secret "+limits.TrustedProxies.Client(c.Request), limits.MPPerIP, time.Now()) > 0 {
			return who, errTooMany
		}
		return who, err
	}
	return who, g.pace(who)
}

// pace is the partner's rate.
func (g *Handler) pace(who relay.Caller) error {
	p, _ := g.relay.Partner(who.Partner)
	if g.partners.take(p.Name, Rate{p.PerSecond, p.Burst}, time.Now()) > 0 {
		return errTooMany
	}
	return nil
}

// compatToken is GET /cgi-bin/token.
func (g *Handler) compatToken(c *gin.Context) error {
	q := c.Request.URL.Query()
	return g.giveToken(c, q.Get("appid"), q.Get("secret"), q.Get("grant_type"), false)
}

// compatStableToken is POST /cgi-bin/stable_token.
func (g *Handler) compatStableToken(c *gin.Context) error {
	if c.Request.Method != http.MethodPost {
		return errPostRequired
	}
	var in struct {
		GrantType string `json:"grant_type"`
		AppID     string `json:"appid"`
		Secret    string `json:"secret"`
		Force     bool   `json:"force_refresh"`
	}
	body, err := io.ReadAll(io.LimitReader(c.Request.Body, 16<<10))
	if err != nil || json.Unmarshal(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), &in) != nil {
		return errNotJSON
	}
	return g.giveToken(c, in.AppID, in.Secret, in.GrantType, in.Force)
}

func (g *Handler) giveToken(c *gin.Context, appid, secret, grantType string, revoke bool) error {
	who, err := g.caller(c, appid, secret)
	if err != nil {
		return err
	}
	if grantType != "client_credential" {
		return errGrantType
	}
	t, err := g.relay.CompatToken(c.Request.Context(), who, revoke, g.limits.Load().TrustedProxies.Client(c.Request))
	if err != nil {
		return err
	}
	writeCompat(c, t)
	return nil
}

// compatLogin is GET /sns/jscode2session.
func (g *Handler) compatLogin(c *gin.Context) error {
	q := c.Request.URL.Query()
	who, err := g.caller(c, q.Get("appid"), q.Get("secret"))
	switch {
	case err != nil:
		return err
	case q.Get("grant_type") != "" && q.Get("grant_type") != "authorization_code":
		return errGrantType
	case q.Get("js_code") == "":
		return errNoCode
	}
	s, err := g.relay.CodeToSession(c.Request.Context(), who, q.Get("js_code"))
	if err != nil {
		return err
	}
	writeCompat(c, s)
	return nil
}

// compatCall passes any other API on, with WeChat's token in the place of ours.
func (g *Handler) compatCall(c *gin.Context, path string) error {
	limits := g.limits.Load()
	who, err := g.relay.CallerByToken(c.Request.Context(), accessTokenOf(c.Request.URL.RawQuery))
	if err == nil {
		err = g.pace(who)
	}
	if err != nil {
		return err
	}
	defer g.trace(c, who.Partner, who.App)()
	call := relay.WeChatCall{Method: c.Request.Method, Path: path, Query: c.Request.URL.RawQuery, Header: c.Request.Header,
		From: limits.TrustedProxies.Client(c.Request)}
	var held body
	defer held.release()
	if err := held.read(c.Writer, c.Request, limits.ProxyBody, nil, [2]*budget{&g.budgetsOf(who.Partner).proven}); err != nil {
		return bodyRefusal(err)
	}
	call.Body = bytes.Clone(held.bytes()) // the connection to WeChat may read it past this request's end
	answer, err := g.relay.CallWeChat(c.Request.Context(), who, call)
	if err != nil {
		return err
	}
	return g.stream(c, answer)
}

// bodyRefusal is what WeChat says of a body that could not be read.
func bodyRefusal(err error) error {
	if f, ok := errors.AsType[*fault](err); ok {
		switch f.code {
		case TooLarge:
			return errTooLong
		case Malformed:
			return errNotJSON
		}
	}
	return errSystem
}

// accessTokenOf is the access_token of a raw query.
func accessTokenOf(raw string) string {
	for pair := range strings.SplitSeq(raw, "&") {
		if value, ok := strings.CutPrefix(pair, "access_token="); ok {
			if token, err := url.QueryUnescape(value); err == nil {
				return token
			}
		}
	}
	return ""
}
