package relay

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// plainRequests are bodies of both kinds; FuzzReadPlain begins with them.
var plainRequests = []string{
	`{"app":"shop","to":{"openid":"o1"},"template_id":"T","page":"pages/a?x=1","data":{"thing1":{"value":"一杯咖啡"},"amount2":"¥1"},"no_credit":"try"}`,
	` { "app" : "shop" , "to" : { "user" : "u1" } , "channel":"subscribe", "data" : { "a1" : "x" , "b2" : { "value" : "}" } } , "metadata" : { "k" : [1,{"a":"]"}] } } `,
	`{"app":"","lang":"zh_CN","miniprogram_state":"formal","on_unknown":"retry","priority":"high","supersede_key":"k","to":{"unionid":"u"}}`,
	`{}`, `{"data":{}}`, `{"to":{}}`, `{"app":null}`, `{"to":null}`, `{"data":null}`, `{"metadata":null}`, `{"metadata":1.5e3}`, `{"channel":["a","b"]}`, `{"app":"a\"b"}`, `{"a\u0070p":"x"}`,
	`{"data":{"a\u0031":"x"}}`, `{"app":1}`, `{"send_at":"2026-01-02T15:04:05Z"}`, `{"truncate":true}`, `{"data":{"a":"\\"},"app":"x"}`, `{"data":{"a":[{"b":"c}"}]},"app":"x"}`,
	`{"metadata":"x","app":"y"}`, `{"metadata":true,"app":"y"}`, `{"metadata":[],"app":"y"}`, `{"to":{"audience":"a"}}`,
}

// TestReadPlain: what the short cut reads is what encoding/json reads.
func TestReadPlain(t *testing.T) {
	taken := 0
	for _, body := range plainRequests {
		if samePlain(t, []byte(body)) {
			taken++
		}
	}
	if taken < 8 {
		t.Errorf("the short cut took %d", taken)
	}
}

func samePlain(t *testing.T, body []byte) bool {
	var quick, slow SendRequest
	if !quick.ReadPlain(body) {
		if diff := cmp.Diff(SendRequest{}, quick, cmp.AllowUnexported(SendRequest{}, AliasOrPart{}, Moment{})); diff != "" {
			t.Errorf("%s: refused, but something was read: %s", body, diff)
		}
		return false
	}
	if err := json.Unmarshal(body, &slow); err != nil {
		t.Fatalf("%s: encoding/json refuses it: %v", body, err)
	}
	if diff := cmp.Diff(slow, quick, cmp.AllowUnexported(SendRequest{}, AliasOrPart{}, Moment{}), cmp.Comparer(func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })); diff != "" {
		t.Errorf("%s: %s", body, diff)
	}
	return true
}

func FuzzReadPlain(f *testing.F) {
	for _, body := range plainRequests {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var all map[string]json.RawMessage
		if !json.Valid(body) || json.Unmarshal(body, &all) != nil || twice(body) {
			return // the gateway has refused it already
		}
		samePlain(t, body)
	})
}

// twice tells whether a name stands in one object twice, or in another case, or there are values of the wrong type: what only
// the gateway's walk tells.
func twice(body []byte) bool {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var q SendRequest
	if d.Decode(&q) != nil {
		return true
	}
	names := map[string]bool{}
	d = json.NewDecoder(bytes.NewReader(body))
	for depth := 0; ; {
		tok, err := d.Token()
		if err != nil {
			return false
		}
		switch v := tok.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				depth++
			} else {
				depth--
			}
		case string:
			low := string(bytes.ToLower([]byte(v)))
			if depth <= 2 && (names[low] || low != v) {
				return true
			}
			names[low] = true
		}
	}
}
