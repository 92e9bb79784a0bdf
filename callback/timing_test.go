package callback

import (
	"bytes"
	"context"
	"crypto/cipher"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// counted is a decrypter that notes how many bytes it was given. It cannot be set back, so one is made for each use.
type counted struct {
	cipher.BlockMode
	note func(n int)
}

func (c counted) CryptBlocks(dst, src []byte) {
	c.note(len(src))
	c.BlockMode.CryptBlocks(dst, src)
}

// TestRefusalsCostTheSame: whatever is wrong with a sealed push, its text is decrypted once and whole, so that the
// time of the answer tells neither whether the app is there nor which check failed.
func TestRefusalsCostTheSame(t *testing.T) {
	handler, err := NewHandler(handlerApps, func(context.Context, *Push) ([]byte, error) { return nil, errors.New("received") }, HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var work []int
	for _, e := range append([]*Verifier{handler.unknown.Load()}, values(*handler.verifiers.Load())...) {
		for _, l := range e.keys {
			l.modes = sync.Pool{New: func() any {
				return counted{cipher.NewCBCDecrypter(l.block, l.key[:16]), func(n int) { mu.Lock(); work = append(work, n); mu.Unlock() }}
			}}
		}
	}
	now := time.Now()
	fine := padded(textJSONPush, len(textJSONPush), "wxshop", pkcs)
	size := len(fine)
	spoiled := func(at int, to byte) []byte { b := bytes.Clone(fine); b[at] = to; return b }
	sealed := func(k Key, plain []byte, at time.Time) *forgery {
		encrypt := sealedAs(t, k, plain)
		return &forgery{"POST", "shop", signedBy(k, at, encrypt), []byte(`{"Encrypt":"` + encrypt + `"}`)}
	}
	with := func(f *forgery, how func(f *forgery)) *forgery { how(f); return f }
	for name, f := range map[string]*forgery{
		"wrong msg_signature":   with(sealed(key1, fine, now), func(f *forgery) { f.set("msg_signature", strings.Repeat("0", 40)) }),
		"no such app":           with(sealed(key1, fine, now), func(f *forgery) { f.app = "nobody" }),
		"another app":           with(sealed(key1, fine, now), func(f *forgery) { f.app = "other" }),
		"an app with one key":   with(sealed(key1, fine, now), func(f *forgery) { f.app = "twin" }),
		"a plain app, no key":   with(sealed(key1, fine, now), func(f *forgery) { f.app = "open" }),
		"another app's secrets": sealed(key3, fine, now),
		"bad padding":           sealed(key1, spoiled(size-1, 0), now),
		"bad length":            sealed(key1, spoiled(16, 0xff), now),
		"bad appid":             sealed(key1, spoiled(20+len(textJSONPush), 'y'), now),
		"previous key, spoiled": sealed(key2, spoiled(20+len(textJSONPush), 'y'), now),
		"stale":                 sealed(key1, fine, now.Add(-48*time.Hour)),
	} {
		work = nil
		w := httptest.NewRecorder()
		handler.ServeApp(w, httptest.NewRequest(f.method, "/callback/"+f.app+"?"+f.query, bytes.NewReader(f.body)), f.app)
		if w.Code != 403 {
			t.Errorf("%s: %d", name, w.Code)
		}
		if len(work) != 1 || work[0] != size {
			t.Errorf("%s: decrypted %v, want %d bytes once", name, work, size)
		}
	}
}

func values(m map[string]*Verifier) (all []*Verifier) {
	for _, e := range m {
		all = append(all, e)
	}
	return all
}
