package gateway

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// ask is one proven request of a partner.
type ask struct {
	*gin.Context
	partner relay.Partner
	id      string   // webhook-id
	digest  [32]byte // SHA-256 of the whole request: method, target and body
	body    []byte   // borrowed: nothing of it may be kept past the request
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
	keeps        bool   // the journey itself remembers the webhook-id: the inbox is not asked
	run          func(ctx context.Context, a *ask) (reply, error)
}

// serve is the way of every partner request: its bytes, its proof, its rate, its rights, and, unless it only reads, its
// place in the inbox. Nothing of it is parsed before it is proven.
func (g *Gate) serve(route partnerRoute) gin.HandlerFunc {
	return func(c *gin.Context) {
		limits := g.limits.Load()
		most := limits.Body
		if route.large {
			most = limits.ProxyBody
		}
		body, release, err := read(c.Writer, c.Request, most)
		if err != nil {
			g.refuse(c, err)
			return
		}
		defer release()
		a := &ask{Context: c, body: body}
		err = g.prove(a, route)
		if err == nil {
			err = g.admit(a, route)
		}
		if err != nil {
			g.refuse(c, err)
			return
		}
		if c.Request.Method != http.MethodGet && !route.keeps {
			g.once(a, route)
			return
		}
		out, err := route.run(c.Request.Context(), a)
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

// prove checks the signature over the bytes as they came. An unknown partner has no secrets and costs the same work.
func (g *Gate) prove(a *ask, route partnerRoute) error {
	r := a.Request
	partner, known := g.relay.Partner(param(a.Context, "partner"))
	whole := webhook.TargetPayload(r.Method, r.RequestURI, a.body)
	payload := whole
	if route.raw {
		payload = a.body
	}
	if err := webhook.Verify(partner.Secrets, r.Header, payload, time.Now()); err != nil || !known {
		return errUnauthorized
	}
	a.partner, a.id, a.digest = partner, r.Header.Get("Webhook-Id"), sha256.Sum256(whole)
	return nil
}

// admit checks what a proven partner may do, and how often.
func (g *Gate) admit(a *ask, route partnerRoute) error {
	p := &a.partner
	if wait := g.partners.take(p.Name, Rate{p.PerSecond, p.Burst}, time.Now()); wait > 0 {
		return &fault{code: RateLimited, detail: "more requests than this partner's rate allows", after: wait}
	}
	if !p.Allow[route.right] {
		return &fault{code: NotAllowed, detail: "this partner is not given the right `" + route.right + "`"}
	}
	if app := param(a.Context, "app"); app != "" && !p.MayUse(app) {
		return relay.ErrNotAllowed
	}
	return nil
}

// once answers a request that changes something: the first time by doing it, again by repeating the answer. Only 2xx is
// remembered. What is remembered fails open: the journeys know the id too, so an answer that could not be kept is given.
func (g *Gate) once(a *ask, route partnerRoute) {
	ctx := a.Request.Context()
	visit, err := g.inbox.Begin(ctx, a.partner.Name, a.id, a.digest)
	if err != nil {
		g.refuse(a.Context, err)
		return
	}
	if first := visit.Replay(); first != nil {
		a.Writer.Header()["Idempotent-Replayed"] = yes
		writeBytes(a.Writer, first.Status, "application/json", first.Body)
		return
	}
	open := true
	drop := func() { // before the answer leaves: the same request may come again at once
		if open {
			open = false
			if err := visit.Drop(context.WithoutCancel(ctx)); err != nil {
				g.fault(requestIDOf(a.Context), "forgetting a webhook-id", err)
			}
		}
	}
	defer drop() // a panic
	out, err := route.run(ctx, a)
	if err != nil {
		drop()
		g.refuse(a.Context, err)
		return
	}
	page := encode(out.body)
	defer page.free()
	if out.open {
		drop()
	} else {
		open = false
		if err := visit.Keep(context.WithoutCancel(ctx), webhook.Answer{Status: out.status, Body: page.Bytes()}); err != nil {
			g.fault(requestIDOf(a.Context), "keeping an answer for its webhook-id", err)
		}
	}
	writeBytes(a.Writer, out.status, "application/json", page.Bytes())
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

// list is the answer of every list.
type list[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next_cursor"`
}

// listOf makes a list answer; no items is [], no cursor null.
func listOf[T any](items []T, next string) list[T] {
	if items == nil {
		items = []T{}
	}
	l := list[T]{Items: items}
	if next != "" {
		l.Next = &next
	}
	return l
}
