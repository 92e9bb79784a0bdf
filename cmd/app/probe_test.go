package app

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/relay/queue"
)

// TestReadyNeedsWrites: a Redis that answers and takes nothing makes /readyz red, with the reason and the cure.
func TestReadyNeedsWrites(t *testing.T) {
	n := newLine(t)
	n.mend()
	w := newWorld(t, n.url())
	a := w.start()
	if status, body := get(t, a.AdminAddr(), "/readyz"); status != http.StatusOK {
		t.Fatalf("before: %d %s", status, body)
	}
	if left := n.m.TTL(queue.Prefix(0) + "probe"); left <= 0 || left > probeKept {
		t.Errorf("the probe's key stays for %s", left)
	}
	for refused, cure := range map[string]string{
		"OOM command not allowed when used memory > 'maxmemory'.":                         "'maxmemory'; it is full: give it more memory",
		"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to": "it cannot save: look at its disk",
		"READONLY You can't write against a read only replica.":                           "point redis.url at the master",
		"NOREPLICAS Not enough good replicas to write.":                                   "min-replicas-to-write",
		"NOPERM this user has no permissions to run the 'set' command":                    "takes no writes: NOPERM",
	} {
		n.m.SetError(refused)
		status, body := get(t, a.AdminAddr(), "/readyz")
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "takes no writes: "+strings.Fields(refused)[0]) || !strings.Contains(body, cure) {
			t.Errorf("%s: %d %s", refused, status, body)
		}
	}
	n.m.SetError("")
	eventually(t, "/readyz is green", func() bool { status, _ := get(t, a.AdminAddr(), "/readyz"); return status == http.StatusOK })
}

// TestReadyNamesThePassword: a missing and a wrong password of redis.url are named as such, in /readyz and in the log, and
// are not shown.
func TestReadyNamesThePassword(t *testing.T) {
	servers := map[string]func(*testing.T) string{
		"in-process": func(t *testing.T) string {
			m := miniredis.RunT(t)
			m.RequireAuth("rightpassword")
			return "redis://AUTH" + m.Addr()
		},
		"redis-server": func(t *testing.T) string {
			return "unix://AUTH" + serverOfOurOwn(t, "--requirepass", "rightpassword")
		},
	}
	for kind, server := range servers {
		for auth, want := range map[string]string{"": "write redis.url as redis://:password@host", ":hunter2@": "the user or password of redis.url is wrong"} {
			t.Run(kind+auth, func(t *testing.T) {
				w := newWorld(t, strings.Replace(server(t), "AUTH", auth, 1))
				a := w.start()
				status, body := get(t, a.AdminAddr(), "/readyz")
				if status != http.StatusServiceUnavailable || !strings.Contains(body, "lets us not in: ") || !strings.Contains(body, want) {
					t.Errorf("%d %s", status, body)
				}
				eventually(t, "the log", func() bool { return w.log.has(want) })
				if strings.Contains(body, "hunter2") || w.log.has("hunter2") {
					t.Error("the password is shown")
				}
			})
		}
	}
}

// TestReadyWithARealRedis that is full, or somebody's replica: it goes on answering PING.
func TestReadyWithARealRedis(t *testing.T) {
	socket := serverOfOurOwn(t)
	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, MaxRetries: -1})
	defer rdb.Close()
	w := newWorld(t, "unix://"+socket)
	a := w.start()
	c := a.config.Load()
	for _, s := range []struct {
		name, refused  string
		spoil, restore []any
	}{
		{"full", "takes no writes: OOM", []any{"CONFIG", "SET", "maxmemory", "1"}, []any{"CONFIG", "SET", "maxmemory", "0"}},
		{"replica", "takes no writes: READONLY", []any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}},
	} {
		if status, body := get(t, a.AdminAddr(), "/readyz"); status != http.StatusOK {
			t.Fatalf("before %s: %d %s", s.name, status, body)
		}
		if err := rdb.Do(t.Context(), s.spoil...).Err(); err != nil {
			t.Fatal(err)
		}
		if err := rdb.Ping(t.Context()).Err(); err != nil {
			t.Errorf("%s: not even a PING: %v", s.name, err)
		}
		if status := push(t, c, a.PublicAddr(), testUser); status != http.StatusInternalServerError {
			t.Errorf("%s: a push is answered %d", s.name, status)
		}
		if status, body := get(t, a.AdminAddr(), "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, s.refused) {
			t.Errorf("%s: %d %s", s.name, status, body)
		}
		if err := rdb.Do(t.Context(), s.restore...).Err(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "/readyz is green after "+s.name, func() bool { status, _ := get(t, a.AdminAddr(), "/readyz"); return status == http.StatusOK })
	}
}

// serverOfOurOwn starts a redis-server that may be spoiled, and gives its socket.
func serverOfOurOwn(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("NOT TESTED: no redis-server on this machine")
	}
	dir, err := os.MkdirTemp("", "wxrelay") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "r.sock")
	cmd := exec.Command("redis-server", append([]string{"--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--loglevel", "warning"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		os.RemoveAll(dir)
	})
	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, MaxRetries: -1})
	defer rdb.Close()
	eventually(t, "redis-server answers", func() bool {
		err := rdb.Ping(t.Context()).Err()
		return err == nil || redis.HasErrorPrefix(err, "NOAUTH")
	})
	return socket
}

// TestProbeAsksEveryShard of a cluster, whatever the one node of this one takes.
func TestProbeAsksEveryShard(t *testing.T) {
	m := miniredis.RunT(t)
	rdb, closing, err := OpenRedis(urlOf(t, "redis+cluster://"+m.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer closing()
	if err := Probe(t.Context(), rdb, 3); err != nil {
		t.Fatal(err)
	}
	for n := range 4 {
		if got := m.Exists(queue.Prefix(n) + "probe"); got != (n < 3) {
			t.Errorf("shard %d: %t", n, got)
		}
	}
	m.SetError("OOM command not allowed when used memory > 'maxmemory'.")
	if err := Probe(t.Context(), rdb, 3); err == nil || !strings.HasPrefix(Refusal(err), "takes no writes: OOM") {
		t.Errorf("%v", err)
	}
}

// TestProbeOfACluster: one full node of three is found, and the others' answers do not hide it.
func TestProbeOfACluster(t *testing.T) {
	if os.Getenv("WXRELAY_TEST_CLUSTER") != "1" {
		t.Skip("NOT TESTED: Redis Cluster; set WXRELAY_TEST_CLUSTER=1 (needs redis-server and redis-cli)")
	}
	var addrs []string
	var nodes []*redis.Client
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		l.Close()
		_, port, _ := net.SplitHostPort(addr)
		serverOfOurOwn(t, "--port", port, "--bind", "127.0.0.1", "--cluster-enabled", "yes")
		node := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
		defer node.Close()
		addrs, nodes = append(addrs, addr), append(nodes, node)
	}
	if out, err := exec.Command("redis-cli", append([]string{"--cluster", "create"}, append(addrs, "--cluster-yes")...)...).CombinedOutput(); err != nil {
		t.Fatalf("redis-cli --cluster create: %v\n%s", err, out)
	}
	rdb, closing, err := OpenRedis(urlOf(t, "redis+cluster://"+strings.Join(addrs, ",")))
	if err != nil {
		t.Fatal(err)
	}
	defer closing()
	eventually(t, "the cluster takes writes", func() bool { return Probe(t.Context(), rdb, 16) == nil })
	for i, node := range nodes {
		if err := node.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
			t.Fatal(err)
		}
		if err := Probe(t.Context(), rdb, 16); err == nil || !strings.HasPrefix(Refusal(err), "takes no writes: OOM") {
			t.Errorf("node %d is full: %v", i, err)
		}
		if err := node.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
			t.Fatal(err)
		}
		if err := Probe(t.Context(), rdb, 16); err != nil {
			t.Errorf("no node is full: %v", err)
		}
	}
}
