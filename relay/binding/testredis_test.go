package binding

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// redisDB is this package's own number on the shared test server, so that packages tested in parallel do not collide.
const redisDB = 5

// eachRedis runs f on the in-process Redis, and again on a real one when WXRELAY_TEST_REDIS names it.
func eachRedis(t *testing.T, f func(t *testing.T, rdb redis.UniversalClient)) {
	t.Run("in-process", func(t *testing.T) {
		_, rdb := inProcess(t)
		f(t, rdb)
	})
	url := os.Getenv("WXRELAY_TEST_REDIS")
	if url == "" {
		return
	}
	t.Run("redis-server", func(t *testing.T) { f(t, realRedis(t, url)) })
}

// inProcess gives the server too, for tests in which time passes.
func inProcess(t testing.TB) (*sandbox, redis.UniversalClient) {
	t.Helper()
	m := miniredis.RunT(t)
	s := &sandbox{m, time.Unix(1_700_000_000, 0)}
	m.SetTime(s.now)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { rdb.Close() })
	return s, rdb
}

// sandbox is an in-process Redis whose clock the test turns.
type sandbox struct {
	*miniredis.Miniredis
	now time.Time
}

// pass lets d go by: for TIME and for what expires.
func (s *sandbox) pass(d time.Duration) {
	s.now = s.now.Add(d)
	s.SetTime(s.now)
	s.FastForward(d)
}

func realRedis(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.DB = redisDB
	rdb := redis.NewClient(o)
	t.Cleanup(func() { rdb.Close() })
	if err := rdb.FlushDB(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	return rdb
}
