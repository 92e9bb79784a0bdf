package webhook

import (
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"
)

// Cause is why a signed request is refused. It is for the operator and for whoever holds the secret, never for the caller.
type Cause string

// The causes. "" is none.
const (
	CauseHeaders Cause = "headers" // one of the three headers is missing, there twice, or cannot be read
	CauseID      Cause = "id"      // webhook-id is not what ValidID takes
	CauseSkew    Cause = "skew"    // webhook-timestamp is further from now than Tolerance
	CauseSecret  Cause = "secret"  // no signature was made with one of the secrets over this payload
	CausePayload Cause = "payload" // a signature holds, but over something else than this route signs
)

// Claim is what the headers of a signed request say, before anything of it is proven.
type Claim struct {
	ID string

	timestamp string
	claimed   [maxSignatures][signatureLen]byte
	n         int
}

// ReadClaim reads the three headers. A cause other than "" says that the request cannot be proven, whatever its payload:
// nothing of it needs to be read. skew is how far the caller's clock is ahead of now; 0 when the timestamp is no number.
func ReadClaim(h http.Header, now time.Time) (c Claim, skew time.Duration, cause Cause) {
	id, timestamp, signature := single(h, headerID), single(h, headerTimestamp), single(h, headerSignature)
	if seconds, err := strconv.ParseInt(timestamp, 10, 64); err == nil {
		ahead := min(max(seconds-now.Unix(), -maxSkew), maxSkew)
		skew = time.Duration(ahead) * time.Second
	}
	c = Claim{ID: id, timestamp: timestamp}
	c.n = signatures(signature, &c.claimed)
	switch {
	case id == "" || timestamp == "" || c.n == 0:
		return c, skew, CauseHeaders
	case !ValidID(id):
		return c, skew, CauseID
	case !fresh(timestamp, now):
		if skew == 0 {
			return c, skew, CauseHeaders
		}
		return c, skew, CauseSkew
	}
	return c, skew, ""
}

// maxSkew is the largest skew that is told, in seconds: what lies beyond is no clock.
const maxSkew = 366 * 24 * 3600

// Verifier proves one payload as it arrives: write it in pieces of any size, then ask Proven. It keeps nothing of it.
// It is not safe for concurrent use.
type Verifier struct {
	claim *Claim
	keys  [maxSecrets]*key
	macs  [maxSecrets]*signer
}

// Verifier starts the proof of the claim's payload under one of at most two secrets.
func (c *Claim) Verifier(secrets []Secret) Verifier {
	v := Verifier{claim: c}
	for i := range min(len(secrets), maxSecrets) {
		k := secrets[i].key
		if k == nil {
			continue
		}
		m := k.ready.Get().(*signer)
		m.head = append(append(append(append(m.head[:0], c.ID...), '.'), c.timestamp...), '.')
		m.mac.Reset()
		m.mac.Write(m.head)
		v.keys[i], v.macs[i] = k, m
	}
	return v
}

// Write takes the next piece of the payload. It never fails.
func (v *Verifier) Write(p []byte) (int, error) {
	for _, m := range v.macs {
		if m != nil {
			m.mac.Write(p)
		}
	}
	return len(p), nil
}

// Proven ends the proof and says whether one of the claimed signatures is right. Later calls say no.
func (v *Verifier) Proven() bool {
	match := 0
	for i, m := range v.macs {
		if m == nil {
			continue
		}
		var due [signatureLen]byte
		base64.StdEncoding.Encode(due[:], m.mac.Sum(m.sum[:0]))
		for j := range v.claim.n {
			match |= subtle.ConstantTimeCompare(due[:], v.claim.claimed[j][:])
		}
		v.keys[i].ready.Put(m)
		v.macs[i] = nil
	}
	return match == 1
}
