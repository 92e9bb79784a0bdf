package relay

import (
	"context"

	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// SyncTemplates keeps every app's template list fresh until ctx ends.
func (r *Relay) SyncTemplates(ctx context.Context) { r.templates.Run(ctx) }

// TemplatesAsked is closed when the lists are there, or were asked for again. A push that is booked before that may count as a
// credit what is long-term.
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

// kind of a template: as the operator says, else as WeChat lists it; "" when unknown.
func (r *Relay) kind(app, id string) ledger.Kind {
	if c, ok := r.rules.Load().Apps[app].Counts[id]; ok {
		return c.Kind
	}
	return kindOf(r.templates, app, id)
}

// as is a statement with the kind that the operator says, or that WeChat's list tells where the line does not know it yet.
func (r *Relay) as(st ledger.Statement) ledger.Statement {
	if c, ok := r.rules.Load().Apps[st.App].Counts[st.TemplateID]; ok {
		return st.As(c.Kind)
	}
	if st.Kind == "" || st.Kind == ledger.Unknown {
		return st.As(kindOf(r.templates, st.App, st.TemplateID))
	}
	return st
}
