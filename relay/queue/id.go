package queue

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

var alphabet = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// Shards is the number of shards.
func (q *Queue) Shards() int { return q.o.Shards }

// Shard is where everything of one user of one app lives.
func (q *Queue) Shard(app, openid string) int {
	h := fnv.New32a()
	h.Write([]byte(app + "\x00" + openid))
	return int(h.Sum32() % uint32(q.o.Shards))
}

// Prefix starts every key of a shard.
func Prefix(shard int) string { return fmt.Sprintf("wx:{s%02d}:", shard) }

// PrefixOf is the Prefix of a user's shard.
func (q *Queue) PrefixOf(app, openid string) string { return Prefix(q.Shard(app, openid)) }

// NewID makes an id.
func (q *Queue) NewID(kind string, shard int) string {
	var b [16]byte
	rand.Read(b[:])
	return idOf(kind, shard, b[:])
}

// IDFor makes the same id for the same seed.
func (q *Queue) IDFor(kind string, shard int, seed string) string {
	b := sha256.Sum256([]byte(seed))
	return idOf(kind, shard, b[:16])
}

func idOf(kind string, shard int, b []byte) string {
	return strings.TrimSuffix(kind, "_") + "_" + fmt.Sprintf("%02d", shard) + alphabet.EncodeToString(b)
}

// ShardOf reads the shard from an id, or ErrID.
func ShardOf(id string) (int, error) {
	_, rest, ok := strings.Cut(id, "_")
	if !ok || len(rest) < 2 {
		return 0, ErrID
	}
	n, err := strconv.Atoi(rest[:2])
	if err != nil {
		return 0, ErrID
	}
	return n, nil
}
