package webhook

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Read in pieces, a payload is proven exactly when Verify proves it whole.
func TestVerifierAgreesWithVerify(t *testing.T) {
	one, two, foreign := secret(t, GenerateSecret()), secret(t, GenerateSecret()), secret(t, GenerateSecret())
	now := time.Unix(1_700_000_000, 0)
	payload := []byte(strings.Repeat("0123456789", 1000))
	for name, c := range map[string]struct {
		signers, secrets []Secret
		payload          []byte
	}{
		"the only secret":    {[]Secret{one}, []Secret{one}, payload},
		"the second":         {[]Secret{one}, []Secret{two, one}, payload},
		"two signatures":     {[]Secret{foreign, one}, []Secret{one}, payload},
		"an empty payload":   {[]Secret{one}, []Secret{one}, nil},
		"a foreign secret":   {[]Secret{foreign}, []Secret{one, two}, payload},
		"no secrets":         {[]Secret{one}, nil, payload},
		"the zero secret":    {[]Secret{one}, []Secret{{}}, payload},
		"a byte too many":    {[]Secret{one}, []Secret{one}, append([]byte("x"), payload...)},
		"cut short":          {[]Secret{one}, []Secret{one}, payload[:len(payload)-1]},
		"a third is ignored": {[]Secret{one}, []Secret{two, foreign, one}, payload},
	} {
		t.Run(name, func(t *testing.T) {
			signedOver := payload
			if c.payload == nil {
				signedOver = nil
			}
			h := signed("id-1", "1700000000", Sign(c.signers, "id-1", now, signedOver))
			want := Verify(c.secrets, h, c.payload, now) == nil
			for _, size := range []int{1, 7, 4096, len(payload) + 1} {
				claim, _, cause := ReadClaim(h, now)
				if cause != "" {
					t.Fatalf("claim refused: %s", cause)
				}
				v := claim.Verifier(c.secrets)
				for rest := c.payload; len(rest) > 0; {
					n := min(size, len(rest))
					_, _ = v.Write(rest[:n])
					rest = rest[n:]
				}
				if got := v.Proven(); got != want {
					t.Errorf("in pieces of %d: %v, Verify says %v", size, got, want)
				}
				if v.Proven() {
					t.Error("proven a second time")
				}
			}
		})
	}
}

func TestReadClaimSaysWhy(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	at := func(seconds int64) string { return strconv.FormatInt(now.Unix()+seconds, 10) }
	good := Sign([]Secret{secret(t, GenerateSecret())}, "id-1", now, nil)
	for name, c := range map[string]struct {
		h     http.Header
		cause Cause
		skew  time.Duration
	}{
		"right":                   {signed("id-1", at(0), good), "", 0},
		"the edge":                {signed("id-1", at(-300), good), "", -5 * time.Minute},
		"no headers":              {http.Header{}, CauseHeaders, 0},
		"no signature":            {signed("id-1", at(0), ""), CauseHeaders, 0},
		"another scheme":          {signed("id-1", at(0), "v2,abc"), CauseHeaders, 0},
		"two signatures in lines": {http.Header{headerID: {"id-1"}, headerTimestamp: {at(0)}, headerSignature: {good, good}}, CauseHeaders, 0},
		"a timestamp in words":    {signed("id-1", "yesterday", good), CauseHeaders, 0},
		"an id with a full stop":  {signed("id.1", at(0), good), CauseID, 0},
		"six minutes ahead":       {signed("id-1", at(360), good), CauseSkew, 6 * time.Minute},
		"six minutes behind":      {signed("id-1", at(-360), good), CauseSkew, -6 * time.Minute},
		"in milliseconds":         {signed("id-1", at(0)+"000", good), CauseSkew, maxSkew * time.Second},
		"negative":                {signed("id-1", "-5", good), CauseSkew, -maxSkew * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if _, skew, cause := ReadClaim(c.h, now); cause != c.cause || skew != c.skew {
				t.Errorf("cause %q skew %s, want %q %s", cause, skew, c.cause, c.skew)
			}
		})
	}
}

// The claim itself is all that is allocated, however long the payload is.
func TestVerifierAllocatesTheClaimOnly(t *testing.T) {
	s := secret(t, GenerateSecret())
	now, payload := time.Unix(1_700_000_000, 0), []byte("payload")
	h, secrets := signed("id-1", "1700000000", Sign([]Secret{s}, "id-1", now, payload)), []Secret{s}
	if raceEnabled {
		t.Skip("pools are emptied at random under the race detector")
	}
	n := testing.AllocsPerRun(200, func() {
		claim, _, _ := ReadClaim(h, now)
		v := claim.Verifier(secrets)
		_, _ = v.Write(payload)
		if !v.Proven() {
			t.Fatal("not proven")
		}
	})
	if n > 1 {
		t.Errorf("%v allocations", n)
	}
}
