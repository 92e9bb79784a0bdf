package gateway

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestAPIWhereNothingIs: a list without items is an empty list, and every row has its names in lower case.
func TestAPIWhereNothingIs(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		d := newDesk(t, rdb)
		for target, wants := range map[string][]string{
			"/api/messages":                     {`"items":[]`},
			"/api/messages?app=shop&state=held": {`"items":[]`},
			"/api/users":                        {`"lines":[]`, `"messages":[]`},
			"/api/users?app=shop&openid=oNobody000000000000000000": {`"lines":[]`, `"messages":[]`},
			"/api/deliveries": {`"items":[]`},
			"/api/overview":   {`"lanes":[]`, `"recent":[]`, `"checks":[{"name":"redis"`},
			"/api/endpoints":  {`"partner":"orders"`, `"condition":{"state":"healthy","until":null,"since":null,"failures":0}`},
			"/api/errcodes":   {`{"code":40001,"name":"`, `"meaning":"`, `"meaning_zh":"`, `"reaction":"token"`, `"cure":"`, `"cure_zh":"`, `"doc":"`},
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
