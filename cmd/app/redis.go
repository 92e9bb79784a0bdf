package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/config"
)

// Embedded reports whether the store at u lives in this process and is lost with it.
func Embedded(u config.URL) bool { return strings.HasPrefix(u.Reveal(), "embedded://") }

// OpenRedis makes a tuned client for any form of redis.url; it speaks to nobody yet, but for embedded://, which it
// starts. Close ends both. No error of it quotes the URL.
func OpenRedis(u config.URL) (rdb redis.UniversalClient, closing func() error, err error) {
	raw := u.Reveal()
	scheme, rest, _ := strings.Cut(raw, "://")
	switch scheme {
	case "embedded":
		return embedded()
	case "redis+cluster":
		o, err := redis.ParseClusterURL(spread(rest, "6379"))
		if err != nil {
			return nil, nil, quiet(err)
		}
		tuneCluster(o)
		var c *redis.ClusterClient
		r := &reconnect{refused: func() { c.ReloadState(context.Background()) }} // one at a time, at most five a second
		o.Dialer = r.dialer(o.DialTimeout, o.TLSConfig)
		c = redis.NewClusterClient(o)
		c.OnNewNode(func(node *redis.Client) { node.AddHook(r) })
		return c, c.Close, nil
	case "redis+sentinel":
		o, err := sentinel(rest)
		if err != nil {
			return nil, nil, quiet(err)
		}
		tuneSentinel(o)
		r := &reconnect{}
		o.Dialer = r.dialer(o.DialTimeout, o.TLSConfig)
		c := redis.NewFailoverClient(o)
		c.AddHook(r)
		return c, c.Close, nil
	}
	o, err := redis.ParseURL(raw)
	if err != nil {
		return nil, nil, quiet(err)
	}
	tune(o)
	r := &reconnect{}
	o.Dialer = r.dialer(o.DialTimeout, o.TLSConfig)
	c := redis.NewClient(o)
	c.AddHook(r)
	return c, c.Close, nil
}

// spread writes "[user:password@]h1,h2[:port]/x?query" as the library wants it: the first host in the URL, the others
// as addr parameters; tls=true becomes the scheme.
func spread(rest, port string) string {
	rest, query, _ := strings.Cut(rest, "?")
	user := ""
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, rest = rest[:at+1], rest[at+1:]
	}
	hosts, _, _ := strings.Cut(rest, "/")
	scheme, params := "redis", []string{}
	for p := range strings.SplitSeq(query, "&") {
		if p == "tls=true" {
			scheme = "rediss"
		} else if p != "" {
			params = append(params, p)
		}
	}
	list := strings.Split(hosts, ",")
	for i, h := range list {
		if _, _, err := net.SplitHostPort(h); err != nil {
			list[i] = net.JoinHostPort(strings.Trim(h, "[]"), port)
		}
		if i > 0 {
			params = append(params, "addr="+url.QueryEscape(list[i]))
		}
	}
	return scheme + "://" + user + list[0] + "?" + strings.Join(params, "&")
}

// sentinel reads redis+sentinel://user:password@h1,h2/master: the credentials are the master's; the sentinels' own
// stand in sentinel_username and sentinel_password.
func sentinel(rest string) (*redis.FailoverOptions, error) {
	u, err := url.Parse(spread(rest, "26379"))
	if err != nil {
		return nil, err
	}
	path, _, _ := strings.Cut(rest, "?")
	q := u.Query()
	user, password := q.Get("sentinel_username"), q.Get("sentinel_password")
	q.Del("sentinel_username")
	q.Del("sentinel_password")
	q.Set("master_name", path[strings.LastIndexByte(path, '/')+1:])
	master := u.User
	u.User, u.RawQuery = nil, q.Encode()
	o, err := redis.ParseFailoverURL(u.String())
	if err != nil {
		return nil, err
	}
	o.SentinelUsername, o.SentinelPassword = user, password
	if master != nil {
		o.Username = master.Username()
		o.Password, _ = master.Password()
	}
	return o, nil
}

// quiet drops what quotes the URL.
func quiet(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return errors.New("redis.url: not a URL")
	}
	return fmt.Errorf("redis.url: %w", err)
}

// What the pool is tuned to (decision 1): no retries below us, deadlines of contexts honoured, and idle connections
// enough that a burst does not dial.
const (
	dialTimeout = 3 * time.Second
	ioTimeout   = 3 * time.Second
	noRetries   = -1
	idleFor     = 5 * time.Minute
	oldest      = 10 * time.Minute // of a connection, so that a name that leads elsewhere is noticed; spread by the jitter
	jitter      = 2 * time.Minute
	reloadEvery = time.Second // of a cluster's map: one small question a second to one of its nodes
)

func poolSize() int { return max(32, 16*runtime.GOMAXPROCS(0)) }

func or[T comparable](given, otherwise T) T {
	var zero T
	if given == zero {
		return otherwise
	}
	return given
}

func tune(o *redis.Options) {
	o.ContextTimeoutEnabled, o.DisableIdentity = true, true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = or(o.DialTimeout, dialTimeout), or(o.ReadTimeout, ioTimeout), or(o.WriteTimeout, ioTimeout)
	o.MaxRetries, o.PoolSize, o.ConnMaxIdleTime = or(o.MaxRetries, noRetries), or(o.PoolSize, poolSize()), or(o.ConnMaxIdleTime, idleFor)
	o.MinIdleConns, o.DialerRetries = or(o.MinIdleConns, 4), or(o.DialerRetries, 1)
	o.ConnMaxLifetime, o.ConnMaxLifetimeJitter = or(o.ConnMaxLifetime, oldest), or(o.ConnMaxLifetimeJitter, jitter)
}

func tuneSentinel(o *redis.FailoverOptions) {
	o.ContextTimeoutEnabled, o.DisableIdentity = true, true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = or(o.DialTimeout, dialTimeout), or(o.ReadTimeout, ioTimeout), or(o.WriteTimeout, ioTimeout)
	o.MaxRetries, o.PoolSize, o.ConnMaxIdleTime = or(o.MaxRetries, noRetries), or(o.PoolSize, poolSize()), or(o.ConnMaxIdleTime, idleFor)
	o.MinIdleConns, o.DialerRetries = or(o.MinIdleConns, 4), or(o.DialerRetries, 1)
	o.ConnMaxLifetime, o.ConnMaxLifetimeJitter = or(o.ConnMaxLifetime, oldest), or(o.ConnMaxLifetimeJitter, jitter)
}

func tuneCluster(o *redis.ClusterOptions) {
	o.ContextTimeoutEnabled, o.DisableIdentity = true, true
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = or(o.DialTimeout, dialTimeout), or(o.ReadTimeout, ioTimeout), or(o.WriteTimeout, ioTimeout)
	o.MaxRetries, o.PoolSize, o.ConnMaxIdleTime = or(o.MaxRetries, noRetries), or(o.PoolSize, poolSize()), or(o.ConnMaxIdleTime, idleFor)
	o.MinIdleConns, o.DialerRetries, o.MaxRedirects = or(o.MinIdleConns, 2), or(o.DialerRetries, 1), or(o.MaxRedirects, 8)
	o.ConnMaxLifetime, o.ConnMaxLifetimeJitter = or(o.ConnMaxLifetime, oldest), or(o.ConnMaxLifetimeJitter, jitter)
	o.ClusterStateReloadInterval = reloadEvery
}

// embedded starts a Redis inside this process, behind a random password on a loopback port (decision 4). Its keys expire in real
// time: the library only lets time pass when it is told to.
func embedded() (redis.UniversalClient, func() error, error) {
	m := miniredis.NewMiniRedis()
	password := rand.Text()
	m.RequireAuth(password)
	if err := m.Start(); err != nil {
		return nil, nil, fmt.Errorf("redis.url: starting the embedded Redis: %w", err)
	}
	o := &redis.Options{Addr: m.Addr(), Password: password}
	tune(o)
	c, stop, stopped := redis.NewClient(o), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		last := time.Now()
		for {
			select {
			case <-stop:
				return
			case now := <-tick.C:
				m.FastForward(now.Sub(last))
				last = now
			}
		}
	}()
	var once sync.Once
	return c, func() (err error) {
		once.Do(func() {
			close(stop)
			<-stopped
			err = c.Close()
			m.Close()
		})
		return err
	}, nil
}

// redisLog carries the library's own log lines, which it otherwise prints on stderr; they name addresses, no keys. The
// library has one log for the whole process, so it is set once and the newest app's log is behind it.
type redisLog struct{ to atomic.Pointer[zap.Logger] }

var redisLines redisLog

func init() { redis.SetLogger(&redisLines) }

// Printf is the library's.
func (l *redisLog) Printf(_ context.Context, format string, v ...any) {
	if log := l.to.Load(); log != nil {
		log.Debug(strings.TrimSpace(fmt.Sprintf(format, v...)))
	}
}

// EmbeddedURL is the in-process store.
var EmbeddedURL = config.EmbeddedURL()
