package message

import (
	"testing"
	"time"
)

// The grammar of RFC 3339, section 5.6: T and Z may be small, a fraction begins with a point, an offset has a colon.
func TestMoment(t *testing.T) {
	for raw, want := range map[string]string{ // "" = no time, "type" = of the wrong type
		`"2026-11-28T20:00:00Z"`:                "2026-11-28T20:00:00Z",
		`"2026-11-28t20:00:00z"`:                "2026-11-28T20:00:00Z",
		`"2026-11-28T20:00:00.5Z"`:              "2026-11-28T20:00:00.5Z",
		`"2026-11-28T20:00:00.123456789+08:00"`: "2026-11-28T12:00:00.123456789Z",
		`"2026-11-28T20:00:00-00:00"`:           "2026-11-28T20:00:00Z",
		`"2026-11-28T20:00:00\u005a"`:           "2026-11-28T20:00:00Z",
		`"x"`:                                   "", `""`: "", `"2026-11-27"`: "", `"2026-11-27T12:00:00"`: "",
		`"2026-11-28T20:00:00+0800"`: "", `"2026-11-28T20:00:00+08"`: "", `"2026-11-28T20:00:00+24:00"`: "", `"2026-11-28T20:00:00+08:60"`: "",
		`"2026-11-28T20:00:00,5Z"`: "", `"2026-11-28T20:00:00.Z"`: "", `"2026-11-28T9:00:00Z"`: "", `"2026-11-28 20:00:00Z"`: "",
		`"2026-13-28T20:00:00Z"`: "", `"2026-02-30T20:00:00Z"`: "", `"2026-11-28T24:00:00Z"`: "", `" 2026-11-28T20:00:00Z"`: "",
		`"2026-11-28T20:00:00Z\n"`: "", `"٢026-11-28T20:00:00Z"`: "",
		`1795896000`: "type", `true`: "type", `{}`: "type", `["2026-11-28T20:00:00Z"]`: "type",
	} {
		q, err := Parse([]byte(`{"send_at":` + raw + `}`))
		got := ""
		if err != nil {
			got = "type"
		} else if at, ok := ParseTime(*q.SendAt); ok {
			got = at.UTC().Format(time.RFC3339Nano)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
}

// A field that none of the channels asked for uses would be read by nobody. With a list, what one uses may stand by
// the others.
func TestFieldsOfOtherChannels(t *testing.T) {
	const shared = `"template_id":"T","page":"p","data":{"thing1":""},"lang":"zz","miniprogram_state":"x","truncate":true`
	const text = `"msgtype":"text","text":{"content":"x"}`
	for name, c := range map[string]struct{ body, fields string }{
		"subscribe":                    {`{` + shared + `}`, ""},
		"subscribe, another's":         {`{` + text + `}`, "msgtype text"},
		"customer_service":             {`{"channel":"customer_service",` + text + `,"no_credit":"hold","on_unknown":"keep","priority":"high","supersede_key":"k","metadata":{"a":1}}`, ""},
		"customer_service, another's":  {`{"channel":"customer_service",` + text + `,` + shared + `}`, "lang miniprogram_state truncate template_id page data"},
		"customer_service, an alias":   {`{"channel":"customer_service",` + text + `,"template":"order_shipped"}`, "template"},
		"customer_service, a part":     {`{"channel":"customer_service",` + text + `,"subscribe":{"page":"p"},"template":{"page":"p"}}`, "subscribe template"},
		"customer_service, of nothing": {`{"channel":"customer_service",` + text + `,"template_id":"","page":"","data":{},"lang":"","truncate":false}`, ""},
		"uniform":                      {`{"channel":"uniform","weapp_template_msg":{},` + shared + `}`, "lang miniprogram_state truncate template_id page data"},
		"template":                     {`{"channel":"template","template_id":"T","page":"p","data":{},"form_id":"1","emphasis_keyword":"x","color":"#000000"}`, ""},
		"template, another's":          {`{"channel":"template",` + shared + `}`, "lang miniprogram_state truncate"},
		"oa_template":                  {`{"channel":"oa_template","template_id":"T","page":"p","data":{},"url":"u","miniprogram":{}}`, ""},
		"oa_template, another's":       {`{"channel":"oa_template",` + shared + `}`, "lang miniprogram_state truncate"},
		"a list with subscribe":        {`{"channel":["customer_service","subscribe"],` + text + `,` + shared + `}`, ""},
		"a list with oa_template":      {`{"channel":["oa_template","customer_service"],` + text + `,"template_id":"T","data":{"first":"x"},"lang":"zz"}`, "lang"},
		"a list without":               {`{"channel":["customer_service","uniform"],` + text + `,"template_id":"T"}`, "template_id"},
		"a channel that is none":       {`{"channel":"costumer_service",` + text + `,` + shared + `}`, ""},
	} {
		q, err := Parse([]byte(c.body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var f Issues
		q.checkForeign(&f, q.Channels())
		if got := fieldsOf(f); got != c.fields {
			t.Errorf("%s: blames %q, want %q: %v", name, got, c.fields, f)
		}
	}
}
