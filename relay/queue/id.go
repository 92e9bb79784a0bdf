package queue

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// alphabet is Crockford's, as ULIDs use it: it sorts as the bytes do and has no dot, which Standard Webhooks forbids in ids.
var alphabet = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// idLen is the length of an id after its kind: two digits of the shard, 128 bits.
const idLen = 2 + 26

// Shards is the number of shards.
func (q *Queue) Shards() int { return q.o.Shards }

// Lease is how long a silent worker keeps its jobs.
func (q *Queue) Lease() time.Duration { return q.o.Lease }

// Shard is where everything of one user of one app lives.
func (q *Queue) Shard(app, openid string) int {
	h := uint64(14695981039346656037) // FNV-1a; part of the stored format
	for i := range len(app) {
		h = (h ^ uint64(app[i])) * 1099511628211
	}
	h *= 1099511628211 // a zero between them
	for i := range len(openid) {
		h = (h ^ uint64(openid[i])) * 1099511628211
	}
	return int((h ^ h>>32) % uint64(q.o.Shards))
}

var prefixes = func() (p [100]string) {
	for i := range p {
		p[i] = fmt.Sprintf("wx:{s%02d}:", i)
	}
	return
}()

// Prefix starts every key of a shard, such as "wx:{s07}:".
func Prefix(shard int) string { return prefixes[shard] }

// PrefixOf is the Prefix of a user's shard.
func (q *Queue) PrefixOf(app, openid string) string { return Prefix(q.Shard(app, openid)) }

// NewID makes an id such as "msg_07" + 26 characters, for kind "msg" (or "msg_"). Those of one process sort by the order
// in which they were made; those of several by their clocks.
func (q *Queue) NewID(kind string, shard int) string {
	b := q.ids.next()
	return idOf(kind, shard, &b)
}

// IDFor makes an id of the same form that is always the same for the same kind, shard and seed. It does not sort by time.
func (q *Queue) IDFor(kind string, shard int, seed string) string {
	sum := sha256.Sum256([]byte(strings.TrimSuffix(kind, "_") + "\x00" + seed))
	sum[0] |= 0x80 // tells it from those of NewID, whose first bits are a time
	return idOf(kind, shard, (*[16]byte)(sum[:16]))
}

// Derive makes an id of another one of NewID's: always the same for the same kind, id and seed, of the same shard, and it sorts
// by time as that one does.
func Derive(kind, id, seed string) string {
	at := len(id) - idLen + 2
	var b [16]byte
	if at < 2 {
		return ""
	}
	if _, err := alphabet.Decode(b[:], []byte(id[at:])); err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(id + "\x00" + seed))
	copy(b[8:], sum[:])
	return idOf(kind, int(id[at-2]-'0')*10+int(id[at-1]-'0'), &b)
}

// minted tells whether an id that ShardOf can read is one of NewID's.
func minted(id string) bool { return id[len(id)-idLen+2] < 'G' }

func idOf(kind string, shard int, b *[16]byte) string {
	kind = strings.TrimSuffix(kind, "_")
	var buf [64]byte
	out := append(append(buf[:0], kind...), '_', byte('0'+shard/10), byte('0'+shard%10))
	return string(alphabet.AppendEncode(out, b[:]))
}

// ShardOf reads the shard from an id, or ErrID.
func ShardOf(id string) (int, error) {
	at := len(id) - idLen
	if at < 2 || id[at-1] != '_' || strings.ContainsAny(id, ". \n") {
		return 0, ErrID
	}
	d1, d2 := id[at], id[at+1]
	if d1 < '0' || d1 > '6' || d2 < '0' || d2 > '9' {
		return 0, ErrID
	}
	n := int(d1-'0')*10 + int(d2-'0')
	if n > 63 {
		return 0, ErrID
	}
	for i := at + 2; i < len(id); i++ {
		if c := id[i]; !(c >= '0' && c <= '9' || c >= 'A' && c <= 'Z') {
			return 0, ErrID
		}
	}
	return n, nil
}

// mint makes 128 bits, 48 of milliseconds and 80 random, that only grow.
type mint struct {
	mu sync.Mutex
	ms uint64
	hi uint16
	lo uint64
}

func (m *mint) next() (b [16]byte) {
	now := uint64(time.Now().UnixMilli())
	m.mu.Lock()
	if now > m.ms {
		m.ms, m.hi, m.lo = now, uint16(rand.Uint32())>>1, rand.Uint64()
	} else {
		lo := m.lo + 1 + uint64(rand.Uint32())
		if lo < m.lo {
			m.hi++
		}
		m.lo = lo
	}
	ms, hi, lo := m.ms, m.hi, m.lo
	m.mu.Unlock()
	binary.BigEndian.PutUint64(b[:8], ms<<16|uint64(hi))
	binary.BigEndian.PutUint64(b[8:], lo)
	return b
}

// randomName names a process in Redis: 20 characters without a dot or a space.
func randomName() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], rand.Uint64())
	binary.BigEndian.PutUint64(b[8:], rand.Uint64())
	return alphabet.EncodeToString(b[:12])
}
