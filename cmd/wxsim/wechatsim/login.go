package wechatsim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"sync"
	"time"
)

// https://developers.weixin.qq.com/miniprogram/dev/server/API/user-login/api_code2session
// https://developers.weixin.qq.com/miniprogram/dev/server/API/user-info/phone-number/api_getphonenumber

func loginRoutes() []route {
	return []route{
		{path: "/sns/jscode2session", method: http.MethodGet, sns: true, serve: (*call).codeToSession},
		{path: "/wxa/business/getuserphonenumber", method: http.MethodPost, token: true, kind: MiniProgram, serve: (*call).phoneNumber},
		{path: "/wxa/checksession", method: http.MethodGet, token: true, kind: MiniProgram, serve: (*call).checkSession},
		{path: "/wxa/resetusersessionkey", method: http.MethodGet, token: true, kind: MiniProgram, serve: (*call).resetSessionKey},
	}
}

type codeKind int

const (
	loginCode codeKind = iota
	phoneCode
)

// clientCode is a code a phone was given, good once.
type clientCode struct {
	kind    codeKind
	acc     *account
	expires time.Time
	used    bool
}

type codeBook struct {
	mu    sync.Mutex
	known map[string]*clientCode
}

func (b *codeBook) issue(kind codeKind, acc *account, code string, expires time.Time) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil {
		b.known = map[string]*clientCode{}
	}
	b.known[code] = &clientCode{kind: kind, acc: acc, expires: expires}
	return code
}

// spend takes a code for an app. A failed attempt burns it too, unless keepBad.
func (b *codeBook) spend(kind codeKind, code string, a *app, now time.Time, keepBad bool) (*account, answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.known[code]
	if c == nil || c.kind != kind {
		return nil, fail(40029, "invalid code")
	}
	if c.used {
		return nil, fail(40163, "code been used")
	}
	if c.acc.app != a || !now.Before(c.expires) {
		c.used = !keepBad
		return nil, fail(40029, "invalid code")
	}
	c.used = true
	return c.acc, answer{}
}

type session struct {
	SessionKey string `json:"session_key"`
	OpenID     string `json:"openid"`
	UnionID    string `json:"unionid,omitempty"`
}

// rotateAfter is how old a session_key is when the next login replaces it; WeChat says "not every time" and no more.
const rotateAfter = 10 * time.Minute

// codeToSession answers without errcode when it succeeds, in text/plain.
func (c *call) codeToSession() answer {
	if bad := c.credentials(c.q.Get("appid"), c.q.Get("secret")); bad.errcode != 0 {
		return bad
	}
	switch {
	case c.q.Get("grant_type") != "authorization_code":
		return fail(40002, "invalid grant_type")
	case c.q.Get("js_code") == "":
		return fail(41008, "missing code")
	}
	conf := c.app.conf()
	if bad := c.app.quota.spend(conf, c.rt.path, c.memory()); bad.errcode != 0 {
		return bad
	}
	acc, bad := c.codes.spend(loginCode, c.q.Get("js_code"), c.app, c.memory(), conf.KeepBadCode)
	if bad.errcode != 0 {
		return bad
	}
	now := c.memory()
	acc.mu.Lock()
	defer acc.mu.Unlock()
	switch {
	case acc.risky:
		return fail(40226, "code blocked")
	case !acc.logins.allow(now, 100):
		return fail(45011, "api minute-quota reach limit, must slower, retry next minute")
	}
	if now.Sub(acc.keyFrom) > rotateAfter {
		if !acc.keyFrom.IsZero() {
			acc.sessionKey = c.newSessionKey()
		}
		acc.keyFrom = now
	}
	return answer{body: session{acc.sessionKey, acc.openid, acc.unionid}}
}

func (s *Sim) newSessionKey() string {
	key := derive(s.o.Seed, "session", s.dice.bits())
	return base64.StdEncoding.EncodeToString(key[:16])
}

// perMinute counts within the running minute.
type perMinute struct {
	minute int64
	n      int
}

func (p *perMinute) allow(now time.Time, limit int) bool {
	if m := now.Unix() / 60; m != p.minute {
		p.minute, p.n = m, 0
	}
	p.n++
	return p.n <= limit
}

// Risky marks a user whose logins WeChat refuses with 40226.
func (s *Sim) Risky(openid string, risky bool) {
	acc := s.mustAccount(openid)
	acc.mu.Lock()
	acc.risky = risky
	acc.mu.Unlock()
}

func (c *call) phoneNumber() answer {
	var q struct {
		Code   string `json:"code"`
		OpenID string `json:"openid"`
	}
	if bad := c.read(&q); bad.errcode != 0 {
		return bad
	}
	acc, bad := c.codes.spend(phoneCode, q.Code, c.app, c.memory(), false)
	switch {
	case bad.errcode == 40163: // the phone API knows one answer for a bad code
		return fail(40029, "invalid code")
	case bad.errcode != 0:
		return bad
	case q.OpenID != "" && q.OpenID != acc.openid:
		return fail(40029, "invalid code")
	}
	number := PhoneOf(acc.openid)
	type watermark struct {
		Timestamp int64  `json:"timestamp"`
		AppID     string `json:"appid"`
	}
	type phone struct {
		PhoneNumber     string    `json:"phoneNumber"`
		PurePhoneNumber string    `json:"purePhoneNumber"`
		CountryCode     string    `json:"countryCode"`
		Watermark       watermark `json:"watermark"`
	}
	return answer{body: struct {
		Errcode int    `json:"errcode"`
		Errmsg  string `json:"errmsg"`
		Phone   phone  `json:"phone_info"`
	}{0, "ok", phone{number, number, "86", watermark{c.at.Unix(), c.app.conf().AppID}}}}
}

// PhoneOf is the telephone number of whoever has the openid.
func PhoneOf(openid string) string {
	h := derive(0, "phone", openid)
	b := []byte("138")
	for _, x := range h[:8] {
		b = append(b, '0'+x%10)
	}
	return string(b)
}

// signedSession finds the account of a checksession call and judges its signature: hmac_sha256 of nothing, the key being
// the base64 text of the session_key.
func (c *call) signedSession() (*account, answer) {
	acc := c.world.account(c.q.Get("openid"))
	switch {
	case acc == nil || acc.app != c.app:
		return nil, fail(40003, "invalid openid")
	case c.q.Get("sig_method") != "hmac_sha256":
		return nil, fail(87008, "invalid sig_method")
	}
	acc.mu.Lock()
	key := acc.sessionKey
	acc.mu.Unlock()
	mac := hmac.New(sha256.New, []byte(key))
	if !sameText(c.q.Get("signature"), hex.EncodeToString(mac.Sum(nil))) {
		return nil, fail(87009, "invalid signature")
	}
	return acc, answer{}
}

func (c *call) checkSession() answer {
	if _, bad := c.signedSession(); bad.errcode != 0 {
		return bad
	}
	return fine
}

func (c *call) resetSessionKey() answer {
	acc, bad := c.signedSession()
	if bad.errcode != 0 {
		return bad
	}
	key := c.newSessionKey()
	acc.mu.Lock()
	acc.sessionKey = key
	acc.mu.Unlock()
	return answer{body: struct {
		Errcode int    `json:"errcode"`
		Errmsg  string `json:"errmsg"`
		OpenID  string `json:"openid"`
		Key     string `json:"session_key"`
	}{0, "ok", acc.openid, key}}
}
