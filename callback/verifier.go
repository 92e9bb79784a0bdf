// Package callback proves that a push comes from WeChat and decodes it. It owns the signature, the encryption, the
// formats and what counts in a message; it does not decide what to do about an event. A message is decoded only after
// its signature, its encryption, its appid and its age have been checked. Every failure of these checks gets the same
// answer.
//
//	body --envelope--> Encrypt --prove--> proven bytes --decode--> Event --Sink--> success | reply
//	  |                            |                        |                 |
//	 413                          403                      400               500
//
// [Verifier] checks the pushes of one app. [Handler] serves the callback URLs of all apps over HTTP and gives each
// proven push to a [Sink].
//
// https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html
package callback

import (
	"crypto/subtle"
	"fmt"
	"strconv"
	"time"
	"unsafe"
)

// maxAhead is how far WeChat's clock may be before ours while MaxAge is in force.
const maxAhead = 5 * time.Minute

// Verifier proves and decodes the pushes of one app. It is safe for concurrent use.
type Verifier struct {
	app    App
	keys   []*cipherKey  // the current key first
	rounds int           // keys tried before giving up; the same for every app of a handler
	oldest time.Duration // the greatest MaxAge of a handler's apps; 0 when any age is accepted
}

// String names the app and hides its secrets; so does GoString.
func (e *Verifier) String() string { return e.app.String() }

// GoString hides the secrets from %#v.
func (e *Verifier) GoString() string { return e.app.String() }

// NewVerifier checks the app's configuration and prepares its keys. Errors name the field and never its value.
func NewVerifier(a App) (*Verifier, error) {
	if a.Mode == "" {
		a.Mode = Secure
	}
	switch {
	case a.Mode != Secure && a.Mode != Compat && a.Mode != Plain:
		return nil, fmt.Errorf("callback: app %q: mode: unknown, want secure, compat or plain", a.Name)
	case a.AppID == "":
		return nil, fmt.Errorf("callback: app %q: appid: missing", a.Name)
	case a.Reply != "" && a.Reply != "success" && a.Reply != "transfer_customer_service" && a.Reply != "partner":
		return nil, fmt.Errorf("callback: app %q: reply: unknown, want success, transfer_customer_service or partner", a.Name)
	case a.MaxAge < 0:
		return nil, fmt.Errorf("callback: app %q: max_age: negative", a.Name)
	}
	e := &Verifier{app: a}
	for i, k := range append([]Key{a.Key}, a.Previous...) {
		path := "push"
		if i > 0 {
			path = "push.previous[" + strconv.Itoa(i-1) + "]"
			if k.Token == "" {
				k.Token = a.Key.Token
			}
			if k.EncodingAESKey == "" {
				k.EncodingAESKey = a.Key.EncodingAESKey
			}
		}
		l, err := newCipherKey(k)
		if err != nil {
			return nil, fmt.Errorf("callback: app %q: %s.%w", a.Name, path, err)
		}
		if !l.keyed && a.Mode != Plain {
			return nil, fmt.Errorf("callback: app %q: %s.encoding_aes_key: missing, mode %s needs it", a.Name, path, a.Mode)
		}
		e.keys = append(e.keys, l)
	}
	e.rounds = len(e.keys)
	return e, nil
}

// Open proves and reads one push. It keeps nothing of body. The errors are [ErrUnproven], whatever was wrong, and
// [ErrMalformed] for a push that is WeChat's and cannot be read.
func (e *Verifier) Verify(q Query, body []byte, now time.Time) (*Push, error) {
	s := scratches.Get().(*scratch)
	defer s.free()
	p, err := e.open(s, &q, body, now)
	if err == nil {
		s.identify(p)
	}
	return p, err
}

// open is the codec alone: verify, decrypt, decode.
func (e *Verifier) open(s *scratch, q *Query, body []byte, now time.Time) (*Push, error) {
	env := newEnvelope(body)
	msg, encrypted, l := e.prove(s, q, env, body)
	if l == nil || !e.fresh(q.Timestamp, now) {
		return nil, ErrUnproven
	}
	p := &Push{App: e.app.Name, AppID: e.app.AppID, Encrypted: encrypted, outer: env.format, nonce: q.Nonce, cipherKey: l}
	p.Raw = append(p.Raw, msg...)
	var err error
	// The event's texts are parts of Raw itself, which is never written to (DECISIONS.md 4).
	if p.Format, err = p.Event.read(unsafe.String(unsafe.SliceData(p.Raw), len(p.Raw)), nil); err != nil {
		return nil, err
	}
	if !e.addressed(&p.Event) || !e.paid(&p.Event, p.Encrypted) || !encrypted && envelopeOnly(s, &p.Event, env) {
		return nil, ErrUnproven
	}
	return p, nil
}

// Echo proves a URL check (GET) and returns what to answer it with, verbatim.
// https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html
func (e *Verifier) VerifyURL(q Query, now time.Time) (string, error) {
	s := scratches.Get().(*scratch)
	defer s.free()
	l := e.signed(s, &q)
	switch {
	case l == nil || !e.fresh(q.Timestamp, now):
		return "", ErrUnproven
	case q.EchoStr == "":
		return "", fmt.Errorf("%w: no echostr", ErrMalformed)
	}
	return q.EchoStr, nil
}

// prove returns the proven message, whether it came encrypted, and the key that proved it, or no key. With
// msg_signature only what is encrypted counts; without it a plain app's push is proven by signature. What this does
// depends on the request and on how many keys the handler's apps have, not on which check fails (DECISIONS.md 3).
func (e *Verifier) prove(s *scratch, q *Query, env envelope, body []byte) (msg []byte, encrypted bool, l *cipherKey) {
	encrypt := env.next(s)
	if encrypt == nil || q.MsgSignature == "" {
		if l := e.signed(s, q); l != nil && e.app.Mode == Plain {
			return body, false, l
		}
		return nil, false, nil
	}
	tried := false
	for encrypt != nil {
		last := encrypt
		for i := range e.rounds {
			l := e.keys[min(i, len(e.keys)-1)]
			sum := s.signature(l.token, q.Timestamp, q.Nonce, encrypt)
			if !same(&sum, q.MsgSignature) || i >= len(e.keys) {
				continue
			}
			tried = true
			if msg, ok := l.decrypt(s, encrypt, e.app.AppID); ok && l.keyed {
				return msg, true, l
			}
		}
		if encrypt = env.next(s); encrypt == nil && !tried {
			e.keys[0].decrypt(s, last, e.app.AppID) // so that a refusal takes as long as any other
		}
	}
	return nil, false, nil
}

// envelopeOnly says whether a plain push is nothing but an envelope: its message is encrypted and not known.
func envelopeOnly(s *scratch, ev *Event, env envelope) bool {
	return ev.MsgType == "" && ev.Component == nil && env.next(s) != nil
}

// signed returns the key whose token made signature, which covers token, timestamp and nonce and never the body.
func (e *Verifier) signed(s *scratch, q *Query) *cipherKey {
	for i := range e.rounds {
		l := e.keys[min(i, len(e.keys)-1)]
		sum := s.signature(l.token, q.Timestamp, q.Nonce, nil)
		if same(&sum, q.Signature) {
			return l
		}
	}
	return nil
}

func same(sum *[40]byte, claimed string) bool {
	var c [40]byte
	copy(c[:], claimed)
	return subtle.ConstantTimeCompare(sum[:], c[:])&subtle.ConstantTimeEq(int32(len(claimed)), 40) == 1
}

func (e *Verifier) fresh(timestamp string, now time.Time) bool {
	return fresh(timestamp, now, e.app.MaxAge)
}

func fresh(timestamp string, now time.Time, maxAge time.Duration) bool {
	at, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return false
	}
	age := now.Sub(time.Unix(at, 0))
	return maxAge == 0 || age <= maxAge && age >= -maxAhead
}

// provable says whether any body could prove the request, so that others are refused before their body is read. It
// asks alike for every app of a handler and for those there are none of: a body that is held back tells nothing
// either (DECISIONS.md 3).
func (e *Verifier) provable(q *Query, now time.Time) bool {
	if q.Nonce == "" || !fresh(q.Timestamp, now, e.oldest) {
		return false
	}
	if isSignature(q.MsgSignature) {
		return true
	}
	s := scratches.Get().(*scratch)
	defer s.free()
	return e.signed(s, q) != nil && e.app.Mode == Plain
}

// isSignature says whether s has the form of a SHA-1 in hex.
func isSignature(s string) bool {
	if len(s) != 40 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// addressed says whether the push is for the account the app is. A third-party platform's notices have no ToUserName.
func (e *Verifier) addressed(ev *Event) bool {
	return e.app.OriginalID == "" || ev.ToUserName == e.app.OriginalID || ev.Component != nil && ev.ToUserName == ""
}
