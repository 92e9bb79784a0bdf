package app

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// ErrEmbedded says that a Redis is inside the gateway's own process.
var ErrEmbedded = errors.New("redis.url is embedded://, which only the gateway's own process can reach")

// Offline joins the journeys over the gateway's Redis for a command line: nothing is worked on here, what is put there the
// running gateways do. End closes it.
func Offline(ctx context.Context, c *config.Config) (r *relay.Relay, end func() error, err error) {
	if Embedded(c.Redis.URL) {
		return nil, nil, ErrEmbedded
	}
	p, err := planOf(c)
	if err != nil {
		return nil, nil, err
	}
	rdb, end, err := OpenRedis(c.Redis.URL)
	if err != nil {
		return nil, nil, err
	}
	q, err := queue.Open(ctx, rdb, queue.Options{Shards: c.Redis.Shards, Extensions: relay.Extensions(), Lease: c.Queue.Lease, BuriedKeep: c.Retention.Buried})
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	client, err := NewWeChat(rdb, c)
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	sealer := binding.Sealer{Seal: p.keys.Seal, Unseal: p.keys.Unseal}
	r = relay.New(relay.Dependencies{Queue: q, Ledger: ledger.New(rdb, q.PrefixOf), WeChat: client,
		Sender: webhook.NewSender(webhook.SenderOptions{AllowPrivate: c.AllowPrivateEndpoints}), Health: webhook.NewHealth(rdb),
		Registry: webhook.NewRegistry(rdb, webhook.Sealer{Seal: p.keys.Seal, Unseal: p.keys.Unseal}),
		Bindings: binding.New(rdb, sealer), Sealer: sealer}, p.rules)
	if err := r.LoadEndpoints(ctx); err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return r, end, nil
}

// EndpointCondition is how one endpoint does.
type EndpointCondition struct {
	Partner, Endpoint string
	webhook.Condition
}

// EndpointConditions reads how every endpoint does, those of the config and those made over the API. It writes nothing.
func EndpointConditions(ctx context.Context, rdb redis.UniversalClient, c *config.Config) ([]EndpointCondition, error) {
	p, err := planOf(c)
	if err != nil {
		return nil, err
	}
	var partners []string
	for _, x := range c.Partners {
		partners = append(partners, x.ID)
	}
	stored, _, err := webhook.NewRegistry(rdb, webhook.Sealer{Seal: p.keys.Seal, Unseal: p.keys.Unseal}).Of(ctx, partners)
	if err != nil {
		return nil, err
	}
	health := webhook.NewHealth(rdb)
	var out []EndpointCondition
	for _, e := range relay.KnownEndpoints(p.rules, stored) {
		how, err := health.Of(ctx, e.HealthKey())
		if err != nil {
			return nil, err
		}
		out = append(out, EndpointCondition{e.Partner, e.ID, how})
	}
	return out, nil
}
