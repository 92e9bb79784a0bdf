package webhook

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a signed post, in the spelling net/http keeps them under.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

const (
	// Tolerance is how far a timestamp may be from now, either way.
	Tolerance = 5 * time.Minute
	// MaxID is the longest webhook-id, in bytes.
	MaxID = 128

	scheme           = "v1,"
	schemeAsymmetric = "v1a,"
	signatureLen     = 44 // base64 of 32 bytes
	maxSignatures    = 8  // of scheme v1 in one header; further ones are not looked at
	maxHeaderLen     = 1024
	maxTimestampLen  = 12 // digits: until the year 33658
	maxSecrets       = 2
)

// decoy is signed with when there is no (second) secret, so that a refusal costs the same for every partner.
var decoy = func() *key {
	raw := make([]byte, 32)
	rand.Read(raw)
	return newKey(raw)
}()

// Sign is a webhook-signature header: one signature per secret, v1 or v1a, space separated, in the given order (newest first).
// The caller puts id into webhook-id and at's Unix seconds into webhook-timestamp.
func Sign(secrets []Secret, id string, at time.Time, payload []byte) string {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	var buf [2*(len(scheme)+signatureLen) + 1]byte
	header := buf[:0]
	for _, s := range secrets {
		if s.IsZero() {
			continue
		}
		if len(header) > 0 {
			header = append(header, ' ')
		}
		if s.private != nil {
			signed := append([]byte(id+"."+timestamp+"."), payload...)
			header = base64.StdEncoding.AppendEncode(append(header, schemeAsymmetric...), ed25519.Sign(*s.private, signed))
			continue
		}
		var text [signatureLen]byte
		s.key.sign(&text, id, timestamp, payload)
		header = append(header, scheme...)
		header = append(header, text[:]...)
	}
	return string(header)
}

// Verify proves that payload was signed under one of at most two secrets within five minutes of now. Every fault is
// ErrSignature. A refusal takes two HMACs whatever the number of secrets: call it with none for an unknown partner.
// Allocates nothing.
func Verify(secrets []Secret, h http.Header, payload []byte, now time.Time) error {
	id, timestamp, signature := single(h, headerID), single(h, headerTimestamp), single(h, headerSignature)
	if !ValidID(id) || !fresh(timestamp, now) {
		return ErrSignature
	}
	var claimed [maxSignatures][signatureLen]byte
	n := signatures(signature, &claimed)
	if n == 0 {
		return ErrSignature
	}
	var due [signatureLen]byte
	for i := range maxSecrets {
		k, known := decoy, 0
		if i < len(secrets) && secrets[i].key != nil {
			k, known = secrets[i].key, 1
		}
		k.sign(&due, id, timestamp, payload)
		match := 0
		for j := range n {
			match |= subtle.ConstantTimeCompare(due[:], claimed[j][:])
		}
		if match&known == 1 {
			return nil
		}
	}
	return ErrSignature
}

// single is the header's value when it stands there exactly once. Two would let a proxy and us read different ones.
func single(h http.Header, name string) string {
	if v := h[name]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// ValidID says whether an id may be a webhook-id: 1 to 128 letters, digits or - _ : / + = @ ~. No full stop: it
// divides the signed text, and an id with one could be read as another id with another timestamp. No #: it divides the
// items of a batch.
func ValidID(id string) bool {
	if id == "" || len(id) > MaxID {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-_:/+=@~", c) >= 0:
		default:
			return false
		}
	}
	return true
}

func fresh(timestamp string, now time.Time) bool {
	if timestamp == "" || len(timestamp) > maxTimestampLen {
		return false
	}
	var seconds int64
	for i := range len(timestamp) {
		c := timestamp[i]
		if c < '0' || c > '9' {
			return false
		}
		seconds = seconds*10 + int64(c-'0')
	}
	age := now.Unix() - seconds
	limit := int64(Tolerance / time.Second)
	return -limit <= age && age <= limit
}

// signatures takes the v1 signatures out of a header (space separated; other schemes are passed over) and says how
// many it took: at most maxSignatures.
func signatures(header string, into *[maxSignatures][signatureLen]byte) int {
	if len(header) > maxHeaderLen {
		return 0
	}
	n := 0
	for header != "" && n < maxSignatures {
		token := header
		if i := strings.IndexByte(header, ' '); i >= 0 {
			token, header = header[:i], header[i+1:]
		} else {
			header = ""
		}
		if len(token) != len(scheme)+signatureLen || token[:len(scheme)] != scheme {
			continue
		}
		copy(into[n][:], token[len(scheme):])
		n++
	}
	return n
}

// TargetPayload is what is signed on every route but those that take the raw body as it is: METHOD SP target LF body,
// so that a signature is good for one route only. target is the raw request target as received, without a ? when there
// is no query.
func TargetPayload(method, target string, body []byte) []byte {
	p := make([]byte, 0, len(method)+1+len(target)+1+len(body))
	p = append(p, method...)
	p = append(p, ' ')
	p = append(p, target...)
	p = append(p, '\n')
	return append(p, body...)
}
