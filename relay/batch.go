package relay

import (
	"context"
	"maps"
	"slices"

	"github.com/wxrelay/wxrelay/relay/message"
)

// NewBatch is what a batch is read into: as many messages as the config allows, each of at most mostEach bytes.
func (r *Relay) NewBatch(mostEach int) Batch {
	return Batch{Most: r.rules.Load().BatchLimit, MostEach: mostEach}
}

// BatchResult is one item of a batch: what Send answered.
type BatchResult struct {
	Message *Message
	Err     error
}

// BatchItem is one message of a batch, or why it cannot be read.
type BatchItem struct {
	Request SendRequest
	Err     error
}

// batchUser is whom a message of a batch is to, as the partner names them.
type batchUser struct {
	app string
	to  To
}

// SendBatch accepts each message for itself; results stand in the order asked. Those to one user are taken one after the
// other, so that the first has the credit and is sent first; those to different users side by side.
func (r *Relay) SendBatch(ctx context.Context, partner string, key RequestKey, items []BatchItem) ([]BatchResult, error) {
	if len(items) == 0 {
		return nil, invalid("messages", "is required: a list of messages")
	}
	out := make([]BatchResult, len(items))
	users := make(map[batchUser][]int, len(items))
	for i := range items {
		if out[i].Err = items[i].Err; out[i].Err == nil {
			u := batchUser{items[i].Request.App, items[i].Request.To}
			users[u] = append(users[u], i)
		}
	}
	lines := slices.Collect(maps.Values(users))
	parallel(len(lines), 64, func(n int) {
		for _, i := range lines[n] {
			item := key
			item.Item = i + 1
			m, _, err := r.Send(ctx, partner, item, items[i].Request)
			if err != nil { // what was accepted before the batch's answer was lost stays so, though it might not be accepted today
				if was, gone := r.acceptedBefore(ctx, partner, item, &items[i].Request); gone == nil {
					m, err = was, nil
				}
			}
			if out[i].Err = err; err == nil {
				out[i].Message = &m
			}
		}
	})
	return out, nil
}

// acceptedBefore finds the message that a request became when it came the first time, by the id it must have got: so long as
// the request's `to` means whom it meant then.
func (r *Relay) acceptedBefore(ctx context.Context, partner string, key RequestKey, req *SendRequest) (Message, error) {
	app, err := r.appOf(partner, req.App)
	if err != nil {
		return Message{}, err
	}
	openid, _, err := r.addressee(ctx, partner, app, req.To, new(message.Issues))
	if err != nil {
		return Message{}, err
	}
	return r.FirstAnswer(ctx, partner, r.q.IDFor("msg_", r.q.Shard(app.Name, openid), key.seed(partner)))
}

// parallel runs f(0..n-1) with at most width at once.
func parallel(n, width int, f func(int)) {
	next := make(chan int)
	done := make(chan struct{})
	width = min(width, n)
	for range width {
		go func() {
			for i := range next {
				f(i)
			}
			done <- struct{}{}
		}()
	}
	for i := range n {
		next <- i
	}
	close(next)
	for range width {
		<-done
	}
}
