// Package relay owns the journeys: what happens, from end to end, when WeChat pushes, a partner sends, a user logs in or
// a mini-program reports a choice. It is the only place that sees two of its packages at once, and it keeps nothing itself: every
// step is one atomic [queue.Change] on the shard of the user it is about, so a crash between two steps finds either the
// work still queued or its consequences already booked.
//
//	push in ---> Accept: {dedupe mark + ledger movements + job}          one change, then "success"
//	                `-> worker: tell partners, settle receipts, release held messages
//	partner --> Send: {reserve a credit + message job}                   one change, then 202
//	                `-> worker: WeChat's send, then {end + spend|return|void + partner events}  one change
//	code -----> Login: openid and a session; the session_key stays inside
//	report ---> Report: {ledger movements, paired with WeChat's event + job}
//
// The rules these journeys keep are of the design: nothing is acknowledged before it is durable, a person is never
// written to twice, no grant is used twice or lost, one token refresh at a time.
package relay

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// App is one WeChat account as the journeys see it.
type App struct {
	Name  string // the name in our URLs
	AppID string
	Kind  string // miniprogram | official_account
	// PushMaxAge is how old a push may be that is still taken; 0 = any age, and replays of old ones cannot all be known.
	PushMaxAge time.Duration
	// ReplyEndpoint ("partner/endpoint") answers pushes in WeChat's 5 seconds when the app's reply is `partner`.
	ReplyEndpoint string
	// Reply is what WeChat hears: success | transfer_customer_service | partner. "" is success.
	Reply string
	// PhoneEcho gives the number of a phone code to the mini-program too, not to partners alone.
	PhoneEcho bool
	// Consent is whose word grants credits of its lines.
	Consent ledger.Policy
	// Templates are the names by which partners may call templates, so that they carry neither ids nor keywords.
	Templates map[string]Alias
	// Counts are the templates, by WeChat's id, that are counted otherwise than WeChat lists them.
	Counts map[string]Counting
}

// Counting is how consent for a template is counted where WeChat's list does not tell.
type Counting struct {
	Kind    ledger.Kind   // rate_limited | device
	Every   time.Duration // rate_limited: one message in this time
	Keyword string        // for each value of this keyword
}

// Partner is a system that may ask and is told.
type Partner struct {
	Name      string
	Secrets   []webhook.Secret
	Apps      []string
	Allow     map[string]bool // messages subscriptions bindings tokens wechat_api endpoints session_keys
	Endpoints []webhook.Endpoint
	WeChat    map[string]WeChatKeys // of endpoints of kind wechat, by id
	PerSecond float64               // requests a second it may make; 0 = no limit
	Burst     int

	WeChatSecret string   // by which its systems are known at the WeChat-compatible face; "" = they are not
	WeChatPaths  []string // what wechat_api reaches: see [Partner.mayCall]
}

// MayUse tells whether the partner is given the app.
func (p Partner) MayUse(app string) bool {
	for _, a := range p.Apps {
		if a == app {
			return true
		}
	}
	return false
}

// Rules is what the operator decided; it can be replaced while running.
type Rules struct {
	Apps            map[string]App
	Partners        map[string]Partner
	KeepMessages    time.Duration // how long an ended message can be read
	KeepEvents      time.Duration // how long a delivery can be read and replayed
	KeepBuried      time.Duration // how long one that was given up, or is held, can be replayed
	HeldPerEndpoint int           // deliveries that may wait for one endpoint that takes none; 0 = 20000
	UnknownDeadline time.Duration // how long WeChat's report may settle an unknown send
	BatchLimit      int           // messages in one batch
	HeldPerUser     int           // messages one user may have waiting for a credit; 0 = 100
}

// Dependencies are the packages that the journeys join.
type Dependencies struct {
	Queue    *queue.Queue
	Ledger   *ledger.Ledger
	WeChat   *wechat.Client
	Sender   *webhook.Sender
	Health   *webhook.Health
	Registry *webhook.Registry // nil: no endpoints are made over the API
	Bindings *binding.Book
	Sealer   binding.Sealer // for what must not be readable in Redis; zero = readable
	Log      *zap.Logger    // nil = silent
	Observe  Observer
}

// Observer counts outcomes for the operator; nil functions are skipped.
type Observer struct {
	Push     func(app, event, result string)
	Send     func(app, channel string, errcode int, outcome string)
	Delivery func(partner, result string, took time.Duration)
	Dropped  func(partner string, deliveries int) // more waited for an endpoint than may
	Moved    func(app, cause string)              // a credit that a user granted or took back
	Replayed func(partner string, deliveries int) // what a replay of many has queued again
	// Span begins a span of a trace: see [Relay.BeginSpan]. nil = nothing is traced.
	Span func(ctx context.Context, parent, name string) (context.Context, *Span)
}

// Relay runs the journeys. Its methods are safe for concurrent use.
type Relay struct {
	q         *queue.Queue
	ledger    *ledger.Ledger
	wechat    *wechat.Client
	sender    *webhook.Sender
	health    *webhook.Health
	registry  *webhook.Registry
	endpoints endpoints
	bindings  *binding.Book
	sealer    binding.Sealer
	log       *zap.Logger
	observe   Observer
	rules     atomic.Pointer[Rules]
	templates *wechat.TemplateCache
	alerts    alerts
	given     given

	callers     atomic.Pointer[callers] // of the WeChat-compatible face
	generations generations
	quotas      quotas

	throttle throttle
	retired  retired
}

// New joins the packages under the rules. Call Register before the queue runs.
func New(deps Dependencies, rules Rules) *Relay {
	r := &Relay{q: deps.Queue, ledger: deps.Ledger, wechat: deps.WeChat, sender: deps.Sender, health: deps.Health, registry: deps.Registry,
		bindings: deps.Bindings, sealer: deps.Sealer, log: deps.Log, observe: deps.Observe}
	if r.log == nil {
		r.log = zap.NewNop()
	}
	r.templates = wechat.NewTemplateCache(r.wechat.Templates)
	r.throttle.slots = func(at route, concurrency int) {
		for _, p := range priorities {
			r.q.Slots(sendLane(at.app, at.channel, p), concurrency)
		}
	}
	r.endpoints.wake, r.endpoints.leaving = make(chan struct{}, 1), map[endpointKey]struct{}{}
	r.SetRules(rules)
	return r
}

// SetRules replaces the rules for everything that starts from now on.
func (r *Relay) SetRules(rules Rules) {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&rules.KeepMessages, 7*24*time.Hour)
	def(&rules.KeepEvents, 7*24*time.Hour)
	def(&rules.KeepBuried, 30*24*time.Hour)
	def(&rules.UnknownDeadline, 15*time.Minute)
	if rules.BatchLimit <= 0 {
		rules.BatchLimit = 1000
	}
	if rules.HeldPerUser <= 0 {
		rules.HeldPerUser = 100
	}
	if rules.HeldPerEndpoint <= 0 {
		rules.HeldPerEndpoint = defaultHeld
	}
	r.endpoints.mu.Lock()
	r.endpoints.configured = rules
	r.endpoints.version = "" // of other partners perhaps: read again
	r.apply()
	r.endpoints.mu.Unlock()
	r.callers.Store(callersOf(&rules))
	r.stirBacklog()
	r.templates.SetApps(slices.Collect(maps.Keys(rules.Apps)))
}

// Register puts the journeys' second halves on the queue. The lease is the queue's own (its Options).
func (r *Relay) Register() {
	r.q.Handle(lanePush, queue.Group{Concurrency: 64, PerLane: 64}, r.followPush)
	for _, group := range []string{laneSendHigh, laneSend, laneSendBulk} {
		r.q.Handle(group, queue.Group{Concurrency: 2 * sendsPerLane, PerLane: sendsPerLane}, r.sendOne)
	}
	r.q.Handle(laneDeliver, queue.Group{Concurrency: 512, PerLane: webhook.MaxInFlight, Ahead: 512}, r.deliverOne)
	r.q.Handle(laneBinding, queue.Group{Concurrency: 32, PerLane: 32}, r.followBinding)
	r.endpoints.mu.Lock()
	r.apply() // how many attempts an endpoint may have in flight
	r.endpoints.mu.Unlock()
	r.q.Handle(laneReplay, queue.Group{Concurrency: 4, PerLane: 1}, r.replaySome)
	r.q.Handle(laneRelease, queue.Group{Concurrency: 32, PerLane: 32}, r.releaseHeld)
	r.q.Handle(laneAudience, queue.Group{Concurrency: 4, PerLane: 2}, r.followAudienceSend)
	r.q.Handle(laneErase, queue.Group{Concurrency: 4, PerLane: 4}, r.followErase)
}

// Groups of lanes: the text before a lane's first colon.
const (
	lanePush     = "push"
	laneSend     = "send" // of normal priority
	laneSendHigh = "sendhigh"
	laneSendBulk = "sendbulk"
	laneDeliver  = "deliver"
	laneRelease  = "release"
	laneBinding  = "binding"
	laneAudience = "audience"
	laneErase    = "erase"
)

// Rules are those in force: the operator's, with the endpoints that partners made.
func (r *Relay) Rules() Rules { return *r.rules.Load() }

// Partner returns a partner by its name.
func (r *Relay) Partner(name string) (Partner, bool) {
	p, ok := r.rules.Load().Partners[name]
	return p, ok
}

// App returns an app by its name.
func (r *Relay) App(name string) (App, bool) {
	a, ok := r.rules.Load().Apps[name]
	return a, ok
}

// appOf is the app if the partner may use it; anything else is ErrNotAllowed, so that names of foreign apps do not show.
func (r *Relay) appOf(partner, app string) (App, error) {
	rules := r.rules.Load()
	a, ok := rules.Apps[app]
	if !ok || !rules.Partners[partner].MayUse(app) {
		return App{}, ErrNotAllowed
	}
	return a, nil
}

// ShortID shortens an openid for logs: enough to tell two apart, not enough to write to one.
func ShortID(openid string) string {
	if len(openid) <= 8 {
		return openid
	}
	return openid[:6] + "…" + openid[len(openid)-2:]
}
