package queue

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// takeKey takes a key unless somebody else holds it. https://redis.io/docs/latest/commands/set/
//
// KEYS[1] the key. ARGV value, ms, the value it may be taken over from. Returns what holds it, nil when it was taken.
var takeKey = redis.NewScript(`
local held = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'GET', 'PX', ARGV[2])
if not held or held ~= ARGV[3] then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false`)

// freeKey gives a key back that is still held by a value.
//
// KEYS[1] the key. ARGV[1] the value. Returns 1 when it was freed.
var freeKey = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)

// commitKeyed is Commit where the key may live on another node than the change: it is taken first. When the change did not
// happen the key is free again; when nobody knows, or we die in between, it stays taken, as [Key] says.
func (q *Queue) commitKeyed(ctx context.Context, c Change) Result {
	k := *c.Key
	c.Key = nil
	held, err := q.take(ctx, &k)
	if err != nil {
		return Result{Err: unavailable(err)}
	}
	if held != "" && held != k.Value { // its own value: an earlier try of the same, and what it did the change itself will say
		return Result{Err: ErrTaken, Held: held}
	}
	res := q.Commit(ctx, c)
	nothing := res.Err != nil && !errors.Is(res.Err, ErrUnavailable) || res.Refused && len(c.Refused) == 0
	if nothing && !errors.Is(res.Err, ErrExists) {
		if err := freeKey.Run(context.WithoutCancel(ctx), q.rdb, []string{k.Name}, k.Value).Err(); err != nil {
			q.o.OnError(unavailable(err))
		}
	}
	return res
}

// take returns what holds the key, "" when it is ours now.
func (q *Queue) take(ctx context.Context, k *Key) (held string, err error) {
	held, err = takeKey.Run(ctx, q.rdb, []string{k.Name}, k.Value, ms(or(k.For, 24*time.Hour)), k.Over).Text()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return held, err
}
