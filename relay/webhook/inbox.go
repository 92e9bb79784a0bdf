package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// inHand is how long a request may stay unanswered before its id is free again: a crash in between frees it so.
	inHand = time.Minute
	// Remembered is how long an answer is given again.
	Remembered = 24 * time.Hour
	// askAgain is what a caller is told to wait while the first request is in hand; most are answered in milliseconds.
	askAgain = 2 * time.Second
	// epilogue bounds Keep and Drop, which outlive a caller that hung up.
	epilogue = 3 * time.Second
)

// A record is one of
//
//	p <digest 32> <owner 16>            in hand, by whom
//	a <digest 32> <status 2> <body>     answered
//	m <digest 32> <name>                answered by what has this name; see Mark
const (
	recordInHand   = 'p'
	recordAnswered = 'a'
	recordNamed    = 'm'
	digestEnd      = 1 + sha256.Size
	ownerLen       = 16
	statusEnd      = digestEnd + 2
)

// Inbox remembers requests by (partner, id) and gives a repeated one its first answer.
//
//	(free) --Begin--> in hand --Keep--> answered --24 h--> (free)
//	                     \--Drop, 60 s--> (free)
type Inbox struct{ way *shuttle }

// NewInbox keeps its memory in rdb.
func NewInbox(rdb redis.UniversalClient) *Inbox { return &Inbox{way: &shuttle{rdb: rdb}} }

// Mark is a request's place in an inbox for a caller who takes it by himself, in the very step in which the request is done:
// the key, and what it then holds for [Remembered]. name is where the first answer can be had again (a message's id). So
// there is no time at which such a request is in hand.
func Mark(partner, id string, digest [32]byte, name string) (key, value string) {
	b := make([]byte, 0, digestEnd+len(name))
	b = append(append(append(b, recordNamed), digest[:]...), name...)
	return inboxKey(partner, id), string(b)
}

// ReadMark takes the name out of what a Mark's key holds: ErrReused when it is another request's, *InProgressError while
// somebody has it in hand by Begin.
func ReadMark(value string, digest [32]byte) (name string, err error) {
	switch {
	case len(value) < digestEnd || value[1:digestEnd] != string(digest[:]):
		return "", ErrReused
	case value[0] != recordNamed:
		return "", &InProgressError{RetryAfter: askAgain}
	}
	return value[digestEnd:], nil
}

// Marked looks up the name of a request that was marked; "" when nobody came by this id. Errors as ReadMark, and ErrUnavailable.
func (i *Inbox) Marked(ctx context.Context, partner, id string, digest [32]byte) (name string, err error) {
	cmd := redis.NewStringCmd(ctx, "get", inboxKey(partner, id))
	err = i.way.do(ctx, cmd)
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return ReadMark(cmd.Val(), digest)
}

// Answer is what was answered.
type Answer struct {
	Status int
	Body   []byte
}

// Visit is one request in hand.
type Visit struct {
	inbox  *Inbox
	key    string
	mark   string // the record while it is ours; empty for a replay
	replay *Answer
}

// Begin takes (partner, id) in hand for at most 60 s. digest is the SHA-256 of all that makes the request what it is.
// errors: ErrReused (another digest), *InProgressError (same digest, no answer yet), ErrUnavailable. One command.
func (i *Inbox) Begin(ctx context.Context, partner, id string, digest [32]byte) (*Visit, error) {
	v := &Visit{inbox: i, key: inboxKey(partner, id), mark: newMark(digest)}
	// SET NX GET: taken when nobody had it, else told what is there. https://redis.io/docs/latest/commands/set/
	cmd := redis.NewStringCmd(ctx, "set", v.key, v.mark, "nx", "get", "px", inHand.Milliseconds())
	err := i.way.do(ctx, cmd)
	if errors.Is(err, redis.Nil) {
		return v, nil
	}
	if err != nil {
		if ctx.Err() != nil { // it may have been taken all the same: free it, or a repeat would wait out the lease
			go v.Drop(context.WithoutCancel(ctx))
		}
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	switch r := cmd.Val(); {
	case r == v.mark: // sent twice over a broken connection: the first one took it
		return v, nil
	case len(r) < digestEnd || r[1:digestEnd] != string(digest[:]):
		return nil, ErrReused
	case r[0] == recordAnswered && len(r) >= statusEnd:
		status := binary.BigEndian.Uint16([]byte(r[digestEnd:statusEnd]))
		v.mark, v.replay = "", &Answer{Status: int(status), Body: []byte(r[statusEnd:])}
		return v, nil
	default:
		return nil, &InProgressError{RetryAfter: askAgain}
	}
}

// Replay is the first answer when this request has been answered before, else nil: then the caller does the work and
// ends the visit with Keep or Drop.
func (v *Visit) Replay() *Answer { return v.replay }

// Keep remembers a 2xx answer for 24 h; any other frees the id as Drop does. A visit that outlived its lease keeps its
// answer only when nobody has taken the id since. Works after ctx has ended. One command.
func (v *Visit) Keep(ctx context.Context, a Answer) error {
	if v.mark == "" { // a replay is kept already
		return nil
	}
	if a.Status < 200 || a.Status > 299 {
		return v.Drop(ctx)
	}
	record := make([]byte, 0, statusEnd+len(a.Body))
	record = append(record, recordAnswered)
	record = append(record, v.digest()...)
	record = binary.BigEndian.AppendUint16(record, uint16(a.Status))
	record = append(record, a.Body...)
	return v.end(ctx, keepScript, v.key, v.mark, record, Remembered.Milliseconds())
}

// Drop forgets the visit: the same request may come again at once. Works after ctx has ended.
func (v *Visit) Drop(ctx context.Context) error {
	if v.mark == "" {
		return nil
	}
	return v.end(ctx, dropScript, v.key, v.mark)
}

// keepScript: KEYS[1] record; ARGV[1] our mark, ARGV[2] answer, ARGV[3] its time in ms. Returns 1 when kept.
var keepScript = redis.NewScript(`
local now = redis.call('GET', KEYS[1])
if now and now ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`)

// dropScript: KEYS[1] record; ARGV[1] our mark. Returns 1 when dropped.
var dropScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)

// end runs the visit's last step.
func (v *Visit) end(ctx context.Context, script *redis.Script, key string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), epilogue)
	defer cancel()
	if _, err := v.inbox.way.run(ctx, script, key, args...); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

func (v *Visit) digest() string { return v.mark[1:digestEnd] }

// inboxKey: a 128-bit hash, because a collision would answer one partner with another's answer.
func inboxKey(partner, id string) string {
	return "wx:{in:" + hashOf(partner, id) + "}:v"
}

// hashOf names parts in a key: 22 characters, none of them a brace.
func hashOf(parts ...string) string {
	var room [256]byte
	text := room[:0]
	for _, p := range parts {
		text = append(append(text, p...), 0)
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// newMark is unique, not secret.
func newMark(digest [32]byte) string {
	var m [digestEnd + ownerLen]byte
	m[0] = recordInHand
	copy(m[1:], digest[:])
	binary.BigEndian.PutUint64(m[digestEnd:], rand.Uint64())
	binary.BigEndian.PutUint64(m[digestEnd+8:], rand.Uint64())
	return string(m[:])
}
