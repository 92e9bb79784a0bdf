package gateway

import (
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/relay/webhook"
)

// TestAPIWhereNothingIs: a list without items is an empty list, and every row has its names in lower case.
func TestAPIWhereNothingIs(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		d := newConsoleWorld(t, rdb)
		for target, wants := range map[string][]string{
			"/api/messages":                     {`"items":[]`},
			"/api/messages?app=shop&state=held": {`"items":[]`},
			"/api/users":                        {`"subscriptions":[]`, `"messages":[]`},
			"/api/users?app=shop&openid=oNobody000000000000000000": {`"subscriptions":[]`, `"messages":[]`},
			"/api/deliveries": {`"items":[]`},
			"/api/overview":   {`"lanes":[]`, `"needs":[]`, `"checks":[{"name":"redis"`},
			"/api/endpoints":  {`"partner":"orders"`, `"state":"healthy","reason":null,"since":null,"until":null,"failures":0`},
			"/api/errcodes":   {`{"code":40001,"name":"`, `"does_zh":"`, `"meaning":"`, `"meaning_zh":"`, `"reaction":"token"`, `"cure":"`, `"cure_zh":"`, `"doc":"`},
		} {
			w := d.open("GET", target, "", "")
			for _, want := range wants {
				if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
					t.Errorf("%s: %d, no %s in\n%.600s", target, w.Code, want, w.Body)
				}
			}
		}
	})
}

// TestConsoleHidesWhatAQueryCarries: an endpoint's address often has a token of the receiver's in it.
func TestConsoleHidesWhatAQueryCarries(t *testing.T) {
	d := newConsoleWorld(t, redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()}))
	orders := d.rules.Partners["orders"]
	orders.Endpoints = []webhook.Endpoint{{Partner: "orders", ID: "main", URL: "https://orders.example.com/hook?tok=hunter2", Events: []string{"*"}, Secrets: orders.Secrets}}
	d.rules.Partners["orders"] = orders
	d.relay.SetRules(d.rules)
	for _, target := range []string{"/endpoints", "/api/endpoints", "/endpoints/orders/main", "/api/endpoints/orders/main"} {
		if body := d.open("GET", target, "", "").Body.String(); strings.Contains(body, "hunter2") || !strings.Contains(body, "https://orders.example.com/hook?***") {
			t.Errorf("%s:\n%s", target, body)
		}
	}
}
