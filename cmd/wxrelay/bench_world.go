package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// What a load test needs around the gateway it starts: a config, requests, and somebody who answers as WeChat's API.

// benchConfig is one app and one partner with fresh secrets. Nobody is told of anything: the partner has no endpoint.
func benchConfig(store, platform string) (*config.Config, error) {
	secret := func() string { return base64.StdEncoding.EncodeToString(random(32)) }
	return config.Parse(fmt.Appendf(nil, `
listen: "127.0.0.1:0"
admin: {listen: "127.0.0.1:0"}
shutdown_grace: 2s
redis: {url: %q}
wechat: {base_url: %q}
master_key: %s
apps:
  - id: bench
    appid: wx%s
    secret: %s
    push: {token: %s, encoding_aes_key: %s, mode: secure}
partners:
  - id: bench
    secrets: [whsec_%s]
    apps: [bench]
    allow: [messages]
    rate: {per_second: 1000000, burst: 1000000}
retention: {messages: 1h, events: 1h, buried: 1h}
log: {level: info, format: json}
`, store, platform, secret(), hex.EncodeToString(random(8)), hex.EncodeToString(random(16)), letters(32), letters(42)+pick(lastOfKey), secret()), ".", nil)
}

const benchTemplate = "wxrelayBenchTemplate_wxrelayBenchTemplate_0"

// openidOf invents users, the same ones in each step.
func openidOf(i int) string { return fmt.Sprintf("oBench%022d", i%50000) }

// pushRequests are sealed popup events of one template, each another push. They are sealed as they are sent, in front of
// the baseline too, so that both pay for it.
func pushRequests(a callback.App, path string) func(int) ([]byte, error) {
	return func(i int) ([]byte, error) {
		now := time.Now()
		message, err := callback.Compose(callback.JSON, callback.Event{
			ToUserName: "gh_bench0000000", FromUserName: openidOf(i), OpenID: openidOf(i), CreateTime: now.Unix(), MsgType: "event",
			Event:      "subscribe_msg_popup_event",
			Subscribes: []callback.Subscribe{{TemplateID: benchTemplate, Status: "accept", PopupScene: "0"}},
		})
		if err != nil {
			return nil, err
		}
		query, body, err := callback.ComposeRequest(a, callback.JSON, message, strconv.Itoa(i), now)
		if err != nil {
			return nil, err
		}
		return httpPost(path+"?"+query, "", body), nil
	}
}

// sendRequests are signed messages of the bench partner, each to be tried without a credit.
func sendRequests(c *config.Config) (func(int) ([]byte, error), error) {
	secret, err := webhook.ParseSecret(c.Partners[0].Secrets[0].Reveal())
	if err != nil {
		return nil, err
	}
	run, secrets := nonce(), []webhook.Secret{secret}
	return func(i int) ([]byte, error) {
		now := time.Now()
		id := fmt.Sprintf("bench_%d_%d", run, i)
		body := fmt.Appendf(nil, `{"app":"bench","to":{"openid":%q},"channel":"subscribe","template_id":"`+benchTemplate+`","page":"pages/order?id=%d","data":{"thing1":"bench %d"},"no_credit":"try"}`,
			openidOf(i), i, i)
		header := fmt.Sprintf("webhook-id: %s\r\nwebhook-timestamp: %d\r\nwebhook-signature: %s\r\n", id, now.Unix(), webhook.Sign(secrets, id, now, body))
		return httpPost("/v1/partners/bench/messages", header, body), nil
	}, nil
}

func httpPost(target, header string, body []byte) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", target, header, len(body), body)
}

// standIn answers the few calls of WeChat's API that a load test makes, at once and always well.
func standIn() http.Handler {
	var msgid atomic.Int64
	msgid.Store(1988810812324364291)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "token"):
			fmt.Fprint(w, `{"access_token":"bench","expires_in":7200}`)
		case strings.HasSuffix(r.URL.Path, "/gettemplate"):
			fmt.Fprint(w, `{"errcode":0,"errmsg":"ok","data":[{"priTmplId":"`+benchTemplate+`","title":"bench","content":"thing:{{thing1.DATA}}\n","example":"","type":2}]}`)
		case strings.HasSuffix(r.URL.Path, "/message/subscribe/send"):
			fmt.Fprintf(w, `{"errcode":0,"errmsg":"ok","msgid":%d}`, msgid.Add(1))
		default:
			fmt.Fprint(w, `{"errcode":48001,"errmsg":"api unauthorized"}`)
		}
	})
}
