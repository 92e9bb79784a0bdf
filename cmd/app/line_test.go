package app

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
)

// line is the way to a Redis that can be cut and mended: a unix socket that leads to an in-process one. While it is cut
// nobody listens, and what was connected is broken off.
type line struct {
	t    *testing.T
	m    *miniredis.Miniredis
	path string
	to   string // the in-process one's address, which it forgets when it is closed

	mu    sync.Mutex
	l     net.Listener
	conns map[net.Conn]bool
}

// newLine gives a line that is cut.
func newLine(t *testing.T) *line {
	t.Helper()
	dir, err := os.MkdirTemp("", "wxrelay") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	m := miniredis.RunT(t)
	n := &line{t: t, m: m, path: filepath.Join(dir, "r.sock"), to: m.Addr(), conns: map[net.Conn]bool{}}
	t.Cleanup(func() {
		n.cut()
		os.RemoveAll(dir)
	})
	return n
}

func (n *line) url() string { return "unix://" + n.path }

func (n *line) mend() {
	n.t.Helper()
	l, err := net.Listen("unix", n.path)
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.l = l
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go n.carry(c)
		}
	}()
}

func (n *line) carry(c net.Conn) {
	n.mu.Lock()
	to := n.to
	n.mu.Unlock()
	back, err := net.Dial("tcp", to)
	if err != nil {
		c.Close()
		return
	}
	n.mu.Lock()
	open := n.l != nil
	n.conns[c], n.conns[back] = true, true
	n.mu.Unlock()
	if !open {
		c.Close()
	}
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, back}, {back, c}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			way[0].Close()
			way[1].Close()
		})
	}
	both.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
	delete(n.conns, back)
}

// leadTo another server from the next connection on; those that are open stay where they are.
func (n *line) leadTo(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.to = addr
}

func (n *line) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.l != nil {
		n.l.Close()
		n.l = nil
	}
	for c := range n.conns {
		c.Close()
	}
}
