package relay

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/message"
)

// Audience is a partner's named business type as the partner sees it.
type Audience struct {
	Name       string    `json:"name"`
	App        string    `json:"app"`
	TemplateID *string   `json:"template_id"`
	Total      int       `json:"total"` // members
	UpdatedAt  time.Time `json:"updated_at"`
}

// AudienceMembers is an audience with one page of its members, in the order of their bytes.
type AudienceMembers struct {
	Audience
	Items      []string `json:"items"`
	NextCursor *string  `json:"next_cursor"`
}

// AudienceRequest is an audience as it is put: its members are the partner's users or openids of the app, not both.
type AudienceRequest struct {
	App        string    `json:"app"`
	TemplateID *string   `json:"template_id"`
	Users      *[]string `json:"users" max:"100000"`
	OpenIDs    *[]string `json:"openids" max:"100000"`
}

// AudiencePatch adds and removes members. A member that is in both lists is removed.
type AudiencePatch struct {
	Add    []string `json:"add" max:"100000"`
	Remove []string `json:"remove" max:"100000"`
}

// maxAudienceName is how many characters the name of an audience has at most.
const maxAudienceName = 128

// checkAudienceName says what is wrong with a name, "" = nothing.
func checkAudienceName(name string) string {
	if n := utf8.RuneCountInString(name); n < 1 || n > maxAudienceName || !utf8.ValidString(name) {
		return "must have 1 to 128 visible characters"
	}
	for _, c := range name {
		if c == '/' || unicode.IsSpace(c) || !unicode.IsGraphic(c) {
			return "must have visible characters only, and no slash"
		}
	}
	return ""
}

// checkMembers names members that cannot be ones.
func checkMembers(f *faults, field string, members []string, users bool) {
	for i, m := range members {
		at, reason := fmt.Sprintf("%s[%d]", field, i), ""
		switch {
		case len(*f) >= MaxFields:
			return
		case users && (m == "" || len(m) > 128):
			reason = "must be a user of 1 to 128 bytes"
		case users:
			reason = message.CheckUser(m)
		case !message.IsOpenID(m):
			reason = "is not an openid"
		}
		if reason != "" {
			f.add(at, reason)
		}
	}
}

// PutAudience creates an audience or replaces all of it; members may repeat.
func (r *Relay) PutAudience(ctx context.Context, partner, name string, req AudienceRequest) (Audience, error) {
	var f faults
	if reason := checkAudienceName(name); reason != "" {
		f.add("name", reason)
	}
	if req.App == "" {
		f.add("app", "is required: the app whose users are meant")
	}
	a := binding.Audience{Name: name, App: req.App, Users: req.Users != nil}
	var members []string
	switch {
	case (req.Users == nil) == (req.OpenIDs == nil):
		f.add("users", "is required unless openids are given: exactly one of the two")
	case req.Users != nil:
		members = *req.Users
		checkMembers(&f, "users", members, true)
	default:
		members = *req.OpenIDs
		checkMembers(&f, "openids", members, false)
	}
	if req.TemplateID != nil {
		if a.TemplateID = *req.TemplateID; !isTemplateID(a.TemplateID) {
			f.add("template_id", "must have 1 to 128 letters, digits, - or _")
		}
	}
	if err := f.err("invalid_request"); err != nil {
		return Audience{}, err
	}
	if _, err := r.appOf(partner, req.App); err != nil {
		return Audience{}, err
	}
	return viewAudience(r.bindings.PutAudience(ctx, partner, a, members))
}

// isTemplateID tells whether a text has the form of a template's id.
func isTemplateID(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_') {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// PatchAudience adds and removes members, at once for readers.
func (r *Relay) PatchAudience(ctx context.Context, partner, name string, req AudiencePatch) (Audience, error) {
	was, err := r.bindings.Audience(ctx, partner, name)
	if err != nil {
		return viewAudience(was, err)
	}
	var f faults
	checkMembers(&f, "add", req.Add, was.Users)
	if err := f.err("invalid_request"); err != nil {
		return Audience{}, err
	}
	if len(req.Add)+len(req.Remove) == 0 {
		return viewAudience(was, nil)
	}
	return viewAudience(r.bindings.PatchAudience(ctx, partner, name, req.Add, req.Remove))
}

// Audience reads an audience with the page of its members behind the cursor.
func (r *Relay) Audience(ctx context.Context, partner, name, cursor string, limit int) (AudienceMembers, error) {
	after, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return AudienceMembers{}, invalid("cursor", "is not a next_cursor of this list: leave it out to begin")
	}
	a, err := r.bindings.Audience(ctx, partner, name)
	if err != nil {
		_, err = viewAudience(a, err)
		return AudienceMembers{}, err
	}
	limit = pageSize(limit)
	out := AudienceMembers{Items: []string{}}
	out.Audience, _ = viewAudience(a, nil)
	members, err := r.bindings.Members(ctx, partner, a, string(after), limit+1)
	if err != nil {
		return out, err
	}
	if len(members) > limit {
		members = members[:limit]
		out.NextCursor = some(base64.RawURLEncoding.EncodeToString([]byte(members[limit-1])))
	}
	out.Items = append(out.Items, members...)
	return out, nil
}

// Audiences lists a partner's audiences by name; there are at most 1,000.
func (r *Relay) Audiences(ctx context.Context, partner string) ([]Audience, error) {
	all, err := r.bindings.Audiences(ctx, partner)
	out := make([]Audience, 0, len(all))
	for _, a := range all {
		v, _ := viewAudience(a, nil)
		out = append(out, v)
	}
	return out, err
}

// DeleteAudience deletes an audience. Sends to it go on: they have its members as they were.
func (r *Relay) DeleteAudience(ctx context.Context, partner, name string) (Audience, error) {
	return viewAudience(r.bindings.DeleteAudience(ctx, partner, name))
}

// viewAudience shows an audience, or what went wrong with it.
func viewAudience(a binding.Audience, err error) (Audience, error) {
	switch {
	case errors.Is(err, binding.ErrNotFound):
		return Audience{}, ErrNotFound
	case errors.Is(err, binding.ErrAudienceLarge):
		return Audience{}, invalid("members", fmt.Sprintf("an audience has at most %d", binding.AudienceMembers))
	case errors.Is(err, binding.ErrAudiencesMany):
		return Audience{}, invalid("name", "a partner has at most 1,000 audiences: delete one first")
	case err != nil:
		return Audience{}, err
	}
	return Audience{Name: a.Name, App: a.App, TemplateID: some(a.TemplateID), Total: a.Total, UpdatedAt: a.UpdatedAt}, nil
}
