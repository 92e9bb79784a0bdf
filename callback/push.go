package callback

import "errors"

// Push is a proven push. It belongs to the caller and may be kept: none of its memory is used again. Raw is
// read-only, because the texts in Event are parts of it.
type Push struct {
	App       string // the app's name
	AppID     string
	Format    Format // of Raw
	Raw       []byte // the proven message, byte for byte
	Event     Event
	ID        string // the same for every delivery of one push, whatever its nonce; 28 characters of [A-Za-z0-9_-]
	Encrypted bool   // it came encrypted

	outer     Format // of the envelope: what a reply is written in
	nonce     string
	cipherKey *cipherKey // the key that decrypted it
}

// String names the push and prints neither its content nor a key.
func (p Push) String() string { return "push " + p.ID + " of app " + p.App }

// GoString is String.
func (p Push) GoString() string { return p.String() }

// The errors of [Verifier]. [ErrUnproven] never says which check failed: the sender would learn from it.
var (
	ErrUnproven  = errors.New("callback: not proven to be WeChat's")
	ErrMalformed = errors.New("callback: proven, but malformed")
)
