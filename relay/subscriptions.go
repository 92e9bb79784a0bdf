package relay

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/message"
	"github.com/wxrelay/wxrelay/relay/queue"
)

// Subscription is the account of one template with one user, as partners see it.
type Subscription struct {
	App        string     `json:"app"`
	OpenID     string     `json:"openid"`
	User       *string    `json:"user"`
	TemplateID string     `json:"template_id"`
	Kind       string     `json:"kind"` // one_time | long_term | rate_limited | device | unknown
	Credits    int        `json:"credits"`
	Unproven   int        `json:"-"` // how many of Credits rest on a client's word alone: for the operator's pages
	Reserved   int        `json:"reserved"`
	Status     string     `json:"status"` // accepted | rejected | cancelled | unknown
	UpdatedAt  *time.Time `json:"updated_at"`
	History    []Movement `json:"history"` // oldest first, bounded
}

// Movement is one entry of a line's statement.
type Movement struct {
	At      time.Time `json:"at"`
	Cause   string    `json:"cause"`
	Delta   int       `json:"delta"`
	Balance int       `json:"balance"`
}

// Consent is a subscription as a mini-program sees it; Ask says whether to ask the user (again).
type Consent struct {
	TemplateID string `json:"template_id"`
	Credits    int    `json:"credits"`
	LongTerm   bool   `json:"long_term"`
	Status     string `json:"status"`
	Ask        bool   `json:"ask"`
}

func (r *Relay) subscriptionOf(st ledger.Statement, user string) Subscription {
	st = r.as(st)
	l := Subscription{App: st.App, OpenID: st.OpenID, User: some(user), TemplateID: st.TemplateID, Kind: string(st.Kind), Credits: st.Credits, Unproven: st.Unproven,
		Reserved: st.Reserved, Status: st.Status, History: make([]Movement, len(st.History))}
	if l.Kind == "" {
		l.Kind = string(ledger.Unknown)
	}
	if !st.UpdatedAt.IsZero() {
		at := st.UpdatedAt.UTC()
		l.UpdatedAt = &at
	}
	for i, m := range st.History {
		l.History[i] = Movement{At: m.At.UTC(), Cause: m.Cause, Delta: m.Delta, Balance: m.Balance}
	}
	return l
}

func (r *Relay) consentOf(st ledger.Statement) Consent {
	st = r.as(st)
	return Consent{TemplateID: st.TemplateID, Credits: st.Credits, LongTerm: st.LongTerm, Status: st.Status, Ask: st.Credits == 0 && !st.LongTerm}
}

// openidOf is the openid that a partner names directly or by its own user; exactly one of them.
func (r *Relay) openidOf(ctx context.Context, partner, app, openid, user string) (string, error) {
	if (openid == "") == (user == "") {
		return "", invalid("openid", "exactly one of openid and user is required")
	}
	if openid != "" {
		if !message.IsOpenID(openid) {
			return "", invalid("openid", "is not an openid")
		}
		return openid, nil
	}
	openid, err := r.bindings.ByUser(ctx, partner, app, user)
	if errors.Is(err, binding.ErrNotFound) {
		return "", ErrNotFound
	}
	return openid, err
}

// Subscriptions lists every line of a user.
func (r *Relay) Subscriptions(ctx context.Context, partner, app, openid, user string) (Page[Subscription], error) {
	page := Page[Subscription]{Items: []Subscription{}}
	if app == "" {
		return page, invalid("app", "is required")
	}
	if _, err := r.appOf(partner, app); err != nil {
		return page, err
	}
	openid, err := r.openidOf(ctx, partner, app, openid, user)
	if err != nil {
		return page, err
	}
	if user == "" {
		users, err := r.bindings.UsersOf(ctx, app, openid)
		if err != nil {
			return page, err
		}
		user = users[partner]
	}
	sts, err := r.ledger.List(ctx, app, openid)
	if err != nil {
		return page, err
	}
	for _, st := range sts {
		page.Items = append(page.Items, r.subscriptionOf(st, user))
	}
	return page, nil
}

// SubscriptionsOf lists every line of a user for the operator's pages.
func (r *Relay) SubscriptionsOf(ctx context.Context, app, openid string) ([]Subscription, error) {
	sts, err := r.ledger.List(ctx, app, openid)
	out := make([]Subscription, len(sts))
	for i, st := range sts {
		out[i] = r.subscriptionOf(st, "")
	}
	return out, err
}

// Consents tells a mini-program how its user's lines stand. Without template ids: every line there is.
func (r *Relay) Consents(ctx context.Context, app, openid string, templateIDs []string) ([]Consent, error) {
	sts, err := r.ledger.List(ctx, app, openid)
	if err != nil {
		return nil, err
	}
	out := []Consent{}
	if len(templateIDs) == 0 {
		for _, st := range sts {
			out = append(out, r.consentOf(st))
		}
		return out, nil
	}
	byID := make(map[string]ledger.Statement, len(sts))
	for _, st := range sts {
		byID[st.TemplateID] = st
	}
	for _, id := range templateIDs {
		st, ok := byID[id]
		if !ok {
			st = ledger.Statement{App: app, TemplateID: id, Status: "unknown"}
		}
		out = append(out, r.consentOf(st))
	}
	return out, nil
}

// notifySubscriptions makes the subscription.* events of a push: one for each line that the push really moved. An event that only
// proved what the client had reported moved nothing; its partners heard of the tap already.
func (r *Relay) notifySubscriptions(ctx context.Context, shard int, app string, ev *callback.Event, replies []string, at time.Time) ([]queue.Job, error) {
	var jobs []queue.Job
	users := r.usersOf(ctx, app, ev.OpenID)
	moved := at
	if t := time.Unix(ev.CreateTime, 0); ev.CreateTime != 0 && t.Before(at.Add(5*time.Minute)) { // as the ledger believes it
		moved = t
	}
	for i, s := range ev.Subscribes {
		if i >= len(replies) {
			break
		}
		rep, err := ledger.ParseReply(replies[i])
		if err != nil || !rep.Changed && rep.Delta == 0 {
			continue
		}
		told, err := r.notifySubscription(ctx, shard, ledger.Subscription{App: app, OpenID: ev.OpenID, TemplateID: s.TemplateID}, subscriptionEvent(s.Status, ev.Event == wxChange), rep, moved, at, users)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, told...)
	}
	return jobs, nil
}

// notifySubscription tells the line as it was after a movement, booked for the time moved, to every partner of the app, each with its own
// name for the user.
func (r *Relay) notifySubscription(ctx context.Context, shard int, l ledger.Subscription, typ string, rep ledger.Reply, moved, at time.Time, users usersOf) ([]queue.Job, error) {
	if f := r.observe.Moved; f != nil {
		f(l.App, rep.Cause)
	}
	subscribers := r.subscribers(l.App, typ)
	if len(subscribers) == 0 {
		return nil, nil
	}
	st, err := r.ledger.Get(ctx, l.App, l.OpenID, l.TemplateID)
	if err != nil {
		return nil, err
	}
	names, err := users()
	if err != nil {
		return nil, err
	}
	var jobs []queue.Job
	for _, partner := range subscribers {
		jobs = append(jobs, r.notify(notification{shard: shard, app: l.App, partner: partner, typ: typ, at: at, trace: r.traceOf(ctx),
			data: SubscriptionEvent{Subscription: r.subscriptionOf(st.After(rep, moved), names[partner]), Cause: rep.Cause}})...)
	}
	return jobs, nil
}

// subscriptionEvent names what a choice means to partners: a reject of the popup is a rejection, one in the settings a
// cancellation.
func subscriptionEvent(status string, settings bool) string {
	switch {
	case strings.HasPrefix(status, "accept"):
		return EventSubscriptionAccepted
	case settings:
		return EventSubscriptionCancelled
	}
	return EventSubscriptionRejected
}
