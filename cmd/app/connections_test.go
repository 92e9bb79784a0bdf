package app

import (
	"net"
	"net/http"
	"slices"
	"testing"
)

// conn is a connection of which only its end is of interest.
type conn struct {
	net.Conn
	name   string
	closed *[]string
}

func (c *conn) Close() error { *c.closed = append(*c.closed, c.name); return nil }

func TestTheLongestIdleConnectionMakesPlace(t *testing.T) {
	var closed []string
	made := map[string]*conn{}
	dropped := 0
	n := &connections{most: 3, dropped: func() { dropped++ }}
	note := func(name string, states ...http.ConnState) {
		if made[name] == nil {
			made[name] = &conn{name: name, closed: &closed}
		}
		for _, s := range states {
			n.note(made[name], s)
		}
	}
	want := func(names ...string) {
		t.Helper()
		if !slices.Equal(closed, names) {
			t.Fatalf("closed %q, want %q", closed, names)
		}
		closed = nil
		for _, name := range names { // the server notes the end
			n.note(made[name], http.StateClosed)
		}
	}
	note("a", http.StateNew, http.StateActive, http.StateIdle)
	note("b", http.StateNew, http.StateActive, http.StateIdle)
	note("c", http.StateNew)
	want()
	note("d", http.StateNew)
	want("a") // idle for longest
	note("b", http.StateActive)
	note("e", http.StateNew)
	want("c") // none is idle: the one that has said nothing for longest
	note("d", http.StateActive)
	note("e", http.StateActive)
	note("f", http.StateNew)
	want("f") // all are at work
	note("e", http.StateIdle)
	note("d", http.StateIdle)
	note("e", http.StateActive, http.StateIdle) // again: d is idle for longer now
	note("g", http.StateNew)
	want("d")
	if dropped != 4 {
		t.Errorf("%d are counted, 4 were dropped", dropped)
	}
	n.dismiss()
	want("g") // it asked nothing yet
	note("b", http.StateClosed)
	note("e", http.StateHijacked)
	if len(n.all) > 0 || n.idle.Len() > 0 || n.silent.Len() > 0 {
		t.Errorf("%d are remembered, %d idle, %d silent", len(n.all), n.idle.Len(), n.silent.Len())
	}
}

// Over a real listener: what is idle is closed for what comes, and whoever comes is answered.
func TestConnectionsOfAFullListener(t *testing.T) {
	w := newWorld(t, "embedded://")
	a := w.start()
	a.connections.mu.Lock()
	a.connections.most = 8
	a.connections.mu.Unlock()
	for range 64 {
		c, err := net.Dial("tcp", a.PublicAddr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: wx\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 12)
		if _, err := c.Read(buf); err != nil || string(buf) != "HTTP/1.1 200" {
			t.Fatalf("%q, %v", buf, err)
		}
	}
	a.connections.mu.Lock()
	defer a.connections.mu.Unlock()
	if have := len(a.connections.all); have > 9 {
		t.Errorf("%d connections, at most 8", have)
	}
}
