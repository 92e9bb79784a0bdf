package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/wxrelay/wxrelay/relay"
)

// proxyRoute is one row more of the partners' table: any method below apps/{app}/wechat/.
const proxyRoute = "/apps/:app/wechat/*path"

var proxyMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// serveProxy passes a proven partner request on to WeChat. The body is proven before it is passed on, so it is whole; the
// answer streams. A request that changes something is remembered under its webhook-id like any other, as far as its answer
// is a short JSON object.
func (g *Handler) serveProxy() gin.HandlerFunc {
	route := partnerRoute{path: proxyRoute, right: "wechat_api", large: true}
	return func(c *gin.Context) {
		r := partnerRequests.Get().(*partnerRequest)
		r.Context = c
		defer r.release()
		err := g.prove(r, route)
		if err == nil {
			defer g.trace(c, r.partner.Name, param(c, "app"))()
			r.body = r.held.bytes()
			err = g.admit(r, route)
		}
		if err == nil {
			err = g.passOn(c.Request.Context(), r)
		}
		if err != nil {
			g.refuse(c, err)
		}
	}
}

// keptAnswer is the largest answer of a proxied call that is given again for its webhook-id.
const keptAnswer = 64 << 10

func (g *Handler) passOn(ctx context.Context, r *partnerRequest) error {
	call := relay.WeChatCall{Method: r.Request.Method, Path: r.Param("path"), Query: r.Request.URL.RawQuery, Header: r.Request.Header,
		Body: bytes.Clone(r.body), // the connection to WeChat may read it past this request's end

		From: g.limits.Load().TrustedProxies.Client(r.Request)}
	who := relay.Caller{Partner: r.partner.Name, App: param(r.Context, "app")}
	if call.Method == http.MethodGet || call.Method == http.MethodHead {
		answer, err := g.relay.CallWeChat(ctx, who, call)
		if err != nil {
			return err
		}
		return g.stream(r.Context, answer)
	}
	attempt, err := g.answers.Begin(ctx, r.partner.Name, r.id, r.digest)
	if err != nil {
		return err
	}
	if first := attempt.Replay(); first != nil {
		r.Writer.Header()["Idempotent-Replayed"] = yes
		writeBytes(r.Writer, first.Status, "application/json", first.Body)
		return nil
	}
	kept := false
	defer func() {
		if !kept {
			if err := attempt.Drop(context.WithoutCancel(ctx)); err != nil {
				g.fault(requestIDOf(r.Context), "forgetting a webhook-id", err)
			}
		}
	}()
	call.Key = r.id
	answer, err := g.relay.CallWeChat(ctx, who, call)
	if err != nil {
		return err
	}
	if !answer.JSON || answer.Status/100 != 2 {
		return g.stream(r.Context, answer)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, keptAnswer+1))
	_ = answer.Body.Close()
	if err != nil {
		return err
	}
	if len(body) <= keptAnswer && answer.Errcode == 0 { // a refusal may come again, and do better
		kept = true
		if err := attempt.Keep(context.WithoutCancel(ctx), relay.Answer{Status: answer.Status, Body: body}); err != nil {
			g.fault(requestIDOf(r.Context), "keeping an answer for its webhook-id", err)
		}
	}
	answer.Body = io.NopCloser(strings.NewReader(string(body)))
	return g.stream(r.Context, answer)
}

const (
	streamPatience = 60 * time.Second // for each piece of an answer to leave, and of a body to arrive
	streamPiece    = 64 << 10
)

// stream writes WeChat's answer as it comes. One that is cut short cuts the connection, so that nobody takes it for whole.
func (g *Handler) stream(c *gin.Context, answer *relay.WeChatAnswer) error {
	defer answer.Body.Close()
	h := c.Writer.Header()
	for name, values := range answer.Header {
		h[name] = values
	}
	if answer.Length >= 0 {
		h.Set("Content-Length", strconv.FormatInt(answer.Length, 10))
	}
	control := http.NewResponseController(c.Writer)
	c.Status(answer.Status)
	size := int64(streamPiece)
	if answer.Length >= 0 {
		size = min(size, answer.Length+1) // most answers are short
	}
	buf := make([]byte, size)
	for {
		n, err := answer.Body.Read(buf)
		if n > 0 {
			_ = control.SetWriteDeadline(time.Now().Add(streamPatience)) // where there is none, the server's own holds
			if _, err := c.Writer.Write(buf[:n]); err != nil {
				return nil // the caller went away
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			c.Writer.WriteHeaderNow()
			return nil
		case err != nil && c.Writer.Written():
			panic(http.ErrAbortHandler)
		case err != nil:
			return err
		}
	}
}

// encodeWeChat is an answer in WeChat's form: JSON without the escaping of HTML.
func encodeWeChat(v any) []byte {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // texts and numbers encode
	}
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}
