package webhook

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The known-good vector of the Standard Webhooks libraries.
const (
	vectorSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID     = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime   = 1614265330
	vectorBody   = `{"test": 2432232314}`
	vectorSign   = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func secret(t testing.TB, text string) Secret {
	t.Helper()
	s, err := ParseSecret(text)
	if err != nil {
		t.Fatalf("ParseSecret: %v", err)
	}
	return s
}

func signed(id, timestamp, signature string) http.Header {
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", timestamp)
	h.Set("webhook-signature", signature)
	return h
}

func TestSignKnownVector(t *testing.T) {
	s := secret(t, vectorSecret)
	at := time.Unix(vectorTime, 0)
	if got := Sign([]Secret{s}, vectorID, at, []byte(vectorBody)); got != vectorSign {
		t.Errorf("Sign = %q, want %q", got, vectorSign)
	}
	h := signed(vectorID, strconv.Itoa(vectorTime), vectorSign)
	if err := Verify([]Secret{s}, h, []byte(vectorBody), at); err != nil {
		t.Errorf("Verify = %v", err)
	}
}

// Signed by the formula alone, without our Sign, so that the two halves cannot agree on a mistake.
func TestVerifyAgainstTheFormula(t *testing.T) {
	raw := []byte(strings.Repeat("k", 40))
	s := secret(t, "whsec_"+base64.StdEncoding.EncodeToString(raw))
	for _, payload := range []string{"", "{}", "a.b.c", "\x00\xff\n", strings.Repeat("x", 300_000)} {
		mac := hmac.New(sha256.New, raw)
		fmt.Fprintf(mac, "evt_1.1700000000.%s", payload)
		h := signed("evt_1", "1700000000", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		if err := Verify([]Secret{s}, h, []byte(payload), time.Unix(1700000000, 0)); err != nil {
			t.Errorf("%d bytes: %v", len(payload), err)
		}
	}
}

func TestVerifyRules(t *testing.T) {
	s, old := secret(t, GenerateSecret()), secret(t, GenerateSecret())
	stranger := secret(t, GenerateSecret())
	now := time.Unix(1_700_000_000, 500_000_000)
	body := []byte(`{"app":"shop"}`)
	at := func(d time.Duration) string { return strconv.FormatInt(now.Add(d).Unix(), 10) }
	good := Sign([]Secret{s}, "id-1", now, body)
	foreign := Sign([]Secret{stranger}, "id-1", now, body)

	tests := []struct {
		rule    string
		secrets []Secret
		header  http.Header
		body    []byte
		ok      bool
	}{
		{"one secret", []Secret{s}, signed("id-1", at(0), good), body, true},
		{"second of two secrets", []Secret{old, s}, signed("id-1", at(0), good), body, true},
		{"signed with both while rotating", []Secret{s}, signed("id-1", at(0), Sign([]Secret{old, s}, "id-1", now, body)), body, true},
		{"other schemes are passed over", []Secret{s}, signed("id-1", at(0), "v1a,AAAA "+foreign+" "+good), body, true},
		{"eighth signature counts", []Secret{s}, signed("id-1", at(0), strings.Repeat(foreign+" ", 7)+good), body, true},
		{"ninth does not", []Secret{s}, signed("id-1", at(0), strings.Repeat(foreign+" ", 8)+good), body, false},
		{"header too long", []Secret{s}, signed("id-1", at(0), good+strings.Repeat(" ", 1024)), body, false},
		{"no secret at all", nil, signed("id-1", at(0), good), body, false},
		{"zero secret", []Secret{{}}, signed("id-1", at(0), good), body, false},
		{"a third secret is not looked at", []Secret{old, stranger, s}, signed("id-1", at(0), good), body, false},
		{"foreign signature", []Secret{s}, signed("id-1", at(0), foreign), body, false},
		{"other body", []Secret{s}, signed("id-1", at(0), good), []byte(`{"app":"shoq"}`), false},
		{"other id", []Secret{s}, signed("id-2", at(0), good), body, false},
		{"other timestamp", []Secret{s}, signed("id-1", at(time.Second), good), body, false},
		{"no id", []Secret{s}, signed("", at(0), Sign([]Secret{s}, "", now, body)), body, false},
		{"id of 128", []Secret{s}, signed(strings.Repeat("i", 128), at(0), Sign([]Secret{s}, strings.Repeat("i", 128), now, body)), body, true},
		{"id of 129", []Secret{s}, signed(strings.Repeat("i", 129), at(0), Sign([]Secret{s}, strings.Repeat("i", 129), now, body)), body, false},
		{"id with a full stop", []Secret{s}, signed("a.b", at(0), Sign([]Secret{s}, "a.b", now, body)), body, false},
		{"id with a space", []Secret{s}, signed("a b", at(0), Sign([]Secret{s}, "a b", now, body)), body, false},
		{"id not ASCII", []Secret{s}, signed("é", at(0), Sign([]Secret{s}, "é", now, body)), body, false},
		{"five minutes old", []Secret{s}, signed("id-1", at(-Tolerance), Sign([]Secret{s}, "id-1", now.Add(-Tolerance), body)), body, true},
		{"a second older", []Secret{s}, signed("id-1", at(-Tolerance-time.Second), Sign([]Secret{s}, "id-1", now.Add(-Tolerance-time.Second), body)), body, false},
		{"five minutes ahead", []Secret{s}, signed("id-1", at(Tolerance), Sign([]Secret{s}, "id-1", now.Add(Tolerance), body)), body, true},
		{"a second further ahead", []Secret{s}, signed("id-1", at(Tolerance+time.Second), Sign([]Secret{s}, "id-1", now.Add(Tolerance+time.Second), body)), body, false},
		{"no timestamp", []Secret{s}, signed("id-1", "", good), body, false},
		{"timestamp with a sign", []Secret{s}, signed("id-1", "+"+at(0), good), body, false},
		{"timestamp with a fraction", []Secret{s}, signed("id-1", at(0)+".0", good), body, false},
		{"timestamp without end", []Secret{s}, signed("id-1", strings.Repeat("9", 40), good), body, false},
		{"no signature", []Secret{s}, signed("id-1", at(0), ""), body, false},
		{"empty signature", []Secret{s}, signed("id-1", at(0), "v1,"), body, false},
		{"unpadded", []Secret{s}, signed("id-1", at(0), strings.TrimRight(good, "=")), body, false},
		{"scheme missing", []Secret{s}, signed("id-1", at(0), strings.TrimPrefix(good, "v1,")), body, false},
		{"comma instead of space", []Secret{s}, signed("id-1", at(0), foreign+","+good), body, false},
		{"header twice", []Secret{s}, http.Header{headerID: {"id-1", "id-1"}, headerTimestamp: {at(0)}, headerSignature: {good}}, body, false},
	}
	for _, tt := range tests {
		t.Run(tt.rule, func(t *testing.T) {
			err := Verify(tt.secrets, tt.header, tt.body, now)
			if tt.ok && err != nil {
				t.Errorf("refused: %v", err)
			}
			if !tt.ok && err != ErrSignature {
				t.Errorf("got %v, want ErrSignature itself", err)
			}
		})
	}
}

func TestVerifyRefusesEveryFlippedBit(t *testing.T) {
	s := secret(t, GenerateSecret())
	now := time.Unix(1_700_000_000, 0)
	body := []byte(`{"n":1}`)
	good := Sign([]Secret{s}, "id", now, body)
	for i := range len(good) * 8 {
		bad := []byte(good)
		bad[i/8] ^= 1 << (i % 8)
		if Verify([]Secret{s}, signed("id", "1700000000", string(bad)), body, now) == nil {
			t.Errorf("bit %d of the signature does not matter", i)
		}
	}
	for i := range len(body) * 8 {
		bad := []byte(string(body))
		bad[i/8] ^= 1 << (i % 8)
		if Verify([]Secret{s}, signed("id", "1700000000", good), bad, now) == nil {
			t.Errorf("bit %d of the body does not matter", i)
		}
	}
}

// An unknown partner must not be told from a known one by the clock: every refusal hashes the payload twice.
func TestRefusalIsTheSameWork(t *testing.T) {
	hashed := 0
	counted := func() *key {
		k := secret(t, GenerateSecret()).key
		k.ready.New = func() any { return &signer{mac: &countingHash{Hash: hmac.New(sha256.New, k.raw), bytes: &hashed}} }
		return k
	}
	defer func(k *key) { decoy = k }(decoy)
	decoy = counted()
	now := time.Unix(1_700_000_000, 0)
	body := make([]byte, 10_000)
	h := signed("id", "1700000000", Sign([]Secret{secret(t, GenerateSecret())}, "id", now, body))
	want := 2 * (len("id.1700000000.") + len(body))
	one, two := Secret{key: counted()}, Secret{key: counted()}
	for name, secrets := range map[string][]Secret{"unknown": nil, "one": {one}, "two": {one, two}, "zero": {{}}} {
		hashed = 0
		if Verify(secrets, h, body, now) == nil {
			t.Fatal("verified")
		}
		if hashed != want {
			t.Errorf("%s: %d bytes hashed, want %d", name, hashed, want)
		}
	}
}

type countingHash struct {
	hash.Hash
	bytes *int
}

func (c *countingHash) Write(p []byte) (int, error) { *c.bytes += len(p); return c.Hash.Write(p) }

func TestHotPathAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := secret(t, GenerateSecret())
	now := time.Unix(1_700_000_000, 0)
	body := []byte(strings.Repeat("b", 500))
	h := signed("id", "1700000000", Sign([]Secret{s}, "id", now, body))
	if n := testing.AllocsPerRun(1000, func() {
		if Verify([]Secret{s}, h, body, now) != nil {
			t.Fatal("refused")
		}
	}); n > 0 {
		t.Errorf("Verify allocates %v times, want 0", n)
	}
	if n := testing.AllocsPerRun(1000, func() { Verify(nil, h, body, now) }); n > 0 {
		t.Errorf("a refusal allocates %v times, want 0", n)
	}
	if n := testing.AllocsPerRun(1000, func() { Sign([]Secret{s}, "id", now, body) }); n > 3 {
		t.Errorf("Sign allocates %v times, want at most 3", n)
	}
	if n := testing.AllocsPerRun(1000, func() { TargetPayload("GET", "/v1/partners/orders/messages", body) }); n > 1 {
		t.Errorf("TargetPayload allocates %v times, want 1", n)
	}
}

func TestParseSecretRules(t *testing.T) {
	text := func(n int) string {
		return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", n)))
	}
	tests := []struct {
		rule, text string
		ok         bool
	}{
		{"24 bytes", text(24), true},
		{"64 bytes", text(64), true},
		{"23 bytes", text(23), false},
		{"65 bytes", text(65), false},
		{"empty", "", false},
		{"empty key", "whsec_", false},
		{"no prefix", strings.TrimPrefix(text(32), "whsec_"), false},
		{"not base64", "whsec_" + strings.Repeat("!", 44), false},
		{"URL alphabet", "whsec_" + base64.URLEncoding.EncodeToString([]byte(strings.Repeat("\xff", 32))), false},
		{"line break inside", text(24)[:20] + "\n" + text(24)[20:], false},
	}
	for _, tt := range tests {
		_, err := ParseSecret(tt.text)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.rule, err)
		}
		if err != nil && !errors.Is(err, ErrSecret) {
			t.Errorf("%s: %v is not ErrSecret", tt.rule, err)
		}
	}
	if a, b := GenerateSecret(), GenerateSecret(); a == b || secret(t, a).Equal(secret(t, b)) || !secret(t, a).Equal(secret(t, a)) {
		t.Error("generated secrets must differ, and equal themselves")
	}
}

func TestSecretShowsNothing(t *testing.T) {
	text := GenerateSecret()
	s := secret(t, text)
	type holder struct{ S Secret }
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%T"} {
		shown = append(shown, fmt.Sprintf(verb, s), fmt.Sprintf(verb, holder{s}), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, []Secret{s}))
	}
	j, err := json.Marshal(map[string]any{"a": s, "b": holder{s}, "c": map[Secret]int{s: 1}})
	if err != nil {
		t.Fatal(err)
	}
	shown = append(shown, string(j))
	line, err := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()).EncodeEntry(zapcore.Entry{},
		[]zapcore.Field{zap.Any("a", s), zap.Any("b", holder{s}), zap.Reflect("c", s), zap.Stringer("d", s)})
	if err != nil {
		t.Fatal(err)
	}
	shown = append(shown, line.String())
	raw := s.key.raw
	for _, out := range shown {
		for _, leak := range []string{text[6:20], fmt.Sprintf("%x", raw[:6]), fmt.Sprintf("%X", raw[:6]), strings.Trim(fmt.Sprint(raw[:4]), "[]"), string(raw[:6])} {
			if strings.Contains(out, leak) {
				t.Errorf("secret in %q", out)
			}
		}
	}
	if diff := cmp.Diff(`{"a":"***","b":{"S":"***"},"c":{"***":1}}`, string(j)); diff != "" {
		t.Error(diff)
	}
}

func TestTargetPayload(t *testing.T) {
	if got := string(TargetPayload("GET", "/v1/partners/p/messages?app=shop&cursor=", nil)); got != "GET /v1/partners/p/messages?app=shop&cursor=\n" {
		t.Errorf("%q", got)
	}
	if got := string(TargetPayload("PUT", "/x", []byte("{}\n"))); got != "PUT /x\n{}\n" {
		t.Errorf("%q", got)
	}
}

// The parser against strings.Split, which is slower and too simple to be wrong.
func FuzzSignatures(f *testing.F) {
	f.Add(vectorSign)
	f.Add(vectorSign + " v1a,xyz  " + vectorSign + " ")
	f.Add(strings.Repeat(vectorSign+" ", 9))
	f.Add("v1, v1")
	f.Fuzz(func(t *testing.T, header string) {
		var got [maxSignatures][signatureLen]byte
		n := signatures(header, &got)
		var want []string
		if len(header) <= maxHeaderLen {
			for token := range strings.SplitSeq(header, " ") {
				if text, ok := strings.CutPrefix(token, "v1,"); ok && len(text) == signatureLen && len(want) < maxSignatures {
					want = append(want, text)
				}
			}
		}
		if n != len(want) {
			t.Fatalf("%d signatures, want %d", n, len(want))
		}
		for i := range n {
			if string(got[i][:]) != want[i] {
				t.Fatalf("signature %d: %q, want %q", i, got[i], want[i])
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	s := secret(b, GenerateSecret())
	now := time.Unix(1_700_000_000, 0)
	body := []byte(strings.Repeat("b", 400))
	h := signed("id", "1700000000", Sign([]Secret{s}, "id", now, body))
	b.ReportAllocs()
	for b.Loop() {
		if Verify([]Secret{s}, h, body, now) != nil {
			b.Fatal("refused")
		}
	}
}

// An asymmetric key signs as v1a: who verifies needs only the public one.
func TestSignAsymmetric(t *testing.T) {
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	private := ed25519.NewKeyFromSeed(seed)
	at, payload := time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`)
	signed := append([]byte("msg_1.1614265330."), payload...)
	for name, raw := range map[string][]byte{"seed": seed, "whole": private} {
		s, err := ParseSigningKey("whsk_" + base64.StdEncoding.EncodeToString(raw))
		if err != nil {
			t.Fatal(err)
		}
		other := secret(t, vectorSecret)
		header := Sign([]Secret{s, other}, "msg_1", at, payload)
		first, second, _ := strings.Cut(header, " ")
		text, ok := strings.CutPrefix(first, "v1a,")
		sig, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil || second != Sign([]Secret{other}, "msg_1", at, payload) {
			t.Fatalf("%s: %s", name, header)
		}
		public, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.PublicKey(), "whpk_"))
		if err != nil || !ed25519.Verify(public, signed, sig) {
			t.Errorf("%s: not signed", name)
		}
		h := http.Header{"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {"1614265330"}, "Webhook-Signature": {header}}
		if err := Verify([]Secret{other}, h, payload, at); err != nil {
			t.Errorf("%s: the v1 beside it does not verify: %v", name, err)
		}
		if err := Verify([]Secret{s}, h, payload, at); err == nil {
			t.Errorf("%s: a private key proves a request", name)
		}
		if s.IsZero() || !s.Equal(s) || s.Equal(other) || fmt.Sprintf("%v %x %#v", s, s, s) != "*** *** ***" {
			t.Errorf("%s: %v", name, s)
		}
	}
	for _, bad := range []string{"whsk_", "whsk_AAAA", "whsk_" + base64.StdEncoding.EncodeToString(append(bytes.Clone(seed), seed...)), "whpk_" + base64.StdEncoding.EncodeToString(seed)} {
		if _, err := ParseSigningKey(bad); !errors.Is(err, ErrSecret) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
