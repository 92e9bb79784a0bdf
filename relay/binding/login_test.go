package binding

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/scripts/testredis"
)

// gcm is a Sealer as the house makes one.
func gcm(t testing.TB) Sealer {
	t.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return Sealer{
		Seal: func(plain, aad []byte) ([]byte, error) {
			nonce := make([]byte, aead.NonceSize())
			rand.Read(nonce)
			return aead.Seal(nonce, nonce, plain, aad), nil
		},
		Unseal: func(sealed, aad []byte) ([]byte, error) {
			n := aead.NonceSize()
			return aead.Open(nil, sealed[:n], sealed[n:], aad)
		},
	}
}

// wechat answers a code once, as WeChat does.
type wechat struct {
	mu    sync.Mutex
	who   map[string]Identity
	used  map[string]bool
	calls atomic.Int32
}

var errUsed, errInvalid = errors.New("40163"), errors.New("40029")

func (w *wechat) exchange(code string) func(context.Context) (Identity, error) {
	return func(context.Context) (Identity, error) {
		w.calls.Add(1)
		w.mu.Lock()
		defer w.mu.Unlock()
		who, ok := w.who[code]
		switch {
		case !ok:
			return Identity{}, errInvalid
		case w.used[code]:
			return Identity{}, errUsed
		}
		w.used[code] = true
		return who, nil
	}
}

func platform() *wechat {
	return &wechat{used: map[string]bool{}, who: map[string]Identity{
		"c1": {"oAnn", "uAnn", "key-1"}, "c2": {"oAnn", "uAnn", "key-2"}, "c3": {"oBob", "", "key-3"}, "c4": {"oAnn", "", ""},
		"c5": {"oAnn", "uOther", "key-5"},
	}}
}

func TestLoginRules(t *testing.T) {
	ctx := context.Background()
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		b, other := New(rdb, gcm(t)), New(rdb, gcm(t))
		w := platform()
		first, err := b.Login(ctx, "shop", "c1", w.exchange("c1"))
		if err != nil {
			t.Fatal(err)
		}
		want := Session{Token: first.Token, OpenID: "oAnn", UnionID: "uAnn", ExpiresIn: 7200, IsNew: true, First: true}
		if diff := cmp.Diff(want, first); diff != "" || len(first.Token) < 32 {
			t.Errorf("%s %q", diff, first.Token)
		}
		t.Run("the same code gets the same answer", func(t *testing.T) {
			again, err := other.Login(ctx, "shop", "c1", w.exchange("c1"))
			want.First = false
			if diff := cmp.Diff(want, again); diff != "" || err != nil || w.calls.Load() != 1 {
				t.Error(diff, err, w.calls.Load())
			}
		})
		t.Run("new only the first time", func(t *testing.T) {
			if err := b.Greeted(ctx, "shop", "oAnn"); err != nil {
				t.Error(err)
			}
			s, err := other.Login(ctx, "shop", "c2", w.exchange("c2"))
			if err != nil || s.IsNew || s.Token == first.Token {
				t.Errorf("%+v %v", s, err)
			}
		})
		t.Run("another app is another world", func(t *testing.T) {
			s, err := b.Login(ctx, "mall", "c3", w.exchange("c3"))
			if err != nil || !s.IsNew {
				t.Errorf("%+v %v", s, err)
			}
			if _, err := b.Session(ctx, "shop", s.Token); !errors.Is(err, ErrSession) {
				t.Errorf("a session of mall is good for shop: %v", err)
			}
		})
		t.Run("a failure is WeChat's words and is not remembered", func(t *testing.T) {
			for n := range 2 {
				if _, err := b.Login(ctx, "shop", "bad", w.exchange("bad")); !errors.Is(err, errInvalid) {
					t.Errorf("try %d: %v", n, err)
				}
			}
		})
		t.Run("sessions", func(t *testing.T) {
			who, err := other.Session(ctx, "shop", first.Token)
			if diff := cmp.Diff(Identity{OpenID: "oAnn", UnionID: "uAnn"}, who); diff != "" || err != nil {
				t.Error(diff, err)
			}
			for _, bad := range []string{"", "mps_x", first.Token + "x", first.Token[:10], strings.Repeat("x", 1000)} {
				if _, err := b.Session(ctx, "shop", bad); !errors.Is(err, ErrSession) {
					t.Errorf("%.20q: %v", bad, err)
				}
			}
		})
		t.Run("session_key", func(t *testing.T) {
			if k, err := b.SessionKey(ctx, "shop", "oAnn"); k != "key-2" || err != nil {
				t.Errorf("the latest counts: %q %v", k, err)
			}
			if _, err := b.Login(ctx, "shop", "c4", w.exchange("c4")); err != nil {
				t.Fatal(err)
			}
			if k, err := b.SessionKey(ctx, "shop", "oAnn"); k != "key-2" || err != nil {
				t.Errorf("none given, the old one stays: %q %v", k, err)
			}
			if _, err := b.SessionKey(ctx, "shop", "oNobody"); !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		})
		t.Run("unionid", func(t *testing.T) {
			if o, err := b.ByUnionID(ctx, "shop", "uAnn"); o != "oAnn" || err != nil {
				t.Errorf("%q %v", o, err)
			}
			if u, err := b.UnionID(ctx, "shop", "oAnn"); u != "uAnn" || err != nil {
				t.Errorf("a login without unionid forgot it: %q %v", u, err)
			}
			if _, err := b.ByUnionID(ctx, "mall", "uAnn"); !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
			if _, err := b.UnionID(ctx, "mall", "oBob"); !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
			if isNew, err := b.Meet(ctx, "news", Identity{OpenID: "oaAnn", UnionID: "uAnn"}); !isNew || err != nil {
				t.Error(isNew, err)
			}
			if isNew, err := b.Meet(ctx, "news", Identity{OpenID: "oaAnn"}); isNew || err != nil {
				t.Error(isNew, err)
			}
			if o, err := b.ByUnionID(ctx, "news", "uAnn"); o != "oaAnn" || err != nil {
				t.Errorf("%q %v", o, err)
			}
			if _, err := b.Login(ctx, "shop", "c5", w.exchange("c5")); err != nil {
				t.Fatal(err)
			}
			if _, err := b.ByUnionID(ctx, "shop", "uAnn"); !errors.Is(err, ErrNotFound) {
				t.Errorf("the unionid before still leads to the openid: %v", err)
			}
		})
		t.Run("nothing secret lies open in Redis", func(t *testing.T) {
			dump := everything(t, rdb)
			for _, secret := range []string{"key-1", "key-2", "key-3", first.Token, first.Token[4:]} {
				if strings.Contains(dump, secret) {
					t.Errorf("%s in Redis", secret)
				}
			}
		})
	})
}

// everything in Redis as text: names and values.
func everything(t *testing.T, rdb redis.UniversalClient) string {
	t.Helper()
	ctx := context.Background()
	var all strings.Builder
	for _, k := range rdb.Keys(ctx, "*").Val() {
		fmt.Fprintln(&all, k, rdb.Get(ctx, k).Val(), rdb.HGetAll(ctx, k).Val(), rdb.ZRange(ctx, k, 0, -1).Val())
	}
	return all.String()
}

func TestLoginExchangesOnce(t *testing.T) {
	testredis.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		replicas := []*Book{New(rdb, gcm(t)), New(rdb, gcm(t))}
		w := platform()
		release := make(chan struct{})
		slow := func(ctx context.Context) (Identity, error) {
			<-release
			return w.exchange("c1")(ctx)
		}
		const callers = 20
		got := make(chan Session, callers)
		for i := range callers {
			go func() {
				s, err := replicas[i%2].Login(context.Background(), "shop", "c1", slow)
				if err != nil {
					t.Error(err)
				}
				got <- s
			}()
		}
		close(release)
		firsts, tokens := 0, map[string]bool{}
		for range callers {
			s := <-got
			tokens[s.Token] = true
			if s.First {
				firsts++
			}
			if !s.IsNew {
				t.Error("not the same answer")
			}
		}
		if len(tokens) != 1 || firsts != 1 || w.calls.Load() != 1 {
			t.Errorf("%d sessions, %d firsts, %d exchanges", len(tokens), firsts, w.calls.Load())
		}
	})
}

func TestLoginWaitsNoLongerThanItsCaller(t *testing.T) {
	_, rdb := testredis.InProcess(t)
	b := New(rdb, gcm(t))
	inside, release := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		_, err := b.Login(context.Background(), "shop", "c1", func(context.Context) (Identity, error) {
			close(inside)
			<-release
			return Identity{OpenID: "oAnn"}, nil
		})
		done <- err
	}()
	<-inside
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Millisecond)
	defer cancel()
	if _, err := b.Login(ctx, "shop", "c1", nil); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestLoginInTime(t *testing.T) {
	ctx := context.Background()
	s, rdb := testredis.InProcess(t)
	b := New(rdb, gcm(t))
	w := platform()

	// A process that dies inside the exchange leaves the code taken for 20 s.
	rdb.Set(ctx, codeKey("shop", "c1"), string(codeTaken)+"of a dead one", exchanging)
	s.Pass(exchanging + time.Second)
	first, err := b.Login(ctx, "shop", "c1", w.exchange("c1"))
	if err != nil || !first.First {
		t.Fatal(err)
	}
	if err := b.Greeted(ctx, "shop", "oAnn"); err != nil {
		t.Fatal(err)
	}
	s.Pass(sameAnswer - time.Second)
	if again, err := b.Login(ctx, "shop", "c1", w.exchange("c1")); err != nil || again.Token != first.Token {
		t.Errorf("within 5 min: %+v %v", again, err)
	}
	s.Pass(2 * time.Second)
	if _, err := b.Login(ctx, "shop", "c1", w.exchange("c1")); !errors.Is(err, errUsed) {
		t.Errorf("after 5 min WeChat is asked: %v", err)
	}
	s.Pass(sessionTime - sameAnswer - 2*time.Second)
	if _, err := b.Session(ctx, "shop", first.Token); err != nil {
		t.Errorf("within 2 h: %v", err)
	}
	s.Pass(sessionTime - 2*time.Second)
	if _, err := b.Session(ctx, "shop", first.Token); err != nil {
		t.Errorf("within 2 h of its last use: %v", err)
	}
	if _, err := b.SessionKey(ctx, "shop", "oAnn"); err != nil {
		t.Errorf("session_key of a session that lives: %v", err)
	}
	s.Pass(sessionTime + time.Second)
	if _, err := b.Session(ctx, "shop", first.Token); !errors.Is(err, ErrSession) {
		t.Errorf("after 2 h: %v", err)
	}
	if _, err := b.SessionKey(ctx, "shop", "oAnn"); !errors.Is(err, ErrNotFound) {
		t.Errorf("session_key after its sessions: %v", err)
	}
	if again, err := b.Login(ctx, "shop", "c2", w.exchange("c2")); err != nil || again.IsNew {
		t.Errorf("a month later it is known all the same: %+v %v", again, err)
	}
	if keys := s.Keys(); len(keys) > 8 {
		t.Errorf("something does not expire: %q", keys)
	}
}

// Of the logins of a new user one has the news that the user is new; when it dies with it, a later one has it.
func TestTheNewsOfANewUserIsNotLost(t *testing.T) {
	ctx := context.Background()
	s, rdb := testredis.InProcess(t)
	b, w := New(rdb, gcm(t)), platform()
	login := func(code string) bool {
		t.Helper()
		s, err := b.Login(ctx, "shop", code, w.exchange(code))
		if err != nil {
			t.Fatal(err)
		}
		return s.IsNew
	}
	if !login("c1") || login("c2") {
		t.Error("the first has the news, and it alone")
	}
	s.Pass(newsTime + time.Second)
	if !login("c4") {
		t.Error("the first died with the news, and the next after it has none")
	}
	if err := b.Greeted(ctx, "shop", "oAnn"); err != nil {
		t.Fatal(err)
	}
	s.Pass(newsTime + time.Second)
	if login("c5") {
		t.Error("told, and told again")
	}
	if _, err := b.Meet(ctx, "shop", Identity{OpenID: "oEve"}); err != nil {
		t.Fatal(err)
	}
	s.Pass(newsTime + time.Second)
	w.who["c6"] = Identity{OpenID: "oEve"}
	if login("c6") {
		t.Error("whoever was met is not new")
	}
}

// A phone code is good once at WeChat: what it stood for is not lost with a request that failed after the exchange.
func TestPhoneCodeIsExchangedOnce(t *testing.T) {
	ctx := context.Background()
	s, rdb := testredis.InProcess(t)
	b, calls := New(rdb, gcm(t)), 0
	ask := func(openid string) (string, error) {
		got, err := b.Phone(ctx, "shop", openid, "code", func(context.Context) ([]byte, error) {
			if calls++; calls > 1 {
				return nil, errUsed
			}
			return []byte("+86 13900000001"), nil
		})
		return string(got), err
	}
	for range 2 {
		if got, err := ask("oAnn"); got != "+86 13900000001" || err != nil || calls != 1 {
			t.Errorf("%q %v, %d exchanges", got, err, calls)
		}
	}
	if got, err := ask("oBob"); got != "" || !errors.Is(err, errUsed) {
		t.Errorf("the code of another user: %q %v", got, err)
	}
	for _, key := range s.Keys() {
		if kept, err := s.Get(key); err != nil || strings.Contains(kept, "139") {
			t.Errorf("%s holds %q, %v", key, kept, err)
		}
		if s.TTL(key) <= 0 {
			t.Errorf("%s stays", key)
		}
	}
}

// A sealed text moved to another key must not open there.
func TestSealedTextIsTiedToItsPlace(t *testing.T) {
	ctx := context.Background()
	_, rdb := testredis.InProcess(t)
	b := New(rdb, gcm(t))
	w := platform()
	for _, c := range []string{"c1", "c3"} {
		if _, err := b.Login(ctx, "shop", c, w.exchange(c)); err != nil {
			t.Fatal(err)
		}
	}
	rdb.Set(ctx, openidTag("shop", "oBob")+"k", rdb.Get(ctx, openidTag("shop", "oAnn")+"k").Val(), 0)
	if k, err := b.SessionKey(ctx, "shop", "oBob"); err == nil {
		t.Errorf("bob has ann's session_key %q", k)
	}
}

func TestWithoutRedis(t *testing.T) {
	s, _ := testredis.InProcess(t)
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1, DialerRetries: 1})
	defer rdb.Close()
	b := New(rdb, Sealer{})
	s.Close()
	ctx := context.Background()
	calls := map[string]func() error{
		"Login":         func() error { _, err := b.Login(ctx, "a", "c", platform().exchange("c1")); return err },
		"Session":       func() error { _, err := b.Session(ctx, "a", "t"); return err },
		"SessionKey":    func() error { _, err := b.SessionKey(ctx, "a", "o"); return err },
		"Meet":          func() error { _, err := b.Meet(ctx, "a", Identity{OpenID: "o"}); return err },
		"ByUnionID":     func() error { _, err := b.ByUnionID(ctx, "a", "u"); return err },
		"UnionID":       func() error { _, err := b.UnionID(ctx, "a", "o"); return err },
		"NewTicket":     func() error { _, _, err := b.NewTicket(ctx, "p", "a", "u"); return err },
		"Redeem":        func() error { _, err := redeem(b, "a", "t", "o"); return err },
		"Bind":          func() error { return b.Bind(ctx, "p", "a", "u", "o", NewSerial()) },
		"Unbind":        func() error { _, err := unbind(b, "p", "a", "u"); return err },
		"ByUser":        func() error { _, err := b.ByUser(ctx, "p", "a", "u"); return err },
		"UsersOf":       func() error { _, err := b.UsersOf(ctx, "a", "o"); return err },
		"Forget":        func() error { _, err := b.Forget(ctx, "a", "o"); return err },
		"AddCredential": func() error { _, err := b.AddCredential(ctx, "a", "o", Credential{Kind: FormID, ID: "f"}); return err },
		"Take":          func() error { _, err := b.Take(ctx, "a", "o", "", "m"); return err },
		"Any":           func() error { _, err := b.Any(ctx, "a", "o"); return err },
		"GiveBack":      func() error { return b.GiveBack(ctx, "a", "o", "m") },
		"Spoil":         func() error { return b.Spoil(ctx, "a", "o", "m") },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
