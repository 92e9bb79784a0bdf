package queue

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// StoredShards reads the number of shards this Redis was started with; 0 when no gateway has used it yet.
func StoredShards(ctx context.Context, rdb redis.UniversalClient) (int, error) {
	n, err := rdb.Get(ctx, shardsKey).Int()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	return n, err
}
