package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/wxrelay/wxrelay/relay"
)

// mpRequest is one request of a mini-program.
type mpRequest struct {
	*gin.Context
	app, openid string // openid is "" where no session is asked for
	body        []byte // borrowed: nothing of it may be kept past the request
	held        body
}

// mpRoute is one row of the mini-program's route table.
type mpRoute struct {
	method, path string
	session      bool // needs Authorization: Bearer <session>
	run          func(ctx context.Context, r *mpRequest) (any, error)
}

func (g *Handler) mpRoutes() []mpRoute {
	return []mpRoute{
		{http.MethodPost, "/login", false, g.mpLogin},
		{http.MethodPost, "/subscriptions", true, g.mpReport},
		{http.MethodGet, "/subscriptions", true, g.mpSubscriptions},
		{http.MethodPost, "/settings", true, g.mpSettings},
		{http.MethodPost, "/bind", true, g.mpBind},
		{http.MethodPost, "/form-ids", true, g.mpFormID},
		{http.MethodPost, "/phone", true, g.mpPhone},
		{http.MethodDelete, "/session", true, g.mpLogOut},
	}
}

// perClient limits what one address may ask, before anything else is done for it.
func (g *Handler) perClient(c *gin.Context) {
	limits := g.limits.Load()
	if wait := g.clients.take(limits.TrustedProxies.limitKey(c.Request), limits.MPPerIP, time.Now()); wait > 0 {
		g.refuse(c, &fault{code: RateLimited, detail: "more requests than one client may make", after: wait})
		c.Abort()
	}
}

// serveMP is the way of every mini-program request: session, rate of the user, body, journey. No CORS headers are ever
// given: a mini-program needs none, a web page must not.
func (g *Handler) serveMP(route mpRoute) gin.HandlerFunc {
	return func(c *gin.Context) {
		r := &mpRequest{Context: c, app: param(c, "app")}
		ctx := c.Request.Context()
		if _, known := g.relay.App(r.app); !known {
			g.refuse(c, relay.ErrNotFound)
			return
		}
		if route.session {
			openid, err := g.relay.MPSession(ctx, r.app, bearer(c.Request))
			if err != nil {
				g.refuse(c, err)
				return
			}
			r.openid = openid
			if wait := g.users.take(r.app+"\x00"+openid, g.limits.Load().MPPerOpenID, time.Now()); wait > 0 {
				g.refuse(c, &fault{code: RateLimited, detail: "more requests than one user may make", after: wait})
				return
			}
		}
		defer r.held.release()
		if err := r.held.read(c.Writer, c.Request, g.limits.Load().Body, nil, [2]*budget{&g.clientBytes}); err != nil {
			g.refuse(c, err)
			return
		}
		r.body = r.held.bytes()
		out, err := route.run(ctx, r)
		if err != nil {
			g.refuse(c, err)
			return
		}
		writeJSON(c.Writer, http.StatusOK, "application/json", out)
	}
}

// bearer is the session a request shows; one that shows none, or two, gets what a wrong one gets.
func bearer(r *http.Request) string {
	all := r.Header["Authorization"]
	if len(all) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(all[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// verbatim proves that a body is one JSON object of Unicode text and hands it on as it came.
func verbatim(body []byte) (json.RawMessage, error) {
	var whole json.RawMessage
	return whole, decode(body, &whole)
}

func (g *Handler) mpLogin(ctx context.Context, r *mpRequest) (any, error) {
	var in struct {
		Code string `json:"code"`
	}
	if err := loose(r.body, &in); err != nil {
		return nil, err
	}
	if in.Code == "" {
		return nil, invalid("code", "is missing: it comes from wx.login")
	}
	return g.relay.Login(ctx, r.app, in.Code)
}

// mpReport takes the object wx.requestSubscribeMessage returned. X-Request-Id, when the client gave one, names the
// report.
func (g *Handler) mpReport(ctx context.Context, r *mpRequest) (any, error) {
	body, err := verbatim(r.body)
	if err != nil {
		return nil, err
	}
	name := ""
	if r.Request.Header.Get(requestIDHeader) != "" {
		name = requestIDOf(r.Context)
	}
	asks, err := g.relay.Report(ctx, r.app, r.openid, body, name)
	return listOf(asks, ""), err
}

func (g *Handler) mpSettings(ctx context.Context, r *mpRequest) (any, error) {
	body, err := verbatim(r.body)
	if err != nil {
		return nil, err
	}
	asks, err := g.relay.Settings(ctx, r.app, r.openid, body)
	return listOf(asks, ""), err
}

// maxTemplates is how many templates one question may name: an account has at most 50.
const maxTemplates = 50

func (g *Handler) mpSubscriptions(ctx context.Context, r *mpRequest) (any, error) {
	q, err := parseQuery(r.Request.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, given := range q["template_id"] {
		for id := range strings.SplitSeq(given, ",") {
			if id = strings.TrimSpace(id); id != "" {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) > maxTemplates {
		return nil, invalid("template_id", "at most 50 at once")
	}
	asks, err := g.relay.Consents(ctx, r.app, r.openid, ids)
	return listOf(asks, ""), err
}

func (g *Handler) mpBind(ctx context.Context, r *mpRequest) (any, error) {
	var in struct {
		Ticket string `json:"ticket"`
	}
	if err := loose(r.body, &in); err != nil {
		return nil, err
	}
	if in.Ticket == "" {
		return nil, invalid("ticket", "is missing")
	}
	return g.relay.Bind(ctx, r.app, r.openid, in.Ticket)
}

// taken is the answer to what is kept and not shown.
type taken struct {
	OK bool `json:"ok"`
}

func (g *Handler) mpFormID(ctx context.Context, r *mpRequest) (any, error) {
	var in struct {
		FormID string `json:"form_id"`
	}
	if err := loose(r.body, &in); err != nil {
		return nil, err
	}
	if in.FormID == "" {
		return nil, invalid("form_id", "is missing")
	}
	return taken{true}, g.relay.AddFormID(ctx, r.app, r.openid, in.FormID)
}

func (g *Handler) mpPhone(ctx context.Context, r *mpRequest) (any, error) {
	var in struct {
		Code string `json:"code"`
	}
	if err := loose(r.body, &in); err != nil {
		return nil, err
	}
	if in.Code == "" {
		return nil, invalid("code", "is missing: it comes from a getPhoneNumber button")
	}
	return g.relay.Phone(ctx, r.app, r.openid, in.Code)
}
