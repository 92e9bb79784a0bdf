package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/cmd/app"
	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/relay/queue"
)

const (
	oldestRedis = "6.2" // of the commands the scripts use
	maxSkew     = 2 * time.Second
)

// checkRedis looks at the store as serve will use it; false: it cannot be used at all.
func checkRedis(ctx context.Context, f *findings, c *config.Config, rdb redis.UniversalClient) bool {
	began := time.Now()
	if err := app.Probe(ctx, rdb, c.Redis.Shards); err != nil {
		cure := "start it, or correct redis.url; serve waits for it"
		if reply, ok := errors.AsType[redis.Error](err); ok {
			_, cure, _ = strings.Cut(app.Refusal(reply), "; ")
		}
		reason, _, _ := strings.Cut(app.Refusal(err), "; ")
		f.problem("redis", "reachable", fmt.Sprintf("%s %s", c.Redis.URL, reason), cure)
		return false
	}
	f.ok("redis", "reachable", "%s answers in %s", c.Redis.URL, time.Since(began).Round(10*time.Microsecond))
	checkSkew(ctx, f, rdb)
	err := eachServer(ctx, rdb, func(ctx context.Context, name string, info map[string]string) {
		serverFindings(f, name, info)
	})
	if err != nil {
		f.skipped("redis", "info", err, "INFO")
	}
	checkShards(ctx, f, c, rdb)
	checkCluster(ctx, f, c, rdb)
	return true
}

// skipped notes what could not be looked at: serve does without the command.
func (f *findings) skipped(subject, check string, err error, command string) {
	f.note(subject, check, fmt.Sprintf("skipped: %v", err), "allow "+command+" to the user of redis.url to have version, eviction and persistence checked; serve does not need it")
}

// checkShards compares the number of shards with the one this Redis was started with, as serve does.
func checkShards(ctx context.Context, f *findings, c *config.Config, rdb redis.UniversalClient) {
	switch n, err := queue.StoredShards(ctx, rdb); {
	case err != nil:
		f.problem("redis", "shards", err.Error(), "")
	case n == 0:
		f.ok("redis", "shards", "no gateway has used this Redis yet; serve will start it with %d", c.Redis.Shards)
	case n != c.Redis.Shards:
		f.problem("redis", "shards", fmt.Sprintf("this Redis was started with %d shards, redis.shards is %d: serve refuses to start", n, c.Redis.Shards),
			fmt.Sprintf("set redis.shards to %d, or start over on an empty Redis", n))
	default:
		f.ok("redis", "shards", "%d", n)
	}
}

// eachServer gives the INFO of the server, or of every master of a cluster.
func eachServer(ctx context.Context, rdb redis.UniversalClient, look func(context.Context, string, map[string]string)) error {
	one := func(ctx context.Context, c *redis.Client) error {
		text, err := c.Info(ctx).Result()
		if err != nil {
			return err
		}
		look(ctx, c.Options().Addr, parseInfo(text))
		return nil
	}
	switch c := rdb.(type) {
	case *redis.ClusterClient:
		var mu sync.Mutex // ForEachMaster asks them side by side
		return c.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			return one(ctx, c)
		})
	case *redis.Client:
		return one(ctx, c)
	}
	return fmt.Errorf("a client of another kind: %T", rdb)
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[key] = value
		}
	}
	return info
}

// serverFindings judges one server by its INFO.
func serverFindings(f *findings, name string, info map[string]string) {
	version := info["redis_version"]
	if older(version, oldestRedis) {
		f.problem("redis", "version", fmt.Sprintf("%s runs %s", name, version), "at least "+oldestRedis+", better 7")
	} else {
		f.ok("redis", "version", "%s runs %s", name, version)
	}
	if role := info["role"]; role != "" && role != "master" {
		f.problem("redis", "role", name+" is a "+role+", which takes no writes", "point redis.url at the master, or use redis+sentinel://")
	}
	switch policy := info["maxmemory_policy"]; policy {
	case "noeviction":
		f.ok("redis", "eviction", "%s: maxmemory-policy noeviction", name)
	case "":
		f.note("redis", "eviction", name+" does not say its maxmemory-policy", "it must be noeviction")
	default:
		f.problem("redis", "eviction", fmt.Sprintf("%s: maxmemory-policy %s, so a full Redis throws away queued messages and credits", name, policy),
			"CONFIG SET maxmemory-policy noeviction, and in redis.conf")
	}
	persistence(f, name, info)
	if limit, _ := strconv.ParseInt(info["maxmemory"], 10, 64); limit > 0 {
		if used, _ := strconv.ParseInt(info["used_memory"], 10, 64); used > limit/100*85 {
			f.problem("redis", "memory", fmt.Sprintf("%s uses %d%% of maxmemory; when it is full nothing is taken any more", name, used*100/limit), "more memory, or shorter retention")
		}
	}
}

func persistence(f *findings, name string, info map[string]string) {
	switch {
	case info["aof_enabled"] == "1" && info["aof_last_write_status"] == "err":
		f.problem("redis", "persistence", name+": the append-only file cannot be written", "look at the disk and at Redis' log")
	case info["aof_enabled"] == "1":
		f.ok("redis", "persistence", "%s: append-only file", name)
	default:
		f.problem("redis", "persistence", name+": no append-only file, so pushes that were acknowledged are lost when Redis restarts",
			"appendonly yes (appendfsync everysec loses at most a second, always loses nothing)")
	}
}

// older compares dotted numbers.
func older(version, than string) bool {
	a, b := strings.Split(version, "."), strings.Split(than, ".")
	for i := range b {
		x, y := 0, 0
		if i < len(a) {
			x, _ = strconv.Atoi(a[i])
		}
		y, _ = strconv.Atoi(b[i])
		if x != y {
			return x < y
		}
	}
	return false
}

// checkSkew compares Redis' clock with ours at the middle of the question: signatures and pushes are judged by ours,
// leases and due times by Redis'.
func checkSkew(ctx context.Context, f *findings, rdb redis.UniversalClient) {
	before := time.Now()
	there, err := rdb.Time(ctx).Result()
	if err != nil {
		f.problem("redis", "clock", err.Error(), "the user of redis.url must be allowed TIME, which serve needs too")
		return
	}
	skew := there.Sub(before.Add(time.Since(before) / 2)).Round(time.Millisecond)
	if skew.Abs() >= maxSkew {
		f.problem("redis", "clock", fmt.Sprintf("Redis' clock is %s apart from ours", skew), "synchronise both (NTP); less than "+maxSkew.String()+" is wanted")
		return
	}
	f.ok("redis", "clock", "%s apart", skew)
}

// checkCluster compares what redis.url says with what is there.
func checkCluster(ctx context.Context, f *findings, c *config.Config, rdb redis.UniversalClient) {
	asked := strings.HasPrefix(c.Redis.URL.Reveal(), "redis+cluster://")
	info, err := rdb.Info(ctx, "cluster").Result()
	if err != nil {
		f.skipped("redis", "cluster", err, "INFO")
		return
	}
	is := parseInfo(info)["cluster_enabled"] == "1"
	switch {
	case is && !asked:
		f.problem("redis", "cluster", "this is a Redis Cluster, but redis.url speaks to one node", "redis+cluster://host1,host2")
	case !is && asked:
		f.problem("redis", "cluster", "redis.url says cluster, but cluster mode is off there", "redis://host:port")
	case is:
		state := parseInfo(rdb.ClusterInfo(ctx).Val())
		if state["cluster_state"] != "ok" {
			f.problem("redis", "cluster", "cluster_state is "+state["cluster_state"], "every slot must be served")
			return
		}
		f.ok("redis", "cluster", "%s masters, state ok", state["cluster_size"])
	}
}
