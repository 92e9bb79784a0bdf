package binding

import (
	"context"
	_ "embed"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// CountExtension is the name by which the queue knows [CountLua].
const CountExtension = "audience"

// CountLua takes part in the change that moves a message of an audience send, so that each move is counted once.
//
//go:embed audience_count.lua
var CountLua string

// Count is the operation that counts a message of a send from one state to another. The counts are kept for keep at least.
func Count(send, from, to string, keep time.Duration) []string {
	return []string{send, from, to, strconv.FormatInt(keep.Milliseconds(), 10)}
}

// Counts adds up what the shards counted of a send, by state: how many more or fewer messages are in it than were made in it.
// prefixes are those of all shards.
func (b *Book) Counts(ctx context.Context, prefixes []string, send string) (map[string]int, error) {
	pipe := b.rdb.Pipeline()
	all := make([]*redis.MapStringStringCmd, len(prefixes))
	for i, p := range prefixes {
		all[i] = pipe.HGetAll(ctx, p+"as:"+send)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, away(err)
	}
	sum := map[string]int{}
	for _, c := range all {
		for state, n := range c.Val() {
			more, err := strconv.Atoi(n)
			if err != nil {
				return nil, err
			}
			sum[state] += more
		}
	}
	return sum, nil
}

// OpenIDsOf is the openid of each of a partner's users, "" for one who is not bound. One round trip.
func (b *Book) OpenIDsOf(ctx context.Context, partner, app string, users []string) ([]string, error) {
	pipe := b.rdb.Pipeline()
	all := make([]*redis.StringCmd, len(users))
	for i, u := range users {
		all[i] = pipe.Get(ctx, userKey(partner, app, u))
	}
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
		return nil, away(err)
	}
	out := make([]string, len(users))
	for i, c := range all {
		if h := readHalf(c.Val()); h.kind == bound {
			out[i] = h.name
		}
	}
	return out, nil
}

// UserOf is whom one partner bound each of these openids to, "" = nobody that is certain. One round trip.
func (b *Book) UserOf(ctx context.Context, partner, app string, openids []string) ([]string, error) {
	pipe := b.rdb.Pipeline()
	all := make([]*redis.StringCmd, len(openids))
	for i, o := range openids {
		all[i] = pipe.HGet(ctx, openidTag(app, o)+"u", partner)
	}
	if _, err := pipe.Exec(ctx); err != nil && err != redis.Nil {
		return nil, away(err)
	}
	out := make([]string, len(openids))
	for i, c := range all {
		if e := readHalf(c.Val()); e.kind == confirmed {
			out[i] = e.name
		}
	}
	return out, nil
}
