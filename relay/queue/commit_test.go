package queue

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// till is an extension for tests: a till with coins in it. "pay" is refused when it is empty, "break" raises an error.
var till = Extension{Name: "till", Lua: `
return function(prefix, now_ms, A, o, n)
  local k = prefix .. 'till:' .. (n > 1 and A[o + 2] or '')
  if A[o + 1] == 'break' then error('the till is broken') end
  if A[o + 1] == 'wrong' then redis.call('HSET', k, 'a', 'b') return true, '' end
  local coins = tonumber(redis.call('GET', k) or '0')
  if A[o + 1] == 'pay' then
    if coins < 1 then return false, 'empty' end
    coins = coins - 1
  else
    coins = coins + 1
  end
  redis.call('SET', k, coins)
  return true, 'coins ' .. coins
end`}

func coins(t *testing.T, rdb redis.UniversalClient, shard int) int {
	t.Helper()
	n, err := rdb.Get(t.Context(), Prefix(shard)+"till:").Int()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return n
}

func TestCommitDoesAllOrNothing(t *testing.T) {
	pay, give, broken := Operation{"till", []string{"pay"}}, Operation{"till", []string{"give"}}, Operation{"till", []string{"break"}}
	type want struct {
		err     error
		refused bool
		replies []string
		coins   int
		put     string // which job is there afterwards: job, refused, none
		name    bool
		once    bool // the once-name is taken afterwards
	}
	for name, tc := range map[string]struct {
		change func(c *Change)
		coins  int
		want   want
	}{
		"it all happens": {func(c *Change) { c.Operations = []Operation{give, pay} }, 1,
			want{replies: []string{"coins 2", "coins 1"}, coins: 1, put: "job", name: true, once: true}},
		"refused without another way": {func(c *Change) { c.Operations = []Operation{pay}; c.Refused = nil }, 0,
			want{refused: true, replies: []string{"empty"}, put: "none"}},
		"refused with another way": {func(c *Change) { c.Operations = []Operation{pay} }, 0,
			want{refused: true, replies: []string{"empty"}, put: "refused", once: true}},
		"the second operation refuses": {func(c *Change) { c.Operations = []Operation{pay, pay, give} }, 1,
			want{refused: true, replies: []string{"coins 0", "empty"}, put: "refused", once: true}},
		"an extension breaks": {func(c *Change) { c.Operations = []Operation{broken} }, 1, want{err: ErrExtension, coins: 1, put: "none"}},
		"an extension breaks on what it finds": {func(c *Change) { c.Operations = []Operation{{"till", []string{"wrong"}}, give} }, 1,
			want{err: ErrExtension, coins: 1, put: "none"}},
		"an edit that cannot be": {func(c *Change) {
			c.Operations = []Operation{give}
			c.Edit = &Edit{ID: idOf("job", 5, &[16]byte{9}), Version: -1}
		}, 1, want{err: ErrNotFound, coins: 1, put: "none"}},
		"an extension nobody knows": {func(c *Change) { c.Operations = []Operation{{"bank", nil}} }, 1, want{err: ErrExtension, coins: 1, put: "none"}},
	} {
		t.Run(name, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
				q := open(t, rdb, Options{Extensions: []Extension{till}})
				for range tc.coins {
					commit(t, q, Change{Shard: 5, Operations: []Operation{give}})
				}
				job, refused := q.NewID("job", 5), q.NewID("ref", 5)
				c := Change{Shard: 5, Once: "o", OnceFor: time.Minute, Names: []Name{{"n", "v", time.Minute}},
					Jobs: []Job{{ID: job, Lane: "a:b", Body: []byte("1")}}, Refused: []Job{{ID: refused, Lane: "a:b", Body: []byte("2"), Replies: true}}}
				tc.change(&c)
				res := q.Commit(t.Context(), c)
				got := want{refused: res.Refused, replies: res.Replies, coins: coins(t, rdb, 5), put: "none"}
				if res.Err != nil {
					got.err = tc.want.err
					if !errors.Is(res.Err, tc.want.err) {
						got.err = res.Err
					}
				}
				if _, err := q.Get(t.Context(), job); err == nil {
					got.put = "job"
				}
				if r, err := q.Get(t.Context(), refused); err == nil {
					got.put = "refused"
					if want := strings.Join(res.Replies, "\n"); string(r.Note) != want {
						t.Errorf("note of the refused job %q, want the replies %q", r.Note, want)
					}
				}
				if v, err := q.Lookup(t.Context(), 5, "n"); err == nil && v == "v" {
					got.name = true
				}
				got.once = errors.Is(q.Commit(t.Context(), Change{Shard: 5, Once: "o"}).Err, ErrTaken)
				if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(want{}), cmp.Comparer(func(a, b error) bool { return a == b })); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestCommitOnce(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Extensions: []Extension{till}})
		push := func() error {
			return q.Commit(t.Context(), Change{Shard: 1, Once: "push", OnceFor: time.Hour, Operations: []Operation{{"till", []string{"give"}}},
				Jobs: []Job{{ID: q.NewID("psh", 1), Lane: "push"}}}).Err
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := map[error]int{}
		for range 50 {
			wg.Go(func() {
				err := push()
				mu.Lock()
				got[err]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if diff := cmp.Diff(map[error]int{nil: 1, ErrTaken: 49}, got, cmp.Comparer(func(a, b error) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
		if n := coins(t, rdb, 1); n != 1 {
			t.Errorf("%d coins", n)
		}
		if err := q.Commit(t.Context(), Change{Shard: 2, Once: "push"}).Err; err != nil {
			t.Errorf("the name on another shard: %v", err)
		}
		if ttl := rdb.PTTL(t.Context(), Prefix(1)+"o:push").Val(); ttl <= 0 || ttl > time.Hour {
			t.Errorf("the name is kept for %v", ttl)
		}
	})
}

// The ids of NewID are looked up too, unless a once-name stands before them.
func TestCommitOfTheSameNewId(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		c := Change{Shard: 4, Jobs: []Job{{ID: q.NewID("msg", 4), Lane: "a"}}}
		commit(t, q, c)
		if err := q.Commit(t.Context(), c).Err; err != ErrExists {
			t.Errorf("got %v", err)
		}
		c.Once, c.Jobs[0].ID = "a", q.NewID("msg", 4)
		commit(t, q, c)
		if err := q.Commit(t.Context(), c).Err; err != ErrTaken {
			t.Errorf("got %v", err)
		}
	})
}

func TestCommitRefusesAnIdThatExists(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{Extensions: []Extension{till}})
		id := q.IDFor("msg", 4, "seed")
		c := Change{Shard: 4, Once: "a", Operations: []Operation{{"till", []string{"give"}}}, Jobs: []Job{{ID: id, Lane: "a", Body: []byte("1")}}}
		commit(t, q, c)
		c.Once, c.Jobs = "b", []Job{{ID: q.NewID("msg", 4), Lane: "a"}, {ID: id, Lane: "a", Body: []byte("2")}}
		if err := q.Commit(t.Context(), c).Err; err != ErrExists {
			t.Errorf("got %v", err)
		}
		if r := get(t, q, id); string(r.Body) != "1" {
			t.Errorf("body %q", r.Body)
		}
		if coins(t, rdb, 4) != 1 {
			t.Error("the extension ran")
		}
		if err := q.Commit(t.Context(), Change{Shard: 4, Once: "b"}).Err; err != nil {
			t.Errorf("the once-name of what did not happen: %v", err)
		}
	})
}

// One item of a batch that errs leaves the others alone, on both ways of travelling.
func TestBatchAnswersItemByItem(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		for _, perShard := range []bool{false, true} {
			q := open(t, rdb, Options{Extensions: []Extension{till}, PerShard: perShard})
			var wg sync.WaitGroup
			bad := 0
			for i := range 200 {
				shard, verb := i%16, "give"
				if i%7 == 0 {
					verb, bad = "break", bad+1
				}
				wg.Go(func() {
					res := q.Commit(t.Context(), Change{Shard: shard, Operations: []Operation{{"till", []string{verb}}}, Jobs: []Job{{ID: q.NewID("j", shard), Lane: "a"}}})
					if verb == "give" && (res.Err != nil || len(res.Replies) != 1) || verb == "break" && !errors.Is(res.Err, ErrExtension) {
						t.Errorf("%s: %+v", verb, res)
					}
				})
			}
			wg.Wait()
			sum := 0
			for n := range 16 {
				sum += coins(t, rdb, n)
			}
			if sum != 200-bad {
				t.Errorf("%d coins, want %d", sum, 200-bad)
			}
			if tally := q.Tally(); tally.Changes != 200 || tally.Calls >= 200 {
				t.Errorf("%+v: nothing travelled together", tally)
			}
			rdb.FlushDB(t.Context())
		}
	})
}

func TestCommitRefusesWhatCannotBe(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		id := q.NewID("j", 1)
		for name, tc := range map[string]struct {
			c    Change
			want error
		}{
			"shard":        {Change{Shard: 16}, ErrID},
			"foreign id":   {Change{Shard: 2, Jobs: []Job{{ID: id, Lane: "a"}}}, ErrID},
			"no id":        {Change{Shard: 1, Jobs: []Job{{Lane: "a"}}}, ErrID},
			"no lane":      {Change{Shard: 1, Jobs: []Job{{ID: id}}}, ErrID},
			"no group":     {Change{Shard: 1, Jobs: []Job{{ID: id, Lane: ":a"}}}, ErrID},
			"torn lane":    {Change{Shard: 1, Jobs: []Job{{ID: id, Lane: "a\nb"}}}, ErrID},
			"torn serial":  {Change{Shard: 1, Jobs: []Job{{ID: id, Lane: "a", Serial: "\n"}}}, ErrID},
			"torn tag":     {Change{Shard: 1, Jobs: []Job{{ID: id, Lane: "a", Tags: []string{"a\n"}}}}, ErrID},
			"empty tag":    {Change{Shard: 1, Jobs: []Job{{ID: id, Lane: "a", Tags: []string{""}}}}, ErrID},
			"foreign edit": {Change{Shard: 2, Edit: &Edit{ID: id}}, ErrID},
			"body":         {Change{Shard: 1, Jobs: []Job{{ID: id, Lane: "a", Body: make([]byte, MaxBody+1)}}}, ErrTooLarge},
			"note":         {Change{Shard: 1, Jobs: []Job{{ID: id, Lane: "a", Note: make([]byte, MaxBody+1)}}}, ErrTooLarge},
			"jobs":         {Change{Shard: 1, Jobs: make([]Job, maxJobs+1)}, ErrTooLarge},
		} {
			if err := q.Commit(t.Context(), tc.c).Err; !errors.Is(err, tc.want) {
				t.Errorf("%s: %v, want %v", name, err, tc.want)
			}
		}
		big := Change{Shard: 1}
		for range 9 {
			big.Jobs = append(big.Jobs, Job{ID: q.NewID("j", 1), Lane: "a", Body: make([]byte, MaxBody)})
		}
		if err := q.Commit(t.Context(), big).Err; !errors.Is(err, ErrTooLarge) {
			t.Errorf("9 MiB: %v", err)
		}
		big.Jobs = big.Jobs[:7]
		commit(t, q, big)
		if keys := rdb.Keys(t.Context(), "wx:{s02}:*").Val(); len(keys) > 0 {
			t.Errorf("left behind: %v", keys)
		}
	})
}

func TestCommitWithAContextThatEnded(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		q := open(t, rdb, Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		id := q.NewID("j", 1)
		if err := q.Commit(ctx, Change{Shard: 1, Jobs: []Job{{ID: id, Lane: "a"}}}).Err; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		commit(t, q, Change{Shard: 1})
		if _, err := q.Get(t.Context(), id); err != ErrNotFound {
			t.Errorf("it happened: %v", err)
		}
	})
}

func TestShardsAreForEver(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		open(t, rdb, Options{Shards: 4})
		open(t, rdb, Options{Shards: 4})
		_, err := Open(t.Context(), rdb, Options{Shards: 8})
		if !errors.Is(err, ErrShards) || !strings.Contains(err.Error(), "started with 4, the config says 8") {
			t.Errorf("got %v", err)
		}
		for _, n := range []int{-1, 65} {
			if _, err := Open(t.Context(), rdb, Options{Shards: n}); !errors.Is(err, ErrShards) {
				t.Errorf("%d shards: %v", n, err)
			}
		}
	})
}

func TestOpenRefusesAnExtensionThatDoesNotCompile(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		if _, err := Open(t.Context(), rdb, Options{Extensions: []Extension{{"bad", "return function("}}}); err == nil {
			t.Error("opened")
		}
	})
}

// However commits come and go, one call of a committer is in flight: the script knows the last call of each again by its
// number, and its ARGV are one slice. Two could be where a flush ends as another begins, so that many must; a Redis that is
// gone answers at once.
func TestOneCallOfACommitterAtATime(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	q := open(t, rdb, Options{Shards: 1, OnError: func(error) {}})
	rdb.Close()
	var with sync.WaitGroup
	for range 4 {
		with.Go(func() {
			for range 20000 {
				if res := q.Commit(t.Context(), Change{Shard: 0}); !errors.Is(res.Err, ErrUnavailable) {
					t.Error(res.Err)
					return
				}
			}
		})
	}
	with.Wait()
	c := &q.sites[0].committers[0]
	c.mu.Lock()
	defer c.mu.Unlock()
	if made := q.Tally().Calls; c.calls != made {
		t.Errorf("%d calls, the last has the number %d", made, c.calls)
	}
}
