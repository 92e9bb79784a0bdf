// Package gateway owns how the product looks from outside: every route, every error, every limit at the doors. It says
// nothing about what happens behind them; that is relay's. It is the only home of Gin, and it keeps no state but the
// short memory of its rate limits.
//
//	WeChat        /callback/{app}               -> callback.Door
//	mini-program  /mp/{app}/...                 -> rate -> session -> relay
//	partner       /v1/partners/{partner}/...    -> bytes -> proof -> rate -> right -> inbox -> relay
//	operator      Admin, on another listener    -> console, metrics, health
package gateway

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"sync/atomic"

	"github.com/gin-gonic/gin"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// Limits is what the doors take at most. Zero values get the contract's defaults.
type Limits struct {
	Body        int64 // bytes of one request; 256 KiB
	ProxyBody   int64 // bytes of a batch or of a call passed on to WeChat; 12 MiB
	MPPerIP     Rate  // of one client address at the mini-program's door; 20/s, 40 at once
	MPPerOpenID Rate  // of one user there; 5/s, 10 at once
}

// Options is what the public door is made of.
type Options struct {
	Relay    *relay.Relay
	Callback *callback.Door
	Inbox    *webhook.IdempotencyStore
	Limits   Limits
	Version  string
	// Fault is told of every error the outside hears less about than it means: 500, 503 and the cause of a 502. It is
	// called with the answer's request_id and must not block. nil = nobody listens.
	Fault func(requestID, route string, err error)
	// Stopping, when it answers true, has every new request answered 503. nil = never.
	Stopping func() bool
}

// Gate is the public door.
type Gate struct {
	relay    *relay.Relay
	door     *callback.Door
	inbox    *webhook.IdempotencyStore
	limits   atomic.Pointer[Limits]
	fault    func(requestID, route string, err error)
	stopping func() bool
	version  string
	partners *meter // by partner
	clients  *meter // by client address
	users    *meter // by app and openid
	engine   *gin.Engine
}

func init() { gin.SetMode(gin.ReleaseMode) }

// Public builds the door WeChat, mini-programs and partners come to.
func Public(o Options) *Gate {
	g := &Gate{relay: o.Relay, door: o.Callback, inbox: o.Inbox, fault: o.Fault, stopping: o.Stopping, version: o.Version,
		partners: newMeter(), clients: newMeter(), users: newMeter()}
	if g.fault == nil {
		g.fault = func(string, string, error) {}
	}
	if g.stopping == nil {
		g.stopping = func() bool { return false }
	}
	g.SetLimits(o.Limits)
	e := gin.New()
	e.RedirectTrailingSlash, e.HandleMethodNotAllowed, e.ForwardedByClientIP = false, false, false
	e.UseEscapedPath, e.UnescapePathValues = true, false // a %2F in a partner's user id is not a slash; param unescapes
	e.NoRoute(g.outer, func(c *gin.Context) { g.refuse(c, errNoRoute) })
	g.routes(e)
	g.engine = e
	return g
}

// SetLimits replaces the limits from the next request on.
func (g *Gate) SetLimits(l Limits) {
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
	g.limits.Store(&l)
}

func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.engine.ServeHTTP(w, r) }

// routes is the whole public map, as the contract has it.
func (g *Gate) routes(e *gin.Engine) {
	hear := func(c *gin.Context) { g.door.Serve(c.Writer, c.Request, param(c, "app")) }
	for _, path := range []string{"/callback/:app", "/callback/:app/"} { // one slash at the end is the same URL
		e.GET(path, g.quiet, hear)
		e.POST(path, g.quiet, hear)
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
}

// outer names the request, and turns a panic into a 500 that says nothing of it.
func (g *Gate) outer(c *gin.Context) {
	c.Writer.Header()[requestIDHeader] = []string{requestID(c.Request.Header.Get(requestIDHeader))}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler {
			panic(p)
		}
		g.refuse(c, panicked(p))
		c.Abort()
	}()
	if g.stopping() {
		g.refuse(c, &fault{code: Unavailable, detail: "the gateway is starting or stopping", after: unavailableFor})
		c.Abort()
		return
	}
	c.Next()
}

// quiet is outer for WeChat: its answers carry no body and no request id, and a push that is not thanked comes again.
func (g *Gate) quiet(c *gin.Context) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler || c.Writer.Written() {
			panic(http.ErrAbortHandler)
		}
		g.fault("", c.FullPath(), panicked(p))
		c.Status(http.StatusInternalServerError)
		c.Writer.WriteHeaderNow()
		c.Abort()
	}()
	c.Next()
}

func panicked(p any) error { return fmt.Errorf("panic: %v\n%s", p, debug.Stack()) }

func requestIDOf(c *gin.Context) string { return c.Writer.Header().Get(requestIDHeader) }

// refuse answers with the error's problem, and tells the operator what the outside does not hear.
func (g *Gate) refuse(c *gin.Context, err error) {
	p := problemOf(err, requestIDOf(c))
	if p.cause != nil && c.Request.Context().Err() == nil {
		g.fault(p.RequestID, c.FullPath(), p.cause)
	}
	if !c.Writer.Written() {
		p.write(c.Writer)
	}
}
