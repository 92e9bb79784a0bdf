package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/wxrelay/wxrelay/scripts/slow"
)

// An endpoint that answered 410 is found by check and endpoints, and brought back on the command line; what was held arrives,
// and is replayed.
func TestEndpointsAndReplay(t *testing.T) {
	slow.Only(t) // a delivery that meets its endpoint's 410 while it is being disabled may come late
	platform := httptest.NewServer(standIn())
	defer platform.Close()
	var status, taken atomic.Int64
	status.Store(http.StatusGone)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
		if status.Load() == http.StatusOK {
			taken.Add(1)
		}
	}))
	defer hook.Close()
	m := miniredis.RunT(t)
	path := file(t, "wxrelay.yml", gatewayYAML("redis://"+m.Addr(), platform.URL, hook.URL))
	log := newLog()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan int, 1)
	go func() {
		done <- (&program{ctx: ctx, stdout: log, stderr: log}).run([]string{"serve", "-c", path})
	}()
	addr := log.wait(t, `"msg":"serving"`)["public"].(string)
	run := func(code int, want string, line string) {
		t.Helper()
		got := wxrelay(t, nil, append(strings.Fields(line), "-c", path)...)
		if got.code != code || !strings.Contains(got.out+got.errors, want) {
			t.Errorf("%s: exit %d, want %d with %q\nout: %s\nerrors: %s", line, got.code, code, want, got.out, got.errors)
		}
	}
	run(0, "success", "push --event popup --to http://"+addr+"/callback/shop --openid oShopper000000000000000000 --template "+benchTemplate)
	log.wait(t, `"msg":"endpoint.disabled"`)
	run(1, "orders/main  disabled", "endpoints")
	run(1, "wxrelay endpoints enable orders/main", "check")
	run(1, "status 410", "endpoints test orders/main")
	status.Store(http.StatusOK)
	run(0, "status 200", "endpoints test orders/main")
	run(0, "orders/main is healthy", "endpoints enable orders/main")
	tick, over := time.NewTicker(5*time.Millisecond), time.After(3*time.Minute)
	defer tick.Stop()
	for taken.Load() < 3 { // the test, and both of the tap's events
		select {
		case <-over:
			t.Fatalf("%d arrived", taken.Load())
		case <-tick.C:
		}
	}
	run(0, "0 replayed", "replay --endpoint main --since 1h --dry-run")
	run(0, " done: ", "replay --endpoint main --since 1h --state delivered --type subscription.*")
	run(0, "orders/main is disabled", "endpoints disable orders/main")
	run(0, "orders/main is healthy", "endpoints enable -deliveries drop orders/main")
	run(1, "no endpoint orders/none", "endpoints enable orders/none")
	run(2, "PARTNER/ID", "endpoints enable")
	run(2, "RFC 3339", "replay --since yesterday")
	stop()
	if code := <-done; code != 0 {
		t.Errorf("serve: exit %d", code)
	}
}
