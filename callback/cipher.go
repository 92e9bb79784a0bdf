package callback

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"sync"
)

// padBlock is the block size of WeChat's PKCS#7, twice that of AES.
const padBlock = 32

// cipherKey is one [Key], prepared once.
type cipherKey struct {
	token []byte
	key   [32]byte // random when there is no EncodingAESKey, so that decrypting takes as long
	keyed bool
	block cipher.Block
	modes sync.Pool // CBC decrypters whose IV can be set again
}

func newCipherKey(k Key) (*cipherKey, error) {
	if k.Token == "" {
		return nil, errors.New("token: missing")
	}
	l := &cipherKey{token: []byte(k.Token), keyed: k.EncodingAESKey != ""}
	if l.keyed {
		// 43 characters are 258 bits: WeChat's keys may have the last two set, which a strict decoder refuses.
		raw, err := base64.StdEncoding.DecodeString(k.EncodingAESKey + "=")
		if err != nil || len(k.EncodingAESKey) != 43 || len(raw) != len(l.key) {
			return nil, errors.New("encoding_aes_key: want 43 characters of base64")
		}
		copy(l.key[:], raw)
	} else {
		rand.Read(l.key[:])
	}
	var err error
	if l.block, err = aes.NewCipher(l.key[:]); err != nil {
		return nil, errors.New("encoding_aes_key: unusable")
	}
	l.modes.New = func() any { return cipher.NewCBCDecrypter(l.block, l.key[:16]) }
	return l, nil
}

// decryptCBC undoes AES-256-CBC in place; the IV is the first half of the key.
func (l *cipherKey) decryptCBC(text []byte) {
	mode := l.modes.Get().(cipher.BlockMode)
	mode.CryptBlocks(text, text)
	if again, ok := mode.(interface{ SetIV([]byte) }); ok {
		again.SetIV(l.key[:16])
		l.modes.Put(mode)
	}
}

// decrypt returns the message in random(16) | length(4, big-endian) | message | appid | padding. It is part of the
// scratch.
func (l *cipherKey) decrypt(s *scratch, encrypt []byte, appID string) (msg []byte, ok bool) {
	s.cipher = sized(s.cipher, base64.StdEncoding.DecodedLen(len(encrypt)))
	n, ok := decode64(s.cipher, encrypt)
	if !ok || n < padBlock || n%padBlock != 0 {
		return nil, false
	}
	text := s.cipher[:n]
	l.decryptCBC(text)
	pad := int(text[n-1])
	if pad < 1 || pad > padBlock {
		return nil, false
	}
	for _, b := range text[n-pad:] {
		if int(b) != pad {
			return nil, false
		}
	}
	if text = text[:n-pad]; len(text) < 20 {
		return nil, false
	}
	size := uint64(binary.BigEndian.Uint32(text[16:20]))
	if text = text[20:]; size > uint64(len(text)) || string(text[size:]) != appID {
		return nil, false
	}
	return text[:size], true
}

// scratch is the memory that one proof needs. It is used again: nothing that is returned to callers may be part of it.
type scratch struct {
	join    []byte // what is hashed
	query   []byte // timestamp and nonce
	cipher  []byte // decoded, then decrypted in place
	encrypt []byte // an Encrypt that had to be unescaped
}

// free keeps the memory for the next proof, unless a large push needed much of it.
func (s *scratch) free() {
	if cap(s.join)+cap(s.cipher)+cap(s.encrypt) <= 8*keepBody {
		scratches.Put(s)
	}
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func sized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// signature is hex(sha1(token, timestamp, nonce[, encrypt] sorted by bytes and joined)).
func (s *scratch) signature(token []byte, timestamp, nonce string, encrypt []byte) (sum [40]byte) {
	s.query = append(append(s.query[:0], timestamp...), nonce...)
	all := [4][]byte{token, s.query[:len(timestamp)], s.query[len(timestamp):], encrypt}
	parts := all[:3]
	if encrypt != nil {
		parts = all[:]
	}
	for i := 1; i < len(parts); i++ {
		for j := i; j > 0 && bytes.Compare(parts[j], parts[j-1]) < 0; j-- {
			parts[j], parts[j-1] = parts[j-1], parts[j]
		}
	}
	s.join = s.join[:0]
	for _, p := range parts {
		s.join = append(s.join, p...)
	}
	raw := sha1.Sum(s.join)
	hex.Encode(sum[:], raw[:])
	return sum
}

// identify sets the push's ID: a digest of a message's user and MsgId, otherwise of the user, the event, the second
// and the whole content, so that a delivery that is encrypted anew has the same ID and two events of one second have
// two (DECISIONS.md 5).
func (s *scratch) identify(p *Push) {
	ev := &p.Event
	var id [28]byte
	id[0] = 'e'
	b := append(append(s.join[:0], p.App...), 0)
	if ev.MsgID != "" && ev.MsgType != "event" && ev.MsgType != "" {
		id[0] = 'm'
		b = append(append(append(b, ev.OpenID...), 0), ev.MsgID...)
	} else {
		b = append(append(b, ev.OpenID...), 0)
		b = append(append(b, ev.Event...), 0)
		b = append(strconv.AppendInt(b, ev.CreateTime, 10), 0)
		b = append(b, p.Raw...)
	}
	s.join = b
	sum := sha256.Sum256(b)
	base64.RawURLEncoding.Encode(id[1:], sum[:20])
	p.ID = string(id[:])
}
