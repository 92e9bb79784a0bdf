package webhook

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// MaxEndpoints is how many endpoints one partner may make over the API.
const MaxEndpoints = 100

// registryVersion counts the registry's changes: who reads it again and again need not read the rest.
const registryVersion = "wx:{endpoints}:v"

// Sealer encrypts what is kept; aad ties it to its place, so that it cannot be read in another.
type Sealer struct {
	Seal, Unseal func(plain, aad []byte) ([]byte, error)
}

// Registry keeps the endpoints that partners make over the API, encrypted. Its keys do not expire: an endpoint stays until it is
// removed, and each partner may have MaxEndpoints.
type Registry struct {
	rdb    redis.UniversalClient
	sealer Sealer
}

// NewRegistry keeps it in rdb.
func NewRegistry(rdb redis.UniversalClient, s Sealer) *Registry {
	return &Registry{rdb: rdb, sealer: s}
}

// Stored is one endpoint of the registry.
type Stored struct {
	Partner, ID string
	Revision    int64  // 1 for the first
	Record      []byte // the caller's own encoding
}

// Set writes an endpoint whose revision is known (0 = it does not exist yet), and gives it the next revision. A nil Record
// removes it. ErrStale, ErrFull, ErrUnavailable.
func (g *Registry) Set(ctx context.Context, s Stored) error {
	var sealed []byte
	if s.Record != nil {
		var err error
		if sealed, err = g.sealer.Seal(s.Record, place(s.Partner, s.ID)); err != nil {
			return err
		}
	}
	has := ""
	if s.Revision > 0 {
		has = strconv.FormatInt(s.Revision, 10)
	}
	code, err := registrySetScript.Run(ctx, g.rdb, []string{registryKey(s.Partner), registryVersion},
		s.ID, has, s.Revision+1, sealed, MaxEndpoints).Int()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case code == 0:
		return ErrStale
	case code < 0:
		return ErrFull
	}
	return nil
}

// Version changes with every Set of anybody. ErrUnavailable.
func (g *Registry) Version(ctx context.Context) (string, error) {
	v, err := g.rdb.Get(ctx, registryVersion).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return v, nil
}

// Of reads the endpoints of some partners. One that does not decrypt is left out and named in unread. ErrUnavailable.
func (g *Registry) Of(ctx context.Context, partners []string) (list []Stored, unread []string, err error) {
	cmds := make([]*redis.MapStringStringCmd, len(partners))
	_, err = g.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range partners {
			cmds[i] = p.HGetAll(ctx, registryKey(name))
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for i, cmd := range cmds {
		for id, value := range cmd.Val() {
			revision, sealed, _ := strings.Cut(value, "\n")
			n, err := strconv.ParseInt(revision, 10, 64)
			record, failed := g.sealer.Unseal([]byte(sealed), place(partners[i], id))
			if err != nil || failed != nil {
				unread = append(unread, partners[i]+"/"+id)
				continue
			}
			list = append(list, Stored{Partner: partners[i], ID: id, Revision: n, Record: record})
		}
	}
	return list, unread, nil
}

func registryKey(partner string) string { return "wx:{endpoints}:e:" + partner }

func place(partner, id string) []byte { return []byte("endpoint " + partner + "/" + id) }
