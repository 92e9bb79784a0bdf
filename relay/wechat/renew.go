package wechat

import (
	"context"
	"errors"
	mathrand "math/rand/v2"
	"time"
)

// renew reads Redis, and fetches a token when it gets the lease. An error is one for which no pause is noted yet.
func (k *keeper) renew(ctx context.Context) error {
	owner, unusable := newOwner(), ""
	if err := k.reportDeferred(ctx); err != nil {
		return k.renewWithoutRedis(ctx, err)
	}
	for n := 0; ; n++ {
		epoch := k.epochNow()
		r, err := k.runLease(ctx, owner, unusable)
		if err != nil {
			return k.renewWithoutRedis(ctx, err)
		}
		if r.encrypted != "" && r.digest != unusable {
			tok, err := k.decrypt(r)
			if err != nil { // encrypted under another master key: as good as none
				unusable = r.digest
				continue
			}
			if !k.useShared(tok, r, epoch) {
				continue
			}
		}
		switch r.state {
		case "fresh":
			return nil
		case "waiting":
			k.noteFailure(k.recorded(r), r.pause)
			return nil
		case "yours":
			return k.renewLeased(ctx, owner, r)
		}
		if k.postpone() { // busy, and the old token works: nobody waits
			return nil
		}
		if err := pause(ctx, min(20*time.Millisecond<<min(n, 5), 400*time.Millisecond)); err != nil {
			return errors.New("another replica is asking for a token and does not finish")
		}
	}
}

// renewLeased fetches a token, as the only one. The token goes to callers even when it cannot be written.
func (k *keeper) renewLeased(ctx context.Context, owner string, r leaseReply) error {
	if tok, digest, ok := k.toRestore(r); ok { // Redis lost what we still have
		_, _ = k.runStore(ctx, owner, r.fence, tok, digest, "")
		return nil
	}
	fetching, cancel := context.WithTimeout(ctx, k.lease()-time.Second) // never write after the lease lapsed
	defer cancel()
	got, forced, err := k.fetchRetrying(fetching, r.bad)
	if err != nil {
		k.fail(ctx, owner, err)
		return nil
	}
	digest, cause := digestOf(got.Value), ChangeRenewed
	switch {
	case forced:
		cause = ChangeForced
	case r.bad != "":
		cause = ChangeHealed
	case r.stored == 0:
		cause = ChangeFirst
	}
	kept, err := k.runStore(ctx, owner, r.fence, got, digest, cause)
	if err == nil && kept.state == "late" && kept.encrypted != "" { // a later lease wrote before us: its token counts
		if tok, err := k.decrypt(kept); err == nil {
			k.useShared(tok, kept, k.epochNow())
			return nil
		}
	}
	k.useFetched(got, digest)
	k.changes(TokenChange{Cause: cause, Fingerprint: shortDigest(digest)})
	return nil
}

// renewWithoutRedis is a renewal with Redis away. A classic token is not fetched then: each fetch kills the other replicas'.
func (k *keeper) renewWithoutRedis(ctx context.Context, redisErr error) error {
	k.mu.Lock()
	now := time.Now()
	enough := k.usable(now) && k.tok.ExpiresAt.Sub(now) > k.lead()
	k.seenAt, k.due = now, now.Add(jitter(viewAgeSoon))
	bad := k.bad
	k.mu.Unlock()
	if enough {
		return nil
	}
	if k.app.source() == SourceClassic {
		return errors.New("Redis is away: " + redisErr.Error())
	}
	got, _, err := k.fetch(ctx, bad)
	if err != nil {
		k.mu.Lock()
		k.fails++
		fails := k.fails
		k.mu.Unlock()
		first, limit := backoff(err)
		k.noteFailure(err, min(first<<min(fails-1, 12), limit))
		if isRefusal(err) && fails == 1 {
			k.alert(err)
		}
		return nil
	}
	k.useFetched(got, digestOf(got.Value))
	k.mu.Lock()
	k.due = time.Now().Add(jitter(viewAgeSoon))
	k.mu.Unlock()
	return nil
}

// take serves a token this process fetched itself.
func (k *keeper) useFetched(tok Token, digest string) {
	life := time.Until(tok.ExpiresAt)
	k.mu.Lock()
	defer k.mu.Unlock()
	if tok.ExpiresAt = time.Now().Add(max(life, lifeFloor)); tok.FetchedAt.IsZero() {
		tok.FetchedAt = time.Now()
	}
	k.setToken(tok, digest, k.dueIn(life))
}

// adopt serves a token seen in Redis, unless one was forgotten since that was read.
func (k *keeper) useShared(tok Token, r leaseReply, epoch int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.epoch != epoch {
		return false
	}
	k.setToken(tok, r.digest, r.due)
	return true
}

// setToken holds mu. Each replica reads Redis a little after the token is due, not all at once.
func (k *keeper) setToken(tok Token, digest string, dueIn time.Duration) {
	now := time.Now()
	spread := min(max(tok.ExpiresAt.Sub(now)-dueIn, 0)/5, time.Minute)
	k.tok, k.digest = tok, digest
	k.seenAt, k.due = now, now.Add(dueIn+time.Duration(mathrand.Int64N(int64(spread)+1)))
	k.failed, k.until, k.fails = nil, time.Time{}, 0
	k.notify()
}

// postpone puts off the next look at Redis when the token still works.
func (k *keeper) postpone() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if !k.usable(now) {
		return false
	}
	k.seenAt, k.due = now, now.Add(jitter(viewAgeSoon))
	return true
}

// toRestore says whether Redis has no token while ours works, is not due and was not found bad.
func (k *keeper) toRestore(r leaseReply) (Token, string, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if r.encrypted != "" || !k.usable(now) {
		return Token{}, "", false
	}
	if r.bad != "" && r.bad == k.digest {
		k.forget()
		return Token{}, "", false
	}
	if k.tok.ExpiresAt.Sub(now) <= k.lead() {
		return Token{}, "", false
	}
	k.seenAt, k.due = now, now.Add(k.dueIn(k.tok.ExpiresAt.Sub(now)))
	return k.tok, k.digest, true
}

// forget holds mu.
func (k *keeper) forget() {
	k.tok, k.digest = Token{}, ""
	k.epoch++
}

func (k *keeper) epochNow() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.epoch
}
