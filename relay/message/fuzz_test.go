package message

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// Whatever a partner sends, it is refused with issues that can be shown, or built into what WeChat can be given and the stored form
// keeps: JSON without one character that the partner did not write.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"app":"shop","to":{"openid":"o1"},"template_id":"T","data":{"thing1":{"value":10},"amount2":"¥1"},"metadata":{"a":[1]}}`,
		`{"app":"shop","to":{"user":"u"},"channel":["subscribe","customer_service"],"template_id":"T","data":{"thing1":"x"},"msgtype":"text","text":{"content":"\u4f60\u597d"}}`,
		`{"app":"shop","channel":"template","template":{"template_id":"T","form_id":"1","data":{"keyword1":"x"}},"to":{"openid":"o"}}`,
		`{"channel":"oa_template","data":{"first":1e5},"url":"https://a.b","miniprogram":{"appid":"wx1"},"template_id":"T"}`,
		`{"channel":"uniform","weapp_template_msg":{"template_id":"x","form_id":"1","data":{}},"send_at":"2026-12-01T00:00:00Z"}`,
		`{"data":{"thing1":"\ud83d"},"truncate":true,"template":"alias"}`, "{\"text\":\"\\", `{"data":{"a":{"value":"\ud83d\ude00"}}}`, "\ufeff{}", `{"a":`,
	} {
		f.Add([]byte(s))
	}
	facts := Facts{Now: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC), Partner: "orders", OpenID: "oAnn", Account: "account", AccountOpenID: "oB",
		Every: time.Hour, Keyword: "thing1", Kind: "rate_limited"}
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := Parse(body)
		if err != nil {
			return
		}
		q.Resolve(map[string]Alias{"alias": {TemplateID: "T", Data: map[string]string{"item": "thing1"}}}, true)
		d, issues := Build(q, facts)
		for _, i := range issues {
			if !utf8.ValidString(i.Field + i.Reason) {
				t.Errorf("an issue that is no text: %q", i)
			}
		}
		if len(issues) > MaxIssues {
			t.Errorf("%d issues", len(issues))
		}
		if len(issues) > 0 {
			return
		}
		foreign := strings.Contains(string(body), "\ufffd") || strings.Contains(strings.ToLower(string(body)), `\ufffd`)
		for i, p := range d.Payloads {
			if !json.Valid(p) || !utf8.Valid(p) || !foreign && strings.Contains(string(p), "\ufffd") {
				t.Errorf("payload %d of %q: %q", i, body, p)
			}
		}
		got, _, err := Unpack(d.Pack(), (&Progress{State: StateQueued}).Pack())
		if err != nil || got.App != d.App || len(got.Payloads) != len(d.Payloads) {
			t.Errorf("stored and read: %v", err)
		}
	})
}
