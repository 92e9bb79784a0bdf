package app

import (
	"context"
	"encoding/json"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/gateway"
	"github.com/wxrelay/wxrelay/gateway/console"
)

// The changes that people make at the operators' address are kept for the page that lists them; the log has them too, and is
// the one that counts.
const (
	auditKey  = "wx:audit" // a list, the newest first
	auditMost = 500
	auditLife = 90 * 24 * time.Hour
	auditWait = time.Second
)

// audit writes down who changed what at the operators' address.
func (a *App) audit(c gateway.Change) {
	a.log.Named("audit").Info("change", zap.String("user", c.User), zap.String("client", c.Client), zap.String("method", c.Method),
		zap.String("path", c.Path), zap.Int("status", c.Status), zap.String("request_id", c.RequestID))
	a.metrics.adminChanges.WithLabelValues(resultOf(c.Status)).Inc()
	path := c.Path
	if len(path) > 256 {
		path = path[:256]
	}
	raw, err := json.Marshal(console.AuditEntry{At: time.Now().UTC(), User: c.User, Client: c.Client, Method: c.Method, Path: path, Status: c.Status,
		RequestID: c.RequestID})
	if err != nil {
		return // texts and numbers: it encodes
	}
	ctx, cancel := context.WithTimeout(context.Background(), auditWait)
	defer cancel()
	tx := a.rdb.TxPipeline()
	tx.LPush(ctx, auditKey, raw)
	tx.LTrim(ctx, auditKey, 0, auditMost-1)
	tx.Expire(ctx, auditKey, auditLife)
	if _, err := tx.Exec(ctx); err != nil {
		a.log.Warn("change not kept for the audit page", zap.String("request_id", c.RequestID), zap.String("reason", Refusal(err)))
	}
}

func resultOf(status int) string {
	if status < 400 {
		return "done"
	}
	return "refused"
}

// audited reads the changes that are kept, the newest first.
func (a *App) audited(ctx context.Context) ([]console.AuditEntry, error) {
	list, err := a.rdb.LRange(ctx, auditKey, 0, auditMost-1).Result()
	if err != nil {
		return nil, err
	}
	out := make([]console.AuditEntry, 0, len(list))
	for _, raw := range list {
		var e console.AuditEntry
		if json.Unmarshal([]byte(raw), &e) == nil {
			out = append(out, e)
		}
	}
	return out, nil
}
