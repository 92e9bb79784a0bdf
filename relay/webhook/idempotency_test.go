package webhook

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/testredis"
)

var digestA, digestB = sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))

func begin(t *testing.T, i *IdempotencyStore, partner, id string, d [32]byte) *Request {
	t.Helper()
	v, err := i.Begin(context.Background(), partner, id, d)
	if err != nil {
		t.Fatalf("Begin(%s, %s): %v", partner, id, err)
	}
	return v
}

func isInProgress(err error) bool {
	var e *InProgressError
	return errors.As(err, &e) && e.RetryAfter > 0 && e.RetryAfter <= inProgress
}

func TestIdempotencyStoreRules(t *testing.T) {
	ctx := context.Background()
	answer := Answer{Status: 202, Body: []byte("{\"id\":\"msg\"}\x00\xff")}
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		here, there := NewIdempotencyStore(rdb), NewIdempotencyStore(rdb) // two replicas

		t.Run("the first answer is given again", func(t *testing.T) {
			v := begin(t, here, "p", "1", digestA)
			if v.Replay() != nil {
				t.Fatal("replay of nothing")
			}
			if err := v.Keep(ctx, answer); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				again := begin(t, there, "p", "1", digestA)
				if diff := cmp.Diff(&answer, again.Replay()); diff != "" {
					t.Fatal(diff)
				}
				if err := errors.Join(again.Keep(ctx, Answer{Status: 200}), again.Drop(ctx)); err != nil {
					t.Fatal(err)
				}
			}
		})
		t.Run("an empty answer is an answer", func(t *testing.T) {
			if err := begin(t, here, "p", "empty", digestA).Keep(ctx, Answer{Status: 204}); err != nil {
				t.Fatal(err)
			}
			if a := begin(t, there, "p", "empty", digestA).Replay(); a == nil || a.Status != 204 || len(a.Body) != 0 {
				t.Fatalf("%+v", a)
			}
		})
		t.Run("another request under a used id", func(t *testing.T) {
			v := begin(t, here, "p", "2", digestA)
			if _, err := there.Begin(ctx, "p", "2", digestB); !errors.Is(err, ErrReused) {
				t.Errorf("in hand: %v", err)
			}
			if err := v.Keep(ctx, answer); err != nil {
				t.Fatal(err)
			}
			if _, err := there.Begin(ctx, "p", "2", digestB); !errors.Is(err, ErrReused) {
				t.Errorf("answered: %v", err)
			}
		})
		t.Run("the same request while the first is in hand", func(t *testing.T) {
			begin(t, here, "p", "3", digestA)
			if _, err := there.Begin(ctx, "p", "3", digestA); !isInProgress(err) {
				t.Error(err)
			}
		})
		t.Run("an id is one partner's", func(t *testing.T) {
			begin(t, here, "p", "4", digestA)
			begin(t, here, "q", "4", digestB)
			begin(t, here, "p4", "", digestB) // not the same as ("p", "4")
		})
		t.Run("dropped is free", func(t *testing.T) {
			if err := begin(t, here, "p", "5", digestA).Drop(ctx); err != nil {
				t.Fatal(err)
			}
			begin(t, there, "p", "5", digestB)
		})
		for _, status := range []int{199, 300, 409, 500, 503, 0} {
			v := begin(t, here, "p", "6", digestA)
			if err := v.Keep(ctx, Answer{Status: status}); err != nil {
				t.Fatal(err)
			}
			if begin(t, there, "p", "6", digestB).Drop(ctx) != nil {
				t.Errorf("an answer of %d was remembered", status)
			}
		}
		t.Run("kept although the caller hung up", func(t *testing.T) {
			gone, cancel := context.WithCancel(ctx)
			v, err := here.Begin(gone, "p", "7", digestA)
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			if err := v.Keep(gone, answer); err != nil {
				t.Fatal(err)
			}
			if begin(t, there, "p", "7", digestA).Replay() == nil {
				t.Error("not remembered")
			}
		})
		t.Run("scripts survive SCRIPT FLUSH", func(t *testing.T) {
			v := begin(t, here, "p", "8", digestA)
			if err := rdb.ScriptFlush(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			if err := v.Keep(ctx, answer); err != nil {
				t.Fatal(err)
			}
			if begin(t, here, "p", "8", digestA).Replay() == nil {
				t.Error("not remembered")
			}
		})
		t.Run("everything expires", func(t *testing.T) {
			keys, err := rdb.Keys(ctx, "*").Result()
			if err != nil || len(keys) == 0 {
				t.Fatal(keys, err)
			}
			for _, k := range keys {
				if ttl := rdb.PTTL(ctx, k).Val(); ttl <= 0 || ttl > Remembered || !strings.HasPrefix(k, "wx:{in:") {
					t.Errorf("%s expires in %v", k, ttl)
				}
			}
		})
	})
}

func TestIdempotencyStoreInTime(t *testing.T) {
	ctx := context.Background()
	s, rdb := testredis.InProcess(t)
	store := NewIdempotencyStore(rdb)

	crashed := begin(t, store, "p", "1", digestA)
	s.Pass(inProgress - time.Second)
	if _, err := store.Begin(ctx, "p", "1", digestA); !isInProgress(err) {
		t.Errorf("before the lease ends: %v", err)
	}
	s.Pass(2 * time.Second)
	second := begin(t, store, "p", "1", digestB)
	// The first one was only slow. The id is another's now: neither its answer nor its dropping may touch that.
	if err := errors.Join(crashed.Keep(ctx, Answer{Status: 200, Body: []byte("late")}), crashed.Drop(ctx)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Begin(ctx, "p", "1", digestB); !isInProgress(err) {
		t.Errorf("a stale visit freed another's: %v", err)
	}
	if err := second.Keep(ctx, Answer{Status: 200, Body: []byte("second")}); err != nil {
		t.Fatal(err)
	}
	s.Pass(Remembered - time.Second)
	if a := begin(t, store, "p", "1", digestB).Replay(); a == nil || string(a.Body) != "second" {
		t.Errorf("within 24 h: %+v", a)
	}
	s.Pass(2 * time.Second)
	if begin(t, store, "p", "1", digestA).Replay() != nil {
		t.Error("after 24 h the answer is still there")
	}

	slow := begin(t, store, "p", "slow", digestA)
	s.Pass(inProgress + time.Second)
	if err := slow.Keep(ctx, Answer{Status: 200, Body: []byte("slow")}); err != nil {
		t.Fatal(err)
	}
	if a := begin(t, store, "p", "slow", digestA).Replay(); a == nil || string(a.Body) != "slow" {
		t.Errorf("a lapsed lease nobody took loses the answer: %+v", a)
	}
}

func TestIdempotencyStoreLetsExactlyOneThrough(t *testing.T) {
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		replicas := []*IdempotencyStore{NewIdempotencyStore(rdb), NewIdempotencyStore(rdb), NewIdempotencyStore(rdb)}
		const ids, callers = 40, 30
		var mu sync.Mutex
		through := map[string]int{}
		var wg sync.WaitGroup
		for n := range ids * callers {
			wg.Go(func() {
				id := string(rune('a'+n%26)) + strings.Repeat("x", n%ids)
				v, err := replicas[n%3].Begin(context.Background(), "p", id, digestA)
				if err != nil && !isInProgress(err) {
					t.Error(err)
				}
				if err == nil && v.Replay() == nil {
					mu.Lock()
					through[id]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for id, n := range through {
			if n != 1 {
				t.Errorf("%d callers took %s", n, id)
			}
		}
	})
}

func TestIdempotencyStoreWithoutRedis(t *testing.T) {
	s, _ := testredis.InProcess(t)
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1, DialerRetries: 1})
	defer rdb.Close()
	store := NewIdempotencyStore(rdb)
	v := begin(t, store, "p", "1", digestA)
	s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := store.Begin(ctx, "p", "2", digestA); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Begin: %v", err)
	}
	if err := v.Keep(ctx, Answer{Status: 200}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Keep: %v", err)
	}
}

// A connection that breaks after Redis took the command makes go-redis send it again: the caller meets its own mark.
func TestIdempotencyStoreKnowsItsOwnMark(t *testing.T) {
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		rdb.AddHook(twiceHook{})
		store := NewIdempotencyStore(rdb)
		v := begin(t, store, "p", "1", digestA)
		if v.Replay() != nil {
			t.Fatal("replay of nothing")
		}
		if err := v.Keep(context.Background(), Answer{Status: 200, Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if a := begin(t, store, "p", "1", digestA).Replay(); a == nil || string(a.Body) != "x" {
			t.Errorf("%+v", a)
		}
	})
}

// twiceHook lets Redis do every command twice and shows the second answer.
type twiceHook struct{ holdingHook }

func (twiceHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		next(ctx, cmd)
		cmd.SetErr(nil)
		return next(ctx, cmd)
	}
}

// A caller who leaves while his command is under way must not block his own repetition for a whole lease.
func TestIdempotencyStoreFreesWhatItsCallerLeft(t *testing.T) {
	s, rdb := testredis.InProcess(t)
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	slow := redis.NewClient(&redis.Options{Addr: s.Addr()})
	defer slow.Close()
	ended := make(chan struct{})
	slow.AddHook(endHook{ended: ended})
	slow.AddHook(holdingHook{hold: hold, held: held})
	store := NewIdempotencyStore(slow)
	go store.commands.do(context.Background(), redis.NewStatusCmd(context.Background(), "set", "k", "v"))
	<-held
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error, 1)
	go func() { _, err := store.Begin(ctx, "p", "1", digestA); left <- err }()
	for queued := 0; queued == 0; { // until it waits for the command in flight
		store.commands.mu.Lock()
		queued = len(store.commands.waiting)
		store.commands.mu.Unlock()
	}
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(hold)
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("nobody freed it")
	}
	if v := begin(t, NewIdempotencyStore(rdb), "p", "1", digestB); v.Replay() != nil {
		t.Error("not free")
	}
}

// endHook tells when a script came back without NOSCRIPT.
type endHook struct {
	holdingHook
	ended chan struct{}
}

func (h endHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd) // not in cmd yet
		h.look(cmd, err)
		return err
	}
}
func (h endHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, c := range cmds {
			h.look(c, c.Err())
		}
		return err
	}
}
func (h endHook) look(cmd redis.Cmder, err error) {
	if strings.HasPrefix(cmd.Name(), "eval") && err == nil {
		close(h.ended)
	}
}

// One caller's deadline ends its own waiting while Redis says nothing; the others still get their answers.
func TestPipelinerHonoursDeadlines(t *testing.T) {
	s, rdb := testredis.InProcess(t)
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	rdb.AddHook(holdingHook{hold: hold, held: held})
	commands := &pipeliner{rdb: rdb}
	ctx := context.Background()
	first := make(chan error, 1)
	go func() { first <- commands.do(ctx, redis.NewStatusCmd(ctx, "set", "k", "1")) }()
	<-held // the first is under way and does not come back
	short, cancel := context.WithCancel(ctx)
	cancel()
	if err := commands.do(short, redis.NewStatusCmd(ctx, "set", "k", "2")); !errors.Is(err, context.Canceled) {
		t.Errorf("impatient caller: %v", err)
	}
	last := make(chan error, 1)
	go func() { last <- commands.do(ctx, redis.NewStatusCmd(ctx, "set", "l", "3")) }()
	close(hold)
	if err := errors.Join(<-first, <-last); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Get("l"); got != "3" {
		t.Errorf("l = %q", got)
	}
}

type holdingHook struct {
	hold, held chan struct{}
}

func (h holdingHook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h holdingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		select {
		case h.held <- struct{}{}:
		default:
		}
		<-h.hold
		return next(ctx, cmd)
	}
}
func (h holdingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
