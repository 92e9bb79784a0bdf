package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"
)

// outer names the request, turns a panic into a 500 that says nothing of it, and answers 503 while the gateway stops.
func (g *Handler) outer(c *gin.Context) {
	c.Writer.Header()[requestIDHeader] = []string{requestID(c.Request.Header.Get(requestIDHeader))}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler {
			panic(p)
		}
		g.refuse(c, panicked(p))
		c.Abort()
	}()
	if g.stopping() {
		g.refuse(c, &fault{code: Unavailable, detail: "the gateway is starting or stopping", after: unavailableFor})
		c.Abort()
		return
	}
	c.Next()
}

// quiet is outer for WeChat: its answers carry no body and no request id, and a push that is not acknowledged comes again.
func (g *Handler) quiet(c *gin.Context) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler || c.Writer.Written() {
			panic(http.ErrAbortHandler)
		}
		g.fault("", c.FullPath(), panicked(p))
		c.Status(http.StatusInternalServerError)
		c.Writer.WriteHeaderNow()
		c.Abort()
	}()
	c.Next()
}

// measure tells what was answered, and how long that took. A connection that is cut instead is told as 500.
func measure(served func(route, method string, status int, took time.Duration)) gin.HandlerFunc {
	return func(c *gin.Context) {
		began, whole := time.Now(), false
		defer func() {
			route, status := c.FullPath(), c.Writer.Status()
			if route == "" {
				route = "none"
			}
			if !whole {
				status = http.StatusInternalServerError
			}
			served(route, c.Request.Method, status, time.Since(began))
		}()
		c.Next()
		whole = true
	}
}

func panicked(p any) error { return fmt.Errorf("panic: %v\n%s", p, debug.Stack()) }

func requestIDOf(c *gin.Context) string { return c.Writer.Header().Get(requestIDHeader) }

// refuse answers with the error's problem, and reports to the operator what the answer leaves out.
func (g *Handler) refuse(c *gin.Context, err error) {
	p := problemOf(err, requestIDOf(c))
	if p.cause != nil && c.Request.Context().Err() == nil {
		g.fault(p.RequestID, c.FullPath(), p.cause)
	}
	if c.Writer.Written() {
		return
	}
	// A 401 looks the same whether the body was read before it or not.
	if c.Request.Body != http.NoBody || p.Code == Unauthorized && c.Request.ContentLength != 0 {
		leaveUnread(c.Writer)
	}
	p.write(c.Writer)
}

// leaveUnread has the connection closed after the answer, at once: net/http would wait for what is left of the body.
func leaveUnread(w http.ResponseWriter) {
	w.Header()["Connection"] = []string{"close"}
	_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // not every writer can: then the server's own counts
}

const requestIDHeader = "X-Request-Id"

// requestID is the name of a request in answers and logs: the caller's own when it is short and plain, else one made
// from it (so that the same stays the same), else a fresh one.
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
