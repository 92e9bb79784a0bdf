package binding

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
)

// CredentialKind is where a legacy credential comes from.
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/template-message.html
type CredentialKind string

// The kinds.
const (
	FormID   CredentialKind = "form_id"   // one form submission, one message
	PrepayID CredentialKind = "prepay_id" // one payment, one or three messages: the sources disagree by date
)

// What may be wrong with the pool.
var (
	ErrMock  = errors.New("binding: not a credential WeChat gave out")
	ErrEmpty = errors.New("binding: no credential left")
)

const (
	credentialTime = 7 * 24 * time.Hour
	credentialsMax = 200 // per openid, used ones included; beyond it the oldest go, which would expire first
	usesMax        = 100
)

// Credential lets one legacy template message through per use.
type Credential struct {
	Kind    CredentialKind
	ID      string
	Uses    int       // when added: 1 unless said otherwise; when taken: what is left after it
	Expires time.Time // 7 days after it was added
}

// AddCredential puts one into the pool of (app, openid). added is false when it was there before, used or not, so that
// a repeated report makes nothing usable twice. ErrMock for what the developer tools and failed calls put in a
// form_id's place.
func (b *Book) AddCredential(ctx context.Context, app, openid string, c Credential) (added bool, err error) {
	id := strings.TrimPrefix(c.ID, "prepay_id=") // as wx.requestPayment's package has it
	if c.Kind != FormID && c.Kind != PrepayID || !Genuine(id) {
		return false, ErrMock
	}
	at := openidTag(app, openid)
	kept, err := b.sealed(at+"p", []byte(id))
	if err != nil {
		return false, err
	}
	v, err := b.pool(ctx, app, openid, "add", credentialName(at, id), string(c.Kind), min(max(c.Uses, 1), usesMax), credentialTime.Milliseconds(),
		credentialsMax, kept)
	return v == int64(1), err
}

// Genuine tells a form_id or prepay_id from what stands in its place. WeChat's are one word of printable ASCII. In their place
// come "the formId is a mock one" (developer tools), "the formId is no longer available in develop or trial version",
// "requestFormId:fail ..." and undefined.
func Genuine(id string) bool {
	if id == "" || len(id) > 128 || id == "undefined" || id == "null" || strings.HasPrefix(id, "requestFormId:") {
		return false
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}

// Take takes one use of the oldest credential (of kind, "" = any) for holder. The same holder gets the same credential
// again until GiveBack or Spoil, so that a crash between taking and sending spends one, not two. ErrEmpty.
func (b *Book) Take(ctx context.Context, app, openid string, kind CredentialKind, holder string) (Credential, error) {
	v, err := b.pool(ctx, app, openid, "take", holder, string(kind))
	if err != nil {
		return Credential{}, err
	}
	r := words(v)
	if len(r) != 5 {
		return Credential{}, ErrEmpty
	}
	id := r[0] // of an entry of an older version
	if r[4] != "" {
		plain, err := b.unsealed(openidTag(app, openid)+"p", r[4])
		if err != nil {
			return Credential{}, err
		}
		id = string(plain)
	}
	uses, err1 := strconv.Atoi(r[2])
	ms, err2 := strconv.ParseInt(r[3], 10, 64)
	return Credential{Kind: CredentialKind(r[1]), ID: id, Uses: uses, Expires: time.UnixMilli(ms).UTC()}, errors.Join(err1, err2)
}

// Any tells whether a use is left that nobody took.
func (b *Book) Any(ctx context.Context, app, openid string) (bool, error) {
	v, err := b.pool(ctx, app, openid, "any")
	return v == int64(1), err
}

// GiveBack returns the use holder took: WeChat refused the send for another reason. Nothing held: nothing happens.
func (b *Book) GiveBack(ctx context.Context, app, openid, holder string) error {
	_, err := b.pool(ctx, app, openid, "back", holder, "1")
	return err
}

// Spoil drops the credential holder took with all its uses: WeChat says it is used up or invalid. Nothing held: nothing
// happens.
func (b *Book) Spoil(ctx context.Context, app, openid, holder string) error {
	_, err := b.pool(ctx, app, openid, "back", holder, "0")
	return err
}

// credentialName is the field of a credential: known again, not readable.
func credentialName(at, id string) string { return tag("credential", at, id)[len("wx:{b:"):][:22] }

// pool runs one operation of pool.lua.
func (b *Book) pool(ctx context.Context, app, openid, operation string, args ...any) (any, error) {
	at := openidTag(app, openid)
	return b.run(ctx, poolScript, []string{at + "p", at + "h"}, append([]any{operation}, args...)...)
}
