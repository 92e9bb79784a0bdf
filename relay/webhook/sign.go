package webhook

import (
	"net/http"
	"time"
)

// Secret is one signing key. It prints as ***.
type Secret struct{ key *key }

type key struct{ raw []byte }

// ParseSecret reads whsec_ + base64.
func ParseSecret(s string) (Secret, error) { return Secret{}, ErrSecret }

// Sign is the webhook-signature header: one v1 signature per secret, in the given order (newest first).
func Sign(secrets []Secret, id string, at time.Time, payload []byte) string { return "" }

// Verify proves a request over its raw payload.
func Verify(secrets []Secret, h http.Header, payload []byte, now time.Time) error {
	return ErrSignature
}

// TargetPayload is what is signed for every route but the two that take the raw body: METHOD SP target LF body.
func TargetPayload(method, target string, body []byte) []byte { return nil }
