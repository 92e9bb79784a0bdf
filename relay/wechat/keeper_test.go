package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func mustToken(t *testing.T, c *Client) Token {
	t.Helper()
	tok, err := c.Token(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// one refresh at a time per app over all replicas.
func TestColdReplicasFetchOnce(t *testing.T) {
	for _, source := range []string{SourceStable, SourceClassic} {
		t.Run(source, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
				f := newFake()
				base := serveFake(t, f)
				var wg sync.WaitGroup
				var mu sync.Mutex
				seen := map[string]int{}
				for range 8 {
					c := newTestClient(t, rdb, base, func(o *Options) { o.Apps[0].Token.Kind = source })
					for range 10 {
						wg.Go(func() {
							tok, err := c.Token(t.Context(), "shop")
							if err != nil {
								t.Error(err)
							}
							mu.Lock()
							seen[tok.Value]++
							mu.Unlock()
						})
					}
				}
				wg.Wait()
				if n := f.count(pathStable) + f.count(pathClassic); n != 1 || len(seen) != 1 {
					t.Fatalf("%d fetches, %d different tokens; want one of each", n, len(seen))
				}
			})
		})
	}
}

func TestTokenSurvivesScriptFlush(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		base := serveFake(t, f)
		first := mustToken(t, newTestClient(t, rdb, base))
		if err := rdb.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if second := mustToken(t, newTestClient(t, rdb, base)); second.Value != first.Value {
			t.Fatal("another token after SCRIPT FLUSH")
		}
	})
}

// A caller that gives up gets its own error, and the fetch goes on for the others.
func TestCallerGivesUpFetchGoesOn(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		f.gate, f.arrived = make(chan struct{}), make(chan string, 8)
		c := newTestClient(t, rdb, serveFake(t, f))
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() { _, err := c.Token(ctx, "shop"); failed <- err }()
		<-f.arrived
		cancel()
		err := <-failed
		if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrNotLeft) {
			t.Fatalf("gave up with %v", err)
		}
		close(f.gate)
		mustToken(t, c)
		if n := f.count(pathStable); n != 1 {
			t.Fatalf("%d fetches", n)
		}
	})
}

// The lease's fencing: a writer whose lease was given on must not replace the later token.
func TestLateWriterIsFenced(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		c := newTestClient(t, rdb, "http://unused.invalid", func(o *Options) { o.Timeout = time.Millisecond })
		k, _ := c.keeper("shop")
		ctx := t.Context()
		first, err := k.runLease(ctx, "slow", "")
		if err != nil || first.state != "yours" || first.fence != 1 {
			t.Fatalf("first lease: %+v %v", first, err)
		}
		if r, err := k.runLease(ctx, "other", ""); err != nil || r.state != "busy" {
			t.Fatalf("second lease while the first lasts: %+v %v", r, err)
		}
		if err := rdb.HSet(ctx, k.keys()[0], "lu", 1).Err(); err != nil { // the lease lapses
			t.Fatal(err)
		}
		second, err := k.runLease(ctx, "quick", "")
		if err != nil || second.state != "yours" || second.fence != 2 {
			t.Fatalf("lease after lapse: %+v %v", second, err)
		}
		t1, t2 := newToken("token-one", 7200), newToken("token-two", 7200)
		if r, err := k.runStore(ctx, "quick", second.fence, t2, digestOf(t2.Value), ChangeFirst); err != nil || r.state != "kept" {
			t.Fatalf("the holder's write: %+v %v", r, err)
		}
		r, err := k.runStore(ctx, "slow", first.fence, t1, digestOf(t1.Value), ChangeFirst)
		if err != nil || r.state != "late" || r.digest != digestOf(t2.Value) {
			t.Fatalf("the late write: %+v %v", r, err)
		}
		if tok := mustToken(t, c); tok.Value != t2.Value {
			t.Fatalf("serves %q", tok.Value)
		}
	})
}

func TestTokenAtRestIsEncrypted(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		base := serveFake(t, f)
		sealing := func(key byte) func(*Options) {
			flip := func(b []byte) ([]byte, error) {
				out := make([]byte, len(b))
				for i := range b {
					out[i] = b[i] ^ key
				}
				return out, nil
			}
			return func(o *Options) { o.Encrypt, o.Decrypt = flip, flip }
		}
		a := newTestClient(t, rdb, base, sealing(0x55))
		tok := mustToken(t, a)
		k, _ := a.keeper("shop")
		all, err := rdb.HGetAll(t.Context(), k.keys()[0]).Result()
		if err != nil || len(all) == 0 {
			t.Fatalf("nothing kept: %v", err)
		}
		for field, v := range all {
			if strings.Contains(v, tok.Value) || strings.Contains(v, testSecret) {
				t.Errorf("field %s shows a secret", field)
			}
		}
		if ttl := rdb.PTTL(t.Context(), k.keys()[0]).Val(); ttl <= 0 {
			t.Errorf("the key does not expire: %v", ttl)
		}
		if same := mustToken(t, newTestClient(t, rdb, base, sealing(0x55))); same.Value != tok.Value {
			t.Error("a second replica got another token")
		}
		// Another master key: the value does not open, so it is fetched again, and works from then on.
		b := newTestClient(t, rdb, base, sealing(0x66))
		if other := mustToken(t, b); other.Value != tok.Value { // stable_token answers the same value
			t.Error("stable_token gave another value")
		}
		if n := f.count(pathStable); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
	})
}

// Redis lost its memory: what a replica still holds is put back instead of asking WeChat.
func TestTokenIsRestoredAfterRedisLoss(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		base := serveFake(t, f)
		app := func(o *Options) { o.Apps[0].Token.Kind = SourceClassic }
		a := newTestClient(t, rdb, base, app)
		tok := mustToken(t, a)
		a.renewals.wait()
		if err := rdb.FlushDB(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		k, _ := a.keeper("shop")
		k.mu.Lock()
		k.seenAt = time.Time{}
		k.mu.Unlock()
		mustToken(t, a) // starts a look in the background
		a.renewals.wait()
		if got := mustToken(t, newTestClient(t, rdb, base, app)); got.Value != tok.Value {
			t.Error("another replica fetched instead")
		}
		if n := f.count(pathClassic); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

func TestExternalSource(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		current := f.issue()
		var asked int
		centre := newFake()
		centre.tamper = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			asked++
			if r.Header.Get("Authorization") != "Bearer centre-password" || r.URL.RawQuery != "key=centre-query" {
				w.WriteHeader(403)
				return true
			}
			f.mu.Lock()
			value := current.value
			f.mu.Unlock()
			reply(w, `{"access_token":"`+value+`","expires_in":"7000"}`)
			return true
		}
		centreURL := serveFake(t, centre)
		c := newTestClient(t, rdb, serveFake(t, f), func(o *Options) {
			o.Apps[0].Secret = ""
			o.Apps[0].Token = TokenSource{Kind: SourceExternal, URL: centreURL + "/token?key=centre-query",
				Header: map[string]string{"Authorization": "Bearer centre-password"}}
		})
		if tok := mustToken(t, c); tok.Value != current.value || time.Until(tok.ExpiresAt) < 6900*time.Second {
			t.Fatalf("token %v", tok.ExpiresAt)
		}
		f.kill(current.value, true)
		f.with(func(f *fake) { current = f.issue() })
		if _, err := c.Send(t.Context(), "shop", ChannelSubscribe, json.RawMessage(`{}`)); err != nil {
			t.Fatalf("after the centre's token died: %v", err)
		}
		if asked != 2 {
			t.Errorf("asked the centre %d times", asked)
		}
		var l *APIError
		if _, err := c.Login(t.Context(), "shop", "code"); !errors.As(err, &l) || l.Code != 41004 {
			t.Errorf("login without a secret: %v", err)
		}
	})
}
