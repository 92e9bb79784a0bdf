package app_test

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

var measure = flag.Bool("measure", false, "measurements that want a quiet machine and WXRELAY_TEST_REDIS")

// What a delivery that waits costs Redis, and an endpoint.
func TestMemoryOfDeliveries(t *testing.T) {
	raw := os.Getenv("WXRELAY_TEST_REDIS")
	if !*measure || raw == "" {
		t.Skip("-measure and WXRELAY_TEST_REDIS")
	}
	o, err := redis.ParseURL(raw)
	if err != nil {
		t.Fatal(err)
	}
	o.DB = 9
	rdb := redis.NewClient(o)
	defer rdb.Close()
	used := func() int {
		info := rdb.Info(t.Context(), "memory").Val()
		_, rest, _ := strings.Cut(info, "used_memory:")
		n, _ := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\r\n", 2)[0]))
		return n
	}
	const n = 300
	cost := func(endpoints int) (perTap, perEndpoint int) {
		if err := rdb.FlushDB(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		w, h := newWorld(t, wish{redis: fmt.Sprintf("unix://%s?db=9", o.Addr), events: `"app.alert"`, push: ", max_age: 0"}), newHook(t)
		defer w.stop()
		before := used()
		for i := range endpoints {
			id := "e" + strconv.Itoa(i)
			w.putHook(id, h, map[string]any{"events": []string{"subscription.*"}})
			w.do(200, "POST", "endpoints/"+id+"/disable", nil, nil)
		}
		made := used()
		w.taps(n)
		w.eventually("all are held", func() bool {
			w.do(200, "GET", "endpoints", nil, nil)
			for i := range endpoints {
				if w.endpoint("e"+strconv.Itoa(i)).Held != n {
					return false
				}
			}
			return endpoints > 0
		})
		return (used() - made) / n, (made - before) / max(endpoints, 1)
	}
	one, perEndpoint := cost(1)
	four, _ := cost(4)
	t.Logf("a tap with one held delivery: %d bytes with all it leaves; %d for each further endpoint of the same event; an endpoint: %d bytes", one, (four-one)/3, perEndpoint)
}

// A tenth of the endpoints hang: the first attempts of the others are as quick as without.
func TestIsolation(t *testing.T) {
	if !*measure {
		t.Skip("-measure")
	}
	const endpoints, taps = 50, 100
	p99 := func(hang int) time.Duration {
		w, good := newWorld(t, wish{events: `"app.alert"`}), newHook(t)
		defer w.stop()
		for i := range endpoints {
			target := good.URL + "/e" + strconv.Itoa(i)
			if i < hang {
				target = hanging(t)
			}
			w.do(201, "PUT", "endpoints/e"+strconv.Itoa(i), map[string]any{"url": target, "events": []string{"subscription.*"}}, nil)
		}
		w.taps(taps)
		w.eventually("the others have it", func() bool { return len(good.heard(200)) >= (endpoints-hang)*taps })
		var waits []time.Duration
		for _, d := range w.deliveriesOf("e"+strconv.Itoa(endpoints-1), taps) {
			waits = append(waits, d)
		}
		slices.Sort(waits)
		return waits[len(waits)*99/100]
	}
	without, with := p99(0), p99(endpoints/10)
	t.Logf("p99 from event to first attempt: %v without, %v with a tenth hanging: %.2f times", without, with, float64(with)/float64(without))
	if with > without*3/2 {
		t.Errorf("more than 1.5 times")
	}
}

// hanging is an endpoint that takes a request and never answers.
func hanging(t *testing.T) string {
	t.Helper()
	over := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}))
	t.Cleanup(func() { close(over); srv.Close() })
	return srv.URL
}

// deliveriesOf are the times from an event to its first attempt.
func (w *world) deliveriesOf(endpoint string, n int) (waits []time.Duration) {
	w.t.Helper()
	var page struct {
		Items []struct {
			CreatedAt time.Time `json:"created_at"`
			Attempts  []struct{ At time.Time }
		}
	}
	a, err := w.client.Get(w.ctx, "deliveries", url.Values{"endpoint": {endpoint}, "limit": {strconv.Itoa(min(n, 100))}})
	if err != nil || a.Into(&page) != nil {
		w.t.Fatal(err)
	}
	for _, d := range page.Items {
		if len(d.Attempts) > 0 {
			waits = append(waits, d.Attempts[0].At.Sub(d.CreatedAt))
		}
	}
	return waits
}
