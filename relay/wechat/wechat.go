// Package wechat owns the conversation with the WeChat API: no other package sends a byte to it, keeps one of its
// tokens, or knows what one of its errcodes means.
//
// It hides five decisions: how one access_token is shared by every replica (keeper.go, renew.go), how a request that may
// have reached WeChat is told from one that did not (transport.go, failure.go), how an answer is read (answer.go), how a
// dead token is healed (heal.go), and what to do about an errcode (errcodes.go).
//
// A token's life, one per app over all replicas:
//
//	none -> leased (one replica asks WeChat) -> fresh -> due (still served, one replica renews) -> fresh ...
//	fresh|due -> reported bad, by value -> none, healing pending -> leased ...
//	leased -> refused (config error) -> waiting, longer each time -> leased ...
package wechat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Token source kinds.
const (
	SourceStable   = "stable"   // POST /cgi-bin/stable_token, WeChat's recommendation and the default
	SourceClassic  = "classic"  // GET /cgi-bin/token: every call issues another token, the one before dies 5 minutes later
	SourceExternal = "external" // GET TokenSource.URL: another token centre answers {access_token, expires_in}
)

// Account kinds.
const (
	KindMiniProgram     = "miniprogram"
	KindOfficialAccount = "official_account"
)

// TokenSource says where an app's access_token comes from. Kind "" is stable. URL and Header are for external only;
// both may hold secrets and never appear in an error.
type TokenSource struct {
	Kind   string
	URL    string
	Header map[string]string
}

// App is one WeChat account. Name is ours (it stands in our URLs), AppID and Secret are WeChat's.
// Its printed form never shows the secret.
type App struct {
	Name   string
	AppID  string
	Secret string `json:"-"`
	Kind   string
	Token  TokenSource `json:"-"`
}

// String names the app without its secrets.
func (a App) String() string { return a.Name + " (" + a.AppID + ")" }

// GoString keeps %#v from showing the secret.
func (a App) GoString() string { return fmt.Sprintf("wechat.App{Name:%q, AppID:%q}", a.Name, a.AppID) }

// Options of a Client. The zero value of each field is a working default.
type Options struct {
	BaseURL   string        // https://api.weixin.qq.com
	Fallback  string        // a second address, asked when no connection to BaseURL comes about; "" = none
	Timeout   time.Duration // of one exchange with WeChat; 5 s
	InFlight  int           // connections kept open per host; 256
	BodyLimit int64         // largest body of an upload or a proxied request, in bytes; 12 MiB
	Apps      []App

	// Encrypt and Decrypt guard tokens at rest in Redis; nil keeps them in clear.
	Encrypt, Decrypt func([]byte) ([]byte, error)

	// OnCall hears of every exchange: the context of who asked, the app, the API's path (a proxied one only by its first segment), WeChat's
	// errcode or one of CodeNotLeft, CodeNoAnswer, and how long it took. It must not block.
	OnCall func(ctx context.Context, app, path string, errcode int, d time.Duration)

	// OnChange hears of a token's change that this process brought about, for an audit log. It must not block.
	OnChange func(app string, change TokenChange)

	// OnAlert hears what an operator must know about an app, once per cause over all replicas: *ConfigError,
	// *TokenChanged, *TokenTrouble. It must not block.
	OnAlert func(app string, err error)
}

// Token is an access_token. ExpiresAt is when WeChat said it ends; it may die earlier (Client.ReportBad).
type Token struct {
	Value     string `json:"-"`
	ExpiresAt time.Time
	FetchedAt time.Time
}

// String keeps the value out of logs.
func (t Token) String() string { return "***" }

// GoString keeps the value out of %#v.
func (t Token) GoString() string { return "wechat.Token{***}" }

var (
	// ErrUnknownApp: no app of this name is configured.
	ErrUnknownApp = errors.New("wechat: unknown app")
	// ErrNotLeft: the request never left (refused connection, DNS, TLS, no token to put in): WeChat cannot have
	// acted on it, repeating it is safe.
	ErrNotLeft = errors.New("wechat: the request did not leave")
	// ErrNoAnswer: the request left, or may have, and no answer that can be understood came (timeout, reset, a status
	// other than 200, not JSON, cut or oversized body). Whether WeChat acted on it is unknown.
	ErrNoAnswer = errors.New("wechat: no answer")
	// ErrBody: the caller's body, path or method cannot be sent as it is. Nothing left, and repeating is useless.
	ErrBody = errors.New("wechat: cannot be sent")
	// ErrNotTokenCode: the errcode reported to ReportBad does not speak against a token.
	ErrNotTokenCode = errors.New("wechat: this errcode does not speak against a token")
)

// Client speaks to WeChat for all configured apps. Safe for concurrent use; make one with New.
type Client struct {
	rdb    redis.UniversalClient
	o      Options
	root   *url.URL
	second *url.URL // nil = none

	fallbackUntil atomic.Int64 // until when second is asked first, Unix nanoseconds
	transport     *http.Transport
	renewals      renewals

	mu   sync.Mutex                         // orders SetApps
	apps atomic.Pointer[map[string]*keeper] // by name; replaced, never changed
	wake chan struct{}                      // wakes Run after SetApps
}

// New checks the options and makes a client. It does not speak to Redis or WeChat yet.
func New(rdb redis.UniversalClient, o Options) (*Client, error) {
	if rdb == nil {
		return nil, errors.New("wechat: no Redis")
	}
	if (o.Encrypt == nil) != (o.Decrypt == nil) {
		return nil, errors.New("wechat: Encrypt and Decrypt go together")
	}
	if o.BaseURL == "" {
		o.BaseURL = "https://api.weixin.qq.com"
	}
	root, err := parseRoot(o.BaseURL)
	if err != nil {
		return nil, err
	}
	var second *url.URL
	if o.Fallback != "" {
		if second, err = parseRoot(o.Fallback); err != nil {
			return nil, err
		}
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.InFlight <= 0 {
		o.InFlight = 256
	}
	if o.BodyLimit <= 0 {
		o.BodyLimit = 12 << 20
	}
	c := &Client{rdb: rdb, o: o, root: root, second: second, transport: newTransport(o.InFlight), wake: make(chan struct{}, 1)}
	c.apps.Store(&map[string]*keeper{})
	if err := c.SetApps(o.Apps); err != nil {
		return nil, err
	}
	c.o.Apps = nil
	return c, nil
}

func parseRoot(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, errors.New("wechat: the address of WeChat's API must be http(s)://host[/prefix]")
	}
	return u, nil
}

// An appid becomes part of a key's hash tag and of a query.
var appIDForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (a App) source() string {
	if a.Token.Kind == "" {
		return SourceStable
	}
	return a.Token.Kind
}

func (a App) check() error {
	switch {
	case a.Name == "":
		return errors.New("wechat: an app without a name")
	case !appIDForm.MatchString(a.AppID):
		return fmt.Errorf("wechat: app %s: appid must be letters and digits", a.Name)
	case a.Kind != "" && a.Kind != KindMiniProgram && a.Kind != KindOfficialAccount:
		return fmt.Errorf("wechat: app %s: unknown kind %q", a.Name, a.Kind)
	}
	switch a.Token.Kind {
	case "", SourceStable, SourceClassic:
		if a.Secret == "" {
			return fmt.Errorf("wechat: app %s: no secret", a.Name)
		}
	case SourceExternal:
		u, err := url.Parse(a.Token.URL)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
			return fmt.Errorf("wechat: app %s: an external token needs an http(s) URL", a.Name)
		}
	default:
		return fmt.Errorf("wechat: app %s: unknown token source %q", a.Name, a.Token.Kind)
	}
	return nil
}

// SetApps replaces the apps (config reload). Tokens of apps that stay are kept. A faulty list changes nothing.
func (c *Client) SetApps(apps []App) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := *c.apps.Load()
	next := make(map[string]*keeper, len(apps))
	for _, a := range apps {
		if err := a.check(); err != nil {
			return err
		}
		if next[a.Name] != nil {
			return fmt.Errorf("wechat: two apps are named %s", a.Name)
		}
		if k := old[a.Name]; k != nil && k.sameAs(a) {
			next[a.Name] = k
			continue
		}
		next[a.Name] = newKeeper(c, a)
	}
	c.apps.Store(&next)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

func (c *Client) keeper(app string) (*keeper, error) {
	if k := (*c.apps.Load())[app]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrUnknownApp, app)
}

// Run renews tokens ahead of their end until ctx ends, then waits for a renewal in hand. It never ends on errors.
func (c *Client) Run(ctx context.Context) {
	for {
		wait := 30 * time.Second
		for _, k := range *c.apps.Load() {
			wait = min(wait, k.poll(time.Now()))
		}
		timer := time.NewTimer(max(wait, 50*time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			c.renewals.wait()
			return
		case <-timer.C:
		case <-c.wake:
			timer.Stop()
		}
	}
}

// String keeps %v of a client from showing its apps' secrets.
func (c *Client) String() string { return "wechat.Client" }

// GoString is String for %#v.
func (c *Client) GoString() string { return "wechat.Client" }

// Token returns a token for the app: at once while one works, even if it is being renewed; else it waits for the one
// replica that asks WeChat. Errors: ErrUnknownApp, *TokenError (with ctx's error in it when ctx ended).
func (c *Client) Token(ctx context.Context, app string) (Token, error) {
	k, err := c.keeper(app)
	if err != nil {
		return Token{}, err
	}
	return k.token(ctx)
}

// Held returns the token this process holds, without asking anybody: for metrics and pages.
func (c *Client) Held(app string) (Token, bool) {
	k, err := c.keeper(app)
	if err != nil {
		return Token{}, false
	}
	return k.held()
}

// Reporter is who says that a token is bad, for the token's log.
type Reporter struct {
	By   string // a partner's name
	From string // the address it called from
}

// ownReporter stands in the log for this process itself.
const ownReporter = "gateway"

// ReportBad says that WeChat refused this token with errcode (40001, 40014, 42001; else ErrNotTokenCode). The token
// is forgotten only when it is still the current one, and the next Token heals. Reports of one value count once in
// 30 s over all replicas. Errors: ErrUnknownApp, ErrNotTokenCode; a Redis that is away is none (this process then
// heals by itself).
func (c *Client) ReportBad(ctx context.Context, app, value string, errcode int, who Reporter) error {
	k, err := c.keeper(app)
	if err != nil {
		return err
	}
	if Lookup(errcode).Reaction != ReactionToken {
		return fmt.Errorf("%w: %d", ErrNotTokenCode, errcode)
	}
	k.reportBad(ctx, value, &APIError{Code: errcode}, who)
	return nil
}

// renewals counts renewals in hand. Not a sync.WaitGroup: one may start while Run waits for the last.
type renewals struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n falls to 0; nil when nobody waits
}

func (f *renewals) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n += n
	if f.n == 0 && f.none != nil {
		close(f.none)
		f.none = nil
	}
}

func (f *renewals) wait() {
	f.mu.Lock()
	if f.n == 0 {
		f.mu.Unlock()
		return
	}
	if f.none == nil {
		f.none = make(chan struct{})
	}
	none := f.none
	f.mu.Unlock()
	<-none
}
