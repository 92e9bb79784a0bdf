package gateway

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A body is read into buffers that grow with what has arrived, never with what Content-Length promises. The first one
// is free: connections are limited, and most bodies need no other. The others count against budgets (decision 9).
var bufferSizes = [...]int{4 << 10, 16 << 10, 64 << 10}

// buffers are reused, one pool a size.
var buffers [len(bufferSizes)]sync.Pool

func init() {
	for i, size := range bufferSizes {
		buffers[i].New = func() any { b := make([]byte, 0, size); return &b }
	}
}

// How long a body may take: its first bytes bodyPatience (the server's ReadTimeout, counted from the first byte of the
// request), each further byte its time at bodyRate.
const (
	bodyPatience = 10 * time.Second
	bodyRate     = 64 << 10 // bytes a second
	writeTime    = 60 * time.Second
)

// budget limits the bytes that requests hold at the same time.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take asks for n more bytes. A nil budget has no limit.
func (b *budget) take(n int64) bool {
	if b == nil || n == 0 {
		return true
	}
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) {
	if b != nil {
		b.used.Add(-n)
	}
}

// body is the body of one request. The zero value is ready; release it when nothing refers to its bytes any more.
type body struct {
	parts   []*[]byte // one a buffer, the smallest first
	room    [4]*[]byte
	length  int64
	held    int64      // bytes taken from each budget
	budgets [2]*budget // nil = none
	whole   []byte     // all parts in one, once joined
}

// errBusy says that too many bytes are held by unfinished requests.
var errBusy = &fault{code: Unavailable, detail: "too many large requests are being read right now", after: time.Second}

func tooLarge(limit int64) error {
	return &fault{code: TooLarge, detail: "the body is larger than " + strconv.FormatInt(limit, 10) + " bytes"}
}

// read takes in r's body, at most limit bytes, and writes each piece to tap as it arrives. What it holds past the first
// buffer counts in both budgets until release.
func (b *body) read(w http.ResponseWriter, r *http.Request, limit int64, tap io.Writer, budgets [2]*budget) error {
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	began := time.Now()
	b.parts, b.budgets = b.room[:0], budgets
	for {
		part, err := b.next()
		if err != nil {
			return err
		}
		if len(b.parts) > 1 { // it is a long one: it may take the time its length needs
			extra := time.Duration(b.length) * time.Second / bodyRate
			_ = http.NewResponseController(w).SetReadDeadline(began.Add(bodyPatience + extra)) // not every writer can
		}
		for len(*part) < cap(*part) {
			n, err := r.Body.Read((*part)[len(*part):cap(*part)])
			*part = (*part)[:len(*part)+n]
			b.length += int64(n)
			if b.length > limit {
				return tooLarge(limit)
			}
			if n > 0 && tap != nil {
				_, _ = tap.Write((*part)[len(*part)-n:])
			}
			switch {
			case err == io.EOF:
				r.Body = http.NoBody // nothing is left unread: see refuse
				if len(b.parts) > 1 {
					_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
				}
				return nil
			case errors.Is(err, os.ErrDeadlineExceeded):
				return &fault{code: Malformed, detail: "the body came too slowly"}
			case err != nil:
				return &fault{code: Malformed, detail: "the body ended early"}
			}
		}
	}
}

// next is one more buffer.
func (b *body) next() (*[]byte, error) {
	i := min(len(b.parts), len(bufferSizes)-1)
	if i > 0 {
		n := int64(bufferSizes[i])
		for j, each := range b.budgets {
			if !each.take(n) {
				for _, taken := range b.budgets[:j] {
					taken.give(n)
				}
				return nil, errBusy
			}
		}
		b.held += n
	}
	part := buffers[i].Get().(*[]byte)
	*part = (*part)[:0]
	b.parts = append(b.parts, part)
	return part, nil
}

// move has the body count in another budget instead, for as long as the request is worked on.
func (b *body) move(to *budget) error {
	if !to.take(b.held) {
		return &fault{code: RateLimited, detail: "more bytes in unfinished requests than this partner may have", after: time.Second}
	}
	for _, each := range b.budgets {
		each.give(b.held)
	}
	b.budgets = [2]*budget{to}
	return nil
}

// bytes is the body in one piece, borrowed until release.
func (b *body) bytes() []byte {
	switch {
	case b.whole != nil:
		return b.whole
	case len(b.parts) == 0:
		return nil
	case len(b.parts) == 1:
		return *b.parts[0]
	}
	b.whole = make([]byte, 0, b.length)
	for _, part := range b.parts {
		b.whole = append(b.whole, *part...)
	}
	b.free()
	return b.whole
}

// free gives the buffers back.
func (b *body) free() {
	for i, part := range b.parts {
		buffers[min(i, len(bufferSizes)-1)].Put(part)
		b.parts[i] = nil
	}
	b.parts = b.parts[:0]
}

// release ends the use of the body's bytes.
func (b *body) release() {
	b.free()
	for _, each := range b.budgets {
		each.give(b.held)
	}
	b.held, b.whole, b.budgets = 0, nil, [2]*budget{}
}
