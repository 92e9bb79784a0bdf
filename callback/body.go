package callback

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Bodies of requests that are not proven yet are bounded over all connections. WeChat always sends a right signature
// in the URL: whoever does may use signedBodies, so that a flood of others keeps no push out. signature covers no
// body and can be replayed, so that it is a bound too and no proof.
const (
	anyBodies    = 16 << 20 // bytes in hand up to which nothing is asked of a request
	signedBodies = 64 << 20 // bytes in hand up to which requests with a right signature are read
	// maxProbe is the longest body of a request without any signature.
	maxProbe = 256
	// keepBody is the largest buffer that is kept for the next request; a push has some 1 to 4 KiB.
	keepBody = 16 << 10
)

var (
	errTooLarge = errors.New("callback: body too large")
	errBusy     = errors.New("callback: too many bodies in hand")
)

// bodyMemory counts the bytes of the buffers that bodies are read into.
type bodyMemory struct {
	used                  atomic.Int64
	anyLimit, signedLimit int64
}

func (m *bodyMemory) take(n, limit int64) bool {
	if m.used.Add(n) <= limit {
		return true
	}
	m.used.Add(-n)
	return false
}

// bodyReader reads one request's body.
type bodyReader struct {
	buf    []byte
	d      *Handler
	e      *Verifier
	q      Query
	r      *http.Request
	conn   http.ResponseController
	began  time.Time
	limit  int64
	held   int64
	asked  bool // whether signature has been looked at
	signed bool // it is right
}

var bodyReaders = sync.Pool{New: func() any { return &bodyReader{buf: make([]byte, 0, 4<<10)} }}

// free gives the memory back to the count, and to the next request when it is little.
func (b *bodyReader) free() {
	b.d.bodies.used.Add(-b.held)
	if cap(b.buf) <= keepBody {
		*b = bodyReader{buf: b.buf[:0]}
		bodyReaders.Put(b)
	}
}

// receive reads and verifies a request. One that no body could prove is refused before its body is read.
func (d *Handler) receive(w http.ResponseWriter, r *http.Request, e *Verifier, began time.Time) (*Push, error) {
	b := bodyReaders.Get().(*bodyReader)
	b.d, b.e, b.q, b.r, b.began, b.limit = d, e, ParseQuery(r.URL.RawQuery), r, began, d.o.BodyLimit
	b.conn = *http.NewResponseController(w)
	defer b.free()
	switch {
	case r.ContentLength > b.limit:
		return nil, errTooLarge
	case !b.q.signed() && r.ContentLength <= maxProbe:
		b.limit = maxProbe
	case !b.q.signed() || !e.provable(&b.q, began):
		b.drop()
		return nil, ErrUnproven
	}
	b.deadline(began.Add(d.o.Budget)) // a slow body is late too
	err := b.read()
	switch {
	case errors.Is(err, errTooLarge) && b.limit == maxProbe:
		b.drop()
		return nil, ErrUnproven
	case err != nil:
		return nil, err
	case isProbe(&b.q, b.buf):
		return nil, errProbe
	}
	return e.Verify(b.q, b.buf, began)
}

// read reads the body into buf, which grows as bytes really come.
func (b *bodyReader) read() error {
	if err := b.hold(int64(cap(b.buf))); err != nil {
		return err
	}
	if b.r.Body == nil {
		return nil
	}
	for first := true; ; first = false {
		if !first && int64(len(b.buf)) != b.r.ContentLength && !b.asked && !b.isSigned() {
			b.deadline(b.began.Add(b.d.o.Budget / 4)) // signature is missing or wrong
		}
		if len(b.buf) == cap(b.buf) {
			size := min(2*int64(cap(b.buf)), b.d.o.BodyLimit+1)
			if err := b.hold(size - int64(cap(b.buf))); err != nil {
				return err
			}
			b.buf = append(make([]byte, 0, size), b.buf...)
		}
		n, err := b.r.Body.Read(b.buf[len(b.buf):cap(b.buf)])
		b.buf = b.buf[:len(b.buf)+n]
		switch {
		case int64(len(b.buf)) > b.limit:
			return errTooLarge
		case err == io.EOF:
			return nil
		case err != nil:
			return b.unread(err)
		}
	}
}

// hold accounts for n more bytes.
func (b *bodyReader) hold(n int64) error {
	if m := &b.d.bodies; !m.take(n, m.anyLimit) && !(b.isSigned() && m.take(n, m.signedLimit)) {
		b.drop()
		return errBusy
	}
	b.held += n
	return nil
}

// isSigned says whether signature is right, and asks once.
func (b *bodyReader) isSigned() bool {
	if !b.asked {
		s := scratches.Get().(*scratch)
		b.asked, b.signed = true, b.e.signed(s, &b.q) != nil
		s.free()
	}
	return b.signed
}

// unread says what a body that cannot be read comes to: somebody else's limit, too slow, or cut off.
func (b *bodyReader) unread(err error) error {
	var limited *http.MaxBytesError
	switch {
	case errors.As(err, &limited):
		return errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded) && b.isSigned():
		return ErrLate
	}
	return ErrUnproven
}

// deadline is until when the body may arrive, where the server can tell.
func (b *bodyReader) deadline(t time.Time) { _ = b.conn.SetReadDeadline(t) }

// drop has the server answer at once: it would wait for the rest of the body first, to keep the connection.
func (b *bodyReader) drop() { b.deadline(b.began) }
