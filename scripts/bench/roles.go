package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof" // a role can be looked into while it runs: /debug/pprof
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/gateway"
	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/binding"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// runBare is the baseline: a Gin handler that reads the body and answers.
func runBare() error {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.POST("/bare", func(c *gin.Context) {
		if _, err := c.GetRawData(); err != nil {
			c.AbortWithStatus(http.StatusBadRequest)
			return
		}
		c.String(http.StatusOK, "success")
	})
	return serve(e)
}

func serve(h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.Handle("/debug/pprof/", http.DefaultServeMux)
	return (&http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}).Serve(l)
}

// runGateway puts the rooms together for the one app and partner of the measurement.
func runGateway(redisURL, wechatURL string, work bool) error {
	debug.SetGCPercent(200) // as `wxrelay serve` has it; the bare handler keeps Go's defaults
	ctx := context.Background()
	o, err := redis.ParseURL(redisURL)
	if err != nil {
		return err
	}
	o.PoolSize = 64
	rdb := redis.NewClient(o)
	q, err := queue.Open(ctx, rdb, queue.Options{Extensions: relay.Extensions()})
	if err != nil {
		return err
	}
	wx, err := wechat.New(rdb, wechat.Options{BaseURL: wechatURL, Apps: []wechat.App{{Name: benchApp, AppID: benchAppID, Secret: benchSecret}}})
	if err != nil {
		return err
	}
	secret, err := webhook.ParseSecret(benchWhsec)
	if err != nil {
		return err
	}
	r := relay.New(relay.Dependencies{Queue: q, Ledger: ledger.New(rdb, q.PrefixOf), WeChat: wx, Bindings: binding.New(rdb, binding.Sealer{}),
		Sender: webhook.NewSender(webhook.SenderOptions{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}), Health: webhook.NewHealth(rdb)},
		relay.Rules{Apps: map[string]relay.App{benchApp: {Name: benchApp, AppID: benchAppID}},
			Partners: map[string]relay.Partner{"bench": {Name: "bench", Secrets: []webhook.Secret{secret}, Apps: []string{benchApp}, Allow: map[string]bool{"messages": true}}}})
	door, err := callback.NewHandler([]callback.App{{Name: benchApp, AppID: benchAppID, Mode: "secure", MaxAge: 24 * time.Hour,
		Key: callback.Key{Token: benchToken, EncodingAESKey: benchKey}}}, r.Accept, callback.HandlerOptions{})
	if err != nil {
		return err
	}
	go r.SyncTemplates(ctx)
	if work {
		r.Register()
		go wx.Run(ctx)
		go func() { _ = q.Run(ctx) }()
	}
	return serve(gateway.Public(gateway.Options{Relay: r, Callback: door, Answers: webhook.NewIdempotencyStore(rdb), Version: "bench"}))
}
