package gateway

import (
	"crypto/sha256"
	"hash"
	"sync"
	"time"

	"github.com/wxrelay/wxrelay/relay"
)

// Refusal is a partner request whose signature proves nothing, for the operator: the caller gets one and the same 401.
type Refusal struct {
	RequestID string
	Partner   string        // as the path has it, at most 64 bytes
	Known     bool          // there is such a partner
	Cause     string        // partner, or a relay.Cause: headers, id, skew, secret, payload
	Skew      time.Duration // how far the caller's clock is ahead; 0 when its timestamp is no number
	Client    string        // its address
}

// causePartner is a partner nobody knows.
const causePartner = "partner"

// digests are reused.
var digests = sync.Pool{New: func() any { return sha256.New() }}

// prove reads the request's body while it checks the signature over it. What its headers already show to be worth
// nothing is refused before a byte of the body is read, an unknown partner too; the length it announces is not looked
// at before.
func (g *Handler) prove(r *partnerRequest, route partnerRoute) error {
	name := param(r.Context, "partner")
	var skew time.Duration
	refuse := func(known bool, cause string) error {
		g.refused(Refusal{RequestID: requestIDOf(r.Context), Partner: name[:min(len(name), 64)], Known: known, Cause: cause, Skew: skew,
			Client: g.limits.Load().TrustedProxies.Client(r.Request)})
		return errUnauthorized
	}
	partner, known := g.relay.Partner(name)
	var cause relay.Cause
	if r.claim, skew, cause = relay.ReadClaim(r.Request.Header, time.Now()); cause != "" {
		return refuse(known, string(cause))
	}
	if !known {
		return refuse(false, causePartner)
	}
	limits := g.limits.Load()
	most := limits.Body
	if route.large {
		most = limits.ProxyBody
	}
	budgets := g.budgetsOf(partner.Name)
	p := &r.proof
	p.verifier, p.digest = r.claim.Verifier(partner.Secrets), digests.Get().(hash.Hash)
	defer digests.Put(p.digest)
	p.digest.Reset()
	prefix := limits.TrustedProxies.prefix(r.Request)
	if !route.raw {
		_, _ = p.verifier.Write(p.target(r.Request.Method, prefix, r.Request.RequestURI))
	}
	_, _ = p.digest.Write(p.target(r.Request.Method, "", r.Request.RequestURI))
	if err := r.held.read(r.Writer, r.Request, most, p, [2]*budget{&g.unprovenBytes, &budgets.unproven}); err != nil {
		return err
	}
	if !p.verifier.Proven() {
		return refuse(true, string(g.why(r, partner.Secrets, route, prefix)))
	}
	r.partner, r.id = partner, r.claim.ID
	p.digest.Sum(r.digest[:0])
	return r.held.move(&budgets.proven)
}

// proof is a request's signature and digest while its body arrives.
type proof struct {
	verifier relay.Verifier
	digest   hash.Hash
	line     []byte
}

// Write takes the next piece of the body.
func (p *proof) Write(b []byte) (int, error) {
	_, _ = p.verifier.Write(b)
	return p.digest.Write(b)
}

// target is what is signed before the body: METHOD SP target LF. Good until the next call.
func (p *proof) target(method, prefix, target string) []byte {
	line := append(append(p.line[:0], method...), ' ')
	p.line = append(append(append(line, prefix...), target...), '\n')
	return p.line
}

// why tells a wrong payload from a wrong secret, by what else the caller may have signed: the other routes' payload, or
// the target as it is behind the proxy.
func (g *Handler) why(r *partnerRequest, secrets []relay.Secret, route partnerRoute, prefix string) relay.Cause {
	if r.held.length > maxExplained {
		return relay.CauseSecret
	}
	try := func(whole bool, prefix string) bool {
		v := r.claim.Verifier(secrets)
		if whole {
			_, _ = v.Write(r.proof.target(r.Request.Method, prefix, r.Request.RequestURI))
		}
		for _, part := range r.held.parts {
			_, _ = v.Write(*part)
		}
		return v.Proven()
	}
	if try(route.raw, prefix) || prefix != "" && !route.raw && try(true, "") {
		return relay.CausePayload
	}
	return relay.CauseSecret
}

// maxExplained is the longest body that is hashed once more to explain a refusal.
const maxExplained = 64 << 10

// budgetsOf is the shares of a known partner.
func (g *Handler) budgetsOf(partner string) *partnerBudgets {
	if have, ok := g.partnerBytes.Load(partner); ok {
		return have.(*partnerBudgets)
	}
	largest := g.limits.Load().ProxyBody + bodySlack
	made := &partnerBudgets{}
	made.unproven.limit, made.proven.limit = unprovenPartnerBodies*largest, provenPartnerBodies*largest
	have, _ := g.partnerBytes.LoadOrStore(partner, made)
	return have.(*partnerBudgets)
}
