package binding

import (
	"context"
	"errors"
	"time"
)

// CredentialKind is where a legacy credential comes from.
type CredentialKind string

// The kinds.
const (
	FormID   CredentialKind = "form_id"
	PrepayID CredentialKind = "prepay_id"
)

// What may be wrong with the pool.
var (
	ErrMock  = errors.New("binding: a mock form_id from the developer tools")
	ErrEmpty = errors.New("binding: no credential left")
)

// Credential lets one legacy template message through per use.
type Credential struct {
	Kind    CredentialKind
	ID      string
	Uses    int       // when added: 1 unless said otherwise; when taken: what is left after it
	Expires time.Time // 7 days after it was added
}

// AddCredential puts one into the pool of (app, openid). added is false when it was there before, used or not.
func (b *Book) AddCredential(ctx context.Context, app, openid string, c Credential) (added bool, err error) {
	return false, nil
}

// Take takes one use of the oldest credential (of kind, "" = any) for holder. The same holder gets the same credential
// again until GiveBack or Spoil. ErrEmpty.
func (b *Book) Take(ctx context.Context, app, openid string, kind CredentialKind, holder string) (Credential, error) {
	return Credential{}, ErrEmpty
}

// GiveBack returns the use holder took: WeChat refused the send for another reason. Nothing held: nothing happens.
func (b *Book) GiveBack(ctx context.Context, app, openid, holder string) error { return nil }

// Spoil drops the credential holder took: WeChat says it is used up or invalid. Nothing held: nothing happens.
func (b *Book) Spoil(ctx context.Context, app, openid, holder string) error { return nil }
