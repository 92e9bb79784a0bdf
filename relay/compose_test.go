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
