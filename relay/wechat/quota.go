package wechat

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	pathQuota     = "/cgi-bin/openapi/quota/get"
	limitView     = time.Hour       // how old a known limit may be
	limitRetry    = 5 * time.Minute // before a limit that could not be read is asked for again
	maxLimitPaths = 1000            // paths whose limits are remembered
)

// Limits remembers the daily limits of APIs, by app and path.
type Limits struct {
	mu    sync.Mutex
	known map[[2]string]limit
}

type limit struct {
	daily int64 // 0 = not known
	until time.Time
}

// DailyLimit is how many calls a day WeChat allows the app to an API; ok is false while that is not known. It is read beside
// the call that asks first, and kept for an hour.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_getapiquota
func (c *Client) DailyLimit(ctx context.Context, app, path string, known *Limits) (daily int64, ok bool) {
	key, now := [2]string{app, path}, time.Now()
	known.mu.Lock()
	defer known.mu.Unlock()
	l := known.known[key]
	if !now.Before(l.until) {
		if known.known == nil || len(known.known) >= maxLimitPaths {
			known.known = map[[2]string]limit{}
		}
		known.known[key] = limit{l.daily, now.Add(limitRetry)} // nobody asks beside this one
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*c.o.Timeout)
			defer cancel()
			if daily, err := c.Quota(ctx, app, path); err == nil {
				known.mu.Lock()
				defer known.mu.Unlock()
				known.known[key] = limit{daily, time.Now().Add(limitView)}
			}
		}()
	}
	return l.daily, l.daily > 0
}

// Quota asks WeChat how many calls a day the app may make to an API. Errors: as Send.
func (c *Client) Quota(ctx context.Context, app, path string) (daily int64, err error) {
	k, err := c.keeper(app)
	if err != nil {
		return 0, err
	}
	body, err := encode(map[string]string{"cgi_path": path})
	if err != nil {
		return 0, err
	}
	err = k.withToken(ctx, func(ctx context.Context, token string) error {
		x := k.exchange(pathQuota, token)
		return x.do(ctx, k.c.o.Timeout, func(ctx context.Context) error {
			if err := post(ctx, sdkHost+pathQuota+tokenQuery(token), body); err != nil {
				return err
			}
			var a struct {
				Quota struct {
					Daily looseInt `json:"daily_limit"`
				} `json:"quota"`
			}
			err := x.got.into(&a)
			daily = int64(a.Quota.Daily)
			return err
		})
	})
	return daily, err
}

// CountCall counts one call of a holder to an API, over all replicas, and says when the count begins anew.
func (c *Client) CountCall(ctx context.Context, app, holder, path string) (calls int64, reset time.Duration, err error) {
	k, err := c.keeper(app)
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	n, err := quotaScript.Run(ctx, c.rdb, []string{"wx:{t:" + k.app.AppID + "}:q:" + holder}, path).Int64Slice()
	if err != nil {
		return 0, 0, err
	}
	if len(n) != 2 {
		return 0, 0, errors.New("wechat: a count cannot be read")
	}
	return n[0], time.Duration(n[1]) * time.Millisecond, nil
}
