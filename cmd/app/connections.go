package app

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

// connections bounds how many connections a server has, each of which costs some 20 KB: when a new one comes to a full
// server, the one that has been idle for longest is closed, else the one that has asked nothing for longest, else the
// new one. It also closes those that asked nothing yet when the server stops: http.Server.Shutdown would wait 5 s for
// each (https://pkg.go.dev/net/http#ConnState), and clients open some ahead of need.
type connections struct {
	most    int    // 0 = no bound
	dropped func() // called for each connection that is closed for another's sake; nil = nobody listens

	mu     sync.Mutex
	all    map[net.Conn]*list.Element // nil element: a request is being answered
	idle   list.List                  // of net.Conn, the longest idle first
	silent list.List                  // of net.Conn, new ones that asked nothing yet, the oldest first
}

// newcomerPatience is for a request that is already under way when the server stops.
const newcomerPatience = 500 * time.Millisecond

// note is the server's ConnState.
func (n *connections) note(c net.Conn, s http.ConnState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all == nil {
		n.all = map[net.Conn]*list.Element{}
	}
	if e := n.all[c]; e != nil {
		n.idle.Remove(e) // of the two lists the one that has it
		n.silent.Remove(e)
	}
	switch s {
	case http.StateNew:
		if n.most > 0 && len(n.all) >= n.most {
			n.drop(c)
		}
		n.all[c] = n.silent.PushBack(c)
	case http.StateIdle:
		n.all[c] = n.idle.PushBack(c)
	case http.StateActive:
		n.all[c] = nil
	default:
		delete(n.all, c)
	}
}

// drop closes one connection so that another can stay; the server notes its end by itself.
func (n *connections) drop(newcomer net.Conn) {
	victim := newcomer
	for _, l := range []*list.List{&n.idle, &n.silent} {
		if e := l.Front(); e != nil {
			victim = e.Value.(net.Conn)
			l.Remove(e)
			delete(n.all, victim)
			break
		}
	}
	_ = victim.Close() // it may be gone already
	if n.dropped != nil {
		n.dropped()
	}
}

// dismiss closes the connections that asked nothing yet.
func (n *connections) dismiss() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for e := n.silent.Front(); e != nil; e = e.Next() {
		_ = e.Value.(net.Conn).Close()
	}
}
