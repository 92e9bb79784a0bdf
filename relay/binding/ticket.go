package binding

import (
	"context"
	"strconv"
	"time"
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

// Shown is a ticket in the hand of the openid that showed it.
type Shown struct {
	Partner, User string
	Serial        string // of the binding that it makes, the same at each showing
	Used          bool   // it has made its binding
}

// Show makes a ticket the openid's that shows it first: should the binding fail halfway or be taken (ErrBound), that one may
// show it again while it lasts. ErrTicket for all the others.
func (b *Book) Show(ctx context.Context, app, ticket, openid string) (Shown, error) {
	if ticket == "" || len(ticket) > 64 {
		return Shown{}, ErrTicket
	}
	v, err := b.run(ctx, showScript, []string{ticketKey(ticket)}, app, openid, NewSerial())
	if err != nil {
		return Shown{}, err
	}
	r := words(v)
	if len(r) != 4 {
		return Shown{}, ErrTicket
	}
	return Shown{Partner: r[0], User: r[1], Serial: r[2], Used: r[3] == "1"}, nil
}

// Use marks a ticket whose binding is made. It makes no other; it is known until it expires, so that whoever did not get the
// answer can be given it again.
func (b *Book) Use(ctx context.Context, ticket string) error {
	_, err := b.run(ctx, useScript, []string{ticketKey(ticket)})
	return err
}
