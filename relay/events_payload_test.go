package relay

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestEventPayload: what endpoints are posted is the same JSON for messages as for everything else.
func TestEventPayload(t *testing.T) {
	at := time.Date(2026, 11, 27, 9, 2, 3, 0, time.FixedZone("CST", 8*3600))
	m := Message{ID: "msg_1", Metadata: json.RawMessage("{}"), Timeline: []Step{{State: "sent"}}}
	for _, data := range []any{&m, UserEvent{App: "shop"}} {
		want := encode(struct {
			Type      string    `json:"type"`
			Timestamp time.Time `json:"timestamp"`
			Data      any       `json:"data"`
		}{"message.sent", at.UTC(), data})
		tl := notification{typ: "message.sent", at: at, data: data}
		if diff := cmp.Diff(string(want), string(tl.payload())); diff != "" {
			t.Error(diff)
		}
	}
}
