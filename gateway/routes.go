// Package gateway owns how the product looks from outside: every route, every error, every limit of requests. What
// happens behind them is relay's. It is the only user of Gin, and keeps no state but the memory of its limits.
//
//	WeChat        /callback/{app}               -> callback.Handler
//	mini-program  /mp/{app}/...                 -> rate -> session -> body -> relay
//	partner       /v1/partners/{partner}/...    -> headers -> body, proven as it arrives -> rate -> right -> idempotency -> relay
//	operator      Admin, on another listener    -> console, metrics, health
package gateway

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/gateway/docs"
	"github.com/wxrelay/wxrelay/relay"
)

// Limits is what the public handler takes at most, and from whom. Zero values get the defaults named here.
type Limits struct {
	Body           int64   // bytes of one request; 256 KiB
	ProxyBody      int64   // bytes of a batch or of a call passed on to WeChat; 12 MiB
	MPPerIP        Rate    // of one client address of mini-programs; 20/s, 40 at once
	MPPerOpenID    Rate    // of one user there; 5/s, 10 at once
	TrustedProxies Proxies // whose X-Forwarded-* headers count; DefaultProxies
}

// Options is what the public handler is made of.
type Options struct {
	Relay    *relay.Relay
	Callback *callback.Handler
	Answers  *relay.IdempotencyStore
	Limits   Limits
	Version  string
	// Served is called after every answer: its route ("none" = there is no such), method, status, and how long it took. It must
	// not block. nil = not called.
	Served func(route, method string, status int, took time.Duration)
	// Fault is called with every error whose answer says less than what happened: 500, 503 and the cause of a 502, and
	// with the answer's request_id. It must not block. nil = not called.
	Fault func(requestID, route string, err error)
	// Refused is called with every partner request whose signature proves nothing. It must not block. nil = not called.
	Refused func(Refusal)
	// Stopping, when it answers true, has every new request answered 503. nil = never.
	Stopping func() bool
}

// Handler answers at the public address.
type Handler struct {
	relay    *relay.Relay
	callback *callback.Handler
	answers  *relay.IdempotencyStore
	limits   atomic.Pointer[Limits]
	fault    func(requestID, route string, err error)
	refused  func(Refusal)
	stopping func() bool
	version  string
	docs     *docs.Docs
	partners *rateLimiter // by partner
	clients  *rateLimiter // by client address
	users    *rateLimiter // by app and openid
	engine   *gin.Engine

	clientBytes   budget   // of mini-programs' bodies
	unprovenBytes budget   // of partners' bodies while their signature is not proven
	partnerBytes  sync.Map // partner name -> *partnerBudgets; names come from the rules
}

// partnerBudgets are one partner's shares.
type partnerBudgets struct {
	unproven budget // of unprovenBytes, so that what is claimed in one name leaves room for the others
	proven   budget
}

// How many bytes unfinished requests may hold past their first 4 KiB (decision 9). What is counted in bodies is counted
// in the largest that is taken, limits.proxy_body.
const (
	maxClientBytes        = 16 << 20
	unprovenBodies        = 4
	unprovenPartnerBodies = 2
	provenPartnerBodies   = 4
	bodySlack             = 128 << 10 // what a body's last buffer may be larger than its rest
)

func init() { gin.SetMode(gin.ReleaseMode) }

// Public makes the handler of WeChat, mini-programs and partners.
func Public(o Options) *Handler {
	g := &Handler{relay: o.Relay, callback: o.Callback, answers: o.Answers, fault: o.Fault, refused: o.Refused, stopping: o.Stopping,
		version: o.Version, docs: newDocs(o.Version), partners: newRateLimiter(), clients: newRateLimiter(), users: newRateLimiter()}
	if g.fault == nil {
		g.fault = func(string, string, error) {}
	}
	if g.refused == nil {
		g.refused = func(Refusal) {}
	}
	if g.stopping == nil {
		g.stopping = func() bool { return false }
	}
	g.SetLimits(o.Limits)
	largest := g.limits.Load().ProxyBody
	g.clientBytes.limit, g.unprovenBytes.limit = maxClientBytes, unprovenBodies*(largest+bodySlack)
	e := gin.New()
	e.RedirectTrailingSlash, e.HandleMethodNotAllowed, e.ForwardedByClientIP = false, true, false
	e.UseEscapedPath, e.UnescapePathValues = true, false // a %2F in a partner's user id is not a slash; param unescapes
	if o.Served != nil {
		e.Use(measure(o.Served))
	}
	e.NoRoute(g.outer, func(c *gin.Context) { g.refuse(c, errNoRoute) })
	e.NoMethod(g.outer, func(c *gin.Context) { g.refuse(c, errNoMethod) }) // gin has set Allow
	g.routes(e)
	g.engine = e
	return g
}

// SetLimits replaces the limits from the next request on.
func (g *Handler) SetLimits(l Limits) {
	if l.Body <= 0 {
		l.Body = 256 << 10
	}
	if l.ProxyBody <= 0 {
		l.ProxyBody = 12 << 20
	}
	if l.MPPerIP.PerSecond <= 0 {
		l.MPPerIP = Rate{20, 40}
	}
	if l.MPPerOpenID.PerSecond <= 0 {
		l.MPPerOpenID = Rate{5, 10}
	}
	if len(l.TrustedProxies) == 0 {
		l.TrustedProxies = DefaultProxies()
	}
	g.limits.Store(&l)
}

func (g *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.engine.ServeHTTP(w, r) }

// routes is the whole public map.
func (g *Handler) routes(e *gin.Engine) {
	push := func(c *gin.Context) { g.callback.ServeApp(c.Writer, c.Request, param(c, "app")) }
	for _, path := range []string{"/callback/:app", "/callback/:app/"} { // one slash at the end is the same URL
		e.GET(path, g.quiet, push)
		e.POST(path, g.quiet, push)
	}

	e.GET("/healthz", healthy)
	e.HEAD("/healthz", healthy)

	for _, path := range []string{"/docs", "/docs/*page", "/openapi.yaml", "/llms.txt"} {
		e.GET(path, g.outer, g.docsPage)
	}
	e.GET("/problems", g.outer, g.problemPages)
	e.GET("/problems/:code", g.outer, g.problemPage)

	mp := e.Group("/mp/:app", g.outer, g.perClient)
	for _, r := range g.mpRoutes() {
		mp.Handle(r.method, r.path, g.serveMP(r))
	}
	partners := e.Group("/v1/partners/:partner", g.outer)
	for _, r := range g.partnerRoutes() {
		partners.Handle(r.method, r.path, g.serve(r))
	}
	for _, method := range proxyMethods {
		partners.Handle(method, proxyRoute, g.serveProxy())
	}
	g.compatRoutes(e)
}

// healthy answers while the process serves, whatever else does not work, and says nothing else; load balancers ask it.
func healthy(c *gin.Context) { writeBytes(c.Writer, http.StatusOK, "", nil) }
