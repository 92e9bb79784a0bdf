package gateway

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// nothing is a ResponseWriter that costs as little as can be.
type nothing struct{ h http.Header }

func (n nothing) Header() http.Header         { return n.h }
func (n nothing) Write(b []byte) (int, error) { return len(b), nil }
func (n nothing) WriteHeader(int)             {}

// What the mouth itself costs a partner's message: bytes, proof, rate, right, decoding, answer; Redis is not asked. The
// baseline is a bare Gin handler that reads the body and answers the same bytes.
func BenchmarkPartnerRequest(b *testing.B) {
	key, err := webhook.ParseSecret(secret1)
	if err != nil {
		b.Fatal(err)
	}
	r := relay.New(relay.Dependencies{}, relay.Rules{Partners: map[string]relay.Partner{"orders": {Name: "orders", Secrets: []webhook.Secret{key}, Apps: []string{"shop"}, Allow: map[string]bool{"messages": true}}}})
	g := Public(Options{Relay: r})
	text := "oAnn0000000000000000000000"
	answer := relay.Message{ID: "msg_07", App: "shop", OpenID: text, Channel: "subscribe", TemplateID: &text, State: "queued", Metadata: []byte("{}"), Timeline: []relay.Step{{State: "queued", Cause: "accepted"}}}
	g.engine.POST("/bare", func(c *gin.Context) {
		if _, err := io.ReadAll(c.Request.Body); err != nil {
			b.Error(err)
		}
		c.JSON(http.StatusAccepted, &answer)
	})
	proven := partnerRoute{right: "messages", raw: true, run: func(_ context.Context, a *partnerRequest) (reply, error) {
		_, err := relay.ParseMessage(a.body)
		return reply{status: http.StatusAccepted, body: &answer}, err
	}}
	g.engine.GET("/v1/partners/:partner/proven", g.outer, g.serve(proven)) // a GET, so that no inbox is asked
	body := order(text, "")
	for _, c := range []struct{ name, method, path string }{{"bare", "POST", "/bare"}, {"proven", "GET", "/v1/partners/orders/proven"}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			at := time.Now().Unix()
			in := strings.NewReader(body)
			req := httptest.NewRequest(c.method, c.path, in)
			req.Header.Set("webhook-id", "req-1")
			req.Header.Set("webhook-timestamp", strconv.FormatInt(at, 10))
			req.Header.Set("webhook-signature", sign(secret1, "req-1", at, body))
			if w := httptest.NewRecorder(); true {
				g.ServeHTTP(w, req)
				if w.Code != http.StatusAccepted {
					b.Fatalf("%d %s", w.Code, w.Body)
				}
			}
			for b.Loop() {
				in.Reset(body)
				req.Body, req.ContentLength = io.NopCloser(in), int64(len(body))
				g.ServeHTTP(nothing{http.Header{}}, req)
			}
		})
	}
}
