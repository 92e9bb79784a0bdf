package relay

import (
	"strings"
	"testing"

	"github.com/wxrelay/wxrelay/callback"
)

// A component_verify_ticket is a secret of the platform's: it is thanked for, and neither kept nor told.
func TestAVerifyTicketIsNotKept(t *testing.T) {
	v := newVillage(t)
	r := v.process(&died{left: 1 << 30})
	raw := []byte(`<xml><AppId>wx1</AppId><CreateTime>1413192605</CreateTime><InfoType>component_verify_ticket</InfoType>` +
		`<ComponentVerifyTicket>ticket@@@secret</ComponentVerifyTicket></xml>`)
	format, ev, err := callback.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Accept(t.Context(), &callback.Push{App: "shop", Format: format, Raw: raw, Event: ev}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(v.redis.Dump(), "ticket@@@secret") {
		t.Error("kept")
	}
}
