package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"
)

// secretPrefix opens every secret's text form.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
const secretPrefix = "whsec_"

// A secret's length in bytes, decoded. Shorter ones can be guessed, and the empty one verifies what anybody signs.
const (
	minSecret = 24
	maxSecret = 64
)

// hidden is what every secret prints as.
const hidden = "***"

// Secret is one signing key. However it is printed, logged or marshalled, it shows ***. The zero Secret signs nothing
// and proves nothing.
type Secret struct {
	key     *key
	private *ed25519.PrivateKey // of a signing key (whsk_), else nil
}

// key is the material and a pool of prepared HMACs over it: setting one up costs more than signing a small payload.
type key struct {
	raw   []byte
	ready sync.Pool // *signer
}

// signer is one HMAC with its buffers.
type signer struct {
	mac  hash.Hash
	head []byte
	sum  [sha256.Size]byte
}

// ParseSecret reads whsec_ followed by standard base64 of 24 to 64 bytes. ErrSecret, without the text.
func ParseSecret(s string) (Secret, error) {
	text, ok := strings.CutPrefix(s, secretPrefix)
	if !ok || strings.ContainsAny(text, "\r\n") {
		return Secret{}, ErrSecret
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < minSecret || len(raw) > maxSecret {
		return Secret{}, ErrSecret
	}
	return Secret{key: newKey(raw)}, nil
}

// The texts of an asymmetric key open with these: the private key that signs as v1a, and the public one that verifies.
const (
	privatePrefix = "whsk_"
	publicPrefix  = "whpk_"
)

// ParseSigningKey reads a secret (signs as v1) or whsk_ followed by base64 of an ed25519 private key, as its seed of 32 bytes or
// whole (signs as v1a). ErrSecret, without the text.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme
func ParseSigningKey(s string) (Secret, error) {
	text, ok := strings.CutPrefix(s, privatePrefix)
	if !ok {
		return ParseSecret(s)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return Secret{}, ErrSecret
	}
	switch len(raw) {
	case ed25519.SeedSize:
		k := ed25519.NewKeyFromSeed(raw)
		return Secret{private: &k}, nil
	case ed25519.PrivateKeySize:
		if k := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize]); k.Equal(ed25519.PrivateKey(raw)) {
			return Secret{private: &k}, nil
		}
	}
	return Secret{}, ErrSecret
}

// PublicKey is the whpk_ text that verifies what a whsk_ key signed; "" for a secret.
func (s Secret) PublicKey() string {
	if s.private == nil {
		return ""
	}
	return publicPrefix + base64.StdEncoding.EncodeToString(s.private.Public().(ed25519.PublicKey))
}

// GenerateSecret is a fresh secret's text: whsec_ and 32 random bytes.
func GenerateSecret() string {
	raw := make([]byte, 32)
	rand.Read(raw) // never fails: https://pkg.go.dev/crypto/rand#Read
	return secretPrefix + base64.StdEncoding.EncodeToString(raw)
}

func newKey(raw []byte) *key {
	k := &key{raw: raw}
	k.ready.New = func() any { return &signer{mac: hmac.New(sha256.New, k.raw), head: make([]byte, 0, 192)} }
	return k
}

// sign writes the base64 signature of id "." timestamp "." payload into out. No allocation once the pool is warm.
func (k *key) sign(out *[signatureLen]byte, id, timestamp string, payload []byte) {
	m := k.ready.Get().(*signer)
	m.head = append(m.head[:0], id...)
	m.head = append(m.head, '.')
	m.head = append(m.head, timestamp...)
	m.head = append(m.head, '.')
	m.mac.Reset()
	m.mac.Write(m.head)
	m.mac.Write(payload)
	base64.StdEncoding.Encode(out[:], m.mac.Sum(m.sum[:0]))
	k.ready.Put(m)
}

// Equal says whether both are the same key, in constant time.
func (s Secret) Equal(other Secret) bool {
	if s.private != nil || other.private != nil {
		return s.private != nil && other.private != nil && s.private.Equal(*other.private)
	}
	if s.key == nil || other.key == nil {
		return s.key == other.key
	}
	return subtle.ConstantTimeCompare(s.key.raw, other.key.raw) == 1
}

// IsZero says that there is no key in it.
func (s Secret) IsZero() bool { return s.key == nil && s.private == nil }

// String shows ***.
func (s Secret) String() string { return hidden }

// GoString shows *** (%#v).
func (s Secret) GoString() string { return hidden }

// Format shows *** for every verb: %x or %d would otherwise reach the fields.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText shows *** to encoders (JSON map keys, YAML, zap's text fields).
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// MarshalJSON shows "***" (encoding/json, zap.Any).
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }
