package app

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/scripts/slow"
)

// A connection that never asked for anything does not hold up the end.
func TestStopDoesNotWaitForNewcomers(t *testing.T) {
	w := newWorld(t, "embedded://")
	a := w.start()
	c, err := net.Dial("tcp", a.PublicAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Connections are accepted in order: this one was answered, so the silent one is known.
	if status, _ := get(t, a.PublicAddr(), "/"); status == 0 {
		t.Fatal("no answer")
	}
	began := time.Now()
	w.close(a)
	slow.Within(t, began, 3*time.Second) // http.Server alone: 5 s
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	if !strings.Contains(w.log.b.String(), `"in_time":true`) {
		t.Error("not in time")
	}
}

// stderr is a pipe in every container, and a pipe cannot be synced.
func TestLogOnAPipe(t *testing.T) {
	r, p, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	old := os.Stderr // where zap complains
	os.Stderr = p
	log, _, stop := NewLog(p, config.Log{Level: "info", Format: "json"})
	os.Stderr = old
	log.Warn("hello")
	stop()
	p.Close()
	said, err := io.ReadAll(r)
	if err != nil || strings.Count(string(said), "\n") != 1 || !strings.Contains(string(said), "hello") {
		t.Errorf("%q, %v", said, err)
	}
}
