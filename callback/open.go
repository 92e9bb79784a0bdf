// Package callback owns the proof that a push is WeChat's, and the reading of what it says. Nothing leaves it unproven: a
// push is read only after its signature, its cipher, its appid and its age have been checked, and whatever fails gets one
// and the same answer.
//
// The way of a push, strict first and lenient after:
//
//	body --envelope--> Encrypt --prove--> proven bytes --read--> Event --Sink--> success | reply
//	  |                            |                      |                 |
//	 413                          403                    400               500
//
// WeChat's documents of it: https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html
package callback

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unsafe"
)

// Mode is how an app's pushes are secured, as set in WeChat's console.
type Mode string

// The modes. A push weaker than its app's mode is refused, a stronger one is taken.
const (
	Secure Mode = "secure" // 安全模式: only what is sealed counts, msg_signature proves it
	Compat Mode = "compat" // 兼容模式: sealed and plain side by side; the sealed content counts
	Plain  Mode = "plain"  // 明文模式: signature proves that the sender knows the token, nothing proves the body
)

// Key is one pair of the console's Token and EncodingAESKey (43 characters). It holds secrets and prints as ***.
type Key struct{ Token, EncodingAESKey string }

// String hides the secrets; so does GoString.
func (Key) String() string { return "***" }

// GoString hides the secrets from %#v.
func (Key) GoString() string { return "***" }

// App is what the ear must know of one app. It holds secrets and prints as its name.
type App struct {
	Name       string        // in our URLs
	AppID      string        // must stand at the end of what is sealed; a third-party platform's own appid for its pushes
	OriginalID string        // gh_...; when set, ToUserName must be it
	Mode       Mode          // "" is Secure
	Key        Key           // EncodingAESKey may be empty in Plain: then a sealed push is refused
	Previous   []Key         // still taken while rotating; an empty half is the half of Key
	MaxAge     time.Duration // of the URL's timestamp; 0 takes any age
	Reply      string        // "" or success, transfer_customer_service (the door does it), partner (the sink does it)
	PayAppKey  string        // virtual payment's AppKey: when set, PayEventSig must be right
}

// String names the app and hides its secrets; so does GoString.
func (a App) String() string { return "app " + a.Name }

// GoString hides the secrets from %#v.
func (a App) GoString() string { return a.String() }

// The two ways not to be a push. [ErrUnproven] never says why: the sender would learn from it.
var (
	ErrUnproven  = errors.New("callback: not proven to be WeChat's")
	ErrMalformed = errors.New("callback: proven, but malformed")
)

// maxAhead is how far WeChat's clock may be before ours while MaxAge is in force.
const maxAhead = 5 * time.Minute

// Push is a proven push. All of it belongs to whoever holds it: nothing in it is used again after it was handed out, so a sink
// may keep it, and keep it after it returned. Raw is for reading only: the texts in Event are pieces of it.
type Push struct {
	App    string // the app's name
	AppID  string
	Format Format // of Raw
	Raw    []byte // the proven message, byte for byte
	Event  Event
	Name   string // the same for every delivery of the same push, whatever its nonce; 28 characters of [A-Za-z0-9_-]
	Sealed bool   // it came encrypted

	outer Format // of the envelope: what a reply is written in
	nonce string
	lock  *lock // the key that opened it
}

// String names the push; what it says and the key that opened it are not for logs.
func (p Push) String() string { return "push " + p.Name + " of app " + p.App }

// GoString is String.
func (p Push) GoString() string { return p.String() }

// Ear hears one app. It is safe for concurrent use.
type Ear struct {
	app    App
	locks  []*lock       // the current key first
	rounds int           // keys tried before giving up; the same for every app of a door
	oldest time.Duration // the greatest MaxAge of a door's apps; 0 when any age is taken
}

// String names the app and hides its secrets; so does GoString.
func (e *Ear) String() string { return e.app.String() }

// GoString hides the secrets from %#v.
func (e *Ear) GoString() string { return e.app.String() }

// NewEar checks the app and prepares its keys. Errors name the field and never its value.
func NewEar(a App) (*Ear, error) {
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
	e := &Ear{app: a}
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
		l, err := newLock(k)
		if err != nil {
			return nil, fmt.Errorf("callback: app %q: %s.%w", a.Name, path, err)
		}
		if !l.keyed && a.Mode != Plain {
			return nil, fmt.Errorf("callback: app %q: %s.encoding_aes_key: missing, mode %s needs it", a.Name, path, a.Mode)
		}
		e.locks = append(e.locks, l)
	}
	e.rounds = len(e.locks)
	return e, nil
}

// Open proves and reads one push. It keeps nothing of body. The errors are [ErrUnproven], whatever was wrong, and
// [ErrMalformed] for a push that is WeChat's and cannot be read.
func (e *Ear) Open(q Query, body []byte, now time.Time) (*Push, error) {
	s := scratches.Get().(*scratch)
	defer s.free()
	p, err := e.open(s, &q, body, now)
	if err == nil {
		s.name(p)
	}
	return p, err
}

// open is the codec alone: verify, decrypt, decode.
func (e *Ear) open(s *scratch, q *Query, body []byte, now time.Time) (*Push, error) {
	env := newEnvelope(body)
	msg, sealed, l := e.prove(s, q, env, body)
	if l == nil || !e.fresh(q.Timestamp, now) {
		return nil, ErrUnproven
	}
	p := &Push{App: e.app.Name, AppID: e.app.AppID, Sealed: sealed, outer: env.format, nonce: q.Nonce, lock: l}
	p.Raw = append(p.Raw, msg...)
	var err error
	// The event's texts are cut out of Raw itself, which nobody writes to (DECISIONS.md 4).
	if p.Format, err = p.Event.read(unsafe.String(unsafe.SliceData(p.Raw), len(p.Raw))); err != nil {
		return nil, err
	}
	if !e.addressed(&p.Event) || !e.paid(&p.Event, p.Sealed) || !sealed && sealedOnly(s, &p.Event, env) {
		return nil, ErrUnproven
	}
	return p, nil
}

// Echo proves a URL check (GET) and returns what to answer it with, verbatim.
// https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html
func (e *Ear) Echo(q Query, now time.Time) (string, error) {
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

// prove returns the proven message, whether it came sealed, and the key that proved it, or no key. With msg_signature only what is
// sealed counts; without it a plain app's push is proven by signature. What this does depends on the request and on how many keys
// the door's apps have, not on which check fails (DECISIONS.md 3).
func (e *Ear) prove(s *scratch, q *Query, env envelope, body []byte) (msg []byte, sealed bool, l *lock) {
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
		// s.encrypt, in which last may lie, is written again by the next call of next only.
		for i := range e.rounds {
			l := e.locks[min(i, len(e.locks)-1)]
			sum := s.signature(l.token, q.Timestamp, q.Nonce, encrypt)
			if !same(&sum, q.MsgSignature) || i >= len(e.locks) {
				continue
			}
			tried = true
			if msg, ok := l.unseal(s, encrypt, e.app.AppID); ok && l.keyed {
				return msg, true, l
			}
		}
		if encrypt = env.next(s); encrypt == nil && !tried {
			e.locks[0].unseal(s, last, e.app.AppID) // for the time it takes
		}
	}
	return nil, false, nil
}

// sealedOnly says whether a plain push is nothing but an envelope: it came sealed, and what is in it is not known.
func sealedOnly(s *scratch, ev *Event, env envelope) bool {
	return ev.MsgType == "" && ev.Component == nil && env.next(s) != nil
}

// signed returns the key whose token made signature, which covers token, timestamp and nonce and never the body.
func (e *Ear) signed(s *scratch, q *Query) *lock {
	for i := range e.rounds {
		l := e.locks[min(i, len(e.locks)-1)]
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

func (e *Ear) fresh(timestamp string, now time.Time) bool { return fresh(timestamp, now, e.app.MaxAge) }

func fresh(timestamp string, now time.Time, maxAge time.Duration) bool {
	at, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return false
	}
	age := now.Sub(time.Unix(at, 0))
	return maxAge == 0 || age <= maxAge && age >= -maxAhead
}

// provable says whether any body could prove the request, so that others are refused before their body is read. It asks alike for
// every app of a door and for those there are none of: a body that is held back tells nothing either (DECISIONS.md 3).
func (e *Ear) provable(q *Query, now time.Time) bool {
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
func (e *Ear) addressed(ev *Event) bool {
	return e.app.OriginalID == "" || ev.ToUserName == e.app.OriginalID || ev.Component != nil && ev.ToUserName == ""
}
