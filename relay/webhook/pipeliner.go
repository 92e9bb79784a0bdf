package webhook

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// pipeliner groups single-key commands: those that arrive while one pipeline is in flight leave together in the next.
// A command that finds none in flight leaves at once (DECISIONS.md 1).
type pipeliner struct {
	rdb redis.UniversalClient

	mu      sync.Mutex
	waiting []pending
	busy    bool
}

type pending struct {
	cmd  redis.Cmder
	done chan struct{}
}

// maxBatch bounds one pipeline, and so how long one caller waits for others' answers (a batch's kept answer is large).
const maxBatch = 256

// batchTimeout bounds a pipeline whose callers may have left: their own deadlines end only their own waiting.
const batchTimeout = 5 * time.Second

// do runs one command and returns its error. A caller whose ctx ends stops waiting; the command may still be done.
func (p *pipeliner) do(ctx context.Context, cmd redis.Cmder) error {
	p.mu.Lock()
	if !p.busy {
		p.busy = true
		p.mu.Unlock()
		err := p.rdb.Process(ctx, cmd)
		p.next()
		return err
	}
	w := pending{cmd: cmd, done: make(chan struct{})}
	p.waiting = append(p.waiting, w)
	p.mu.Unlock()
	select {
	case <-w.done:
		return cmd.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next starts the batches of what arrived meanwhile, if anything did.
func (p *pipeliner) next() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.busy = false
		return
	}
	go p.drain()
}

func (p *pipeliner) drain() {
	for {
		p.mu.Lock()
		n := min(len(p.waiting), maxBatch)
		if n == 0 {
			p.busy = false
			p.mu.Unlock()
			return
		}
		batch := p.waiting[:n:n]
		p.waiting = p.waiting[n:]
		p.mu.Unlock()
		p.exec(batch)
	}
}

func (p *pipeliner) exec(batch []pending) {
	ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
	defer cancel()
	pipe := p.rdb.Pipeline()
	for _, w := range batch {
		_ = pipe.Process(ctx, w.cmd) // only queues it
	}
	_, _ = pipe.Exec(ctx) // each command carries its own error
	for _, w := range batch {
		close(w.done)
	}
}

// run runs a single-key script, and again as text where the server does not know it (SCRIPT FLUSH, restart, failover).
func (p *pipeliner) run(ctx context.Context, script *redis.Script, key string, args ...any) (any, error) {
	cmd := redis.NewCmd(ctx, append([]any{"evalsha", script.Hash(), 1, key}, args...)...)
	err := p.do(ctx, cmd)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		return script.Eval(ctx, p.rdb, []string{key}, args...).Result()
	}
	if err != nil { // cmd may still be in flight: it must not be read
		return nil, err
	}
	return cmd.Val(), nil
}
