// Package ledger owns the account of consent: how many messages a user has agreed to receive, per subscription (app,
// openid, template), and why. It hides how consent is counted and packed in Redis.
//
//	 popup accept, client's word          Reserve                Spend
//	────────── grant ──────────▶  free ───────────▶ reserved ───────────▶ spent
//	                               │ ▲                 │ │
//	                               │ └──── returned ◀──┘ │   Return: the message did not go
//	                               │                     │
//	        change reject, 43101,  └──────▶ voided ◀─────┘   Void: WeChat said 43101
//	        settings off
//
// Every arrow is one movement with a named cause, counted once per name, in one Lua script together with whatever
// caused it: the operations of this package are arguments for the extension (Lua) that relay/queue runs inside its
// commits. A client's word grants unproven credits; WeChat's event about the same tap proves them without granting
// again, whichever comes first. Answers count by the time they were given, not by the time they came (DECISIONS 3).
package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/redis/go-redis/v9"
)

// Kind says how a template's consent is counted. WeChat tells it in the template list (gettemplate, field type).
type Kind string

// The kinds of subscription.
const (
	OneTime     Kind = "one_time"     // each accept is one message
	LongTerm    Kind = "long_term"    // open until the user rejects
	RateLimited Kind = "rate_limited" // long-term, at most one message per period and value of a keyword
	Device      Kind = "device"       // long-term, for one device
	Unknown     Kind = "unknown"      // counts like one-time
)

// Statement is what is known about one subscription.
type Statement struct {
	App, OpenID, TemplateID string
	Kind                    Kind
	Credits, Reserved       int        // free ones; those of messages under way
	Unproven                int        // how many of Credits rest on a client's word alone
	Status                  string     // accepted rejected cancelled unknown: the user's last answer
	LongTerm                bool       // the subscription is open: messages need no credit
	UpdatedAt               time.Time  // the latest time in History; zero for a subscription never seen
	History                 []Movement // the last six, in the order they were booked, oldest first
}

// As is the statement of the same subscription under a kind it does not know yet; "" and Unknown change nothing.
func (st Statement) As(k Kind) Statement {
	if n := kindNumber(k); n > 0 {
		st.Kind = k
		st.LongTerm = open(int(n), slices.Index(statuses[:], st.Status))
	}
	return st
}

// Movement is one entry of a statement. Balance is Credits + Reserved after it.
type Movement struct {
	At             time.Time // when the user answered as WeChat tells it, else when we heard of it; whole seconds
	Cause          string
	Delta, Balance int
}

// Ledger reads statements.
type Ledger struct {
	rdb    redis.UniversalClient
	prefix func(app, openid string) string
}

// New reads over rdb; prefix names the shard prefix a user's subscriptions live below.
func New(rdb redis.UniversalClient, prefix func(app, openid string) string) *Ledger {
	return &Ledger{rdb: rdb, prefix: prefix}
}

// List lists every subscription of a user, by template id. Errors are Redis failures, or a subscription that cannot be
// read.
func (l *Ledger) List(ctx context.Context, app, openid string) ([]Statement, error) {
	return l.read(ctx, app, openid, "")
}

// Get reads one subscription; a subscription never seen has zero credits and status "unknown".
func (l *Ledger) Get(ctx context.Context, app, openid, template string) (Statement, error) {
	none := Statement{App: app, OpenID: openid, TemplateID: template, Kind: Unknown, Status: statuses[0]}
	if template == "" {
		return none, nil
	}
	sts, err := l.read(ctx, app, openid, template)
	if err != nil || len(sts) == 0 {
		return none, err
	}
	return sts[0], nil
}

func (l *Ledger) read(ctx context.Context, app, openid, template string) ([]Statement, error) {
	prefix := l.prefix(app, openid)
	flat, err := readSubscriptions.Run(ctx, l.rdb, []string{prefix + keyUser + app + ":" + openid}, prefix, template).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("ledger: reading subscriptions: %w", err)
	}
	if len(flat)%3 != 0 {
		return nil, errors.New("ledger: reading subscriptions: not in threes")
	}
	sts := make([]Statement, 0, len(flat)/3)
	for i := 0; i < len(flat); i += 3 {
		st := Statement{App: app, OpenID: openid, TemplateID: flat[i]}
		if err := unpack(flat[i+1], flat[i+2], &st); err != nil {
			return nil, err
		}
		sts = append(sts, st)
	}
	sort.Slice(sts, func(i, j int) bool { return sts[i].TemplateID < sts[j].TemplateID })
	return sts, nil
}
