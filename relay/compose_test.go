package relay

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
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
