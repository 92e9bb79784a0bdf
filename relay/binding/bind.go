package binding

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// A binding has two halves in two slots, so that it is found from both sides:
//
//	the user's     wx:{b:H(partner, app, user)}:o   claim:  p|b  serial  openid
//	the openid's   wx:{b:H(app, openid)}:u[partner] entry:  0|1|2  serial  user
//
// The user's half is the record that counts: bound (b) or not. It starts as a claim (p) that lapses by itself, then the
// openid's half is entered (0), then the claim becomes bound, then the entry is confirmed (1). Unbinding marks the entry
// (2), ends the user's half, then the entry. So a confirmed entry may be believed; any other is looked up in the user's
// half. Both halves of one binding have one serial, and every step compares all of what it replaces: whoever comes late
// changes nothing of a newer binding. An entry in the way whose user's half is another's or nobody's is replaced. Only
// who made the claim count confirms its entry. A crash at any step leaves a binding that is or is not (DECISIONS.md 1).
const (
	claimed, bound              = 'p', 'b'
	entered, confirmed, leaving = '0', '1', '2'

	serialLen              = 16
	claimTime              = 10 * time.Second
	BindTime               = 20 * time.Second // after it, a Bind that did not answer is done or never will be
	bindTries              = 6
	bindPause, bindSlowest = 20 * time.Millisecond, 200 * time.Millisecond
)

// half is either side's record.
type half struct {
	kind   byte
	serial string
	name   string // the openid on the user's side, the user on the openid's side
}

func (h half) String() string { return string(h.kind) + h.serial + h.name }

func readHalf(s string) half {
	if len(s) < 1+serialLen {
		return half{}
	}
	return half{s[0], s[1 : 1+serialLen], s[1+serialLen:]}
}

// Half is the user's side of a binding: the openid, and the serial that no other binding has, an earlier or later one of
// the same user and openid included.
type Half struct{ OpenID, Serial string }

// NewSerial makes the serial of a binding about to be made.
func NewSerial() string { return token("")[:serialLen] }

// Bind binds a partner's user to an openid under a serial ([NewSerial]). Again is harmless; a user who is bound to this openid
// already keeps the serial it has. ErrBound when the user is bound to another openid, or the openid to another user of this
// partner. ErrBusy when others are changing the same binding. No claim of a call is left [BindTime] after its start.
func (b *Book) Bind(ctx context.Context, partner, app, user, openid, serial string) error {
	ctx, cancel := context.WithTimeout(ctx, BindTime-claimTime)
	defer cancel()
	p := pairing{b: b, partner: partner, app: app, user: user, openid: openid, serial: serial}
	pause := bindPause
	for try := range bindTries {
		err := p.bind(ctx)
		if !errors.Is(err, ErrBusy) || try == bindTries-1 {
			return err
		}
		if b.rest(ctx, pause) != nil {
			return err
		}
		pause = min(2*pause, bindSlowest)
	}
	return ErrBusy
}

// pairing is one user and one openid about to be bound.
type pairing struct {
	b                                  *Book
	partner, app, user, openid, serial string
}

func (p pairing) bind(ctx context.Context) error {
	claim := half{claimed, p.serial, p.openid}
	done, err := p.claim(ctx, claim)
	if done || err != nil {
		return err
	}
	entry := half{entered, claim.serial, p.user}
	if err := p.enter(ctx, claim, entry); err != nil {
		_, _ = p.b.run(context.WithoutCancel(ctx), removeScript, []string{userKey(p.partner, p.app, p.user)}, claim.String()) // lapses anyway
		return err
	}
	return p.commit(ctx, claim, entry)
}

// claim takes the user's half. done when it is bound to this openid already.
func (p pairing) claim(ctx context.Context, mine half) (done bool, err error) {
	key := userKey(p.partner, p.app, p.user)
	was, err := p.b.rdb.SetArgs(ctx, key, mine.String(), redis.SetArgs{Mode: "NX", Get: true, TTL: claimTime}).Result()
	if errors.Is(err, redis.Nil) || err == nil && was == mine.String() {
		return false, nil
	}
	if err != nil {
		return false, away(err)
	}
	theirs := readHalf(was)
	if theirs.kind != bound {
		return false, ErrBusy
	}
	entry, err := p.b.entry(ctx, p.app, theirs.name, p.partner)
	if err != nil {
		return false, err
	}
	if entry.name == p.user {
		if theirs.name != p.openid {
			return false, ErrBound
		}
		return true, nil // an entry that is not confirmed stays so: somebody may be unbinding it
	}
	// Bound to an openid that has been forgotten since: free.
	ok, err := p.b.replaced(ctx, key, was, mine.String(), claimTime)
	if err == nil && !ok {
		err = ErrBusy
	}
	return false, err
}

// enter takes the openid's half.
func (p pairing) enter(ctx context.Context, claim, mine half) error {
	at := openidTag(p.app, p.openid) + "u"
	v, err := p.b.run(ctx, enterScript, []string{at}, p.partner, mine.String())
	if err != nil {
		return err
	}
	was, _ := v.(string)
	if was == "" {
		return nil
	}
	there := readHalf(was)
	counts, err := p.b.get(ctx, userKey(p.partner, p.app, there.name))
	if err != nil {
		return err
	}
	switch theirs := readHalf(counts); {
	case there.name == p.user && counts != claim.String():
		return ErrBusy // our claim lapsed, and this may be of a newer one
	case there.name == p.user || theirs.name != p.openid: // left over
	case theirs.kind == bound:
		return ErrBound
	default:
		return ErrBusy
	}
	ok, err := p.b.swapped(ctx, at, p.partner, was, mine.String())
	if err == nil && !ok {
		err = ErrBusy
	}
	return err
}

// commit makes the claim count, and the entry believable.
func (p pairing) commit(ctx context.Context, claim, entry half) error {
	key := userKey(p.partner, p.app, p.user)
	final := half{bound, claim.serial, claim.name}
	ok, err := p.b.replaced(ctx, key, claim.String(), final.String(), 0)
	if err != nil {
		return err
	}
	if !ok {
		now, err := p.b.get(ctx, key)
		if err != nil {
			return err
		}
		ok = now == final.String() // the same call beside this one, or sent twice, was faster
	}
	if !ok { // the claim lapsed
		_, _ = p.b.swapped(ctx, openidTag(p.app, p.openid)+"u", p.partner, entry.String(), "") // if it stays, it is not believed
		return ErrBusy
	}
	err = p.b.confirm(ctx, p.app, p.openid, p.partner, entry)
	if errors.Is(err, ErrBusy) { // forgotten or unbound in between
		if _, failed := p.b.run(context.WithoutCancel(ctx), removeScript, []string{key}, final.String()); failed != nil {
			return failed // the user's half stays until the next attempt, and is found by Find
		}
	}
	return err // one of Redis: it is bound, unless it was forgotten before; whoever repeats it finds out
}

// Unbind ends the binding that has this serial. ErrNotFound when it has ended already: a repeat, and nothing to mend.
// ErrBusy when others are changing the same binding.
func (b *Book) Unbind(ctx context.Context, partner, app, user, serial string) (err error) {
	for range bindTries {
		if err = b.unbind(ctx, partner, app, user, serial); !errors.Is(err, ErrBusy) {
			break
		}
	}
	return err
}

func (b *Book) unbind(ctx context.Context, partner, app, user, serial string) error {
	key := userKey(partner, app, user)
	was, err := b.get(ctx, key)
	if err != nil {
		return err
	}
	h := readHalf(was)
	if h.kind != bound || h.serial != serial {
		return ErrNotFound
	}
	at := openidTag(app, h.name) + "u"
	entry, err := b.entry(ctx, app, h.name, partner)
	if err != nil {
		return err
	}
	known := entry.name == user // else it was forgotten, up to this half
	mine := half{leaving, entry.serial, user}
	if known {
		ok, err := b.swapped(ctx, at, partner, entry.String(), mine.String())
		if err != nil {
			return err
		}
		if !ok {
			return ErrBusy
		}
	}
	v, err := b.run(ctx, removeScript, []string{key}, was)
	switch {
	case err != nil:
		return err
	case v != int64(1) || !known:
		return ErrNotFound // somebody else ended it
	}
	_, _ = b.swapped(ctx, at, partner, mine.String(), "") // if it stays, it is not believed
	return nil
}

// Find is the openid a partner's user is bound to, and the binding's serial. ErrNotFound. One command.
func (b *Book) Find(ctx context.Context, partner, app, user string) (Half, error) {
	was, err := b.get(ctx, userKey(partner, app, user))
	if err != nil {
		return Half{}, err
	}
	if h := readHalf(was); h.kind == bound {
		return Half{h.name, h.serial}, nil
	}
	return Half{}, ErrNotFound
}

// ByUser is the openid of [Book.Find].
func (b *Book) ByUser(ctx context.Context, partner, app, user string) (string, error) {
	h, err := b.Find(ctx, partner, app, user)
	return h.OpenID, err
}

// UsersOf is whom each partner bound this openid to; empty when nobody. One command.
func (b *Book) UsersOf(ctx context.Context, app, openid string) (map[string]string, error) {
	entries, err := b.rdb.HGetAll(ctx, openidTag(app, openid)+"u").Result()
	if err != nil {
		return nil, away(err)
	}
	users := make(map[string]string, len(entries))
	for partner, text := range entries {
		e := readHalf(text)
		if e.kind != confirmed {
			other, err := b.get(ctx, userKey(partner, app, e.name))
			if err != nil {
				return nil, err
			}
			if other != (half{bound, e.serial, openid}).String() {
				continue
			}
		}
		users[partner] = e.name
	}
	return users, nil
}

// entry is the openid's half; zero when there is none.
func (b *Book) entry(ctx context.Context, app, openid, partner string) (half, error) {
	text, err := b.rdb.HGet(ctx, openidTag(app, openid)+"u", partner).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return half{}, away(err)
	}
	return readHalf(text), nil
}

// confirm makes an entry believable. ErrBusy when it is another by now.
func (b *Book) confirm(ctx context.Context, app, openid, partner string, e half) error {
	sure := half{confirmed, e.serial, e.name}
	ok, err := b.swapped(ctx, openidTag(app, openid)+"u", partner, e.String(), sure.String())
	if err != nil || ok {
		return err
	}
	if there, err := b.entry(ctx, app, openid, partner); err != nil || there == sure {
		return err
	}
	return ErrBusy
}

func (b *Book) replaced(ctx context.Context, key, was, now string, d time.Duration) (bool, error) {
	v, err := b.run(ctx, replaceScript, []string{key}, was, now, d.Milliseconds())
	return v == int64(1), err
}

func (b *Book) swapped(ctx context.Context, at, partner, was, now string) (bool, error) {
	v, err := b.run(ctx, swapScript, []string{at}, partner, was, now)
	return v == int64(1), err
}
