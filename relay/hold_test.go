package relay

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// A message that gave way while its replacer died is ended by a worker: what comes into its hands as held gave way.
func TestAWorkerEndsWhoGaveWay(t *testing.T) {
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	t.Cleanup(func() { rdb.Close() })
	q, err := queue.Open(t.Context(), rdb, queue.Options{Riders: Riders()})
	if err != nil {
		t.Fatal(err)
	}
	r := New(Rooms{Queue: q}, Rules{Apps: map[string]App{"shop": {Name: "shop"}}, Partners: map[string]Partner{"orders": {Name: "orders", Apps: []string{"shop"}}}})
	r.templates.fetch = func(context.Context, string) ([]wechat.Template, error) { return nil, errors.New("away") }
	r.Register()
	m, err := r.Send(t.Context(), "orders", "k", SendRequest{App: "shop", To: To{OpenID: "oUser0000000000000000000001"}, TemplateID: "T",
		Data: plain("thing1", "x"), NoCredit: "hold", SupersedeKey: "cart"})
	if err != nil || m.State != StateHeld {
		t.Fatalf("%+v %v", m, err)
	}
	shard := q.Shard("shop", "oUser0000000000000000000001")
	if err := q.Commit(t.Context(), queue.Change{Shard: shard, Edit: &queue.Edit{ID: m.ID, Version: -1, To: queue.Ready}}).Err; err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	for limit := time.After(10 * time.Second); m.State != StateCancelled; {
		select {
		case <-limit:
			t.Fatalf("%+v", m)
		case <-time.After(5 * time.Millisecond):
		}
		if m, err = r.Message(t.Context(), "orders", m.ID); err != nil {
			t.Fatal(err)
		}
	}
	if c := m.Timeline[len(m.Timeline)-1].Cause; c != "superseded" || m.Attempts != 0 {
		t.Errorf("%+v", m)
	}
}

func plain(pairs ...string) map[string]json.RawMessage {
	data := map[string]json.RawMessage{}
	for i := 0; i < len(pairs); i += 2 {
		data[pairs[i]] = encode(pairs[i+1])
	}
	return data
}
