package app

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/relay/queue"
)

// probeKept is how long a probe's key stays.
const probeKept = time.Minute

// Probe asks Redis for what the gateway lives by: one tiny write that expires. A PING would not do: a Redis that is full,
// cannot save or has become a replica answers it and takes nothing. The key stands beside the queue's; of a cluster, whose
// nodes fail one by one, every shard's node is asked.
func Probe(ctx context.Context, rdb redis.UniversalClient, shards int) error {
	if _, single := rdb.(*redis.Client); single {
		shards = 1
	}
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range shards {
			p.Set(ctx, queue.Prefix(n)+"probe", "", probeKept)
		}
		return nil
	})
	return err
}

// cures is what to do about a refusal of Redis, by how its error begins.
// https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors
var cures = []struct{ prefix, cure string }{
	{"OOM", "it is full: give it more memory (maxmemory), or shorten retention"},
	{"MISCONF", "it cannot save: look at its disk and its log"},
	{"READONLY", "it is a replica: point redis.url at the master, or use redis+sentinel://"},
	{"NOREPLICAS", "too few replicas follow it: see min-replicas-to-write"},
	{"NOAUTH", "it wants a password: write redis.url as redis://:password@host, or redis://user:password@host"},
	{"WRONGPASS", "the user or password of redis.url is wrong"},
	{"invalid password", "the password of redis.url is wrong"},
	{"NOPERM", "the user of redis.url may not do this: see its ACL"},
}

// Refusal says why Redis did not do what it was asked, and the cure where there is one to name.
func Refusal(err error) string {
	reply, ok := errors.AsType[redis.Error](err)
	if !ok {
		return "does not answer: " + err.Error()
	}
	out := "takes no writes: " + strings.TrimSuffix(reply.Error(), ".")
	for _, prefix := range []string{"NOAUTH", "WRONGPASS", "invalid password"} {
		if redis.HasErrorPrefix(err, prefix) {
			out = "lets us not in: " + strings.TrimSuffix(reply.Error(), ".")
		}
	}
	for _, c := range cures {
		if redis.HasErrorPrefix(err, c.prefix) {
			out += "; " + c.cure
		}
	}
	return out
}
