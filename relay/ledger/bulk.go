package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// GetMany reads the subscriptions of some users to one template, as Get does, in two round trips.
func (l *Ledger) GetMany(ctx context.Context, app string, openids []string, template string) ([]Statement, error) {
	codes := map[string]*redis.StringCmd{} // by the shard's prefix
	pipe := l.rdb.Pipeline()
	for _, o := range openids {
		if p := l.prefix(app, o); codes[p] == nil {
			codes[p] = pipe.HGet(ctx, p+"lt:code", template)
		}
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, err
	}
	out := make([]Statement, len(openids))
	packed := make([]*redis.SliceCmd, len(openids))
	pipe = l.rdb.Pipeline()
	for i, o := range openids {
		out[i] = Statement{App: app, OpenID: o, TemplateID: template, Kind: Unknown, Status: statuses[0]}
		p := l.prefix(app, o)
		if c, err := strconv.Atoi(codes[p].Val()); err == nil {
			packed[i] = pipe.HMGet(ctx, p+"l:"+app+":"+o, strconv.Itoa(2*c), strconv.Itoa(2*c+1))
		}
	}
	if err := exec(ctx, pipe); err != nil {
		return nil, err
	}
	for i, c := range packed {
		if c == nil || len(c.Val()) != 2 {
			continue
		}
		near, known := c.Val()[0].(string)
		if !known {
			continue
		}
		far, _ := c.Val()[1].(string)
		if err := unpack(near, far, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func exec(ctx context.Context, pipe redis.Pipeliner) error {
	if pipe.Len() == 0 {
		return nil
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("ledger: reading subscriptions: %w", err)
	}
	return nil
}

// scanStep is how many keys one step of a walk looks at.
const scanStep = 1000

// Walk calls f with the openids that have subscriptions in an app, some at a time, in no order; one may come twice. It looks at all
// keys of Redis, in steps that hold nobody else up.
func (l *Ledger) Walk(ctx context.Context, app string, f func(openids []string) error) error {
	walk := func(ctx context.Context, node redis.Cmdable) error {
		for cursor := uint64(0); ; {
			keys, next, err := node.Scan(ctx, cursor, "wx:{s*}:l:"+app+":*", scanStep).Result()
			if err != nil {
				return fmt.Errorf("ledger: looking for subscriptions: %w", err)
			}
			openids := make([]string, 0, len(keys))
			for _, key := range keys {
				if _, openid, ok := strings.Cut(key, "}:l:"+app+":"); ok {
					openids = append(openids, openid)
				}
			}
			if len(openids) > 0 {
				if err := f(openids); err != nil {
					return err
				}
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	}
	if cluster, ok := l.rdb.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return walk(ctx, node) })
	}
	return walk(ctx, l.rdb)
}
