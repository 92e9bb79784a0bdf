package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Rate is a limit: so many a second on the long run, so many at once. Zero PerSecond is no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// meter limits how often something named may happen (GCRA). Of each name it keeps only the time at which its allowance is
// whole again; names whose time has come are as good as unknown, so the map decays and stays below maxNames (decision 2).
type meter struct {
	seed  maphash.Seed
	parts [16]struct {
		mu   sync.Mutex
		full map[uint64]int64 // hashed name -> Unix ns
	}
}

// maxNames bounds one of a meter's parts; 16 parts of it are some 10 MB.
const maxNames = 16 << 10

func newMeter() *meter {
	m := &meter{seed: maphash.MakeSeed()}
	for i := range m.parts {
		m.parts[i].full = make(map[uint64]int64)
	}
	return m
}

// take asks for one more of name at the given time; wait is how long until it would be allowed, 0 when it is.
func (m *meter) take(name string, r Rate, now time.Time) (wait time.Duration) {
	if r.PerSecond <= 0 {
		return 0
	}
	each := int64(float64(time.Second) / r.PerSecond)
	burst := each * int64(max(r.Burst, 1))
	key, t := maphash.String(m.seed, name), now.UnixNano()
	p := &m.parts[key%uint64(len(m.parts))]
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

// shrink makes room: those whose allowance is whole first; in a flood of names then any, down to three quarters, so that a
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

// clientOf is whose request it is, for limits only: the peer's address, or, when the peer is on this machine or in a private
// network (a reverse proxy), the last public address of X-Forwarded-For (decision 1). IPv6 counts by its /64.
func clientOf(r *http.Request) string {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	ip := ap.Addr().Unmap().WithZone("")
	if inside(ip) {
		lines := r.Header["X-Forwarded-For"]
	search:
		for i := len(lines) - 1; i >= 0; i-- {
			for rest, more := lines[i], true; more; {
				var last string
				if at := strings.LastIndexByte(rest, ','); at >= 0 {
					rest, last = rest[:at], rest[at+1:]
				} else {
					last, more = rest, false
				}
				hop, err := netip.ParseAddr(strings.TrimSpace(last))
				if err != nil {
					break search
				}
				if ip = hop.Unmap().WithZone(""); !inside(ip) {
					break search
				}
			}
		}
	}
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			ip = p.Addr()
		}
	}
	return ip.String()
}

func inside(ip netip.Addr) bool { return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() }

const requestIDHeader = "X-Request-Id"

// requestID is the name of a request in answers and logs: the caller's own when it is short and plain, else one made from
// it (so that the same stays the same), else a fresh one.
func requestID(given string) string {
	switch {
	case given == "":
		const digits = "0123456789abcdefghjkmnpqrstvwxyz"
		id := [20]byte{'r', 'e', 'q', '_'}
		bits, left := rand.Uint64(), 12
		for i := 4; i < len(id); i++ {
			if left == 0 {
				bits, left = rand.Uint64(), 12
			}
			id[i] = digits[bits&31]
			bits, left = bits>>5, left-1
		}
		return string(id[:])
	case len(given) <= 64 && plain(given):
		return given
	}
	sum := sha256.Sum256([]byte(given))
	return "req_" + hex.EncodeToString(sum[:8])
}

func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == ':':
		default:
			return false
		}
	}
	return true
}

// pages are where bodies are read into; a body must not be kept past its request.
var pages = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// keepPage is the largest buffer worth keeping.
const keepPage = 64 << 10

// read takes a body of at most limit bytes into a borrowed buffer; release it when nothing refers to it any more. Memory
// grows with what has arrived, never with what Content-Length promises.
func read(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error) {
	tooLarge := func() error {
		w.Header().Set("Connection", "close")
		return &fault{code: TooLarge, detail: "the body is larger than " + strconv.FormatInt(limit, 10) + " bytes"}
	}
	if r.ContentLength > limit {
		return nil, nil, tooLarge()
	}
	page := pages.Get().(*[]byte)
	release = func() {
		if cap(*page) <= keepPage {
			pages.Put(page)
		}
	}
	b := (*page)[:0]
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		*page = b
		switch {
		case int64(len(b)) > limit:
			release()
			return nil, nil, tooLarge()
		case errors.Is(err, io.EOF):
			return b, release, nil
		case err != nil:
			release()
			return nil, nil, &fault{code: Malformed, detail: "the body ended early"}
		}
	}
}
