package wechat

import (
	"context"
	"net"
	"os"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// redisDB is this package's database on the real server, so that packages tested at the same time do not meet.
const redisDB = 3

// eachRedis runs f on the in-process Redis, and again on a real server when WXRELAY_TEST_REDIS names one.
func eachRedis(t *testing.T, f func(t *testing.T, rdb redis.UniversalClient)) {
	t.Run("in-process", func(t *testing.T) {
		f(t, miniClient(t, miniredis.RunT(t)))
	})
	address := os.Getenv("WXRELAY_TEST_REDIS")
	if address == "" {
		return
	}
	t.Run("redis-server", func(t *testing.T) {
		o, err := redis.ParseURL(address)
		if err != nil {
			t.Fatal(err)
		}
		o.DB = redisDB
		rdb := redis.NewClient(o)
		t.Cleanup(func() { _ = rdb.Close() })
		if err := rdb.FlushDB(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		f(t, rdb)
	})
}

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
