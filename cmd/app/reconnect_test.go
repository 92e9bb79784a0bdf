package app

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
)

// refusals are how servers, proxies and scripts say that they are somebody's replica, or not ready to take over.
var refusals = []string{
	"READONLY You can't write against a read only replica.",
	"ERR READONLY You can't write against a read only replica.",
	"ERR Error running script (call to f_0): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.",
	"ERR can't write against a read only replica",
	"READONLY",
	"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
	"LOADING Redis is loading the dataset in memory",
	"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
	"DENIED this instance was demoted",
}

// set writes with one command, in a pipeline or by a script.
var setters = map[string]func(context.Context, redis.UniversalClient) error{
	"command": func(ctx context.Context, rdb redis.UniversalClient) error { return rdb.Set(ctx, "k", "v", 0).Err() },
	"pipeline": func(ctx context.Context, rdb redis.UniversalClient) error {
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Get(ctx, "absent")
			p.Set(ctx, "k", "v", 0)
			return nil
		})
		if err == redis.Nil {
			return nil
		}
		return err
	},
	"script": func(ctx context.Context, rdb redis.UniversalClient) error {
		return redis.NewScript("return redis.call('set', KEYS[1], '1')").Run(ctx, rdb, []string{"k"}).Err()
	},
}

// TestReconnectsAfterARefusal: behind a forwarder the roles are swapped; open connections stay with the old master, which
// refuses in any words. Soon after the refusal commands reach the new one.
func TestReconnectsAfterARefusal(t *testing.T) {
	for _, refusal := range refusals {
		for name, set := range setters {
			t.Run(name+"/"+refusal, func(t *testing.T) {
				n, second := newLine(t), miniredis.RunT(t)
				n.mend()
				rdb, closing, err := OpenRedis(urlOf(t, n.url()))
				if err != nil {
					t.Fatal(err)
				}
				defer closing()
				if err := set(t.Context(), rdb); err != nil {
					t.Fatal(err)
				}
				n.leadTo(second.Addr())
				n.m.SetError(refusal)
				if err := set(t.Context(), rdb); err == nil {
					t.Fatal("it is taken by a replica")
				}
				// At once, unless the greeting of another connection was refused a moment before.
				eventually(t, "the new master is written to", func() bool { return set(t.Context(), rdb) == nil && second.Exists("k") })
			})
		}
	}
}

// TestWorkedRepliesKeepTheConnection: what shows a server at work costs no new connections.
func TestWorkedRepliesKeepTheConnection(t *testing.T) {
	m := miniredis.RunT(t)
	rdb, closing, err := OpenRedis(urlOf(t, "redis://"+m.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer closing()
	ctx := t.Context()
	rdb.LPush(ctx, "list", "x")
	made := m.TotalConnectionCount()
	for range 100 {
		if rdb.Get(ctx, "list").Err() == nil || rdb.EvalSha(ctx, strings.Repeat("0", 40), []string{"k"}).Err() == nil || rdb.Do(ctx, "nosuch").Err() == nil {
			t.Fatal("no error replies")
		}
	}
	if now := m.TotalConnectionCount(); now > made+4 { // the pool may still be filling up
		t.Errorf("%d connections, %d before", now, made)
	}
}

// TestRefusalsCostFewConnections: a server that refuses for ever is dialled a few times a second, not for each command.
func TestRefusalsCostFewConnections(t *testing.T) {
	m := miniredis.RunT(t)
	rdb, closing, err := OpenRedis(urlOf(t, "redis://"+m.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer closing()
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	m.SetError("ERR READONLY x")
	began, made := time.Now(), m.TotalConnectionCount()
	for range 1000 {
		if rdb.Set(t.Context(), "k", "v", 0).Err() == nil {
			t.Fatal("taken")
		}
	}
	turns := int(time.Since(began)/renewEvery) + 2
	if now := m.TotalConnectionCount(); now-made > 5*turns+8 {
		t.Errorf("%d new connections in %s", now-made, time.Since(began))
	}
}

// sentinelOf is a sentinel that names the master of the moment.
func sentinelOf(t *testing.T, master *atomic.Pointer[string]) string {
	t.Helper()
	s, err := server.NewServer("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	answer := func(c *server.Peer, _ string, args []string) {
		host, port, _ := net.SplitHostPort(*master.Load())
		if len(args) > 0 && strings.EqualFold(args[0], "get-master-addr-by-name") {
			c.WriteStrings([]string{host, port})
			return
		}
		c.WriteLen(0)
	}
	for name, cmd := range map[string]server.Cmd{"SENTINEL": answer,
		"SUBSCRIBE": func(c *server.Peer, _ string, args []string) {
			for i, a := range args {
				c.WriteLen(3)
				c.WriteBulk("subscribe")
				c.WriteBulk(a)
				c.WriteInt(i + 1)
			}
		},
		"PING": func(c *server.Peer, _ string, _ []string) { c.WriteInline("PONG") }} {
		if err := s.Register(name, cmd); err != nil {
			t.Fatal(err)
		}
	}
	return s.Addr().String()
}

// TestReconnectsThroughSentinel: the sentinels know the new master; the one before still answers, and refuses.
func TestReconnectsThroughSentinel(t *testing.T) {
	first, second := miniredis.RunT(t), miniredis.RunT(t)
	var master atomic.Pointer[string]
	name := func(m *miniredis.Miniredis) { addr := m.Addr(); master.Store(&addr) }
	name(first)
	rdb, closing, err := OpenRedis(urlOf(t, "redis+sentinel://"+sentinelOf(t, &master)+"/mymaster"))
	if err != nil {
		t.Fatal(err)
	}
	defer closing()
	set := setters["command"]
	if err := set(t.Context(), rdb); err != nil {
		t.Fatal(err)
	}
	name(second)
	first.SetError("ERR READONLY You can't write against a read only replica.")
	eventually(t, "the new master is found", func() bool { return set(t.Context(), rdb) == nil && second.Exists("k") })
}

// TestClusterMapIsReloaded on a refusal and on a broken connection, long before the next look by the clock.
func TestClusterMapIsReloaded(t *testing.T) {
	m := miniredis.RunT(t)
	rdb, closing, err := OpenRedis(urlOf(t, "redis+cluster://"+m.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer closing()
	if got := rdb.(*redis.ClusterClient).Options().ClusterStateReloadInterval; got > time.Second {
		t.Errorf("the map is looked at every %s", got)
	}
	var reports atomic.Int32
	r := &reconnect{refused: func() { reports.Add(1) }}
	for i, err := range []error{testError("READONLY x"), testError("CLUSTERDOWN x"), net.ErrClosed, fmt.Errorf("dial: %w", net.ErrClosed)} {
		r.look(err)
		if got := int(reports.Load()); got != i+1 {
			t.Errorf("%v: %d reports", err, got)
		}
	}
	for _, err := range []error{nil, redis.Nil, context.Canceled, testError("NOSCRIPT x"), testError("MOVED 1 h:1")} {
		r.look(err)
	}
	if got := reports.Load(); got != 4 {
		t.Errorf("%d reports", got)
	}
}
