package relay

import (
	"context"
	"sync"

	"github.com/wxrelay/wxrelay/relay/ledger"
)

// Reach is how many could be written to now by one template.
type Reach struct {
	Total     int `json:"total"`     // members, or users with a subscription to the template
	Reachable int `json:"reachable"` // have a credit or an open subscription
	Credits   int `json:"credits"`   // free ones of all
	Rejected  int `json:"rejected"`  // answered no, or took their consent back
	Unbound   int `json:"unbound"`   // members who are bound to nobody
}

// reachStep is how many members are looked up at once.
const reachStep = 1000

// Reach counts who of an audience could be written to now by a template (the audience's own when none is named), or who of an
// app's users when there is no audience. It is one pass in steps; what changes meanwhile is seen or not.
func (r *Relay) Reach(ctx context.Context, partner, app, template, audience string) (Reach, error) {
	var out Reach
	var f faults
	if audience == "" {
		if app == "" {
			f.add("app", "is required unless there is an audience")
		} else if _, err := r.appOf(partner, app); err != nil {
			return out, err
		}
		if template == "" {
			f.add("template_id", "is required unless there is an audience that has one")
		}
		if err := f.err("invalid_request"); err != nil {
			return out, err
		}
		var mu sync.Mutex
		seen := map[string]bool{}
		err := r.ledger.Walk(ctx, app, func(openids []string) error {
			lines, err := r.ledger.GetMany(ctx, app, openids, template)
			mu.Lock()
			defer mu.Unlock()
			for _, l := range lines {
				if known := !l.UpdatedAt.IsZero() || l.Credits+l.Reserved > 0 || l.Status != "unknown"; known && !seen[l.OpenID] {
					seen[l.OpenID] = true
					out.add(r.knownSubscription(l))
				}
			}
			return err
		})
		return out, err
	}
	a, err := r.bindings.Audience(ctx, partner, audience)
	if _, err = viewAudience(a, err); err != nil {
		return out, err
	}
	if template == "" {
		template = a.TemplateID
	}
	if app != "" && app != a.App {
		f.add("audience", "is an audience of the app "+a.App)
	}
	if template == "" {
		f.add("template_id", "is required: the audience has none")
	}
	if err := f.err("invalid_request"); err != nil {
		return out, err
	}
	if _, err := r.appOf(partner, a.App); err != nil {
		return out, err
	}
	for after := ""; ; {
		members, err := r.bindings.Members(ctx, partner, a, after, reachStep)
		if err != nil || len(members) == 0 {
			return out, err
		}
		after = members[len(members)-1]
		openids := members
		if a.Users {
			if openids, err = r.bindings.OpenIDsOf(ctx, partner, a.App, members); err != nil {
				return out, err
			}
		}
		bound := make([]string, 0, len(openids))
		for _, o := range openids {
			if o == "" {
				out.Total++
				out.Unbound++
				continue
			}
			bound = append(bound, o)
		}
		lines, err := r.ledger.GetMany(ctx, a.App, bound, template)
		if err != nil {
			return out, err
		}
		for _, l := range lines {
			out.add(r.knownSubscription(l))
		}
	}
}

// knownSubscription is a statement under the kind that WeChat's list or the config gives its template.
func (r *Relay) knownSubscription(l ledger.Statement) ledger.Statement {
	return l.As(r.kind(l.App, l.TemplateID))
}

func (o *Reach) add(l ledger.Statement) {
	o.Total++
	o.Credits += l.Credits
	if l.Credits > 0 || l.LongTerm {
		o.Reachable++
	}
	if l.Status == "rejected" || l.Status == "cancelled" {
		o.Rejected++
	}
}
