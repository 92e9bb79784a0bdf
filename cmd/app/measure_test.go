package app_test

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

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
