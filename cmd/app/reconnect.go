package app

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// reconnect is a hook that renews the connections of one pool after a refusal: behind a proxy, a service name or a
// sentinel the server at the other end may have become a replica, and only a new connection reaches the new master.
// The library does so for replies that begin with READONLY alone. Here it is every error reply that does not show that
// the server did its work, in whatever words (decision 7).
//
// A stale connection is not closed while a command uses it. The pool sees it when it takes it up the next time.
type reconnect struct {
	staleBefore atomic.Int64 // Unix nanoseconds: a connection whose dial began before is not used again
	refused     func()       // called at a refusal or a broken connection; nil = nobody
}

// renewEvery bounds how often connections are renewed while every new one is refused too.
const renewEvery = 250 * time.Millisecond

// dialer is what the library dials with. A DialHook would come too late: a client dials its spare connections before a
// hook can be added to it.
func (r *reconnect) dialer(timeout time.Duration, encrypted *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	dial := redis.NewDialer(&redis.Options{DialTimeout: timeout, TLSConfig: encrypted})
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		began := time.Now().UnixNano()
		conn, err := dial(ctx, network, addr)
		if err != nil {
			r.report()
			return nil, err
		}
		return &agedConn{Conn: conn, began: began, hook: r}, nil
	}
}

// DialHook is the library's; see dialer.
func (r *reconnect) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook is the library's.
func (r *reconnect) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		r.look(err)
		return err
	}
}

// ProcessPipelineHook is the library's. The error of a pipeline is the first one of its commands; a refusal may stand
// behind a harmless one.
func (r *reconnect) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if err != nil {
			for _, cmd := range cmds {
				r.look(cmd.Err())
			}
		}
		return err
	}
}

// workedReplies are error replies of a server that did its work: a script to load first, a key elsewhere in the
// cluster, a key of another type, a command that is not allowed to this user, and greetings it does not know.
var workedReplies = []string{"NOSCRIPT", "MOVED", "ASK", "TRYAGAIN", "WRONGTYPE", "NOPERM", "CROSSSLOT", "unknown"}

func (r *reconnect) look(err error) {
	if err == nil || errors.Is(err, redis.Nil) || errors.Is(err, context.Canceled) {
		return
	}
	if _, reply := errors.AsType[redis.Error](err); !reply {
		r.report() // the connection is gone, and the pool has dropped it
		return
	}
	for _, prefix := range workedReplies {
		if redis.HasErrorPrefix(err, prefix) {
			return
		}
	}
	now := time.Now()
	if last := r.staleBefore.Load(); now.UnixNano()-last >= int64(renewEvery) {
		r.staleBefore.CompareAndSwap(last, now.UnixNano())
	}
	r.report()
}

func (r *reconnect) report() {
	if r.refused != nil {
		r.refused()
	}
}

// agedConn knows when it was dialled. The pool asks a connection for its socket before each use, and drops one that
// gives none.
type agedConn struct {
	net.Conn
	began int64
	hook  *reconnect
}

var errStale = errors.New("stale: the server has refused commands since it was dialled")

// SyscallConn gives the socket for the pool's look at it; of TLS it gives one that shows nothing, as the library does.
func (c *agedConn) SyscallConn() (syscall.RawConn, error) {
	if c.began <= c.hook.staleBefore.Load() {
		return nil, errStale
	}
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return unseen{}, nil
}

// unseen is a socket that must not be looked into.
type unseen struct{}

func (unseen) Control(func(uintptr)) error    { return nil }
func (unseen) Read(func(uintptr) bool) error  { return nil }
func (unseen) Write(func(uintptr) bool) error { return nil }
