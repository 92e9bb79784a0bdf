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
	lookAgain    = 25 * time.Millisecond
	lookSlower   = 250 * time.Millisecond
	sessionsKept = 50          // per openid, for Forget to end
	newsTime     = time.Minute // how long a login may take to make the news of a new user safe
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
	plain, first, err := b.once(ctx, codeKey(app, code), func(ctx context.Context) ([]byte, error) {
		a, err := b.exchanged(ctx, app, exchange)
		if err != nil {
			return nil, err
		}
		return json.Marshal(a)
	})
	if err != nil {
		return Session{}, err
	}
	var a answer
	if err := json.Unmarshal(plain, &a); err != nil {
		return Session{}, fmt.Errorf("binding: kept answer: %w", err)
	}
	return a.session(first), nil
}

// Phone exchanges the code of a phone number. As with Login, the same code of the same openid within 5 minutes gets the same
// answer, so that a number is not lost with a request that failed after the exchange.
func (b *Book) Phone(ctx context.Context, app, openid, code string, exchange func(context.Context) ([]byte, error)) ([]byte, error) {
	plain, _, err := b.once(ctx, phoneKey(app, openid, code), func(ctx context.Context) ([]byte, error) {
		limited, cancel := context.WithTimeout(ctx, exchangeTime)
		defer cancel()
		return exchange(limited)
	})
	return plain, err
}

// once has a code exchanged by one caller at a time and keeps the answer, sealed, for all that come with the same code.
func (b *Book) once(ctx context.Context, key string, exchange func(context.Context) ([]byte, error)) (plain []byte, first bool, err error) {
	mark := string(codeTaken) + token("")
	for pause := lookAgain; ; pause = min(2*pause, lookSlower) {
		was, err := b.rdb.SetArgs(ctx, key, mark, redis.SetArgs{Mode: "NX", Get: true, TTL: exchanging}).Result()
		switch {
		case errors.Is(err, redis.Nil), err == nil && was == mark: // ours; the latter when the command was sent twice
			plain, err := b.keep(ctx, key, mark, exchange)
			return plain, true, err
		case err != nil:
			return nil, false, away(err)
		case was[0] == codeAnswered:
			plain, err := b.unsealed(key, was[1:])
			return plain, false, err
		}
		if err := b.rest(ctx, pause); err != nil {
			return nil, false, away(err)
		}
	}
}

// keep exchanges the code it holds and writes the answer. What exchange writes comes before it: whatever is missing after a
// crash is missing for the caller too.
func (b *Book) keep(ctx context.Context, key, mark string, exchange func(context.Context) ([]byte, error)) ([]byte, error) {
	plain, err := exchange(ctx)
	if err != nil {
		b.release(ctx, key, mark)
		return nil, err
	}
	kept, err := b.sealed(key, plain)
	if err != nil {
		return nil, err
	}
	if _, err := b.run(ctx, replaceScript, []string{key}, mark, string(codeAnswered)+kept, sameAnswer.Milliseconds()); err != nil {
		return nil, err
	}
	return plain, nil
}

func (a answer) session(first bool) Session {
	return Session{Token: a.Token, OpenID: a.OpenID, UnionID: a.UnionID, ExpiresIn: int(sessionTime / time.Second), IsNew: a.IsNew, First: first}
}

// exchanged exchanges a code and writes, in this order: who it is (with the session's name, for Forget), the unionid's openid,
// the session.
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
	_, _ = b.run(ctx, removeScript, []string{key}, mark) // if it cannot be freed it frees itself
}
