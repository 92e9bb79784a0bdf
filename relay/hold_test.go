package relay

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/message"
	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

const someone = "oUser0000000000000000000001"

// deskOf is a relay with nothing but its queue: it takes messages, and knows no templates.
func deskOf(t *testing.T) (*Relay, *queue.Queue, int) {
	t.Helper()
	mr := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: mr.Addr()})
	t.Cleanup(func() { rdb.Close() })
	q, err := queue.Open(t.Context(), rdb, queue.Options{Extensions: Extensions()})
	if err != nil {
		t.Fatal(err)
	}
	r := New(Dependencies{Queue: q}, Rules{Apps: map[string]App{"shop": {Name: "shop"}}, Partners: map[string]Partner{"orders": {Name: "orders", Apps: []string{"shop"}}}})
	r.templates = wechat.NewTemplateCache(func(context.Context, string) ([]wechat.Template, error) { return nil, errors.New("away") })
	return r, q, q.Shard("shop", someone)
}

func ask(ctx context.Context, r *Relay, key, noCredit, supersede string) (Message, error) {
	m, _, err := r.Send(ctx, "orders", RequestKey{ID: key}, SendRequest{App: "shop", To: To{OpenID: someone}, TemplateID: "T", Data: plain("thing1", "x"), NoCredit: noCredit, SupersedeKey: supersede})
	return m, err
}

// A message that gave way while its replacer died is ended by a worker: what comes into its hands as held gave way.
func TestAWorkerEndsWhoGaveWay(t *testing.T) {
	r, q, shard := deskOf(t)
	r.Register()
	m, err := ask(t.Context(), r, "k", "hold", "cart")
	if err != nil || m.State != StateHeld {
		t.Fatalf("%+v %v", m, err)
	}
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

func plain(pairs ...string) message.Data {
	var data message.Data
	for i := 0; i < len(pairs); i += 2 {
		data = append(data, message.Keyword{Name: pairs[i], Value: pairs[i+1]})
	}
	return data
}

// Between a grant and the release it causes nobody jumps the line: who waits goes first, and the newcomer has what is left.
func TestNobodyJumpsTheLine(t *testing.T) {
	for credits, want := range map[int]map[string]string{ // no_credit of the newcomer -> its state; "" = refused
		0: {"refuse": "", "hold": StateHeld, "try": StateQueued},
		1: {"refuse": "", "hold": StateHeld, "try": StateQueued},
		2: {"refuse": "", "hold": StateHeld, "try": StateQueued},
		3: {"refuse": StateQueued, "hold": StateHeld, "try": StateQueued},
	} {
		for noCredit, state := range want {
			r, q, shard := deskOf(t)
			var waits []Message
			for _, key := range []string{"a", "b"} {
				m, err := ask(t.Context(), r, key, "hold", "")
				if err != nil || m.State != StateHeld {
					t.Fatalf("%+v %v", m, err)
				}
				waits = append(waits, m)
			}
			l := ledger.Subscription{App: "shop", OpenID: someone, TemplateID: "T"}
			for i := range credits { // the grants are booked, their worker has not come yet
				res := q.Commit(t.Context(), queue.Change{Shard: shard, Operations: []queue.Operation{operation(ledger.Answer(l, ledger.Policy{}, "accept", "popup", string(rune('a'+i)), 0))}})
				if res.Err != nil {
					t.Fatal(res.Err)
				}
			}
			m, err := ask(t.Context(), r, "newcomer", noCredit, "")
			if state == "" && !errors.Is(err, ErrNoCredit) || state != "" && (err != nil || m.State != state) {
				t.Errorf("%d credits, %s: %+v %v, want %q", credits, noCredit, m, err, state)
			}
			if noCredit == "try" { // the others have released who waits
				if _, err := r.release(t.Context(), shard, subscriptionPark(l), time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			left := credits // a newcomer that tries may have had one of them
			if noCredit == "try" && credits > 0 {
				left--
			}
			for i, w := range waits {
				now, err := r.Message(t.Context(), "orders", w.ID)
				if queued := i < left; err != nil || (now.State == StateQueued) != queued {
					t.Errorf("%d credits, %s: number %d is %s, %v", credits, noCredit, i, now.State, err)
				}
			}
			if noCredit == "hold" {
				now, err := r.Message(t.Context(), "orders", m.ID)
				if queued := credits > 2; err != nil || (now.State == StateQueued) != queued {
					t.Errorf("%d credits: the newcomer is %s, %v", credits, now.State, err)
				}
			}
		}
	}
}
