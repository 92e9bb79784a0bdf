package gateway

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/wxrelay/wxrelay/relay"
)

// partnerRequest is one request of a partner, proven where routes see it.
type partnerRequest struct {
	*gin.Context
	partner relay.Partner
	id      string   // webhook-id
	digest  [32]byte // SHA-256 of the whole request: method, target and body
	body    []byte   // borrowed: nothing of it may be kept past the request

	held  body
	claim relay.Claim
	proof proof
}

// partnerRequests are reused: a request is not kept past its answer.
var partnerRequests = sync.Pool{New: func() any { return &partnerRequest{} }}

func (r *partnerRequest) release() {
	r.held.release()
	*r = partnerRequest{proof: proof{line: r.proof.line[:0]}}
	partnerRequests.Put(r)
}

// reply is what a route answers.
type reply struct {
	status int
	body   any // encoded as JSON; nil = no body
	// open has a 2xx answer not remembered for its webhook-id: parts of it may do better next time (decision 3)
	open  bool
	again bool // it was given before
}

// partnerRoute is one row of the partners' route table.
type partnerRoute struct {
	method, path string
	right        string // which of partners[].allow it needs
	raw          bool   // the signature is over the raw body alone, so that any Standard Webhooks sender can call it
	large        bool   // limits.proxy_body counts, not limits.body
	keeps        bool   // the journey itself remembers the webhook-id: the idempotency store is not asked
	run          func(ctx context.Context, r *partnerRequest) (reply, error)
}

// serve is the way of every partner request: the claim of its headers, its body, its proof, its rate, its rights, and,
// unless it only reads, its place in the idempotency store. Nothing of it is parsed before it is proven.
func (g *Handler) serve(route partnerRoute) gin.HandlerFunc {
	return func(c *gin.Context) {
		r := partnerRequests.Get().(*partnerRequest)
		r.Context = c
		defer r.release()
		err := g.prove(r, route)
		if err == nil {
			defer g.trace(c, r.partner.Name, param(c, "app"))()
			r.body = r.held.bytes()
			err = g.admit(r, route)
		}
		if err != nil {
			g.refuse(c, err)
			return
		}
		if c.Request.Method != http.MethodGet && !route.keeps {
			g.once(r, route)
			return
		}
		out, err := route.run(c.Request.Context(), r)
		if err != nil {
			g.refuse(c, err)
			return
		}
		if out.again {
			c.Writer.Header()["Idempotent-Replayed"] = yes
		}
		writeReply(c.Writer, out)
	}
}

// admit checks what a proven partner may do, and how often.
func (g *Handler) admit(r *partnerRequest, route partnerRoute) error {
	p := &r.partner
	if wait := g.partners.take(p.Name, Rate{p.PerSecond, p.Burst}, time.Now()); wait > 0 {
		return &fault{code: RateLimited, detail: "more requests than this partner's rate allows", after: wait}
	}
	if !p.Allow[route.right] {
		return &fault{code: NotAllowed, detail: "this partner is not given the right `" + route.right + "`"}
	}
	if app := param(r.Context, "app"); app != "" && !p.MayUse(app) {
		return relay.ErrNotAllowed
	}
	return nil
}

// once answers a request that changes something: the first time by doing it, again by repeating the answer. Only 2xx is
// remembered. What is remembered fails open: the journeys know the id too, so an answer that could not be kept is
// given.
func (g *Handler) once(r *partnerRequest, route partnerRoute) {
	ctx := r.Request.Context()
	attempt, err := g.answers.Begin(ctx, r.partner.Name, r.id, r.digest)
	if err != nil {
		g.refuse(r.Context, err)
		return
	}
	if first := attempt.Replay(); first != nil {
		r.Writer.Header()["Idempotent-Replayed"] = yes
		writeBytes(r.Writer, first.Status, "application/json", first.Body)
		return
	}
	open := true
	drop := func() { // before the answer leaves: the same request may come again at once
		if open {
			open = false
			if err := attempt.Drop(context.WithoutCancel(ctx)); err != nil {
				g.fault(requestIDOf(r.Context), "forgetting a webhook-id", err)
			}
		}
	}
	defer drop() // a panic
	out, err := route.run(ctx, r)
	if err != nil {
		drop()
		g.refuse(r.Context, err)
		return
	}
	page := encode(out.body)
	defer page.free()
	if out.open {
		drop()
	} else {
		open = false
		if err := attempt.Keep(context.WithoutCancel(ctx), relay.Answer{Status: out.status, Body: page.Bytes()}); err != nil {
			g.fault(requestIDOf(r.Context), "keeping an answer for its webhook-id", err)
		}
	}
	writeBytes(r.Writer, out.status, "application/json", page.Bytes())
}

var yes = []string{"true"}

// param is a path parameter as the caller meant it.
func param(c *gin.Context, name string) string {
	s := c.Param(name)
	for i := range len(s) {
		if s[i] == '%' {
			if p, err := url.PathUnescape(s); err == nil {
				return p
			}
			break
		}
	}
	return s
}
