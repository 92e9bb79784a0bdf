package queue

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// startCluster starts three masters on loopback and joins them.
func startCluster(t *testing.T) (*redis.ClusterClient, []*server) {
	t.Helper()
	if os.Getenv("WXRELAY_TEST_CLUSTER") != "1" {
		t.Skip("NOT TESTED: Redis Cluster; set WXRELAY_TEST_CLUSTER=1 (needs redis-server and redis-cli)")
	}
	var nodes []*server
	var addrs []string
	for i := range 3 {
		n := ownServer(t, "--cluster-enabled", "yes", "--cluster-config-file", fmt.Sprintf("nodes-%d.conf", i), "--cluster-node-timeout", "2000",
			"--cluster-require-full-coverage", "no")
		nodes, addrs = append(nodes, n), append(addrs, n.addr())
	}
	out, err := exec.Command("redis-cli", append([]string{"--cluster", "create"}, append(addrs, "--cluster-yes")...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli --cluster create: %v\n%s", err, out)
	}
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { rdb.Close() })
	eventually(t, "the cluster covers all slots", func() bool {
		for _, n := range nodes {
			c := redis.NewClient(&redis.Options{Addr: n.addr()})
			info, err := c.ClusterInfo(context.Background()).Result()
			c.Close()
			if err != nil || !containsLine(info, "cluster_state:ok") || !containsLine(info, "cluster_known_nodes:3") {
				return false
			}
		}
		return true
	})
	return rdb, nodes
}

func containsLine(text, line string) bool {
	for len(text) > 0 {
		i := 0
		for i < len(text) && text[i] != '\r' && text[i] != '\n' {
			i++
		}
		if text[:i] == line {
			return true
		}
		text = text[min(i+1, len(text)):]
	}
	return false
}

// The multiset again, over three nodes, with the script caches flushed and one node killed and started again meanwhile.
func TestCluster(t *testing.T) {
	rdb, nodes := startCluster(t)
	var b bag
	var qs []*Queue
	for range 2 {
		q := open(t, rdb, Options{OnError: ignore, Extensions: []Extension{till}})
		q.Handle("g", Group{Concurrency: 10, PerLane: 5}, func(_ context.Context, c *Claimed) Verdict {
			if c.Reclaims > 0 {
				t.Errorf("%s was reclaimed", c.Body)
			}
			if c.Attempts == 0 && c.Body[len(c.Body)-1] == '3' {
				return Retry(time.Millisecond, nil, "odd")
			}
			b.add(string(c.Body))
			shard, _ := ShardOf(c.ID)
			return Done(nil).With(Change{Operations: []Operation{{"till", []string{"give"}}}, Names: []Name{{fmt.Sprint(shard), "v", time.Minute}}})
		})
		start(t, q)
		qs = append(qs, q)
	}
	for i := range 32 { // a key of another room's may live on any node
		k := Key{Name: fmt.Sprintf("wx:{in:%d}:v", i), Value: "one", For: time.Minute}
		ask := func() Result {
			return qs[0].Commit(t.Context(), Change{Shard: i % 16, Key: &k, Jobs: []Job{{ID: qs[0].IDFor("j", i%16, k.Name+k.Value), Lane: "nobody"}}})
		}
		if res := ask(); res.Err != nil {
			t.Fatalf("%s: %v", k.Name, res.Err)
		}
		if res := ask(); res.Err != ErrExists {
			t.Errorf("%s again: %v", k.Name, res.Err)
		}
		if k.Value = "two"; ask().Held != "one" {
			t.Errorf("%s is not held", k.Name)
		}
	}
	produced := produce(t, qs[0], 100)
	eventually(t, "a part is handled", func() bool { return b.sum.Load() > 500 })
	if err := rdb.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error { return c.ScriptFlush(ctx).Err() }); err != nil {
		t.Error(err)
	}
	nodes[1].kill()
	nodes[1].start()
	produced.Wait()
	eventually(t, "all is handled", func() bool { return b.sum.Load() >= 2000 })
	b.eachOnce(t, 2000)
	sum := 0
	eventually(t, "every verdict came with its operation", func() bool {
		sum = 0
		for n := range 16 {
			sum += coins(t, rdb, n)
		}
		return sum >= 2000
	})
	if sum != 2000 {
		t.Errorf("%d coins", sum)
	}
	eventually(t, "nothing is left", func() bool {
		d, err := qs[1].Depths(t.Context())
		return err == nil && (len(d) == 0 || len(d) == 1 && d[0].Lane == "nobody")
	})
}

// Shards lie on different nodes: listings merge them, and one node that is away takes only its own with it.
func TestClusterListsAndLosesANode(t *testing.T) {
	rdb, nodes := startCluster(t)
	q := open(t, rdb, Options{OnError: ignore})
	var mu sync.Mutex
	done := map[int]bool{}
	q.Handle("g", Group{}, func(_ context.Context, c *Claimed) Verdict {
		shard, _ := ShardOf(c.ID)
		mu.Lock()
		done[shard] = true
		mu.Unlock()
		return Done(nil)
	})
	for shard := range 16 {
		commit(t, q, Change{Shard: shard, Jobs: []Job{{ID: q.NewID("j", shard), Lane: "x", Tags: []string{"t"}}}})
	}
	if got := pages(t, 5, func(c string, n int) ([]Record, string, error) { return q.List(t.Context(), "t", -1, c, n) }); len(got) != 16 {
		t.Errorf("%d listed", len(got))
	}
	if err := q.Pause(t.Context(), "g", time.Hour); err != nil {
		t.Error(err)
	}
	if err := q.Resume(t.Context(), "g"); err != nil {
		t.Error(err)
	}
	start(t, q)
	nodes[2].kill()
	alive := 0
	for shard := range 16 {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		if q.Commit(ctx, Change{Shard: shard, Jobs: []Job{{ID: q.NewID("j", shard), Lane: "g"}}}).Err == nil {
			alive++
		}
		cancel()
	}
	if alive == 0 || alive == 16 {
		t.Fatalf("%d of 16 shards answer with a node away", alive)
	}
	eventually(t, "the shards of living nodes are worked on", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(done) == alive
	})
	nodes[2].start()
	eventually(t, "and the others again", func() bool {
		for shard := range 16 {
			mu.Lock()
			ok := done[shard]
			mu.Unlock()
			if !ok {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_ = q.Commit(ctx, Change{Shard: shard, Jobs: []Job{{ID: q.NewID("j", shard), Lane: "g"}}})
				cancel()
				return false
			}
		}
		return true
	})
	if _, err := os.Stat(filepath.Join(nodes[2].dir, "nodes-2.conf")); err != nil {
		t.Errorf("the node was not a cluster's: %v", err)
	}
}
