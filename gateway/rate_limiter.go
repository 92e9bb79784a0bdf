package gateway

import (
	"hash/maphash"
	"sync"
	"time"
)

// Rate is a limit: so many a second on the long run, so many at once. Zero PerSecond is no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// rateLimiter limits how often something named may happen (GCRA). Of each name it keeps only the time at which its
// allowance is whole again; a name whose time has come is as good as unknown, so the map stays below maxNames (decision
// 2).
type rateLimiter struct {
	seed  maphash.Seed
	parts [16]struct {
		mu   sync.Mutex
		full map[uint64]int64 // hashed name -> Unix ns
	}
}

// maxNames bounds one of a limiter's parts; 16 parts of it are some 10 MB.
const maxNames = 16 << 10

func newRateLimiter() *rateLimiter {
	l := &rateLimiter{seed: maphash.MakeSeed()}
	for i := range l.parts {
		l.parts[i].full = make(map[uint64]int64)
	}
	return l
}

// take asks for one more of name at the given time; wait is how long until it would be allowed, 0 when it is.
func (l *rateLimiter) take(name string, r Rate, now time.Time) (wait time.Duration) {
	if r.PerSecond <= 0 {
		return 0
	}
	each := int64(float64(time.Second) / r.PerSecond)
	burst := each * int64(max(r.Burst, 1))
	key, t := maphash.String(l.seed, name), now.UnixNano()
	p := &l.parts[key%uint64(len(l.parts))]
	p.mu.Lock()
	defer p.mu.Unlock()
	next := max(p.full[key], t) + each
	if over := next - t - burst; over > 0 {
		return time.Duration(over)
	}
	if _, known := p.full[key]; !known && len(p.full) >= maxNames {
		shrink(p.full, t)
	}
	p.full[key] = next
	return 0
}

// shrink drops the names whose allowance is whole; in a flood of names then any, down to three quarters, so that a
// flood costs memory once and each name little time.
func shrink(full map[uint64]int64, now int64) {
	for k, at := range full {
		if at <= now {
			delete(full, k)
		}
	}
	for k := range full {
		if len(full) <= maxNames*3/4 {
			return
		}
		delete(full, k)
	}
}
