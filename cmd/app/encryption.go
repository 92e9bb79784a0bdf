package app

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/wxrelay/wxrelay/config"
)

// keyring seals what must stay secret in Redis with AES-256-GCM. A sealed value names the key it was sealed with, so
// that older keys of master_key_previous still open it:
//
//	"wx1" | 4 bytes: SHA-256 of the key | 12 bytes nonce | ciphertext and tag
//
// Without a master key values stay as they are. The aad ties a value to its place: moved elsewhere, it does not open.
type keyring struct {
	seals *key // nil = nothing is sealed
	opens map[[4]byte]*key
}

type key struct {
	id  [4]byte
	gcm cipher.AEAD
}

var sealMark = []byte("wx1")

// errSealed says why a value does not open; it never holds the value.
var errSealed = errors.New("sealed with another master key, or damaged")

func newKeyring(master config.Secret, previous []config.Secret) (*keyring, error) {
	r := &keyring{opens: map[[4]byte]*key{}}
	for i, s := range append([]config.Secret{master}, previous...) {
		if s.IsZero() {
			continue
		}
		raw, err := config.DecodeMasterKey(s)
		if err != nil {
			return nil, fmt.Errorf("master key %d: %w", i, err)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return nil, err
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		k, sum := &key{gcm: gcm}, sha256.Sum256(raw)
		copy(k.id[:], sum[:])
		r.opens[k.id] = k
		if i == 0 {
			r.seals = k
		}
	}
	return r, nil
}

// Seal seals plain for the place aad.
func (r *keyring) Seal(plain, aad []byte) ([]byte, error) {
	if r.seals == nil {
		return plain, nil
	}
	n := r.seals.gcm.NonceSize()
	out := make([]byte, 0, len(sealMark)+len(r.seals.id)+n+len(plain)+r.seals.gcm.Overhead())
	out = append(append(out, sealMark...), r.seals.id[:]...)
	nonce := out[len(out) : len(out)+n]
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return r.seals.gcm.Seal(out[:len(out)+n], nonce, plain, aad), nil
}

// Unseal opens what Seal sealed. A value from before there was a master key is given as it is.
func (r *keyring) Unseal(sealed, aad []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, sealMark)
	if !ok {
		return sealed, nil
	}
	var id [4]byte
	if copy(id[:], rest); len(rest) < len(id) {
		return nil, errSealed
	}
	k := r.opens[id]
	if k == nil || len(rest) < len(id)+k.gcm.NonceSize() {
		return nil, errSealed
	}
	rest = rest[len(id):]
	plain, err := k.gcm.Open(nil, rest[:k.gcm.NonceSize()], rest[k.gcm.NonceSize():], aad)
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

// at fixes the place for a package that names none.
func (r *keyring) at(place string) (seal, unseal func([]byte) ([]byte, error)) {
	aad := []byte(place)
	return func(b []byte) ([]byte, error) { return r.Seal(b, aad) }, func(b []byte) ([]byte, error) { return r.Unseal(b, aad) }
}

// tokenPlace is where access tokens are sealed for.
const tokenPlace = "wechat"
