package wechat

import (
	"context"
	"net"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/wxrelay/wxrelay/scripts/testredis"
)

var eachRedis = testredis.Each

// miniClient dials the in-process Redis without sockets, so that it works in a synctest bubble too.
func miniClient(t *testing.T, m *miniredis.Miniredis) redis.UniversalClient {
	rdb := redis.NewClient(&redis.Options{
		Addr:                     "in-process:6379",
		Protocol:                 2,
		DisableIdentity:          true,
		MaxRetries:               -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer:                   func(context.Context, string, string) (net.Conn, error) { return m.Dial() },
	})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}
