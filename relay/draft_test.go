package relay

import (
	"context"
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
		"no app, alias and id":  {`{` + to + `,"template":"order_shipped","template_id":"T","data":{"item":"x"}}`, "template_id app"},
		"no app, a user":        {`{"to":{"user":"u1"},"template_id":"T","data":{"thing1":"x"}}`, "app"},
		"no app, a unionid":     {`{"to":{"unionid":"u1"},"template_id":"T","data":{"thing1":"x"}}`, "app"},
		"no app, no account":    {`{` + to + `,"channel":"oa_template","data":{"first":"x"}}`, "app template_id"},
		"wrong alias":           {`{"app":"shop",` + to + `,"template":"none","template_id":"T","data":{"thing1":"x"}}`, "template_id template"},
		"a user that is no one": {`{"app":"shop","to":{"user":"u\n1"},"template_id":"T","data":{"thing1":""}}`, "to.user data.thing1"},
		"NUL in a user":         {`{"app":"shop","to":{"user":"u\u00001"},"template_id":"T","data":{"thing1":"x"}}`, "to.user"},
		"in the old part":       {`{"app":"shop",` + to + `,"channel":"template","template":{"bogus":1,"Page":"/x","template_id":"T","data":{"keyword1":"x"},"color":"red"},"lang":"zz"}`, "template.bogus template.Page lang color"},
		"inside a text":         {`{"app":"shop",` + to + `,"channel":"customer_service","msgtype":"text","text":{"content":"x","foo":1,"Content":"y","bar":2}}`, "text.foo text.Content text.bar"},
		"an unknown msgtype":    {`{"app":"shop",` + to + `,"channel":"customer_service","msgtype":"voice","page":"x"}`, "page msgtype"},
		"inside a link":         {`{"app":"shop",` + to + `,"channel":"customer_service","msgtype":"link","link":{"title":"x","foo":1}}`, "link.foo link.url"},
		"an unknown channel":    {`{"app":"shop",` + to + `,"channel":["subscribe","sms"],"template_id":"T","data":{"thing1":"x"},"msgtype":"text"}`, "channel"},
	} {
		for _, strange := range []bool{false, true} {
			want := c.fields
			if strange {
				c.body = `{"foo":1,` + c.body[1:]
				want = strings.TrimSpace("foo " + want)
			}
			q, err := ParseMessage([]byte(c.body))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			_, err = r.compose(t.Context(), r.rules.Load(), "orders", &q, now)
			if got := told(t, err); got != want {
				t.Errorf("%s: blames %q, want %q: %v", name, got, want, err)
			}
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
		"of two values":  {`"channel":"template","data":{"keyword2":{"value":"x","color":"red"},"keyword1":{"value":"x","color":"#12"}}`, "data.keyword2.color data.keyword1.color"},
		"of a subscribe": {`"data":{"thing1":{"value":"x","color":"red"}}`, ""},
		"of an account":  {`"channel":"oa_template","data":{"first":{"value":"x","color":"red"}}`, "app"}, // which is none: that is all there is to say
	} {
		q, err := ParseMessage([]byte(`{"app":"shop","to":{"openid":"` + someone + `"},"template_id":"T",` + c.rest + `}`))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err = r.compose(t.Context(), r.rules.Load(), "orders", &q, time.Now())
		if got := told(t, err); got != c.fields {
			t.Errorf("%s: blames %q, want %q: %v", name, got, c.fields, err)
		}
	}
}
