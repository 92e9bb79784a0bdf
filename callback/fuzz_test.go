package callback

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func seeds(f *testing.F) {
	for _, raw := range payloads(f) {
		f.Add(raw)
	}
}

// FuzzDecodeJSON: never a panic; whatever encoding/json reads is read, and the same.
func FuzzDecodeJSON(f *testing.F) {
	seeds(f)
	f.Add([]byte(`{"a":"\ud800\u0041\ud83d\ude00","List":[[{"TemplateId":"x"}],{}],"Event":"subscribe_msg_x","MsgType":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		format, ev, err := Decode(raw)
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		if fields := Fields(raw); (fields == nil) != (err != nil || ev.Doubtful || ev.Component != nil) && len(raw) < maxFields {
			t.Fatalf("fields: %v", fields)
		}
		want, ok := oracleJSON(raw)
		if !ok || !utf8.Valid(raw) {
			return
		}
		if err != nil || format != JSON {
			t.Fatalf("encoding/json reads it: %v", err)
		}
		if diff := cmp.Diff(want, ev); diff != "" {
			t.Errorf("encoding/json -, scanner +:\n%s", diff)
		}
	})
}

// blankCDATA are the blanks only the scanner knows to belong to the text.
var blankCDATA = regexp.MustCompile(`<!\[CDATA\[[ \t\r\n]|[ \t\r\n]\]\]>|&#0{9}|&#(x0*)?(9|10|13|32|[aAdD]|20);|xmlns`)

// FuzzDecodeXML: never a panic; whatever encoding/xml reads (without a DOCTYPE) is read, and the same.
func FuzzDecodeXML(f *testing.F) {
	seeds(f)
	f.Add([]byte("<xml><a b='>'>x<![CDATA[]]>y</a><!--> --><List><TemplateId>1</TemplateId></List><Event>subscribe_msg_&lt;&#x41;</Event></xml>"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		format, ev, err := Decode(raw)
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		if fields := Fields(raw); (fields == nil) != (err != nil || ev.Doubtful || ev.Component != nil) && len(raw) < maxFields {
			t.Fatalf("fields: %v", fields)
		}
		want, ok := oracleXML(raw)
		if !ok || blankCDATA.Match(raw) {
			return
		}
		if err != nil || format != XML {
			t.Fatalf("encoding/xml reads it: %v", err)
		}
		if diff := cmp.Diff(trimmed(want), trimmed(ev)); diff != "" {
			t.Errorf("encoding/xml -, scanner +:\n%s", diff)
		}
	})
}

// FuzzOpen: whatever is made of a captured push, what is accepted is what was sealed, and never with one bit of the
// sealed text, the time, the nonce or the signature changed.
func FuzzOpen(f *testing.F) {
	e := verifier(f, benchApp)
	plain := benchApp
	plain.Mode = Plain
	p := verifier(f, plain)
	originals := make(map[Format][]byte)
	for _, format := range []Format{JSON, XML} {
		raw := popup(f, format)
		originals[format] = raw
		query, body, err := ComposeRequest(benchApp, format, raw, "415670741", benchTime)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(query, body, uint(len(body)/2), uint8(3))
		query, body, err = ComposeRequest(App{AppID: benchApp.AppID, Mode: Compat, Key: benchApp.Key}, format, raw, "415670741", benchTime)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(query, body, uint(60), uint8(0))
	}
	f.Add(officialQuery, []byte(officialBody), uint(0), uint8(0))
	f.Fuzz(func(t *testing.T, query string, body []byte, at uint, bit uint8) {
		q := ParseQuery(query)
		try := func(body []byte) {
			got, err := e.Verify(q, body, benchTime)
			if err != nil && !errors.Is(err, ErrUnproven) && !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			if err == nil && !bytes.Equal(got.Raw, originals[got.Format]) {
				t.Fatalf("accepted what nobody sealed: %q", got.Raw)
			}
			if _, err := p.Verify(q, body, benchTime); err != nil && !errors.Is(err, ErrUnproven) && !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
		}
		try(body)
		encrypt := encryptIn(body)
		if len(encrypt) == 0 {
			return
		}
		flipped := bytes.Clone(encrypt)
		flipped[at%uint(len(flipped))] ^= 1 << (bit % 8)
		changed := bytes.Replace(body, encrypt, flipped, 1)
		if !bytes.Equal(changed, body) {
			if _, err := e.Verify(q, changed, benchTime); err == nil {
				t.Fatalf("accepted with a bit of Encrypt flipped")
			}
		}
	})
}

// TestEveryBit flips each bit of all that is proven, one at a time: none may pass. What is not proven may be changed,
// and changes nothing.
func TestEveryBit(t *testing.T) {
	for _, format := range []Format{JSON, XML} {
		e := verifier(t, benchApp)
		raw := popup(t, format)
		query, body, err := ComposeRequest(benchApp, format, raw, "415670741", benchTime)
		if err != nil {
			t.Fatal(err)
		}
		q := ParseQuery(query)
		first := bytes.Index(body, []byte("Encrypt")) + len("Encrypt")
		step := 1
		if raceEnabled {
			step = 7 // another bit at every byte still
		}
		for i := range body {
			for bit := i % step; bit < 8; bit += step {
				spoiled := bytes.Clone(body)
				spoiled[i] ^= 1 << bit
				p, err := e.Verify(q, spoiled, benchTime)
				encrypt := encryptIn(spoiled)
				was := encryptIn(body)
				switch {
				case err != nil:
				case !bytes.Equal(encrypt, was):
					t.Fatalf("%s: byte %d bit %d of the sealed text passed", format, i, bit)
				case i > first+12 && i < first+12+1000:
					t.Fatalf("%s: byte %d bit %d passed", format, i, bit)
				case !bytes.Equal(p.Raw, raw):
					t.Fatalf("%s: byte %d bit %d changed what was read", format, i, bit)
				}
			}
		}
		for _, part := range []string{q.Timestamp, q.Nonce, q.MsgSignature} {
			for i := range len(part) {
				for bit := range 8 {
					b := []byte(part)
					b[i] ^= 1 << bit
					spoiled := q
					switch part {
					case q.Timestamp:
						spoiled.Timestamp = string(b)
					case q.Nonce:
						spoiled.Nonce = string(b)
					default:
						spoiled.MsgSignature = string(b)
					}
					if _, err := e.Verify(spoiled, body, benchTime); !errors.Is(err, ErrUnproven) {
						t.Fatalf("%s: %q for %q: %v", format, b, part, err)
					}
				}
			}
		}
	}
}

// TestBase64 compares with the standard library, right and spoiled.
func TestBase64(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range 2000 {
		b := make([]byte, n%300)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		src := []byte(base64.StdEncoding.EncodeToString(b))
		if len(src) > 0 && n%3 == 0 {
			src[rnd.IntN(len(src))] = byte(rnd.Uint32())
		}
		if n%17 == 0 && len(src) > 0 {
			src = src[:rnd.IntN(len(src))]
		}
		want := make([]byte, base64.StdEncoding.DecodedLen(len(src)))
		wn, werr := base64.StdEncoding.Decode(want, src)
		if bytes.ContainsAny(src, "\r\n") {
			werr = errors.New("line break")
		}
		got := make([]byte, base64.StdEncoding.DecodedLen(len(src)))
		gn, ok := decode64(got, src)
		if ok != (werr == nil) || ok && !bytes.Equal(got[:gn], want[:wn]) {
			t.Fatalf("%q: %v, standard library %v", src, ok, werr)
		}
	}
}

// TestOracles: both oracles agree on every payload they can read, and the benchmarks' on the popup.
func TestOracles(t *testing.T) {
	read := 0
	for name, raw := range payloads(t) {
		oracle := oracleJSON
		if strings.HasSuffix(name, ".xml") {
			oracle = oracleXML
		}
		want, ok := oracle(bytes.TrimPrefix(raw, bom))
		if !ok {
			continue // the documents' own faults: commas before brackets
		}
		read++
		_, ev, err := Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(trimmed(want), trimmed(ev)); diff != "" {
			t.Errorf("%s: oracle -, scanner +:\n%s", name, diff)
		}
	}
	if read < 45 {
		t.Errorf("the oracles read %d payloads", read)
	}
	_, ev, err := Decode(popup(t, XML))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(oracleOpen(t, XML), ev); diff != "" {
		t.Errorf("benchmark's oracle -, scanner +:\n%s", diff)
	}
	if _, ev, err = Decode(popup(t, JSON)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(oracleOpen(t, JSON), ev); diff != "" {
		t.Errorf("benchmark's oracle -, scanner +:\n%s", diff)
	}
	if !json.Valid(popup(t, JSON)) {
		t.Error("Compose writes no JSON")
	}
}
