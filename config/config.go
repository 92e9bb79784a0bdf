// Package config owns what the operator may decide: the YAML file, the secret files beside it and the WXRELAY_*
// environment, read strictly, checked whole, and handed on as plain Go values.
//
// Nobody but the commands sees it; the packages get values, not this package.
//
// A value is taken from the first of these that gives it: the environment (WXRELAY_APPS_SHOP_SECRET, or
// WXRELAY_APPS_SHOP_SECRET_FILE for a secret), the file (secret: or secret_file:), the default. Every fault of a
// config is reported at once as "path: reason", and no fault ever quotes a secret.
package config

import (
	"cmp"
	_ "embed"
	"math"
	"net/netip"
	"time"
)

//go:embed example.yml
var example []byte

// Example is the commented example config. It loads as it is; its secrets are placeholders.
func Example() []byte { return append([]byte(nil), example...) }

// Config is a whole, valid config. Load and Parse are the only ways to get one.
type Config struct {
	Listen                string         `yaml:"listen"` // host:port of the public door
	Admin                 Admin          `yaml:"admin"`
	ShutdownGrace         time.Duration  `yaml:"shutdown_grace"`
	TrustedProxies        []netip.Prefix `yaml:"trusted_proxies"` // whose X-Forwarded-* count; never empty once loaded
	Redis                 Redis          `yaml:"redis"`
	WeChat                WeChat         `yaml:"wechat"`
	MasterKey             Secret         `yaml:"master_key"`          // base64 of 32 bytes; zero = nothing is sealed
	MasterKeyPrevious     []Secret       `yaml:"master_key_previous"` // still opens what it sealed
	Apps                  []App          `yaml:"apps"`
	Partners              []Partner      `yaml:"partners"`
	Retention             Retention      `yaml:"retention"`
	Limits                Limits         `yaml:"limits"`
	Messages              Messages       `yaml:"messages"`
	Queue                 Queue          `yaml:"queue"`
	Subscriptions         Subscriptions  `yaml:"subscriptions"`
	AllowPrivateEndpoints []netip.Prefix `yaml:"allow_private_endpoints"`
	Log                   Log            `yaml:"log"`
	Tracing               Tracing        `yaml:"tracing"`

	from provenance
}

// Admin is the operators' door.
type Admin struct {
	Listen   string      `yaml:"listen"`
	Password Secret      `yaml:"password"` // of any user name, as an operator
	Users    []AdminUser `yaml:"users"`
}

// AdminUser is one person at the operators' door.
type AdminUser struct {
	Name     string `yaml:"name"`
	Password Secret `yaml:"password"`
	Role     string `yaml:"role"` // operator | viewer
}

// Redis says where the store is and over how many shards it is spread.
type Redis struct {
	URL    URL `yaml:"url"`
	Shards int `yaml:"shards"`
}

// WeChat is the platform's API as this gateway reaches it.
type WeChat struct {
	BaseURL     string        `yaml:"base_url"`
	FallbackURL string        `yaml:"fallback_url"` // asked when base_url cannot be reached; "" = none
	Timeout     time.Duration `yaml:"timeout"`      // of one call, whole
}

// App is one mini-program or official account.
type App struct {
	ID         string `yaml:"id"`
	AppID      string `yaml:"appid"`
	Secret     Secret `yaml:"secret"`
	OriginalID string `yaml:"original_id"`
	Kind       string `yaml:"kind"` // miniprogram | official_account
	Push       Push   `yaml:"push"`
	Token      Token  `yaml:"token"`
	PhoneEcho  bool   `yaml:"phone_echo"` // POST phone answers the number

	Templates     []Template       `yaml:"templates"`
	Subscriptions AppSubscriptions `yaml:"subscriptions"`
}

// Template is a template under a name of ours, so that partners carry neither its id nor its keywords.
type Template struct {
	ID         string            `yaml:"id"` // the name
	TemplateID string            `yaml:"template_id"`
	Page       string            `yaml:"page"` // for messages without one
	Data       map[string]string `yaml:"data"` // the partner's field -> the template's keyword
	Kind       string            `yaml:"kind"` // "" = as WeChat lists it | rate_limited | device
	Every      time.Duration     `yaml:"every"`
	Keyword    string            `yaml:"keyword"`
}

// Push is how WeChat pushes to us for one app.
type Push struct {
	Token          Secret        `yaml:"token"`
	EncodingAESKey Secret        `yaml:"encoding_aes_key"`
	Mode           string        `yaml:"mode"` // secure | compat | plain
	Previous       []PushKey     `yaml:"previous"`
	MaxAge         time.Duration `yaml:"max_age"`        // 0 = off
	Reply          string        `yaml:"reply"`          // success | transfer_customer_service | partner
	ReplyEndpoint  string        `yaml:"reply_endpoint"` // "partner/endpoint", for reply: partner
	PayAppKey      Secret        `yaml:"pay_app_key"`    // checks PayEventSig of virtual payments
}

// PushKey is a pair that is still accepted while the keys are rotated.
type PushKey struct {
	Token          Secret `yaml:"token"`
	EncodingAESKey Secret `yaml:"encoding_aes_key"`
}

// Token says where the access_token of an app comes from.
type Token struct {
	Source string            `yaml:"source"` // stable | classic | external
	URL    URL               `yaml:"url"`
	Header map[string]Secret `yaml:"header"`
}

// Partner is one business system.
type Partner struct {
	ID           string     `yaml:"id"`
	Secrets      []Secret   `yaml:"secrets"` // 1 or 2
	WeChatSecret Secret     `yaml:"wechat_secret"`
	Apps         []string   `yaml:"apps"`
	Allow        []string   `yaml:"allow"`
	WeChatPaths  []string   `yaml:"wechat_paths"` // what allow: wechat_api reaches; none = all but tokens, quotas and secrets
	Rate         Rate       `yaml:"rate"`
	Endpoints    []Endpoint `yaml:"endpoints"`
}

// Endpoint is where a partner receives events.
type Endpoint struct {
	ID       string            `yaml:"id"`
	URL      HookURL           `yaml:"url"`
	Events   []string          `yaml:"events"`
	Secrets  []Secret          `yaml:"secrets"` // 1 or 2; may be left out with kind wechat
	Kind     string            `yaml:"kind"`    // webhook | wechat
	WeChat   EndpointWeChat    `yaml:"wechat"`  // the keys of kind wechat
	Filter   Filter            `yaml:"filter"`
	Headers  map[string]Secret `yaml:"headers"` // sent along with each attempt
	Timeout  time.Duration     `yaml:"timeout"` // of one attempt, whole
	InFlight int               `yaml:"in_flight"`
	Rate     float64           `yaml:"rate"`  // attempts per second; 0 = no limit
	Order    string            `yaml:"order"` // none | user
}

// EndpointWeChat is how pushes are sealed anew for an endpoint of kind wechat.
type EndpointWeChat struct {
	Token          Secret `yaml:"token"`
	EncodingAESKey Secret `yaml:"encoding_aes_key"`
	Mode           string `yaml:"mode"`   // secure | compat | plain
	Format         string `yaml:"format"` // same | xml | json
}

// Filter narrows the events of an endpoint: an event passes when each given list has its value. A field that an event
// does not have is not filtered on.
type Filter struct {
	App        []string `yaml:"app"`
	Event      []string `yaml:"event"` // WeChat's names
	TemplateID []string `yaml:"template_id"`
	OpenID     []string `yaml:"openid"`
}

// Rate is a steady rate with a burst.
type Rate struct {
	PerSecond float64 `yaml:"per_second"`
	Burst     int     `yaml:"burst"`
}

// Retention is how long what has ended stays readable.
type Retention struct {
	Messages time.Duration `yaml:"messages"`
	Events   time.Duration `yaml:"events"`
	Buried   time.Duration `yaml:"buried"`
	MaxBytes Size          `yaml:"max_bytes"` // of delivered events over all of Redis; 0 = no limit, and all that is taken so far
}

// Limits bounds what one request and one client may ask.
type Limits struct {
	Body        Size `yaml:"body"`
	ProxyBody   Size `yaml:"proxy_body"`
	Batch       int  `yaml:"batch"`
	MPPerIP     Rate `yaml:"mp_per_ip"`
	MPPerOpenID Rate `yaml:"mp_per_openid"`
}

// Messages steers sending.
type Messages struct {
	UnknownDeadline time.Duration `yaml:"unknown_deadline"`
	HeldPerUser     int           `yaml:"held_per_user"`
}

// Queue steers the work that waits.
type Queue struct {
	Lease time.Duration `yaml:"lease"` // of what a worker has in hand
}

// Subscriptions is the policy of the account of consent.
type Subscriptions struct {
	Trust         string        `yaml:"trust"` // event | client | both
	PairingWindow time.Duration `yaml:"pairing_window"`
	PopupReject   string        `yaml:"popup_reject"` // keep | clear
	UnprovenMax   int           `yaml:"unproven_max"`
}

// AppSubscriptions is that policy where an app differs; once loaded, what it leaves out is the policy's.
type AppSubscriptions Subscriptions

// Log is the form of the log on stderr.
type Log struct {
	Level  string `yaml:"level"`  // debug | info | warn | error
	Format string `yaml:"format"` // json | console
}

// Tracing says where spans are exported to.
type Tracing struct {
	Endpoint string  `yaml:"endpoint"` // an OTLP receiver over HTTP; "" = off
	Sample   float64 `yaml:"sample"`   // the share of traces that are kept, 0 to 1
}

// unsaid is what an app leaves to the policy of all.
const unsaid = math.MinInt

// privateNetworks are trusted_proxies where none are given: loopback, RFC 1918, RFC 6598 and RFC 4193.
var privateNetworks = []string{"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"}

// inherit fills what the apps leave out, and trusted_proxies.
func (c *Config) inherit() {
	if len(c.TrustedProxies) == 0 {
		for _, p := range privateNetworks {
			c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix(p))
		}
	}
	for i := range c.Apps {
		a, all := &c.Apps[i].Subscriptions, &c.Subscriptions
		a.Trust, a.PopupReject = cmp.Or(a.Trust, all.Trust), cmp.Or(a.PopupReject, all.PopupReject)
		if a.PairingWindow == unsaid {
			a.PairingWindow = all.PairingWindow
		}
		if a.UnprovenMax == unsaid {
			a.UnprovenMax = all.UnprovenMax
		}
	}
}

// AgelessApps lists the apps that take pushes of any age.
func (c *Config) AgelessApps() (ids []string) {
	for _, a := range c.Apps {
		if a.Push.MaxAge == 0 {
			ids = append(ids, a.ID)
		}
	}
	return ids
}

// What is taken when nothing is said; one method per part, called before the part is filled.

func (c *Config) defaults() {
	c.Listen = ":8080"
	c.ShutdownGrace = 20 * time.Second
}
func (a *Admin) defaults() { a.Listen = "127.0.0.1:8081" }
func (r *Redis) defaults() { r.URL, r.Shards = newURL("redis://127.0.0.1:6379/0"), 16 }
func (w *WeChat) defaults() {
	w.BaseURL, w.Timeout = "https://api.weixin.qq.com", 5*time.Second
}
func (a *App) defaults()       { a.Kind = "miniprogram" }
func (p *Push) defaults()      { p.Mode, p.MaxAge, p.Reply = "secure", 24*time.Hour, "success" }
func (t *Token) defaults()     { t.Source = "stable" }
func (p *Partner) defaults()   { p.Rate = Rate{PerSecond: 200, Burst: 400} }
func (u *AdminUser) defaults() { u.Role = "operator" }
func (e *Endpoint) defaults() {
	e.Events, e.Kind, e.Timeout, e.InFlight, e.Order = []string{"*"}, "webhook", 15*time.Second, 10, "none"
}
func (w *EndpointWeChat) defaults() { w.Mode, w.Format = "secure", "same" }
func (t *Tracing) defaults()        { t.Sample = 1 }
func (r *Retention) defaults() {
	r.Messages, r.Events, r.Buried = 7*24*time.Hour, 7*24*time.Hour, 30*24*time.Hour
}
func (l *Limits) defaults() {
	*l = Limits{Body: 256 << 10, ProxyBody: 12 << 20, Batch: 1000,
		MPPerIP: Rate{PerSecond: 20, Burst: 40}, MPPerOpenID: Rate{PerSecond: 5, Burst: 10}}
}
func (m *Messages) defaults() { m.UnknownDeadline, m.HeldPerUser = 15*time.Minute, 100 }
func (q *Queue) defaults()    { q.Lease = 30 * time.Second }
func (s *Subscriptions) defaults() {
	*s = Subscriptions{Trust: "both", PairingWindow: time.Minute, PopupReject: "keep", UnprovenMax: 3}
}
func (s *AppSubscriptions) defaults() {
	*s = AppSubscriptions{PairingWindow: unsaid, UnprovenMax: unsaid}
}
func (l *Log) defaults() { l.Level, l.Format = "info", "json" }
