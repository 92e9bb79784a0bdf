package gateway

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay"
)

// trace begins the span of a request that is proven to be the partner's, and gives what ends it. A traceparent that comes with
// the request is continued. The path is told by its route: what stands in it may name a user.
func (g *Handler) trace(c *gin.Context, partner, app string) (end func()) {
	if !g.relay.Traced() {
		return func() {}
	}
	ctx, span := g.relay.BeginSpan(c.Request.Context(), c.Request.Header.Get("Traceparent"), relay.SpanRequest)
	c.Request = c.Request.WithContext(ctx)
	if span == nil {
		return func() {}
	}
	return func() {
		status := c.Writer.Status()
		span.End(status >= http.StatusInternalServerError, zap.String("partner", partner), zap.String("app", app),
			zap.String("method", c.Request.Method), zap.String("route", c.FullPath()), zap.Int("status", status))
	}
}
