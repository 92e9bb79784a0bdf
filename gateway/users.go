package gateway

import (
	"context"
	"net/http"
)

func (g *Handler) getUser(ctx context.Context, r *partnerRequest) (reply, error) {
	u, err := g.relay.User(ctx, r.partner.Name, param(r.Context, "app"), param(r.Context, "openid"))
	return reply{status: http.StatusOK, body: u}, err
}

func (g *Handler) eraseUser(ctx context.Context, r *partnerRequest) (reply, error) {
	e, err := g.relay.EraseUser(ctx, r.partner.Name, param(r.Context, "app"), param(r.Context, "openid"))
	return reply{status: http.StatusOK, body: e}, err
}

func (g *Handler) logOut(ctx context.Context, r *partnerRequest) (reply, error) {
	n, err := g.relay.LogOut(ctx, r.partner.Name, param(r.Context, "app"), param(r.Context, "openid"))
	return reply{status: http.StatusOK, body: n}, err
}

func (g *Handler) decryptUserData(ctx context.Context, r *partnerRequest) (reply, error) {
	var in struct {
		OpenID        string `json:"openid"`
		EncryptedData string `json:"encryptedData"`
		IV            string `json:"iv"`
	}
	if err := decode(r.body, &in); err != nil {
		return reply{}, err
	}
	d, err := g.relay.DecryptUserData(ctx, r.partner.Name, param(r.Context, "app"), in.OpenID, in.EncryptedData, in.IV)
	return reply{status: http.StatusOK, body: d}, err
}

func (g *Handler) verifyUserData(ctx context.Context, r *partnerRequest) (reply, error) {
	var in struct {
		OpenID    string `json:"openid"`
		RawData   string `json:"rawData"`
		Signature string `json:"signature"`
	}
	if err := decode(r.body, &in); err != nil {
		return reply{}, err
	}
	v, err := g.relay.VerifyUserData(ctx, r.partner.Name, param(r.Context, "app"), in.OpenID, in.RawData, in.Signature)
	return reply{status: http.StatusOK, body: v}, err
}

func (g *Handler) checkSession(ctx context.Context, r *partnerRequest) (reply, error) {
	var in struct {
		OpenID string `json:"openid"`
	}
	if err := decode(r.body, &in); err != nil {
		return reply{}, err
	}
	v, err := g.relay.CheckSession(ctx, r.partner.Name, param(r.Context, "app"), in.OpenID)
	return reply{status: http.StatusOK, body: v}, err
}

func (g *Handler) reach(ctx context.Context, r *partnerRequest) (reply, error) {
	q, err := exactQuery(r.Request.URL.RawQuery, "app", "template_id", "audience")
	if err != nil {
		return reply{}, err
	}
	n, err := g.relay.Reach(ctx, r.partner.Name, q["app"], q["template_id"], q["audience"])
	return reply{status: http.StatusOK, body: n}, err
}

// mpLogOut ends this session, or with all every one of the openid.
func (g *Handler) mpLogOut(ctx context.Context, r *mpRequest) (any, error) {
	var in struct {
		All bool `json:"all"`
	}
	if len(r.body) > 0 {
		if err := loose(r.body, &in); err != nil {
			return nil, err
		}
	}
	return taken{true}, g.relay.MPLogOut(ctx, r.app, r.openid, bearer(r.Request), in.All)
}

// exactQuery reads the query of a question that is not a list.
func exactQuery(raw string, known ...string) (map[string]string, error) {
	values, err := parseQuery(raw)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"cursor", "limit"} { // what lists have
		if _, given := values[name]; given {
			return nil, invalid(name, "unknown: this is not a list")
		}
	}
	q, _, err := listQuery(raw, known...)
	return q, err
}
