package wechat

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Grant is the state of a token that is issued here, in the place of WeChat's, to somebody who calls WeChat's API through
// this gateway. Whoever makes the token puts both into it; one of an earlier generation is revoked.
type Grant struct {
	Generation int
	IssuedAt   time.Time     // by Redis' clock, so that every replica makes the same token
	Left       time.Duration // until its end
}

const (
	// GrantLife is how long a token of ours is good, as WeChat's are.
	GrantLife = 2 * time.Hour
	// grantRotation is how long before the end of one the next is issued; WeChat rotates its stable token so.
	grantRotation = 5 * time.Minute
)

// Grant gives the holder's current grant for an app, the same to all who ask within its life; revoke ends those before it.
// Errors: ErrUnknownApp, and those of Redis.
func (c *Client) Grant(ctx context.Context, app, holder string, revoke bool) (Grant, error) {
	k, err := c.keeper(app)
	if err != nil {
		return Grant{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	flag := 0
	if revoke {
		flag = 1
	}
	n, err := grantScript.Run(ctx, c.rdb, []string{k.grantKey()}, holder, GrantLife.Milliseconds(), grantRotation.Milliseconds(), flag).Int64Slice()
	if err != nil {
		return Grant{}, err
	}
	if len(n) != 3 {
		return Grant{}, errors.New("wechat: a grant cannot be read")
	}
	return Grant{Generation: int(n[0]), IssuedAt: time.UnixMilli(n[1]), Left: GrantLife - time.Duration(n[2]-n[1])*time.Millisecond}, nil
}

// GrantGeneration is the earliest generation of the holder's grants that is not revoked; 0 when nothing is known of them.
// Errors: as Grant.
func (c *Client) GrantGeneration(ctx context.Context, app, holder string) (int, error) {
	k, err := c.keeper(app)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	kept, err := c.rdb.HGet(ctx, k.grantKey(), holder).Result()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	generation, _, _ := strings.Cut(kept, " ")
	return strconv.Atoi(generation)
}

func (k *keeper) grantKey() string { return "wx:{t:" + k.app.AppID + "}:g" }
