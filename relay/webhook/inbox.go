package webhook

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Inbox remembers requests by (partner, id) and gives a repeated one its first answer.
type Inbox struct{ rdb redis.UniversalClient }

// NewInbox keeps its memory in rdb.
func NewInbox(rdb redis.UniversalClient) *Inbox { return &Inbox{rdb: rdb} }

// Answer is what was answered.
type Answer struct {
	Status int
	Body   []byte
}

// Visit is one request in hand.
type Visit struct{ replay *Answer }

// Begin takes (partner, id) in hand. errors: ErrReused, *InProgressError, ErrUnavailable.
func (i *Inbox) Begin(ctx context.Context, partner, id string, digest [32]byte) (*Visit, error) {
	return &Visit{}, nil
}

// Replay is the first answer when this request has been answered before, else nil: then the caller does the work and
// ends the visit with Keep or Drop.
func (v *Visit) Replay() *Answer { return v.replay }

// Keep remembers the answer for 24 h. Only 2xx answers may be kept.
func (v *Visit) Keep(ctx context.Context, a Answer) error { return nil }

// Drop forgets the visit: the same request may come again at once.
func (v *Visit) Drop(ctx context.Context) error { return nil }
