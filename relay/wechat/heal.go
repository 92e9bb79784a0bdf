package wechat

import (
	"context"
	"errors"
	"time"
)

const healSpacing = 30 * time.Second // the platform's own spacing of force_refresh

// withToken runs one call with a token. When WeChat refuses the token the call was rejected and cannot have had an
// effect: the token is healed and the call repeated, once.
func (k *keeper) withToken(ctx context.Context, call func(ctx context.Context, token string) error) error {
	return k.withTokenOf(ctx, Reporter{By: ownReporter}, call)
}

// withTokenOf is withToken for a call of somebody's.
func (k *keeper) withTokenOf(ctx context.Context, who Reporter, call func(ctx context.Context, token string) error) error {
	tok, err := k.token(ctx)
	if err != nil {
		return err
	}
	err = call(ctx, tok.Value)
	refusal := tokenRefusal(err)
	if refusal == nil || !k.reportBad(ctx, tok.Value, refusal, who) {
		return err
	}
	next, tokenErr := k.token(ctx)
	if tokenErr != nil {
		return tokenErr
	}
	if next.Value == tok.Value { // WeChat insists that it is valid
		return err
	}
	err = call(ctx, next.Value)
	if refusal := tokenRefusal(err); refusal != nil {
		k.reportBad(ctx, next.Value, refusal, who)
	}
	return err
}

func tokenRefusal(err error) *APIError {
	var api *APIError
	if errors.As(err, &api) && api.Reaction() == ReactionToken {
		return api
	}
	return nil
}

// reportBad forgets a refused token, by value: a late report of an older one changes nothing. It says whether asking
// for a token again may bring another.
func (k *keeper) reportBad(ctx context.Context, value string, refusal *APIError, who Reporter) bool {
	digest := digestOf(value)
	change := TokenChange{Cause: ChangeReported, Fingerprint: shortDigest(digest), Errcode: refusal.Code, RID: refusal.RID, By: who.By, From: who.From}
	r, err := k.runReport(context.WithoutCancel(ctx), digest, change)
	if err != nil {
		return k.reportLocally(digest)
	}
	if r.state == "tried" {
		return false
	}
	k.drop(digest)
	if r.state == "newer" {
		if tok, err := k.decrypt(r); err == nil {
			k.useShared(tok, r, k.epochNow())
		}
	}
	if r.state == "healing" {
		change.Left = r.left
		k.changes(change)
	}
	if r.state == "healing" && r.left > lifeFloor && k.c.o.OnAlert != nil {
		k.c.o.OnAlert(k.app.Name, &TokenChanged{App: k.app.Name, Code: refusal.Code, RID: refusal.RID, Left: r.left, Today: r.today, By: who.By})
	}
	return true
}

// reportLocally is reportBad with Redis away, for this process only. A classic token stays: nobody would fetch another.
func (k *keeper) reportLocally(digest string) bool {
	if k.app.source() == SourceClassic {
		return false
	}
	k.mu.Lock()
	now := time.Now()
	tried := k.bad == digest && now.Sub(k.badAt) < healSpacing
	if !tried {
		k.bad, k.badAt = digest, now
	}
	k.mu.Unlock()
	if !tried {
		k.drop(digest)
	}
	return !tried
}

// reportDeferred tells a Redis that is back what was found bad without it, so that it does not hand the dead token out again.
func (k *keeper) reportDeferred(ctx context.Context) error {
	k.mu.Lock()
	bad := k.bad
	k.mu.Unlock()
	if bad == "" {
		return nil
	}
	late := TokenChange{Cause: ChangeReported, Fingerprint: shortDigest(bad), By: ownReporter}
	if _, err := k.runReport(ctx, bad, late); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bad == bad {
		k.bad = ""
	}
	return nil
}

// drop forgets the held token when it is this one.
func (k *keeper) drop(digest string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.digest == digest {
		k.forget()
		k.notify()
	}
}
