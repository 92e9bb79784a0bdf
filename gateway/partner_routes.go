package gateway

import (
	"context"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/wxrelay/wxrelay/relay"
)

// partnerRoutes is the whole map below /v1/partners/{partner}. Rights are partners[].allow of the config.
func (g *Handler) partnerRoutes() []partnerRoute {
	const get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	return slices.Concat(g.endpointRoutes(), g.deliveryRoutes(), []partnerRoute{
		{method: post, path: "/messages", right: "messages", raw: true, keeps: true, run: g.sendMessage},
		{method: post, path: "/messages/batch", right: "messages", raw: true, large: true, run: g.sendBatch},
		{method: get, path: "/messages", right: "messages", run: g.listMessages},
		{method: get, path: "/messages/:id", right: "messages", run: g.getMessage},
		{method: del, path: "/messages/:id", right: "messages", run: g.cancelMessage},

		{method: post, path: "/form-ids", right: "messages", run: g.addCredential},

		{method: post, path: "/apps/:app/media", right: "messages", large: true, run: g.uploadMedia},

		{method: get, path: "/subscriptions", right: "subscriptions", run: g.subscriptions},

		{method: post, path: "/bindings/tickets", right: "bindings", run: g.newTicket},
		{method: put, path: "/bindings/:app/:user", right: "bindings", run: g.putBinding},
		{method: get, path: "/bindings/:app/:user", right: "bindings", run: g.getBinding},
		{method: del, path: "/bindings/:app/:user", right: "bindings", run: g.deleteBinding},

		{method: get, path: "/audiences", right: "messages", run: g.listAudiences},
		{method: put, path: "/audiences/:name", right: "messages", large: true, run: g.putAudience},
		{method: http.MethodPatch, path: "/audiences/:name", right: "messages", large: true, run: g.patchAudience},
		{method: get, path: "/audiences/:name", right: "messages", run: g.getAudience},
		{method: del, path: "/audiences/:name", right: "messages", run: g.deleteAudience},
		{method: get, path: "/audience-sends/:id", right: "messages", run: g.getAudienceSend},
		{method: del, path: "/audience-sends/:id", right: "messages", run: g.cancelAudienceSend},

		{method: get, path: "/reach", right: "messages", run: g.reach},

		{method: get, path: "/users/:app/:openid", right: "bindings", run: g.getUser},
		{method: del, path: "/users/:app/:openid", right: "bindings", run: g.eraseUser},
		{method: del, path: "/sessions/:app/:openid", right: "bindings", run: g.logOut},

		{method: post, path: "/apps/:app/decrypt", right: "session_keys", run: g.decryptUserData},
		{method: post, path: "/apps/:app/verify-raw", right: "session_keys", run: g.verifyUserData},
		{method: post, path: "/apps/:app/checksession", right: "session_keys", run: g.checkSession},

		{method: get, path: "/apps/:app/access_token", right: "tokens", run: g.accessToken},
		{method: post, path: "/apps/:app/access_token/report", right: "tokens", run: g.reportToken},
	})
}

// images are what WeChat takes as type=image, by Content-Type: the name of the file tells it which.
var images = map[string]string{"image/jpeg": "image.jpg", "image/png": "image.png", "image/gif": "image.gif", "image/bmp": "image.bmp"}

// uploadMedia takes the file itself as the body; its Content-Type says what it is.
func (g *Handler) uploadMedia(ctx context.Context, r *partnerRequest) (reply, error) {
	kind, _, err := mime.ParseMediaType(r.Request.Header.Get("Content-Type"))
	name, ok := images[kind]
	f := &fault{code: InvalidRequest}
	if err != nil || !ok {
		f.fields = append(f.fields, relay.Field{Field: "Content-Type", Reason: "must be one of " + strings.Join(slices.Sorted(maps.Keys(images)), ", ") + ": the body is the image itself"})
	}
	if len(r.body) == 0 {
		f.fields = append(f.fields, relay.Field{Field: "body", Reason: "is empty: it must be the image itself"})
	}
	if len(f.fields) > 0 {
		return reply{}, f
	}
	m, err := g.relay.UploadMedia(ctx, r.partner.Name, param(r.Context, "app"), name, kind, r.body)
	return reply{status: http.StatusOK, body: m}, err
}

func (g *Handler) subscriptions(ctx context.Context, r *partnerRequest) (reply, error) {
	q, limit, err := listQuery(r.Request.URL.RawQuery, "app", "openid", "user")
	if err != nil {
		return reply{}, err
	}
	all, err := g.relay.Subscriptions(ctx, r.partner.Name, q["app"], q["openid"], q["user"])
	if err != nil {
		return reply{}, err
	}
	page, err := paged(all.Items, func(l relay.Subscription) string { return l.TemplateID }, q["cursor"], limit)
	return reply{status: http.StatusOK, body: page}, err
}

func (g *Handler) addCredential(ctx context.Context, r *partnerRequest) (reply, error) {
	var in relay.CredentialRequest
	if err := decode(r.body, &in); err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, body: taken{true}}, g.relay.AddCredential(ctx, r.partner.Name, in)
}

func (g *Handler) newTicket(ctx context.Context, r *partnerRequest) (reply, error) {
	var in struct {
		App  string `json:"app"`
		User string `json:"user"`
	}
	if err := decode(r.body, &in); err != nil {
		return reply{}, err
	}
	t, err := g.relay.NewTicket(ctx, r.partner.Name, in.App, in.User)
	return reply{status: http.StatusOK, body: t}, err
}

func (g *Handler) putBinding(ctx context.Context, r *partnerRequest) (reply, error) {
	var in struct {
		OpenID string `json:"openid"`
	}
	if err := decode(r.body, &in); err != nil {
		return reply{}, err
	}
	b, err := g.relay.PutBinding(ctx, r.partner.Name, param(r.Context, "app"), param(r.Context, "user"), in.OpenID)
	return reply{status: http.StatusOK, body: b}, err
}

func (g *Handler) getBinding(ctx context.Context, r *partnerRequest) (reply, error) {
	b, err := g.relay.Binding(ctx, r.partner.Name, param(r.Context, "app"), param(r.Context, "user"))
	return reply{status: http.StatusOK, body: b}, err
}

func (g *Handler) deleteBinding(ctx context.Context, r *partnerRequest) (reply, error) {
	b, err := g.relay.DeleteBinding(ctx, r.partner.Name, param(r.Context, "app"), param(r.Context, "user"))
	return reply{status: http.StatusOK, body: b}, err
}

func (g *Handler) accessToken(ctx context.Context, r *partnerRequest) (reply, error) {
	t, err := g.relay.AccessToken(ctx, r.partner.Name, param(r.Context, "app"), g.limits.Load().TrustedProxies.Client(r.Request))
	return reply{status: http.StatusOK, body: t}, err
}

func (g *Handler) reportToken(ctx context.Context, r *partnerRequest) (reply, error) {
	var in struct {
		AccessToken string `json:"access_token"`
		Errcode     int    `json:"errcode"`
	}
	if err := decode(r.body, &in); err != nil {
		return reply{}, err
	}
	if in.AccessToken == "" {
		return reply{}, invalid("access_token", "is missing: the one WeChat refused")
	}
	return reply{status: http.StatusOK, body: taken{true}}, g.relay.ReportToken(ctx, r.partner.Name, param(r.Context, "app"), g.limits.Load().TrustedProxies.Client(r.Request), in.AccessToken, in.Errcode)
}
