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
	// inProgress is how long a request may stay unanswered before its id is free again: a crash in between frees it so.
	inProgress = time.Minute
	// Remembered is how long an answer is given again.
	Remembered = 24 * time.Hour
	// askAgain is the Retry-After while the first request is in progress; most are answered in milliseconds.
	askAgain = 2 * time.Second
	// endTimeout bounds Keep and Drop, which outlive a caller that hung up.
	endTimeout = 3 * time.Second
)

// A record is one of
//
//	p <digest 32> <owner 16>            in progress, by whom
//	a <digest 32> <status 2> <body>     answered
//	m <digest 32> <name>                answered by what has this name; see Mark
const (
	recordInProgress = 'p'
	recordAnswered   = 'a'
	recordNamed      = 'm'
	digestEnd        = 1 + sha256.Size
	ownerLen         = 16
	statusEnd        = digestEnd + 2
)

// IdempotencyStore remembers requests by (partner, id) and gives a repeated one its first answer.
//
//	(free) --Begin--> in progress --Keep--> answered --24 h--> (free)
//	                         \--Drop, 60 s--> (free)
type IdempotencyStore struct {
	commands         *pipeliner
	encrypt, decrypt func(b, aad []byte) ([]byte, error)
}

// NewIdempotencyStore keeps its memory in rdb.
func NewIdempotencyStore(rdb redis.UniversalClient) *IdempotencyStore {
	return &IdempotencyStore{commands: &pipeliner{rdb: rdb}}
}

// Sealed has the store encrypt the answers that it keeps: they may carry secrets, as an open ticket is one. aad is the name of
// the key an answer is kept under.
func (i *IdempotencyStore) Sealed(encrypt, decrypt func(b, aad []byte) ([]byte, error)) *IdempotencyStore {
	i.encrypt, i.decrypt = encrypt, decrypt
	return i
}

// Mark is a request's record in the idempotency store for a caller that writes it itself, in the same step that carries the
// request out: the key, and the value it then holds for [Remembered]. name is where the first answer can be read again (a
// message's id). Such a request is never in progress.
func Mark(partner, id string, digest [32]byte, name string) (key, value string) {
	b := make([]byte, 0, digestEnd+len(name))
	b = append(append(append(b, recordNamed), digest[:]...), name...)
	return idempotencyKey(partner, id), string(b)
}

// ReadMark takes the name out of what a Mark's key holds: ErrReused when it is another request's, *InProgressError while
// Begin has it in progress.
func ReadMark(value string, digest [32]byte) (name string, err error) {
	switch {
	case len(value) < digestEnd || value[1:digestEnd] != string(digest[:]):
		return "", ErrReused
	case value[0] != recordNamed:
		return "", &InProgressError{RetryAfter: askAgain}
	}
	return value[digestEnd:], nil
}

// Marked looks up the name of a request that was marked; "" when there is none under this id. Errors as ReadMark, and ErrUnavailable.
func (i *IdempotencyStore) Marked(ctx context.Context, partner, id string, digest [32]byte) (name string, err error) {
	cmd := redis.NewStringCmd(ctx, "get", idempotencyKey(partner, id))
	err = i.commands.do(ctx, cmd)
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

// Request is one request in progress, or the repeat of an answered one.
type Request struct {
	store  *IdempotencyStore
	key    string
	mark   string // the record while it is ours; empty for a replay
	replay *Answer
}

// Begin puts (partner, id) in progress for at most 60 s. digest is the SHA-256 of all that makes the request what it is.
// errors: ErrReused (another digest), *InProgressError (same digest, no answer yet), ErrUnavailable. One command.
func (i *IdempotencyStore) Begin(ctx context.Context, partner, id string, digest [32]byte) (*Request, error) {
	r := &Request{store: i, key: idempotencyKey(partner, id), mark: newMark(digest)}
	// SET NX GET takes the id when it is free, else answers what is there. https://redis.io/docs/latest/commands/set/
	cmd := redis.NewStringCmd(ctx, "set", r.key, r.mark, "nx", "get", "px", inProgress.Milliseconds())
	err := i.commands.do(ctx, cmd)
	if errors.Is(err, redis.Nil) {
		return r, nil
	}
	if err != nil {
		if ctx.Err() != nil { // it may have been taken all the same: free it, or a repeat would wait out the lease
			go func() { _ = r.Drop(context.WithoutCancel(ctx)) }()
		}
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	switch held := cmd.Val(); {
	case held == r.mark: // sent twice over a broken connection: the first one took it
		return r, nil
	case len(held) < digestEnd || held[1:digestEnd] != string(digest[:]):
		return nil, ErrReused
	case held[0] == recordAnswered && len(held) >= statusEnd:
		status := binary.BigEndian.Uint16([]byte(held[digestEnd:statusEnd]))
		body := []byte(held[statusEnd:])
		if i.decrypt != nil {
			if body, err = i.decrypt(body, []byte(r.key)); err != nil {
				return nil, fmt.Errorf("webhook: decrypting an answer: %w", err)
			}
		}
		r.mark, r.replay = "", &Answer{Status: int(status), Body: body}
		return r, nil
	default:
		return nil, &InProgressError{RetryAfter: askAgain}
	}
}

// Replay is the first answer when this request has been answered before, else nil: then the caller does the work and
// ends the request with Keep or Drop.
func (r *Request) Replay() *Answer { return r.replay }

// Keep remembers a 2xx answer for 24 h; any other frees the id as Drop does. A request that outlived its lease keeps its
// answer only when the id was not taken since. Works after ctx has ended. One command.
func (r *Request) Keep(ctx context.Context, a Answer) error {
	if r.mark == "" { // a replay is kept already
		return nil
	}
	if a.Status < 200 || a.Status > 299 {
		return r.Drop(ctx)
	}
	if r.store.encrypt != nil {
		var err error
		if a.Body, err = r.store.encrypt(a.Body, []byte(r.key)); err != nil {
			return fmt.Errorf("webhook: encrypting an answer: %w", err)
		}
	}
	record := make([]byte, 0, statusEnd+len(a.Body))
	record = append(record, recordAnswered)
	record = append(record, r.digest()...)
	record = binary.BigEndian.AppendUint16(record, uint16(a.Status))
	record = append(record, a.Body...)
	return r.end(ctx, keepScript, r.key, r.mark, record, Remembered.Milliseconds())
}

// Drop forgets the request: the same request may come again at once. Works after ctx has ended.
func (r *Request) Drop(ctx context.Context) error {
	if r.mark == "" {
		return nil
	}
	return r.end(ctx, dropScript, r.key, r.mark)
}

// end runs the request's last step.
func (r *Request) end(ctx context.Context, script *redis.Script, key string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if _, err := r.store.commands.run(ctx, script, key, args...); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

func (r *Request) digest() string { return r.mark[1:digestEnd] }

// idempotencyKey: a 128-bit hash, because a collision would answer one partner with another's answer.
func idempotencyKey(partner, id string) string {
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
	m[0] = recordInProgress
	copy(m[1:], digest[:])
	binary.BigEndian.PutUint64(m[digestEnd:], rand.Uint64())
	binary.BigEndian.PutUint64(m[digestEnd+8:], rand.Uint64())
	return string(m[:])
}
