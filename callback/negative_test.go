package callback

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/silenceper/wechat/v2/util"
)

// secrets of the apps behind the handler under test.
var handlerApps = []App{
	{Name: "shop", AppID: "wxshop", OriginalID: "gh_1", Key: key1, Previous: []Key{key2}, MaxAge: 24 * time.Hour, PayAppKey: "pay-key"},
	{Name: "other", AppID: "wxother", Key: Key{Token: "token-other", EncodingAESKey: key3.EncodingAESKey}},
	{Name: "twin", AppID: "wxtwin", Key: key1}, // another app with the same secrets
	{Name: "mixed", AppID: "wxmixed", Mode: Compat, Key: key1},
	{Name: "open", AppID: "wxopen", Mode: Plain, Key: Key{Token: "token-one"}, MaxAge: time.Hour, PayAppKey: "pay-key"},
}

// forgery is a request somebody makes: a right one, spoiled.
type forgery struct {
	method, app, query string
	body               []byte
}

func (f *forgery) set(name, value string) {
	pairs := strings.Split(f.query, "&")
	for i, p := range pairs {
		if strings.HasPrefix(p, name+"=") {
			pairs[i] = name + "=" + value
		}
	}
	f.query = strings.Join(pairs, "&")
}

func (f *forgery) drop(name string) {
	var kept []string
	for p := range strings.SplitSeq(f.query, "&") {
		if !strings.HasPrefix(p, name+"=") {
			kept = append(kept, p)
		}
	}
	f.query = strings.Join(kept, "&")
}

func (f *forgery) replace(old, by string) { f.body = bytes.Replace(f.body, []byte(old), []byte(by), 1) }

// signedBy is the query for a sealed text, as who knows the token can make it.
func signedBy(k Key, at time.Time, encrypt string) string {
	ts := strconv.FormatInt(at.Unix(), 10)
	return "signature=" + util.Signature(k.Token, ts, "42") + "&timestamp=" + ts + "&nonce=42&msg_signature=" + util.Signature(k.Token, ts, "42", encrypt)
}

// sealedAs seals plain bytes exactly as given: random, length, appid and padding are the caller's business.
func sealedAs(t *testing.T, k Key, plain []byte) string {
	t.Helper()
	l, err := newCipherKey(k)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(plain)
	mode := newEncrypter(l)
	mode.CryptBlocks(out, out)
	return base64.StdEncoding.EncodeToString(out)
}

func padded(msg string, size int, appID string, pad func(n int) []byte) []byte {
	b := append([]byte("0123456789abcdef"), byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
	b = append(append(b, msg...), appID...)
	return append(b, pad(32-len(b)%32)...)
}

// encryptIn is the first value of Encrypt in a body.
func encryptIn(body []byte) []byte {
	e := newEnvelope(body)
	return e.next(new(scratch))
}

func pkcs(n int) []byte { return bytes.Repeat([]byte{byte(n)}, n) }

// TestNegative is every way not to be a push, and its answer. The answers to all that is not proven are one and the
// same.
func TestNegative(t *testing.T) {
	clock := time.Now()
	var received []string
	handler, err := NewHandler(handlerApps, func(_ context.Context, p *Push) ([]byte, error) {
		received = append(received, p.App)
		return nil, nil
	}, HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	right := func(app string, mode Mode, k Key, appID, raw string, at time.Time) *forgery {
		t.Helper()
		format, _, err := Decode([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		query, body, err := ComposeRequest(App{Name: app, AppID: appID, Mode: mode, Key: k}, format, []byte(raw), "42", at)
		if err != nil {
			t.Fatal(err)
		}
		return &forgery{method: "POST", app: app, query: query, body: body}
	}
	shop := func() *forgery { return right("shop", Secure, key1, "wxshop", textJSONPush, clock) }
	shopXML := func() *forgery { return right("shop", Secure, key1, "wxshop", textXMLPush, clock) }
	check := func(k Key, at time.Time) *forgery {
		ts := strconv.FormatInt(at.Unix(), 10)
		return &forgery{method: "GET", app: "shop", query: "signature=" + util.Signature(k.Token, ts, "42") + "&echostr=77&timestamp=" + ts + "&nonce=42"}
	}
	raw := func(query string, body string) *forgery { return &forgery{"POST", "shop", query, []byte(body)} }
	custom := func(plain []byte) *forgery {
		encrypt := sealedAs(t, key1, plain)
		return raw(signedBy(key1, clock, encrypt), `{"Encrypt":"`+encrypt+`"}`)
	}
	spoil := func(f *forgery, how func(f *forgery)) *forgery { how(f); return f }
	flip := func(s string, at int) string {
		return s[:at] + string(s[at]^1) + s[at+1:]
	}
	encryptOf := func(f *forgery) string {
		return string(encryptIn(f.body))
	}
	long := strings.Repeat("x", 256<<10)
	fill := textJSONPush // one byte short of a block, with what goes around it
	for (20+len(fill)+len("wxshop"))%32 != 31 {
		fill += " "
	}

	for _, c := range []struct {
		name string
		f    *forgery
		want int
	}{
		// what is right, so that the rest is wrong for its own reason
		{"right, JSON", shop(), 200},
		{"right, XML", shopXML(), 200},
		{"right, previous key", right("shop", Secure, key2, "wxshop", textJSONPush, clock), 200},
		{"right, replayed", shop(), 200}, // the same push again is a duplicate by its name, which the sink knows
		{"right, compat", right("mixed", Compat, key1, "wxmixed", textXMLPush, clock), 200},
		{"right, sealed only at a compat app", right("mixed", Secure, key1, "wxmixed", textXMLPush, clock), 200},
		{"right, plain", right("open", Plain, key1, "wxopen", textJSONPush, clock), 200},
		{"right, URL check", check(key1, clock), 200},
		{"right, URL check with the previous token", check(key2, clock), 200},
		{"right, without signature and encrypt_type", spoil(shop(), func(f *forgery) { f.drop("signature"); f.drop("encrypt_type") }), 200},
		{"right, whatever it says: a signed probe is a push", spoil(right("open", Plain, key1, "wxopen", textJSONPush, clock), func(f *forgery) { f.body = []byte(`{"action":"CheckContainerPath"}`) }), 200},

		{"right, Encrypt inside another field", spoil(shop(), func(f *forgery) { f.body = []byte(`{"Content":{"Encrypt":"` + encryptOf(f) + `"}}`) }), 200},
		{"right, Encrypt after another", spoil(shop(), func(f *forgery) {
			f.body = []byte(`{"Encrypt":"` + strings.Repeat("QUFB", 30) + `","Encrypt":"` + encryptOf(f) + `"}`)
		}), 200},
		{"right, Encrypt escaped", spoil(shop(), func(f *forgery) {
			f.body = []byte(`{"Encrypt":"` + strings.NewReplacer("+", `\u002B`, "=", `\u003d`, "/", `\/`).Replace(encryptOf(f)) + `"}`)
		}), 200},
		{"right, every character of Encrypt escaped", spoil(shop(), func(f *forgery) {
			var b strings.Builder
			for _, c := range encryptOf(f) {
				fmt.Fprintf(&b, `\u%04x`, c)
			}
			f.body = []byte(`{"Encrypt":"` + b.String() + `"}`)
		}), 200},
		{"right, Encrypt with character references", spoil(shopXML(), func(f *forgery) {
			f.body = []byte("<xml><Encrypt>" + strings.NewReplacer("+", "&#43;", "=", "&#x3D;", "/", "&#047;").Replace(encryptOf(f)) + "</Encrypt></xml>")
		}), 200},
		{"right, two documents around Encrypt", spoil(shopXML(), func(f *forgery) { f.body = []byte("<xml></xml><a><!-- <Encrypt>" + encryptOf(f) + "</Encrypt>") }), 200},

		{"right, cut after what it says it is", custom(padded(textJSONPush[:90], 90, "wxshop", pkcs)), 200},
		{"right, plain, cut after what it says it is", spoil(right("open", Plain, key1, "wxopen", textJSONPush, clock), func(f *forgery) { f.body = f.body[:90] }), 200},

		// missing
		{"no query", spoil(shop(), func(f *forgery) { f.query = "" }), 403},
		{"no body", spoil(shop(), func(f *forgery) { f.body = nil }), 403},
		{"no msg_signature", spoil(shop(), func(f *forgery) { f.drop("msg_signature") }), 403},
		{"no timestamp", spoil(shop(), func(f *forgery) { f.drop("timestamp") }), 403},
		{"no nonce", spoil(shop(), func(f *forgery) { f.drop("nonce") }), 403},
		{"no Encrypt", spoil(shop(), func(f *forgery) { f.replace("Encrypt", "encrypt") }), 403},
		{"no appid at the end", custom(padded(textJSONPush, len(textJSONPush), "", pkcs)), 403},
		{"URL check without signature", spoil(check(key1, clock), func(f *forgery) { f.drop("signature") }), 403},
		{"URL check without timestamp", spoil(check(key1, clock), func(f *forgery) { f.drop("timestamp") }), 403},
		{"URL check without echostr", spoil(check(key1, clock), func(f *forgery) { f.drop("echostr") }), 400},

		// empty
		{"empty msg_signature", spoil(shop(), func(f *forgery) { f.set("msg_signature", "") }), 403},
		{"empty signature and msg_signature", spoil(shop(), func(f *forgery) { f.set("msg_signature", ""); f.set("signature", "") }), 403},
		{"empty Encrypt", raw(signedBy(key1, clock, ""), `{"Encrypt":""}`), 403},
		{"empty Encrypt, XML", raw(signedBy(key1, clock, ""), `<xml><Encrypt></Encrypt></xml>`), 403},
		{"empty object", raw(signedBy(key1, clock, ""), `{}`), 403},
		{"URL check with an empty signature", spoil(check(key1, clock), func(f *forgery) { f.set("signature", "") }), 403},

		// wrong
		{"msg_signature of another text", spoil(shop(), func(f *forgery) { f.set("msg_signature", util.Signature("token-one", "1", "2", "3")) }), 403},
		{"msg_signature in capitals", spoil(shop(), func(f *forgery) {
			f.set("msg_signature", strings.ToUpper(strings.Split(strings.Split(f.query, "msg_signature=")[1], "&")[0]))
		}), 403},
		{"msg_signature with one more character", spoil(shop(), func(f *forgery) { f.query = strings.Replace(f.query, "msg_signature=", "msg_signature=0", 1) }), 403},
		{"msg_signature and one more character", spoil(shop(), func(f *forgery) { f.query += "0" }), 403},
		{"msg_signature without the token", spoil(shop(), func(f *forgery) {
			ts := strconv.FormatInt(clock.Unix(), 10)
			f.set("msg_signature", util.Signature("", ts, "42", encryptOf(f)))
		}), 403},
		{"a bit of Encrypt", spoil(shop(), func(f *forgery) { e := encryptOf(f); f.replace(e, flip(e, 60)) }), 403},
		{"timestamp", spoil(shop(), func(f *forgery) { f.set("timestamp", strconv.FormatInt(clock.Unix()-1, 10)) }), 403},
		{"nonce", spoil(shop(), func(f *forgery) { f.set("nonce", "43") }), 403},
		{"timestamp is no number", spoil(shop(), func(f *forgery) {
			e := encryptOf(f)
			f.query = "timestamp=now&nonce=42&msg_signature=" + util.Signature(key1.Token, "now", "42", e)
		}), 403},
		{"not base64", raw(signedBy(key1, clock, "!!!!"), `{"Encrypt":"!!!!"}`), 403},
		{"a line break in base64", spoil(shop(), func(f *forgery) {
			e := encryptOf(f)
			e = e[:40] + "\n" + e[40:]
			*f = *raw(signedBy(key1, clock, e), "<xml><Encrypt>"+e+"</Encrypt></xml>")
		}), 403},
		{"ToUserName", right("shop", Secure, key1, "wxshop", strings.Replace(textJSONPush, "gh_1", "gh_2", 1), clock), 403},
		{"ToUserName missing", right("shop", Secure, key1, "wxshop", `{"MsgType":"event","Event":"x"}`, clock), 403},
		{"PayEventSig", right("shop", Secure, key1, "wxshop", `{"ToUserName":"gh_1","MsgType":"event","Event":"xpay_x","Payload":"{}","PayEventSig":"00"}`, clock), 403},
		{"payment without its signature, plain", right("open", Plain, key1, "wxopen", `{"MsgType":"event","Event":"xpay_x","OutTradeNo":"1"}`, clock), 403},
		{"URL check, wrong signature", spoil(check(key1, clock), func(f *forgery) { f.set("nonce", "43") }), 403},
		{"plain, wrong signature", spoil(right("open", Plain, key1, "wxopen", textJSONPush, clock), func(f *forgery) { f.set("nonce", "43") }), 403},

		// bad inside, though signed: only who has the token gets so far
		{"padding of 33", custom(padded(fill, len(fill), "wxshop", func(n int) []byte { return bytes.Repeat([]byte{byte(n + 32)}, n+32) })), 403},
		{"padding of 33 where there is less", custom(padded(textJSONPush, len(textJSONPush), "wxshop", func(n int) []byte { return bytes.Repeat([]byte{33}, n) })), 403},
		{"padding zero", custom(padded(textJSONPush, len(textJSONPush), "wxshop", func(n int) []byte { return make([]byte, n) })), 403},
		{"padding of another byte", custom(padded(textJSONPush, len(textJSONPush), "wxshop", func(n int) []byte { return append(make([]byte, n-1), byte(n)) })), 403},
		{"length too long", custom(padded(textJSONPush, len(textJSONPush)+1, "wxshop", pkcs)), 403},
		{"length just past the end", custom(padded(textJSONPush, len(textJSONPush)+len("wxshop")+1, "wxshop", pkcs)), 403},
		{"length of 4 GiB", custom(padded(textJSONPush, 1<<32-1, "wxshop", pkcs)), 403},
		{"length too short", custom(padded(textJSONPush, len(textJSONPush)-1, "wxshop", pkcs)), 403},
		{"nothing but padding", custom(pkcs(32)), 403},
		{"padded to blocks of 16", custom(padded(fill, len(fill), "wxshop", func(n int) []byte { return pkcs(n + 16) })), 403},

		// truncated
		{"msg_signature cut", spoil(shop(), func(f *forgery) { f.query = f.query[:len(f.query)-1] }), 403},
		{"body cut", spoil(shop(), func(f *forgery) { f.body = f.body[:len(f.body)-10] }), 403},
		{"body cut, XML", spoil(shopXML(), func(f *forgery) { f.body = f.body[:len(f.body)-40] }), 403},
		{"Encrypt cut and signed again", spoil(shop(), func(f *forgery) {
			e := encryptOf(f)
			e = e[:len(e)-44]
			*f = *raw(signedBy(key1, clock, e), `{"Encrypt":"`+e+`"}`)
		}), 403},
		{"message cut before it was sealed", custom(padded(textJSONPush[:50], 50, "wxshop", pkcs)), 400},
		{"message that is neither", custom(padded("hello", 5, "wxshop", pkcs)), 400},
		{"message of nothing", custom(padded("", 0, "wxshop", pkcs)), 400},
		{"plain, cut", spoil(right("open", Plain, key1, "wxopen", textJSONPush, clock), func(f *forgery) { f.body = f.body[:50] }), 400},
		{"plain, nothing", spoil(right("open", Plain, key1, "wxopen", textJSONPush, clock), func(f *forgery) { f.body = nil }), 400},

		// swapped
		{"signature as msg_signature", spoil(shop(), func(f *forgery) {
			ts := strconv.FormatInt(clock.Unix(), 10)
			f.set("msg_signature", util.Signature(key1.Token, ts, "42"))
		}), 403},
		{"another push's Encrypt", spoil(shop(), func(f *forgery) { f.body = shopXML().body }), 403},
		{"another push's query", spoil(shop(), func(f *forgery) { f.query = shopXML().query }), 403},
		{"timestamp and nonce", spoil(shop(), func(f *forgery) { f.set("nonce", strconv.FormatInt(clock.Unix(), 10)); f.set("timestamp", "42") }), 403},
		{"the URL check's signature on a push", spoil(shop(), func(f *forgery) { f.query = check(key1, clock).query }), 403},

		// downgraded
		{"plain at a secure app", right("shop", Plain, key1, "wxshop", textJSONPush, clock), 403},
		{"plain at a secure app, XML", right("shop", Plain, key1, "wxshop", textXMLPush, clock), 403},
		{"plain at a compat app", right("mixed", Plain, key1, "wxmixed", textJSONPush, clock), 403},
		{"encrypt_type=raw", spoil(right("shop", Plain, key1, "wxshop", textJSONPush, clock), func(f *forgery) { f.query += "&encrypt_type=raw" }), 403},
		{"compat without its msg_signature", spoil(right("mixed", Compat, key1, "wxmixed", textJSONPush, clock), func(f *forgery) { f.drop("msg_signature") }), 403},
		{"sealed at a plain app, without msg_signature", spoil(right("open", Secure, key1, "wxopen", textJSONPush, clock), func(f *forgery) { f.drop("msg_signature") }), 403},
		{"sealed at a plain app that has no key", right("open", Secure, key1, "wxopen", textJSONPush, clock), 403},
		{"a probe that is signed", spoil(shop(), func(f *forgery) { f.body = []byte(`{"action":"CheckContainerPath"}`) }), 403},
		{"signature in the body", spoil(shop(), func(f *forgery) { f.body = []byte(f.query); f.query = "" }), 403},

		// oversize
		{"too large", spoil(shop(), func(f *forgery) { f.body = append(f.body, long...) }), 413},
		{"too large at no app", spoil(shop(), func(f *forgery) { f.app = "nobody"; f.body = append(f.body, long...) }), 413},

		// wrong app, other app's key
		{"no such app", spoil(shop(), func(f *forgery) { f.app = "nobody" }), 403},
		{"no app", spoil(shop(), func(f *forgery) { f.app = "" }), 403},
		{"URL check of no app", spoil(check(key1, clock), func(f *forgery) { f.app = "nobody" }), 403},
		{"another app's push", spoil(shop(), func(f *forgery) { f.app = "other" }), 403},
		{"another app's push, same secrets", spoil(shop(), func(f *forgery) { f.app = "twin" }), 403},
		{"another app's key", right("shop", Secure, Key{key1.Token, key3.EncodingAESKey}, "wxshop", textJSONPush, clock), 403},
		{"another app's token", right("shop", Secure, Key{"token-other", key1.EncodingAESKey}, "wxshop", textJSONPush, clock), 403},
		{"another app's appid", right("shop", Secure, key1, "wxother", textJSONPush, clock), 403},
		{"an appid with a tail", right("shop", Secure, key1, "wxshop1", textJSONPush, clock), 403},

		// stale
		{"23 hours old", right("shop", Secure, key1, "wxshop", textJSONPush, clock.Add(-23*time.Hour)), 200},
		{"25 hours old", right("shop", Secure, key1, "wxshop", textJSONPush, clock.Add(-25*time.Hour)), 403},
		{"4 minutes ahead", right("shop", Secure, key1, "wxshop", textJSONPush, clock.Add(4*time.Minute)), 200},
		{"6 minutes ahead", right("shop", Secure, key1, "wxshop", textJSONPush, clock.Add(6*time.Minute)), 403},
		{"URL check, 25 hours old", check(key1, clock.Add(-25*time.Hour)), 403},
		{"URL check, 6 minutes ahead", check(key1, clock.Add(6*time.Minute)), 403},
		{"plain, 2 hours old", right("open", Plain, key1, "wxopen", textJSONPush, clock.Add(-2*time.Hour)), 403},
		{"plain, 6 minutes ahead", right("open", Plain, key1, "wxopen", textJSONPush, clock.Add(6*time.Minute)), 403},
		{"URL check, 4 minutes ahead", check(key1, clock.Add(4*time.Minute)), 200},
		{"as old as can be, no max_age", right("twin", Secure, key1, "wxtwin", textJSONPush, time.Unix(1, 0)), 200},

		// methods
		{"PUT", spoil(shop(), func(f *forgery) { f.method = "PUT" }), 405},
		{"HEAD", spoil(check(key1, clock), func(f *forgery) { f.method = "HEAD" }), 405},
	} {
		t.Run(c.name, func(t *testing.T) {
			received = nil
			r := httptest.NewRequest(c.f.method, "/callback/"+c.f.app+"?"+c.f.query, bytes.NewReader(c.f.body))
			w := httptest.NewRecorder()
			handler.ServeApp(w, r, c.f.app)
			if w.Code != c.want {
				t.Fatalf("%d, want %d", w.Code, c.want)
			}
			if took := len(received) == 1; took != (c.want == 200 && c.f.method == "POST") {
				t.Errorf("the sink got %v", received)
			}
			body := w.Body.String()
			switch {
			case c.want != 200:
				if body != "" {
					t.Errorf("body %q", body)
				}
				if h := w.Header(); c.want == 403 && len(h) != 0 {
					t.Errorf("a refusal says more than no: %v", h)
				}
			case c.f.method == "GET":
				if body != "77" || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
					t.Errorf("%q %v", body, w.Header())
				}
			case body != "success" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain"):
				t.Errorf("%q %v", body, w.Header())
			}
		})
	}
}

// TestRefusalsOnTheWire: two refusals of different reasons are the same bytes, but for the date.
func TestRefusalsOnTheWire(t *testing.T) {
	handler, err := NewHandler(handlerApps, func(context.Context, *Push) ([]byte, error) { return nil, errors.New("received") }, HandlerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", "now")
		handler.ServeApp(w, r, strings.TrimPrefix(r.URL.Path, "/callback/"))
	}))
	defer srv.Close()
	query, body, err := ComposeRequest(handlerApps[0], JSON, []byte(textJSONPush), "42", time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	answer := func(app, query string, body []byte) string {
		t.Helper()
		res, err := http.Post(srv.URL+"/callback/"+app+"?"+query, "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var b bytes.Buffer
		if err := res.Header.Write(&b); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.Status + "\n" + b.String() + string(rest)
	}
	stale := answer("shop", query, body)
	for name, got := range map[string]string{
		"no such app":   answer("nobody", query, body),
		"bad signature": answer("shop", strings.Replace(query, "nonce=42", "nonce=43", 1), body),
		"wrong app":     answer("other", query, body),
		"plaintext":     answer("shop", query, []byte(textJSONPush)),
		"nothing":       answer("shop", "", nil),
	} {
		if got != stale || !strings.HasPrefix(got, "403 ") {
			t.Errorf("%s: %s\nbut stale: %s", name, got, stale)
		}
	}
}
