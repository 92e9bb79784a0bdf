package app

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/wxrelay/wxrelay/config"
)

const (
	keyOne = "cmVwbGFjZSB0aGlzIG1hc3RlciBrZXkgcGxlYXNlISE="
	keyTwo = "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

// ringOf makes a keyring through a config: the first key seals, the others still open.
func ringOf(t *testing.T, keys ...string) *keyring {
	t.Helper()
	env := []string{}
	if len(keys) > 0 {
		env = append(env, "WXRELAY_MASTER_KEY="+keys[0])
	}
	if len(keys) > 1 {
		env = append(env, "WXRELAY_MASTER_KEY_PREVIOUS="+strings.Join(keys[1:], ","))
	}
	raw := strings.Replace(string(config.Example()), "master_key: "+keyOne, "", 1)
	c, err := config.Parse([]byte(raw), ".", env)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newKeyring(c.MasterKey, c.MasterKeyPrevious)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustSeal(t *testing.T, r *keyring, plain, aad string) []byte {
	t.Helper()
	sealed, err := r.Seal([]byte(plain), []byte(aad))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestSeal(t *testing.T) {
	one, rotated, none := ringOf(t, keyOne), ringOf(t, keyTwo, keyOne), ringOf(t)
	sealed := mustSeal(t, one, "hunter2", "place")
	if bytes.Contains(sealed, []byte("hunter2")) {
		t.Fatal("not sealed")
	}
	if again := mustSeal(t, one, "hunter2", "place"); bytes.Equal(again, sealed) {
		t.Error("the same nonce twice")
	}
	for name, c := range map[string]struct {
		ring   *keyring
		sealed []byte
		aad    string
		want   string // "" = errSealed
	}{
		"the key itself":              {one, sealed, "place", "hunter2"},
		"a previous key":              {rotated, sealed, "place", "hunter2"},
		"another place":               {one, sealed, "elsewhere", ""},
		"another key":                 {ringOf(t, keyTwo), sealed, "place", ""},
		"no key":                      {none, sealed, "place", ""},
		"sealed by the new key":       {rotated, mustSeal(t, rotated, "x", "p"), "p", "x"},
		"sealed by the new, old asks": {one, mustSeal(t, rotated, "x", "p"), "p", ""},
		"from before there was a key": {one, []byte("clear"), "place", "clear"},
		"cut off":                     {one, sealed[:9], "place", ""},
		"cut off earlier":             {one, sealed[:5], "place", ""},
	} {
		got, err := c.ring.Unseal(c.sealed, []byte(c.aad))
		if c.want == "" && (!errors.Is(err, errSealed) || len(got) > 0) || c.want != "" && (err != nil || string(got) != c.want) {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if got := mustSeal(t, none, "clear", "p"); string(got) != "clear" {
		t.Errorf("without a key: %q", got)
	}
	for i := range sealed[len(sealMark):] {
		flipped := bytes.Clone(sealed)
		flipped[len(sealMark)+i] ^= 1
		if _, err := one.Unseal(flipped, []byte("place")); !errors.Is(err, errSealed) {
			t.Errorf("bit flipped in byte %d: %v", len(sealMark)+i, err)
		}
	}
	seal, unseal := one.at("here")
	s, err := seal([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := unseal(s); err != nil || string(got) != "x" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := one.Unseal(s, []byte("there")); err == nil {
		t.Error("opens at another place")
	}
}
