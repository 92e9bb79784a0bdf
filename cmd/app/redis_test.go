package app

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/config"
)

// urlOf is a redis.url that has come through a config.
func urlOf(t *testing.T, raw string) config.URL {
	t.Helper()
	c, err := config.Parse(config.Example(), ".", []string{"WXRELAY_REDIS_URL=" + raw})
	if err != nil {
		t.Fatal(err)
	}
	return c.Redis.URL
}

func TestOpenRedisForms(t *testing.T) {
	type seen struct {
		Kind, User, Password string
		Addrs                []string
		DB                   int
		TLS                  bool
	}
	for raw, want := range map[string]seen{
		"redis://h:1/2":                           {Kind: "single", Addrs: []string{"h:1"}, DB: 2},
		"redis://h":                               {Kind: "single", Addrs: []string{"h:6379"}},
		"rediss://user:p%40ss@h:1":                {Kind: "single", Addrs: []string{"h:1"}, User: "user", Password: "p@ss", TLS: true},
		"unix://:hunter2@/run/r.sock?db=3":        {Kind: "single", Addrs: []string{"/run/r.sock"}, Password: "hunter2", DB: 3},
		"redis+cluster://u:hunter2@a:1,b,[::1]":   {Kind: "cluster", Addrs: []string{"a:1", "b:6379", "[::1]:6379"}, User: "u", Password: "hunter2"},
		"redis+cluster://a/0?tls=true":            {Kind: "cluster", Addrs: []string{"a:6379"}, TLS: true},
		"redis+cluster://a,b:2?read_timeout=5s":   {Kind: "cluster", Addrs: []string{"a:6379", "b:2"}},
		"redis+sentinel://u:hunter2@a,b:2/m?db=4": {Kind: "single", Addrs: []string{"FailoverClient"}, User: "u", Password: "hunter2", DB: 4},
	} {
		t.Run(raw, func(t *testing.T) {
			rdb, closing, err := OpenRedis(urlOf(t, raw))
			if err != nil {
				t.Fatal(err)
			}
			defer closing()
			var got seen
			switch c := rdb.(type) {
			case *redis.Client:
				o := c.Options()
				got = seen{Kind: "single", User: o.Username, Password: o.Password, Addrs: []string{o.Addr}, DB: o.DB, TLS: o.TLSConfig != nil}
				if o.MaxRetries != 0 || !o.ContextTimeoutEnabled || o.PoolSize < 32 {
					t.Errorf("not tuned: %d retries, %t, pool of %d", o.MaxRetries, o.ContextTimeoutEnabled, o.PoolSize)
				}
			case *redis.ClusterClient:
				o := c.Options()
				got = seen{Kind: "cluster", User: o.Username, Password: o.Password, Addrs: o.Addrs, TLS: o.TLSConfig != nil}
				if !o.ContextTimeoutEnabled || o.MaxRedirects != 8 {
					t.Error("not tuned")
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSentinelKeepsTheTwoPasswordsApart(t *testing.T) {
	o, err := sentinel("u:master@a,b:2/mymaster?sentinel_username=s&sentinel_password=guard&tls=true")
	if err != nil {
		t.Fatal(err)
	}
	if o.MasterName != "mymaster" || o.Username != "u" || o.Password != "master" || o.SentinelUsername != "s" || o.SentinelPassword != "guard" ||
		o.TLSConfig == nil || cmp.Diff([]string{"a:26379", "b:2"}, o.SentinelAddrs) != "" {
		t.Errorf("%+v", o)
	}
}

func TestOpenRedisErrorsKeepThePassword(t *testing.T) {
	for _, raw := range []string{"redis://:hunter2@h/0?no_such_option=1", "redis+cluster://:hunter2@h:x", "redis+sentinel://:hunter2%zz@h/m", "redis://:hunter2@h:port"} {
		// Some of these a config would have refused already.
		c := &config.Config{}
		if parsed, err := config.Parse(config.Example(), ".", []string{"WXRELAY_REDIS_URL=" + raw}); err == nil {
			c = parsed
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: config says %v", raw, err)
		}
		if c.Redis.URL.IsZero() {
			continue
		}
		if _, _, err := OpenRedis(c.Redis.URL); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// TestEmbeddedForgetsInTime: keys of the in-process Redis expire by the clock, and nobody gets in without its password.
func TestEmbeddedForgetsInTime(t *testing.T) {
	rdb, closing, err := OpenRedis(EmbeddedURL)
	if err != nil {
		t.Fatal(err)
	}
	defer closing()
	if err := rdb.Set(t.Context(), "k", "v", 500*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	if err := rdb.Set(t.Context(), "stays", "v", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key expires", func() bool { return errors.Is(rdb.Get(t.Context(), "k").Err(), redis.Nil) })
	if err := rdb.Get(t.Context(), "stays").Err(); err != nil {
		t.Error(err)
	}
	stranger := redis.NewClient(&redis.Options{Addr: rdb.(*redis.Client).Options().Addr})
	defer stranger.Close()
	if err := stranger.Ping(t.Context()).Err(); err == nil {
		t.Error("a stranger gets in")
	}
	if err := closing(); err != nil {
		t.Error(err)
	}
	if err := closing(); err != nil {
		t.Error(err)
	}
}

func TestRedisWatchCountsFailures(t *testing.T) {
	errs := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "e"}, []string{"kind"})
	registry := prometheus.NewRegistry()
	registry.MustRegister(errs)
	w := redisWatch{errs}
	timeout := &net.OpError{Op: "read", Err: &net.DNSError{IsTimeout: true}}
	for _, err := range []error{nil, redis.Nil, context.Canceled, context.DeadlineExceeded, timeout, net.ErrClosed, testError("ERR wrong"), testError("NOSCRIPT no")} {
		_ = w.ProcessHook(func(context.Context, redis.Cmder) error { return err })(t.Context(), redis.NewCmd(t.Context(), "get", "k"))
	}
	_ = w.ProcessHook(func(context.Context, redis.Cmder) error { return testError("ERR unknown") })(t.Context(), redis.NewCmd(t.Context(), "client", "setinfo"))
	_, _ = w.DialHook(func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed })(t.Context(), "tcp", "h:1")
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%d families, %v", len(families), err)
	}
	got := map[string]float64{}
	for _, m := range families[0].GetMetric() {
		got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	if diff := cmp.Diff(map[string]float64{"timeout": 2, "connection": 1, "reply": 1, "dial": 1}, got); diff != "" {
		t.Error(diff)
	}
}

// testError is an error reply of Redis.
type testError string

func (e testError) Error() string { return string(e) }
func (testError) RedisError()     {}
