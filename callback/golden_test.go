package callback

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/push/*.golden from what is read now")

// payloads are the captured and documented pushes, by file name.
func payloads(tb testing.TB) map[string][]byte {
	tb.Helper()
	all := make(map[string][]byte)
	for _, glob := range []string{"*.json", "*.xml"} {
		files, err := filepath.Glob(filepath.Join("testdata", "push", glob))
		if err != nil || len(files) == 0 {
			tb.Fatalf("no payloads: %v", err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				tb.Fatal(err)
			}
			all[filepath.Base(file)] = raw
		}
	}
	return all
}

// TestGolden reads every payload of testdata/push and compares with the .golden file beside it: the event, then its fields as
// partners get them.
func TestGolden(t *testing.T) {
	for name, raw := range payloads(t) {
		t.Run(name, func(t *testing.T) {
			format, ev, err := Decode(raw)
			if err != nil {
				t.Fatal(err)
			}
			if "."+string(format) != filepath.Ext(name) {
				t.Errorf("format %s", format)
			}
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(ev); err != nil {
				t.Fatal(err)
			}
			if err := enc.Encode(Fields(raw)); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "push", name+".golden")
			if *update {
				if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// TestMalformed: what is cut off, or neither format, is an error, and never a panic.
func TestMalformed(t *testing.T) {
	for _, s := range []string{"", " ", "\ufeff", "[]", "42", "null", `"text"`, "hello", "{", `{"a"`, `{"a":`, `{"a":}`, `{"a":1`, `{"a":1}}`, `{"a":1} x`,
		`{"a":1 "b":2}`, `{a:1}`, `{"a":tru}`, `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\`, `{"a":"b\"`, `{"a":[1 2]}`, `{"a":[1,`, `{"a":{]}`,
		`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}", strings.Repeat(`{"a":`, 100000),
		"<", "<>", "<xml", "<xml>", "<xml><a>", "<xml><a></b></xml>", "<xml><a><![CDATA[x]]</a></xml>", "<xml></xm>", "</xml>", "<xml></xml><xml></xml>",
		"<xml></xml>x", "<xml><!-- </xml>", "<?xml", "<!DOCTYPE xml><xml></xml>", `<xml><!ENTITY a "b"></xml>`, "<xml><a b='>", strings.Repeat("<a>", 40) + strings.Repeat("</a>", 40), strings.Repeat("<a>", 100000)} {
		if _, _, err := Decode([]byte(s)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.40q: %v, want ErrMalformed", s, err)
		}
	}
}

// TestCut: a message that breaks off is what its first fields say, and nothing more; without them it is malformed.
func TestCut(t *testing.T) {
	for name, raw := range payloads(t) {
		raw = bytes.TrimRight(raw, " \t\r\n")
		_, whole, err := Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(raw) {
			_, ev, err := Decode(raw[:n])
			if errors.Is(err, ErrMalformed) && ev.MsgType == "" && ev.Component == nil {
				continue
			}
			if err != nil {
				t.Fatalf("%s cut at %d: %v", name, n, err)
			}
			want := Event{ToUserName: whole.ToUserName, FromUserName: whole.FromUserName, OpenID: whole.FromUserName, CreateTime: whole.CreateTime,
				MsgType: whole.MsgType, Event: whole.Event, Doubtful: true, Component: whole.Component}
			// What stands behind the cut is not known.
			for _, f := range []struct{ got, want *string }{{&ev.ToUserName, &want.ToUserName}, {&ev.FromUserName, &want.FromUserName}, {&ev.Event, &want.Event}} {
				if *f.got == "" {
					*f.want = ""
				}
			}
			if ev.CreateTime == 0 {
				want.CreateTime = 0
			}
			if want.OpenID = want.FromUserName; isAuthorization(want.Event) {
				want.OpenID = ""
			}
			if c := want.Component; c != nil {
				want.Component = &Component{InfoType: c.InfoType}
			}
			if diff := cmp.Diff(want, ev); diff != "" {
				t.Fatalf("%s cut at %d: want -, got +:\n%s", name, n, diff)
			}
		}
	}
}

// TestSpellings: the fields WeChat spells differently from place to place are one.
func TestSpellings(t *testing.T) {
	for _, s := range []string{`{"MsgId":7}`, `{"MsgID":"7"}`, `{"msgid":7}`, "<xml><MsgID>7</MsgID></xml>", "<xml><MsgId><![CDATA[7]]></MsgId></xml>", "<xml><msgid> 7 </msgid></xml>"} {
		if _, ev, err := Decode([]byte(s)); err != nil || ev.MsgID != "7" {
			t.Errorf("%s: %q, %v", s, ev.MsgID, err)
		}
	}
	for _, s := range []string{"1620973045", `"1620973045"`, "1.620973045e9", `"1620973045.0"`} {
		if _, ev, err := Decode([]byte(`{"CreateTime":` + s + `}`)); err != nil || ev.CreateTime != 1620973045 {
			t.Errorf("%s: %d, %v", s, ev.CreateTime, err)
		}
	}
}
