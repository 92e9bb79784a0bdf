package relay

import (
	"context"
	"regexp"
	"strings"

	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// SyncTemplates keeps every app's template list fresh until ctx ends.
func (r *Relay) SyncTemplates(ctx context.Context) { r.templates.Run(ctx) }

// TemplatesAsked is closed when the lists are there, or were asked for again. A push that is booked before that may
// count as a credit what is long-term.
func (r *Relay) TemplatesAsked() <-chan struct{} { return r.templates.Asked() }

// kindOf reads WeChat's `type` of a template: 2 is one-time, 3 long-term. "" when unknown: the ledger then keeps what it knows.
// It never waits.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_getwxapubnewtemplate
func kindOf(known *wechat.TemplateCache, app, id string) ledger.Kind {
	tpl, _ := known.Known(app, id)
	switch tpl.Type {
	case 2:
		return ledger.OneTime
	case 3:
		return ledger.LongTerm
	}
	return ""
}

// templateForm is WeChat's form of a template id. The names of the app's switches in wx.getSetting's answer have
// another.
var templateForm = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// maxSubscriptions is how many subscriptions a user may have that rest on what clients said while the app's list was not known.
const maxSubscriptions = 100

// counts tells which names in a client's report are templates, and may make subscriptions: those of the app while
// its list is known, else what looks like a template, of a user who has not too many.
func (r *Relay) counts(ctx context.Context, app, openid string) func(id string) bool {
	var have map[string]bool // once it is needed
	return func(id string) bool {
		a, _ := r.App(app)
		if _, ok := a.Counts[id]; ok || a.names(id) {
			return true
		}
		if _, ok := r.templates.Known(app, id); ok {
			return true
		}
		if !templateForm.MatchString(id) || strings.HasPrefix(id, "SYS_MSG_TYPE_") {
			return false
		}
		if _, ok, known := r.templates.Get(ctx, app, id); known {
			return ok
		}
		if have == nil {
			have = map[string]bool{}
			lines, err := r.ledger.List(ctx, app, openid)
			if err != nil {
				return false // the report is answered by the same reading, and fails there
			}
			for _, st := range lines {
				have[st.TemplateID] = true
			}
		}
		if len(have) >= maxSubscriptions {
			return have[id]
		}
		have[id] = true
		return true
	}
}

// names tells whether an alias of the config stands for a template.
func (a App) names(templateID string) bool {
	for _, t := range a.Templates {
		if t.TemplateID == templateID {
			return true
		}
	}
	return false
}

// kind of a template: as the operator says, else as WeChat lists it; "" when unknown.
func (r *Relay) kind(app, id string) ledger.Kind {
	if c, ok := r.rules.Load().Apps[app].Counts[id]; ok {
		return c.Kind
	}
	return kindOf(r.templates, app, id)
}

// as is a statement with the kind that the operator says, or that WeChat's list tells where the line does not know
// it yet.
func (r *Relay) as(st ledger.Statement) ledger.Statement {
	if c, ok := r.rules.Load().Apps[st.App].Counts[st.TemplateID]; ok {
		return st.As(c.Kind)
	}
	if st.Kind == "" || st.Kind == ledger.Unknown {
		return st.As(kindOf(r.templates, st.App, st.TemplateID))
	}
	return st
}
