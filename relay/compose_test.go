package relay

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/relay/wechat"
)

// told are the fields a refusal names, in its order.
func told(t *testing.T, err error) string {
	t.Helper()
	var inv *Invalid
	if err != nil && !errors.As(err, &inv) {
		t.Fatalf("refused otherwise: %v", err)
	}
	var names []string
	if inv != nil {
		for _, f := range inv.Fields {
			names = append(names, f.Field)
		}
	}
	return strings.Join(names, " ")
}

// The grammar of RFC 3339, section 5.6: T and Z may be small, a fraction begins with a point, an offset has a colon.
func TestMoment(t *testing.T) {
	at := time.Date(2026, 11, 28, 20, 0, 0, 0, time.UTC)
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
		m := Moment{Time: at}
		err := json.Unmarshal([]byte(raw), &m)
		got := ""
		var typ *json.UnmarshalTypeError
		switch {
		case errors.As(err, &typ):
			got = "type"
		case err != nil:
			t.Errorf("%s: %v", raw, err)
		case !m.wrong:
			got = m.UTC().Format(time.RFC3339Nano)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
}

// Whatever is wrong with a request is told at once, also what whoever read it found, and also when no app is named.
func TestComposeTellsAllFaultsAtOnce(t *testing.T) {
	r, _, _ := deskOf(t)
	r.templates = wechat.NewTemplateCache(func(_ context.Context, app string) ([]wechat.Template, error) {
		if app == "" {
			t.Error("WeChat was asked for the templates of no app")
		}
		return nil, errors.New("away")
	})
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	const to = `"to":{"openid":"` + someone + `"}`
	for name, c := range map[string]struct{ body, fields string }{
		"fine":                  {`{"app":"shop",` + to + `,"template_id":"T","data":{"thing1":"x"},"send_at":"2026-11-28t12:00:00z","expires_at":"2026-11-29T12:00:00Z"}`, ""},
		"wrong times":           {`{"app":"shop",` + to + `,"template_id":"T","data":{"thing1":""},"lang":"zz","send_at":"x","expires_at":""}`, "send_at expires_at lang data.thing1"},
		"one wrong time":        {`{"app":"shop",` + to + `,"template_id":"T","data":{"thing1":"x"},"send_at":"x","expires_at":"2026-11-26T12:00:00Z"}`, "send_at expires_at"},
		"expires before it is":  {`{"app":"shop",` + to + `,"template_id":"T","data":{"thing1":"x"},"send_at":"2026-11-29T12:00:00Z","expires_at":"2026-11-28T12:00:00Z"}`, "expires_at"},
		"too far ahead":         {`{"app":"shop",` + to + `,"template_id":"T","data":{"thing1":"x"},"send_at":"2027-11-29T12:00:00Z"}`, "send_at"},
		"no app":                {`{` + to + `,"template_id":"T","data":{"thing1":""},"lang":"zz","no_credit":"x"}`, "app no_credit lang data.thing1"},
		"no app, an alias":      {`{` + to + `,"template":"order_shipped","data":{"item":"x"},"lang":"zz"}`, "app lang"},
		"no app, alias and id":  {`{` + to + `,"template":"order_shipped","template_id":"T","data":{"item":"x"}}`, "app template_id"},
		"no app, a user":        {`{"to":{"user":"u1"},"template_id":"T","data":{"thing1":"x"}}`, "app"},
		"no app, a unionid":     {`{"to":{"unionid":"u1"},"template_id":"T","data":{"thing1":"x"}}`, "app"},
		"no app, no account":    {`{` + to + `,"channel":"oa_template","data":{"first":"x"}}`, "app template_id"},
		"wrong alias":           {`{"app":"shop",` + to + `,"template":"none","template_id":"T","data":{"thing1":"x"}}`, "template_id template"},
		"a user that is no one": {`{"app":"shop","to":{"user":"u\n1"},"template_id":"T","data":{"thing1":""}}`, "to.user data.thing1"},
		"NUL in a user":         {`{"app":"shop","to":{"user":"u\u00001"},"template_id":"T","data":{"thing1":"x"}}`, "to.user"},
		"in the old part":       {`{"app":"shop",` + to + `,"channel":"template","template":{"bogus":1,"Page":"/x","template_id":"T","data":{"keyword1":"x"},"color":"red"},"lang":"zz"}`, "template.Page template.bogus lang color"},
		"inside a text":         {`{"app":"shop",` + to + `,"channel":"customer_service","msgtype":"text","text":{"content":"x","foo":1,"Content":"y","bar":2}}`, "text.Content text.bar text.foo"},
		"an unknown msgtype":    {`{"app":"shop",` + to + `,"channel":"customer_service","msgtype":"voice","page":"x"}`, "page msgtype"},
		"inside a link":         {`{"app":"shop",` + to + `,"channel":"customer_service","msgtype":"link","link":{"title":"x","foo":1}}`, "link.foo link.url"},
		"an unknown channel":    {`{"app":"shop",` + to + `,"channel":["subscribe","sms"],"template_id":"T","data":{"thing1":"x"},"msgtype":"text"}`, "channel"},
	} {
		for _, blamed := range []bool{false, true} {
			var q SendRequest
			if err := json.Unmarshal([]byte(c.body), &q); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want := c.fields
			if blamed {
				q.Blame([]Field{{"foo", "unknown field"}})
				want = strings.TrimSpace("foo " + want)
			}
			_, err := r.compose(t.Context(), r.rules.Load(), "orders", &q, now)
			if got := told(t, err); got != want {
				t.Errorf("%s: blames %q, want %q: %v", name, got, want, err)
			}
		}
	}
}

// A field that none of the channels asked for uses would be read by nobody. With a list, what one uses may stand by the others.
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
		var q SendRequest
		if err := json.Unmarshal([]byte(c.body), &q); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(q.Channel) == 0 {
			q.Channel = OneOrMany{ChannelSubscribe}
		}
		var f faults
		q.checkForeign(&f, q.Channel)
		if got := told(t, f.err("invalid_message")); got != c.fields {
			t.Errorf("%s: blames %q, want %q: %v", name, got, c.fields, f)
		}
	}
}

// Only the legacy template shows its colors: of the others WeChat takes what it is given, and SDKs give it anything.
func TestColors(t *testing.T) {
	r, _, _ := deskOf(t)
	for name, c := range map[string]struct{ rest, fields string }{
		"right":          {`"channel":"template","color":"#173177","data":{"keyword1":{"value":"x","color":"#aaBBcc"},"keyword2":{"value":"x","color":""}}`, ""},
		"a name":         {`"channel":"template","color":"red","data":{"keyword1":"x"}`, "color"},
		"three digits":   {`"channel":"template","color":"#fff","data":{"keyword1":"x"}`, "color"},
		"eight digits":   {`"channel":"template","color":"#173177ff","data":{"keyword1":"x"}`, "color"},
		"no #":           {`"channel":"template","color":"173177","data":{"keyword1":"x"}`, "color"},
		"a line break":   {`"channel":"template","color":"#173177\n","data":{"keyword1":"x"}`, "color"},
		"in the part":    {`"channel":["template","customer_service"],"template":{"color":"red"},"data":{"keyword1":"x"},"msgtype":"text","text":{"content":"x"}`, "template.color"},
		"of two values":  {`"channel":"template","data":{"keyword2":{"value":"x","color":"red"},"keyword1":{"value":"x","color":"#12"}}`, "data.keyword1.color data.keyword2.color"},
		"of a subscribe": {`"data":{"thing1":{"value":"x","color":"red"}}`, ""},
		"of an account":  {`"channel":"oa_template","data":{"first":{"value":"x","color":"red"}}`, "app"}, // which is none: that is all there is to say
	} {
		var q SendRequest
		if err := json.Unmarshal([]byte(`{"app":"shop","to":{"openid":"`+someone+`"},"template_id":"T",`+c.rest+`}`), &q); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err := r.compose(t.Context(), r.rules.Load(), "orders", &q, time.Now())
		if got := told(t, err); got != c.fields {
			t.Errorf("%s: blames %q, want %q: %v", name, got, c.fields, err)
		}
	}
}
