package relay

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// A partner's system that was made for WeChat's API calls this gateway in its place: its appid is the app's, its secret the
// partner's wechat_secret, and the access_token it gets is ours. Such a token names partner, app, generation and time of
// issue, under a MAC by wechat_secret: every replica makes and checks it alone, and nothing of it is kept but the
// generation, by which it is revoked. Whoever changes wechat_secret revokes all of them.

// Refusal is an error in WeChat's words, for callers that speak its API.
type Refusal struct {
	Code int
	Msg  string // without a rid
}

func (e *Refusal) Error() string { return e.Msg }

var (
	errAppIDMissing  = &Refusal{41002, "appid missing"}
	errInvalidAppID  = &Refusal{40013, "invalid appid"}
	errSecretMissing = &Refusal{41004, "appsecret missing"}
	errWrongSecret   = &Refusal{40125, "invalid appsecret"}
	errUnauthorized  = &Refusal{48001, "api unauthorized"}
	errTokenMissing  = &Refusal{41001, "access_token missing"}
	errTokenInvalid  = &Refusal{40001, "invalid credential, access_token is invalid or not latest"}
	errTokenExpired  = &Refusal{42001, "access_token expired"}
)

// Caller is who calls WeChat's API through the compatible face, and for which app.
type Caller struct{ Partner, App string }

// rightWeChatAPI is the right (partners[].allow) to call WeChat's API through this gateway.
const rightWeChatAPI = "wechat_api"

// CallerBySecret finds the caller of an API that takes appid and secret. The error is a *Refusal with WeChat's code: 41002,
// 40013, 41004, 40125, 48001.
func (r *Relay) CallerBySecret(appid, secret string) (Caller, error) {
	rules := r.rules.Load()
	app := ""
	for name, a := range rules.Apps {
		if a.AppID == appid {
			app = name
		}
	}
	switch {
	case appid == "":
		return Caller{}, errAppIDMissing
	case app == "":
		return Caller{}, errInvalidAppID
	case secret == "":
		return Caller{}, errSecretMissing
	}
	var found *Partner
	for _, p := range rules.Partners {
		if p.WeChatSecret != "" && subtle.ConstantTimeCompare([]byte(p.WeChatSecret), []byte(secret)) == 1 {
			found = &p
		}
	}
	switch {
	case found == nil:
		return Caller{}, errWrongSecret
	case !found.MayUse(app):
		return Caller{}, errInvalidAppID
	case !found.Allow[rightWeChatAPI]:
		return Caller{}, errUnauthorized
	}
	return Caller{found.Name, app}, nil
}

// compatToken is what a token of ours says: the caller by a short id, then generation and time of issue, then the MAC.
const (
	tokenPrefix = "wxr_"
	tokenIDLen  = 8
	tokenMACLen = 16
	tokenLen    = tokenIDLen + 4 + 8 + tokenMACLen
)

// clockSkew is how much the clocks of replicas may differ.
const clockSkew = time.Minute

func callerID(c Caller) string {
	sum := sha256.Sum256([]byte(c.Partner + "\x00" + c.App))
	return string(sum[:tokenIDLen])
}

func mintToken(secret string, c Caller, g wechat.Grant) string {
	b := append(make([]byte, 0, tokenLen), callerID(c)...)
	b = binary.BigEndian.AppendUint32(b, uint32(g.Generation))
	b = binary.BigEndian.AppendUint64(b, uint64(g.IssuedAt.UnixMilli()))
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, tokenMAC(secret, c, b)...))
}

func tokenMAC(secret string, c Caller, head []byte) []byte {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte("access_token\x00" + c.Partner + "\x00" + c.App + "\x00"))
	m.Write(head)
	return m.Sum(nil)[:tokenMACLen]
}

// CompatToken gives a caller the token of ours: one for all who ask within its life. revoke ends those before it
// (force_refresh). With Redis away it is made from what this process knows, and works.
func (r *Relay) CompatToken(ctx context.Context, c Caller, revoke bool, from string) (AccessToken, error) {
	p, ok := r.Partner(c.Partner)
	if !ok {
		return AccessToken{}, errTokenInvalid
	}
	g, err := r.wechat.Grant(ctx, c.App, c.Partner, revoke)
	switch {
	case errors.Is(err, wechat.ErrUnknownApp):
		return AccessToken{}, errInvalidAppID
	case err != nil && revoke:
		return AccessToken{}, err // a revocation that is not kept is none
	case err != nil:
		g = wechat.Grant{Generation: r.generations.known(c), IssuedAt: time.Now(), Left: wechat.GrantLife}
	default:
		r.generations.set(c, g.Generation, time.Now())
	}
	token := mintToken(p.WeChatSecret, c, g)
	r.tokenGiven(c.Partner, c.App, from, token)
	return AccessToken{AccessToken: token, ExpiresIn: int(g.Left.Round(time.Second).Seconds())}, nil
}

// RevokeTokens ends every token of ours that a partner has for an app.
func (r *Relay) RevokeTokens(ctx context.Context, partner, app string) error {
	c := Caller{partner, app}
	g, err := r.wechat.Grant(ctx, app, partner, true)
	if err == nil {
		r.generations.set(c, g.Generation, time.Now())
		r.log.Info("tokens revoked", zap.String("app", app), zap.String("partner", partner))
	}
	return err
}

// CallerByToken finds the caller of an API that takes an access_token of ours. The error is a *Refusal: 41001, 40001, 42001,
// 48001.
func (r *Relay) CallerByToken(ctx context.Context, token string) (Caller, error) {
	if token == "" {
		return Caller{}, errTokenMissing
	}
	raw, ok := strings.CutPrefix(token, tokenPrefix)
	b, err := base64.RawURLEncoding.DecodeString(raw)
	if !ok || err != nil || len(b) != tokenLen {
		return Caller{}, errTokenInvalid
	}
	c, ok := r.callers.Load().byID[string(b[:tokenIDLen])]
	p, known := r.Partner(c.Partner)
	if !ok || !known || p.WeChatSecret == "" {
		return Caller{}, errTokenInvalid
	}
	head := b[:tokenLen-tokenMACLen]
	if !hmac.Equal(b[tokenLen-tokenMACLen:], tokenMAC(p.WeChatSecret, c, head)) {
		return Caller{}, errTokenInvalid
	}
	generation := int(binary.BigEndian.Uint32(head[tokenIDLen:]))
	age := time.Since(time.UnixMilli(int64(binary.BigEndian.Uint64(head[tokenIDLen+4:]))))
	switch {
	case age < -clockSkew:
		return Caller{}, errTokenInvalid
	case age >= wechat.GrantLife:
		return Caller{}, errTokenExpired
	case generation < r.generation(ctx, c):
		return Caller{}, errTokenInvalid
	case !p.Allow[rightWeChatAPI] || !p.MayUse(c.App):
		return Caller{}, errUnauthorized
	}
	return c, nil
}

// callers finds a token's caller by its short id.
type callers struct{ byID map[string]Caller }

func callersOf(rules *Rules) *callers {
	out := &callers{byID: map[string]Caller{}}
	for name, p := range rules.Partners {
		for _, app := range p.Apps {
			c := Caller{name, app}
			out.byID[callerID(c)] = c
		}
	}
	return out
}

// generationView is how old what a process knows of revocations may be.
const generationView = 5 * time.Second

// generations is what this process knows of revocations.
type generations struct {
	mu  sync.Mutex
	all map[Caller]generation
}

type generation struct {
	n    int
	seen time.Time
}

func (g *generations) known(c Caller) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all[c].n
}

func (g *generations) set(c Caller, n int, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all == nil {
		g.all = map[Caller]generation{}
	}
	g.all[c] = generation{max(n, g.all[c].n), at}
}

// generation is the earliest one that counts, asked of Redis every few seconds. With Redis away what was known last counts.
func (r *Relay) generation(ctx context.Context, c Caller) int {
	now := time.Now()
	r.generations.mu.Lock()
	known := r.generations.all[c]
	r.generations.mu.Unlock()
	if now.Sub(known.seen) < generationView {
		return known.n
	}
	n, err := r.wechat.GrantGeneration(ctx, c.App, c.Partner)
	if err != nil {
		n = known.n
	}
	r.generations.set(c, n, now)
	return max(n, known.n)
}

// CodeSession is a login as WeChat's jscode2session answers it.
type CodeSession struct {
	SessionKey string `json:"session_key"`
	OpenID     string `json:"openid"`
	UnionID    string `json:"unionid,omitempty"`
}

// CodeToSession exchanges a wx.login code for a caller, as a login here: the same code within 5 minutes gets the same
// answer, and partners are told. The session_key is a stand-in, unless the partner is allowed session_keys.
func (r *Relay) CodeToSession(ctx context.Context, c Caller, code string) (CodeSession, error) {
	who, err := r.Login(ctx, c.App, code)
	if err != nil {
		return CodeSession{}, err
	}
	out := CodeSession{OpenID: who.OpenID}
	out.UnionID, err = r.bindings.UnionID(ctx, c.App, who.OpenID)
	if err != nil && !errors.Is(err, binding.ErrNotFound) {
		return CodeSession{}, err
	}
	p, _ := r.Partner(c.Partner)
	if p.Allow["session_keys"] {
		out.SessionKey, err = r.bindings.SessionKey(ctx, c.App, who.OpenID)
		return out, err
	}
	m := hmac.New(sha256.New, []byte(p.WeChatSecret))
	m.Write([]byte("session_key\x00" + c.App + "\x00" + who.OpenID + "\x00" + code))
	out.SessionKey = base64.StdEncoding.EncodeToString(m.Sum(nil)[:16])
	return out, nil
}
