// Package ledger owns the account of consent: how many messages a user has agreed to receive, per line.
package ledger

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Kind says how a template's consent is counted. WeChat tells it in the template list (gettemplate, field type).
type Kind string

// The kinds of line.
const (
	OneTime     Kind = "one_time"
	LongTerm    Kind = "long_term"
	RateLimited Kind = "rate_limited"
	Device      Kind = "device"
	Unknown     Kind = "unknown"
)

// Statement is what is known about one line.
type Statement struct {
	App, OpenID, TemplateID string
	Kind                    Kind
	Credits, Reserved       int
	Unproven                int    // how many of Credits rest on a client's word alone
	Status                  string // accepted rejected cancelled unknown
	LongTerm                bool
	UpdatedAt               time.Time
	History                 []Movement // oldest first
}

// Movement is one entry of a statement.
type Movement struct {
	At             time.Time
	Cause          string
	Delta, Balance int
}

// Ledger reads statements.
type Ledger struct {
	rdb    redis.UniversalClient
	prefix func(app, openid string) string
}

// New reads over rdb; prefix names the shard prefix a user's lines live below.
func New(rdb redis.UniversalClient, prefix func(app, openid string) string) *Ledger {
	return &Ledger{rdb: rdb, prefix: prefix}
}

// Lines lists every line of a user.
func (l *Ledger) Lines(ctx context.Context, app, openid string) ([]Statement, error) {
	return nil, nil
}

// LineOf reads one line; a line never seen has zero credits and status "unknown".
func (l *Ledger) LineOf(ctx context.Context, app, openid, template string) (Statement, error) {
	return Statement{App: app, OpenID: openid, TemplateID: template, Kind: Unknown, Status: "unknown"}, nil
}
