package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Why a token changed, or did not.
const (
	ChangeFirst    = "first"    // the first token of the app
	ChangeRenewed  = "renewed"  // fetched before the old one ended
	ChangeHealed   = "healed"   // fetched in the place of one that was found bad
	ChangeForced   = "forced"   // the same, by force_refresh
	ChangeReported = "reported" // found bad and forgotten: By, Errcode and RID say by whom and how
	ChangeRefused  = "refused"  // the token endpoint answered Errcode instead of a token
)

// TokenChange is one entry of a token's log. It never holds the token: Fingerprint is the beginning of its SHA-256.
type TokenChange struct {
	At          time.Time     `json:"-"`
	Cause       string        `json:"cause"`
	Fingerprint string        `json:"fingerprint,omitempty"`
	Errcode     int           `json:"errcode,omitempty"`
	Errmsg      string        `json:"errmsg,omitempty"`
	RID         string        `json:"rid,omitempty"`
	By          string        `json:"by,omitempty"`
	From        string        `json:"from,omitempty"`
	Left        time.Duration `json:"-"` // life the token had left when it was found bad
}

func (c TokenChange) encode() string {
	b, _ := json.Marshal(c) // texts and a number: it encodes
	return string(b)
}

// Fingerprint names a token in logs and pages without showing it.
func Fingerprint(value string) string { return shortDigest(digestOf(value)) }

func shortDigest(digest string) string { return digest[:min(len(digest), 12)] }

func (k *keeper) changes(change TokenChange) {
	if k.c.o.OnChange != nil {
		change.At = time.Now()
		k.c.o.OnChange(k.app.Name, change)
	}
}

// TokenState is how an app's token stands, over all replicas.
type TokenState struct {
	Source      string    // stable | classic | external
	Fingerprint string    // "" = there is none
	FetchedAt   time.Time // zero without a token, as ExpiresAt
	ExpiresAt   time.Time
	Refusal     *APIError     // what the token endpoint answered last, until a token is got; nil = nothing
	RetryIn     time.Duration // until it is asked again
	HealedToday int           // tokens found bad today (Beijing's day)
	ForcedToday int           // force_refresh used today, of 20
	Changes     []TokenChange // the latest 20, newest first
}

// TokenState reads the app's state from Redis, without asking WeChat. Errors: ErrUnknownApp, and those of Redis.
func (c *Client) TokenState(ctx context.Context, app string) (TokenState, error) {
	k, err := c.keeper(app)
	if err != nil {
		return TokenState{}, err
	}
	r, more, err := k.runScript(ctx, readScript)
	if err != nil {
		return TokenState{}, err
	}
	if len(more) < 5 {
		return TokenState{}, errors.New("wechat: the token's state cannot be read")
	}
	now := time.Now()
	s := TokenState{Source: k.app.source(), Fingerprint: shortDigest(r.digest), RetryIn: ms(more[2]),
		HealedToday: int(number(more[3])), ForcedToday: int(number(more[4]))}
	if r.digest != "" {
		s.FetchedAt, s.ExpiresAt = now.Add(-r.age), now.Add(r.left)
	}
	if code := int(number(more[0])); code != 0 {
		s.Refusal = newAPIError(k.endpoint(), code, text(more[1]))
	}
	for _, entry := range more[5:] {
		if change, ok := readChange(text(entry)); ok {
			s.Changes = append(s.Changes, change)
		}
	}
	return s, nil
}

// readChange reads an entry of the log: "<at ms> <life left ms> <JSON>".
func readChange(entry string) (c TokenChange, ok bool) {
	at, rest, _ := strings.Cut(entry, " ")
	left, body, _ := strings.Cut(rest, " ")
	atMS, err := strconv.ParseInt(at, 10, 64)
	if err != nil || json.Unmarshal([]byte(body), &c) != nil {
		return c, false
	}
	leftMS, err := strconv.ParseInt(left, 10, 64)
	c.At, c.Left = time.UnixMilli(atMS), time.Duration(leftMS)*time.Millisecond
	return c, err == nil
}
