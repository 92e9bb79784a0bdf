package partnersim

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Standard Webhooks, written from https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

// parseSecret reads whsec_ + base64 of 24 to 64 bytes.
func parseSecret(text string) ([]byte, error) {
	tail, ok := strings.CutPrefix(text, "whsec_")
	if !ok {
		return nil, errors.New("partnersim: a secret begins with whsec_")
	}
	key, err := base64.StdEncoding.DecodeString(tail)
	if err != nil {
		return nil, errors.New("partnersim: a secret is whsec_ and base64")
	}
	if len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("partnersim: a secret has 24 to 64 bytes, not %d", len(key))
	}
	return key, nil
}

// sign is one "v1,..." over id, timestamp and payload.
func sign(key []byte, id, timestamp string, payload []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(payload)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// verify says why a request is not genuine; nil = it is.
func verify(keys [][]byte, h http.Header, payload []byte, now time.Time, tolerance time.Duration) error {
	id, stamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	if id == "" || strings.Contains(id, ".") {
		return fmt.Errorf("webhook-id %q", id)
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return fmt.Errorf("webhook-timestamp %q", stamp)
	}
	if age := now.Sub(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return fmt.Errorf("webhook-timestamp is %s off", age)
	}
	for _, given := range strings.Fields(h.Get("webhook-signature")) {
		if !strings.HasPrefix(given, "v1,") {
			continue
		}
		for _, key := range keys {
			if hmac.Equal([]byte(given), []byte(sign(key, id, stamp, payload))) {
				return nil
			}
		}
	}
	return errors.New("webhook-signature does not fit")
}
