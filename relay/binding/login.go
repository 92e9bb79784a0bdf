package binding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	sessionTime = 7200 * time.Second
	sameAnswer  = 5 * time.Minute // a code lives 5 minutes, and is good once: https://developers.weixin.qq.com/miniprogram/dev/api/open-api/login/wx.login.html
	// exchanging is how long one process has a code for itself: longer than it may take, so that nobody else exchanges
	// the same code beside it; a crash frees the code after it.
	exchanging   = 20 * time.Second
	exchangeTime = 15 * time.Second
	keyTime      = 30 * 24 * time.Hour // WeChat does not say how long a session_key lives; the next login replaces it
	lookAgain    = 25 * time.Millisecond
	lookSlower   = 250 * time.Millisecond
	sessionsKept = 50 // per openid, for Forget to end
)

// Session is the answer to a login.
type Session struct {
	Token           string
	OpenID, UnionID string
	ExpiresIn       int // seconds: 7200
	IsNew           bool
	First           bool // this call made the exchange; false when the answer is a repeated one
}

// answer is a Session as it is kept for the same code.
type answer struct {
	Token   string `json:"t"`
	OpenID  string `json:"o"`
	UnionID string `json:"n,omitempty"`
	IsNew   bool   `json:"w,omitempty"`
}

// holder is whom a session stands for, as it is kept.
type holder struct {
	OpenID  string `json:"o"`
	UnionID string `json:"n,omitempty"`
}

// A code's record is "p" and who exchanges it, or "a" and the sealed answer.
const (
	codeTaken    = 'p'
	codeAnswered = 'a'
)

// Login exchanges a code and opens a session. The same code within 5 minutes gets the same answer, from whichever
// replica; while one exchanges it the others wait for that, as long as ctx lets them. Errors of exchange pass through
// and are not remembered. Any crash in between costs the code, never a wrong answer: WeChat then says 40163.
func (b *Book) Login(ctx context.Context, app, code string, exchange func(context.Context) (Identity, error)) (Session, error) {
	key := codeKey(app, code)
	mark := string(codeTaken) + token("")
	for pause := lookAgain; ; pause = min(2*pause, lookSlower) {
		was, err := b.rdb.SetArgs(ctx, key, mark, redis.SetArgs{Mode: "NX", Get: true, TTL: exchanging}).Result()
		switch {
		case errors.Is(err, redis.Nil), err == nil && was == mark: // ours; the latter when the command was sent twice
			return b.open(ctx, app, key, mark, exchange)
		case err != nil:
			return Session{}, away(err)
		case was[0] == codeAnswered:
			return b.repeat(key, was[1:])
		}
		if err := b.rest(ctx, pause); err != nil {
			return Session{}, away(err)
		}
	}
}

func (b *Book) repeat(key, sealed string) (Session, error) {
	plain, err := b.unsealed(key, sealed)
	if err != nil {
		return Session{}, err
	}
	var a answer
	if err := json.Unmarshal(plain, &a); err != nil {
		return Session{}, fmt.Errorf("binding: kept answer: %w", err)
	}
	return a.session(false), nil
}

func (a answer) session(first bool) Session {
	return Session{Token: a.Token, OpenID: a.OpenID, UnionID: a.UnionID, ExpiresIn: int(sessionTime / time.Second), IsNew: a.IsNew, First: first}
}

// open exchanges the code it holds and writes, in this order: who it is (with the session's name, for Forget), the
// unionid's openid and the session, the answer. Whatever is missing after a crash is missing for the caller too.
func (b *Book) open(ctx context.Context, app, key, mark string, exchange func(context.Context) (Identity, error)) (Session, error) {
	a, err := b.exchanged(ctx, app, exchange)
	if err != nil {
		b.release(ctx, key, mark)
		return Session{}, err
	}
	plain, err := json.Marshal(a)
	if err != nil {
		return Session{}, err
	}
	kept, err := b.sealed(key, plain)
	if err != nil {
		return Session{}, err
	}
	if _, err := b.run(ctx, replaceScript, []string{key}, mark, string(codeAnswered)+kept, sameAnswer.Milliseconds()); err != nil {
		return Session{}, err
	}
	return a.session(true), nil
}

func (b *Book) exchanged(ctx context.Context, app string, exchange func(context.Context) (Identity, error)) (answer, error) {
	limited, cancel := context.WithTimeout(ctx, exchangeTime)
	who, err := exchange(limited)
	cancel()
	if err != nil {
		return answer{}, err
	}
	a := answer{Token: token("mps_"), OpenID: who.OpenID}
	name := sessionKey(app, a.Token)
	a.IsNew, a.UnionID, err = b.note(ctx, app, who, name)
	if err != nil {
		return answer{}, err
	}
	plain, err := json.Marshal(holder{OpenID: a.OpenID, UnionID: a.UnionID})
	if err != nil {
		return answer{}, err
	}
	kept, err := b.sealed(name, plain)
	if err != nil {
		return answer{}, err
	}
	if err := b.rdb.Set(ctx, name, kept, sessionTime).Err(); err != nil {
		return answer{}, away(err)
	}
	return a, nil
}

// release frees the code for others, also when the caller hung up.
func (b *Book) release(ctx context.Context, key, mark string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	b.run(ctx, removeScript, []string{key}, mark) // if it cannot be freed it frees itself
}

// replaceScript: KEYS[1] string; ARGV[1] what it must be, ARGV[2] what it becomes, ARGV[3] for how many ms (0 = for
// good). Returns 1 when replaced.
var replaceScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1`)

// removeScript: KEYS[1] string; ARGV[1] what it must be. Returns 1 when removed.
var removeScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)

// Session is whom a bearer token stands for (SessionKey is always empty here). ErrSession.
func (b *Book) Session(ctx context.Context, app, bearer string) (Identity, error) {
	if bearer == "" || len(bearer) > 64 {
		return Identity{}, ErrSession
	}
	key := sessionKey(app, bearer)
	kept, err := b.get(ctx, key)
	if err != nil {
		return Identity{}, err
	}
	if kept == "" {
		return Identity{}, ErrSession
	}
	plain, err := b.unsealed(key, kept)
	if err != nil {
		return Identity{}, err
	}
	var h holder
	if err := json.Unmarshal(plain, &h); err != nil {
		return Identity{}, fmt.Errorf("binding: kept session: %w", err)
	}
	return Identity{OpenID: h.OpenID, UnionID: h.UnionID}, nil
}
