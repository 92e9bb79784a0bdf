package wechatsim

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-access-token/api_getaccesstoken
// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-access-token/api_getstableaccesstoken

func tokenRoutes() []route {
	return []route{
		{path: "/cgi-bin/token", method: http.MethodGet, serve: (*call).classicToken},
		{path: "/cgi-bin/stable_token", method: http.MethodPost, serve: (*call).stableToken},
	}
}

// token is one access_token. dead is guarded by the book it is in.
type token struct {
	value   string
	app     *app
	expires time.Time
	dead    time.Time // from then on 40001; zero = alive
	stuck   bool      // dead, and still handed out by stable_token
}

// tokenKeys are the tokens an app hands out now. mu is held over a whole fetch, never while anybody sleeps.
type tokenKeys struct {
	mu       sync.Mutex
	classic  *token
	stable   *token
	forcedAt []time.Time
}

type tokenBook struct {
	mu    sync.RWMutex
	known map[string]*token
}

const staleToken = "invalid credential, access_token is invalid or not latest, could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"

func (b *tokenBook) get(value string) *token {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.known[value]
}

func (b *tokenBook) add(t *token, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil {
		b.known = map[string]*token{}
	}
	for v, old := range b.known {
		if now.Sub(old.expires) > 24*time.Hour {
			delete(b.known, v)
		}
	}
	b.known[t.value] = t
}

// kill makes a token dead from when on; a death already nearer stays.
func (b *tokenBook) kill(value string, when time.Time, stuck bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.known[value]; t != nil && (t.dead.IsZero() || t.dead.After(when)) {
		t.dead, t.stuck = when, stuck
	}
}

// alive says whether stable_token would hand a token out again.
func (b *tokenBook) alive(t *token, now time.Time) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return t != nil && now.Before(t.expires.Add(-5*time.Minute)) && (t.dead.IsZero() || t.stuck)
}

// check is what every API does with access_token.
func (b *tokenBook) check(value string, now time.Time) (*token, answer) {
	if value == "" {
		return nil, fail(41001, "access_token missing")
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	t := b.known[value]
	switch {
	case t == nil, !t.dead.IsZero() && !now.Before(t.dead):
		return nil, fail(40001, staleToken)
	case !now.Before(t.expires):
		return nil, fail(42001, "access_token expired")
	}
	return t, answer{}
}

// credentials checks appid and secret the way all calls that carry them do; a wrong appid wins over everything.
func (c *call) credentials(appid, secret string) answer {
	if appid == "" {
		return fail(41002, "appid missing")
	}
	a := c.world.app(appid)
	if a == nil || a.conf().AppID != appid {
		return fail(40013, "invalid appid")
	}
	c.app = a
	switch {
	case secret == "":
		return fail(41004, "appsecret missing")
	case !sameText(secret, a.conf().Secret):
		return fail(40125, "invalid appsecret")
	}
	return answer{}
}

func (c *call) issue(conf *App) *token {
	now := c.memory()
	t := &token{value: c.dice.text(136 + 8*c.dice.below(48)), app: c.app, expires: now.Add(conf.TokenLife)}
	c.tokens.add(t, now)
	return t
}

type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
}

// classicToken issues a new token at every call; the one before lives on for the overlap.
func (c *call) classicToken() answer {
	if bad := c.credentials(c.q.Get("appid"), c.q.Get("secret")); bad.errcode != 0 {
		return bad
	}
	if c.q.Get("grant_type") != "client_credential" {
		return fail(40002, "invalid grant_type")
	}
	if bad := c.fromListed(); bad.errcode != 0 {
		return bad
	}
	conf := c.app.conf()
	if bad := c.app.quota.spend(conf, c.rt.path, c.memory()); bad.errcode != 0 {
		bad.errmsg += ", could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
		return bad
	}
	keys := &c.app.keys
	keys.mu.Lock()
	defer keys.mu.Unlock()
	if old := keys.classic; old != nil {
		c.tokens.kill(old.value, c.memory().Add(conf.Overlap), false)
	}
	keys.classic = c.issue(conf)
	c.seen.note(func() { c.seen.counts["tokens"]++; c.seen.counts["tokens:classic"]++ })
	return answer{body: tokenAnswer{keys.classic.value, int(conf.TokenLife / time.Second)}}
}

const (
	forcesPerDay = 20
	forceSpacing = 30 * time.Second
)

// stableToken hands out one token until five minutes before its end; force_refresh ends it at once.
func (c *call) stableToken() answer {
	var q struct {
		GrantType string          `json:"grant_type"`
		AppID     string          `json:"appid"`
		Secret    string          `json:"secret"`
		Force     json.RawMessage `json:"force_refresh"`
	}
	if bad := c.read(&q); bad.errcode != 0 {
		return bad
	}
	if bad := c.credentials(q.AppID, q.Secret); bad.errcode != 0 {
		return bad
	}
	if q.GrantType != "client_credential" {
		return fail(40002, "invalid grant_type")
	}
	if bad := c.fromListed(); bad.errcode != 0 {
		return bad
	}
	conf, now := c.app.conf(), c.memory()
	if bad := c.app.quota.spend(conf, c.rt.path, now); bad.errcode != 0 {
		return bad
	}
	keys := &c.app.keys
	keys.mu.Lock()
	defer keys.mu.Unlock()
	switch force := string(q.Force) == "true"; {
	case force:
		if bad := keys.mayForce(now); bad.errcode != 0 {
			return bad
		}
		if keys.stable != nil {
			c.tokens.kill(keys.stable.value, now, false)
		}
		keys.stable = c.issue(conf)
		c.seen.note(func() { c.seen.counts["tokens"]++; c.seen.counts["tokens:forced"]++ })
	case !c.tokens.alive(keys.stable, now):
		keys.stable = c.issue(conf)
		c.seen.note(func() { c.seen.counts["tokens"]++; c.seen.counts["tokens:stable"]++ })
	}
	return answer{body: tokenAnswer{keys.stable.value, int(keys.stable.expires.Sub(now) / time.Second)}}
}

// mayForce books a force_refresh. The documents give the limits and not their error codes; see DIVERGENCES.md.
func (k *tokenKeys) mayForce(now time.Time) answer {
	var today []time.Time
	for _, t := range k.forcedAt {
		if now.Sub(t) < 24*time.Hour {
			today = append(today, t)
		}
	}
	k.forcedAt = today
	switch n := len(today); {
	case n > 0 && now.Sub(today[n-1]) < forceSpacing:
		return fail(45011, "api minute-quota reach limit, must slower, retry next minute")
	case n >= forcesPerDay:
		return fail(45009, "reach max api daily quota limit")
	}
	k.forcedAt = append(k.forcedAt, now)
	return answer{}
}

// KillToken ends what an app has in use, as if somebody else had fetched a newer one. stuck: stable_token keeps handing
// out the dead one until it is forced.
func (s *Sim) KillToken(app string, stuck bool) {
	keys := &s.mustApp(app).keys
	keys.mu.Lock()
	defer keys.mu.Unlock()
	for _, t := range []*token{keys.classic, keys.stable} {
		if t != nil {
			s.tokens.kill(t.value, s.memory(), stuck)
		}
	}
}

// TokenWorks says whether an API would take the token now.
func (s *Sim) TokenWorks(value string) bool {
	_, bad := s.tokens.check(value, s.memory())
	return bad.errcode == 0
}

// TakeToken is another program of the same owner (an old server, a developer's laptop) fetching a classic token: it
// evicts the gateway's classic token after the overlap.
func (s *Sim) TakeToken(app string) string {
	c := &call{Sim: s, app: s.mustApp(app)}
	conf := c.app.conf()
	keys := &c.app.keys
	keys.mu.Lock()
	defer keys.mu.Unlock()
	if old := keys.classic; old != nil {
		s.tokens.kill(old.value, s.memory().Add(conf.Overlap), false)
	}
	keys.classic = c.issue(conf)
	return keys.classic.value
}
