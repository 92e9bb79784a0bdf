package wechat

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// leaseReply is what the scripts answer (token.lua).
type leaseReply struct {
	state             string
	left, due, age    time.Duration
	encrypted, digest string // the encrypted token and its digest
	stored            int64  // fence the stored token came with

	fence int64  // state yours
	bad   string // state yours: digest to be replaced by another value

	pause time.Duration // state waiting
	code  int
	msg   string

	today int // reportScript
}

func (k *keeper) runScript(ctx context.Context, s *redis.Script, args ...any) (leaseReply, []any, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	reply, err := s.Run(ctx, k.c.rdb, k.keys(), args...).Slice()
	if err != nil {
		return leaseReply{}, nil, err
	}
	if len(reply) < 7 {
		return leaseReply{}, nil, fmt.Errorf("script answered %d values", len(reply))
	}
	r := leaseReply{
		state: text(reply[0]), left: ms(reply[1]), due: ms(reply[2]), age: ms(reply[3]),
		encrypted: text(reply[4]), digest: text(reply[5]), stored: number(reply[6]),
	}
	return r, reply[7:], nil
}

func (k *keeper) runLease(ctx context.Context, owner, unusable string) (leaseReply, error) {
	r, more, err := k.runScript(ctx, leaseScript, owner, k.lease().Milliseconds(), k.configID, unusable)
	if err != nil {
		return r, err
	}
	switch {
	case r.state == "yours" && len(more) == 2:
		r.fence, r.bad = number(more[0]), text(more[1])
	case r.state == "waiting" && len(more) == 3:
		r.pause, r.code, r.msg = ms(more[0]), int(number(more[1])), text(more[2])
	}
	return r, nil
}

// runStore writes a fetched token. cause says why it was fetched; "" puts one back that Redis has lost.
func (k *keeper) runStore(ctx context.Context, owner string, fence int64, tok Token, digest, cause string) (leaseReply, error) {
	encrypted, err := k.encrypt(tok.Value)
	if err != nil {
		return leaseReply{}, err
	}
	life := time.Until(tok.ExpiresAt)
	due := k.dueIn(life)
	restore, change := 1, ""
	if cause != "" {
		restore, change = 0, TokenChange{Cause: cause, Fingerprint: shortDigest(digest)}.encode()
	}
	r, _, err := k.runScript(ctx, storeScript, owner, fence, encrypted, digest, max(life, lifeFloor).Milliseconds(), due.Milliseconds(), restore, change)
	return r, err
}

func (k *keeper) runReport(ctx context.Context, digest string, change TokenChange) (leaseReply, error) {
	spacing := 0
	if k.app.source() == SourceClassic { // 2,000 fetches a day: a value of its own each time is no licence to storm
		spacing = 1
	}
	r, more, err := k.runScript(ctx, reportScript, digest, healSpacing.Milliseconds(), spacing, 20, (5 * time.Minute).Milliseconds(), change.encode())
	if err == nil && len(more) == 1 {
		r.today = int(number(more[0]))
	}
	return r, err
}

// mayForce says whether a force_refresh is allowed now, and takes it.
func (k *keeper) mayForce(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	n, err := forceScript.Run(ctx, k.c.rdb, k.keys(), healSpacing.Milliseconds(), 20).Int()
	return err == nil && n == 1
}

// fail gives the lease back and notes for everybody when to ask again.
func (k *keeper) fail(ctx context.Context, owner string, cause error) {
	first, limit := backoff(cause)
	code, msg := codeOf(cause), cause.Error()
	var api *APIError
	var f *failure
	switch {
	case errors.As(cause, &api):
		msg = api.Msg
	case errors.As(cause, &f):
		msg = f.why
	}
	alertAt := 5
	if isRefusal(cause) {
		alertAt = 1
	}
	change := TokenChange{Cause: ChangeRefused, Errcode: code, Errmsg: msg}
	if api != nil {
		change.RID = api.RID
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	reply, err := failScript.Run(ctx, k.c.rdb, k.keys(), owner, k.configID, code, msg,
		first.Milliseconds(), limit.Milliseconds(), alertAt, change.encode()).Int64Slice()
	if err != nil || len(reply) != 2 {
		k.noteFailure(cause, first)
		return
	}
	k.noteFailure(cause, time.Duration(reply[0])*time.Millisecond)
	if reply[1] == 1 {
		k.changes(change)
		k.alert(cause)
	}
}

// recorded rebuilds the refusal another replica noted.
func (k *keeper) recorded(r leaseReply) error {
	switch r.code {
	case CodeNotLeft:
		return &failure{kind: ErrNotLeft, path: k.endpoint(), why: r.msg}
	case CodeNoAnswer:
		return &failure{kind: ErrNoAnswer, path: k.endpoint(), why: r.msg}
	}
	return newAPIError(k.endpoint(), r.code, r.msg)
}

func (k *keeper) alert(cause error) {
	if k.c.o.OnAlert == nil {
		return
	}
	var api *APIError
	if isRefusal(cause) && errors.As(cause, &api) {
		k.c.o.OnAlert(k.app.Name, &ConfigError{App: k.app.Name, API: api})
		return
	}
	k.c.o.OnAlert(k.app.Name, &TokenTrouble{App: k.app.Name, Err: cause})
}

// backoff says how long to leave the token endpoint alone after this failure, and at most after many.
func backoff(err error) (first, limit time.Duration) {
	switch codeOf(err) {
	case CodeNotLeft, CodeNoAnswer:
		return 500 * time.Millisecond, 15 * time.Second
	case -1:
		return time.Second, 30 * time.Second
	case 45011:
		return time.Minute, time.Minute
	case 45009:
		return 5 * time.Minute, time.Hour
	case 89506, 89507: // WeChat says 24 h and 1 h; one question an hour finds an operator's second thought
		return time.Hour, time.Hour
	}
	return 10 * time.Second, 5 * time.Minute // an allow-list takes 5 to 10 minutes to take effect
}

func isRefusal(err error) bool {
	var api *APIError
	return errors.As(err, &api) && api.Reaction() != ReactionRetry
}

// encrypt encrypts a token together with its app, so that a value moved between two keys does not open.
func (k *keeper) encrypt(value string) (string, error) {
	if k.c.o.Encrypt == nil {
		return value, nil
	}
	encrypted, err := k.c.o.Encrypt([]byte(k.app.AppID + "\n" + value))
	return string(encrypted), err
}

var errForeignToken = errors.New("wechat: the encrypted token is another app's")

func (k *keeper) decrypt(r leaseReply) (Token, error) {
	value := r.encrypted
	if k.c.o.Decrypt != nil {
		clear, err := k.c.o.Decrypt([]byte(r.encrypted))
		if err != nil {
			return Token{}, err
		}
		var ok bool
		if value, ok = strings.CutPrefix(string(clear), k.app.AppID+"\n"); !ok {
			return Token{}, errForeignToken
		}
	}
	if digestOf(value) != r.digest {
		return Token{}, errForeignToken
	}
	now := time.Now()
	return Token{Value: value, ExpiresAt: now.Add(r.left), FetchedAt: now.Add(-r.age)}, nil
}

func ms(v any) time.Duration { return time.Duration(number(v)) * time.Millisecond }

func number(v any) int64 { n, _ := v.(int64); return n }

func text(v any) string { s, _ := v.(string); return s }

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
