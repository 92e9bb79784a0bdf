package binding

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const ticketTime = 10 * time.Minute

// NewTicket is a one-time ticket that binds whoever redeems it within 10 minutes to the partner's user.
func (b *Book) NewTicket(ctx context.Context, partner, app, user string) (ticket string, expires time.Time, err error) {
	ticket = token("tkt_")
	v, err := b.run(ctx, issueScript, []string{ticketKey(ticket)}, ticketTime.Milliseconds(), partner, app, user)
	if err != nil {
		return "", time.Time{}, err
	}
	ms, err := strconv.ParseInt(words([]any{v})[0], 10, 64)
	return ticket, time.UnixMilli(ms).UTC(), err
}

// Redeem binds openid by a ticket, once. A ticket belongs to the first openid that shows it: should the binding fail
// halfway or be taken (ErrBound), that one may show it again while it lasts. ErrTicket for all the others.
func (b *Book) Redeem(ctx context.Context, app, ticket, openid string) (Bound, error) {
	if ticket == "" || len(ticket) > 64 {
		return Bound{}, ErrTicket
	}
	key := ticketKey(ticket)
	v, err := b.run(ctx, showScript, []string{key}, app, openid)
	if err != nil {
		return Bound{}, err
	}
	r := words(v)
	if len(r) != 2 {
		return Bound{}, ErrTicket
	}
	to := Bound{Partner: r[0], User: r[1]}
	if err := b.Bind(ctx, to.Partner, app, to.User, openid); err != nil {
		return Bound{}, err
	}
	b.rdb.Del(context.WithoutCancel(ctx), key) // if it stays, only this openid can show it, and is bound already
	return to, nil
}

// issueScript: KEYS[1] ticket; ARGV[1] its ms, then partner, app, user. Returns when it expires (ms).
var issueScript = redis.NewScript(`
local t = redis.call('TIME')
redis.call('HSET', KEYS[1], 'p', ARGV[2], 'a', ARGV[3], 'u', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1])`)

// showScript: KEYS[1] ticket; ARGV[1] app, ARGV[2] openid. Makes it that openid's; returns {partner, user}, or nothing
// when there is no such ticket for this app, or another openid has shown it.
var showScript = redis.NewScript(`
local v = redis.call('HMGET', KEYS[1], 'p', 'a', 'u', 'o')
if not v[1] or v[2] ~= ARGV[1] or (v[4] and v[4] ~= ARGV[2]) then return false end
redis.call('HSET', KEYS[1], 'o', ARGV[2])
return {v[1], v[3]}`)
