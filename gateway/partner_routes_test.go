package gateway

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

func TestAccessTokens(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		var token struct {
			Value string `json:"access_token"`
			Left  int    `json:"expires_in"`
		}
		w.ask("GET", "/apps/shop/access_token", "").got(200, "").into(&token)
		if !w.sim.TokenWorks(token.Value) || token.Left < 6000 || token.Left > 7200 {
			t.Errorf("%+v", token)
		}
		before := token.Value
		w.as(asking{partner: "turned"}, "GET", "/apps/shop/access_token", "").got(200, "").into(&token)
		if token.Value != before {
			t.Error("two partners evict one another")
		}
		w.sim.KillToken("shop", false)
		report := `{"access_token":"` + token.Value + `","errcode":40001}`
		w.ask("POST", "/apps/shop/access_token/report", report).got(200, "")
		w.ask("GET", "/apps/shop/access_token", "").got(200, "").into(&token)
		if token.Value == before || !w.sim.TokenWorks(token.Value) {
			t.Error("the reported token was not replaced")
		}
		for body, field := range map[string]string{
			strings.Replace(report, "40001", "45009", 1):  "errcode",
			`{"errcode":40001}`:                           "access_token",
			strings.Replace(report, "errcode", "code", 1): "code",
		} {
			if f := w.ask("POST", "/apps/shop/access_token/report", body).got(422, InvalidRequest).fields(); f != field {
				t.Errorf("%s blames %q", body, f)
			}
		}
	})
}

func TestAnAppThatWeChatRefuses(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		w := newWorld(t, rdb)
		w.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "token", Errcode: 40164, Errmsg: "invalid ip 203.0.113.7 ipv6 ::ffff:203.0.113.7, not in whitelist", Times: -1})
		got := w.ask("GET", "/apps/shop/access_token", "").got(502, WeChatConfig)
		p := got.problem()
		if p.Errcode == nil || *p.Errcode != 40164 || p.Errmsg == nil || !strings.Contains(*p.Errmsg, "203.0.113.7") {
			t.Errorf("the operator cannot act on %s", got.Body)
		}
		if strings.Contains(got.Body.String(), w.sim.App("shop").Secret) {
			t.Errorf("the AppSecret leaves the house: %s", got.Body)
		}
	})
}
