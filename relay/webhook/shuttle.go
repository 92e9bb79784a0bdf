package webhook

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// shuttle carries commands to Redis in company: while one pipeline is under way the next commands gather, and leave
// together when it is back. Nobody waits for company: a lone command leaves at once (DECISIONS.md 1).
type shuttle struct {
	rdb redis.UniversalClient

	mu      sync.Mutex
	waiting []passenger
	away    bool
}

type passenger struct {
	cmd  redis.Cmder
	done chan struct{}
}

// aboard bounds one pipeline, and so how long one caller's answer waits for others' (a batch's kept answer is large).
const aboard = 256

// tripTime bounds a pipeline whose passengers may have left: their own deadlines end only their own waiting.
const tripTime = 5 * time.Second

// do runs one command and returns its error. A caller whose ctx ends stops waiting; the command may still be done.
func (s *shuttle) do(ctx context.Context, cmd redis.Cmder) error {
	s.mu.Lock()
	if !s.away {
		s.away = true
		s.mu.Unlock()
		err := s.rdb.Process(ctx, cmd)
		s.back()
		return err
	}
	p := passenger{cmd: cmd, done: make(chan struct{})}
	s.waiting = append(s.waiting, p)
	s.mu.Unlock()
	select {
	case <-p.done:
		return cmd.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// back sends off those who gathered meanwhile, if any.
func (s *shuttle) back() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.away = false
		return
	}
	go s.trips()
}

func (s *shuttle) trips() {
	for {
		s.mu.Lock()
		n := min(len(s.waiting), aboard)
		if n == 0 {
			s.away = false
			s.mu.Unlock()
			return
		}
		batch := s.waiting[:n:n]
		s.waiting = s.waiting[n:]
		s.mu.Unlock()
		s.trip(batch)
	}
}

func (s *shuttle) trip(batch []passenger) {
	ctx, cancel := context.WithTimeout(context.Background(), tripTime)
	defer cancel()
	pipe := s.rdb.Pipeline()
	for _, p := range batch {
		pipe.Process(ctx, p.cmd)
	}
	pipe.Exec(ctx) // each command carries its own error
	for _, p := range batch {
		close(p.done)
	}
}

// run runs a single-key script, and again as text where the server does not know it (SCRIPT FLUSH, restart, failover).
func (s *shuttle) run(ctx context.Context, script *redis.Script, key string, args ...any) (any, error) {
	cmd := redis.NewCmd(ctx, append([]any{"evalsha", script.Hash(), 1, key}, args...)...)
	err := s.do(ctx, cmd)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		return script.Eval(ctx, s.rdb, []string{key}, args...).Result()
	}
	if err != nil { // cmd may still be under way: it is not ours to read
		return nil, err
	}
	return cmd.Val(), nil
}
