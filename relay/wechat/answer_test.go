package wechat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
)

// damages are what has been seen in WeChat's answers, and its kind.
var damages = map[string]func(string) string{
	"byte order mark":     func(s string) string { return "\uFEFF" + s },
	"control in a string": func(s string) string { return strings.ReplaceAll(s, "~", "\x14") },
	"newline in a string": func(s string) string { return strings.ReplaceAll(s, "~", "\n") },
	"control outside":     func(s string) string { return "\x00\x01" + strings.Replace(s, ",", ",\x02\x7f", 1) },
	"bad escape":          func(s string) string { return strings.ReplaceAll(s, "~", `\x`) },
	"broken \\u":          func(s string) string { return strings.ReplaceAll(s, "~", `\u12g`) },
	"trailing bytes":      func(s string) string { return s + "\x00\x00" },
	"a second object":     func(s string) string { return s + "\n" + `{"errcode":40001,"errmsg":"no"}` },
	"not UTF-8":           func(s string) string { return strings.ReplaceAll(s, "~", "\xff\xfe") },
}

// Every answer is read whatever damage of these it has: tokens, logins, sends, templates, phone numbers, media.
func TestAnswersAreReadLeniently(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			c := newTestClient(t, miniClient(t, miniredis.RunT(t)), serveFake(t, f))
			k, _ := c.keeper("shop")
			answers := map[string]string{
				pathStable:                  `{"note":"~","access_token":"TOKEN_1","expires_in":"7200"}`,
				pathClassic:                 `{"note":"~","access_token":"TOKEN_2","expires_in":7200}`,
				pathLogin:                   `{"session_key":"k","nick":"~","openid":"oX"}`,
				pathTemplates:               `{"errmsg":"ok","errcode":0,"data":[{"priTmplId":"T1","title":"a~b","content":"x:{{thing1.DATA}}","type":"3"}]}`,
				pathPhone:                   `{"errcode":0,"errmsg":"~","phone_info":{"purePhoneNumber":13800000000,"countryCode":86}}`,
				pathUpload:                  `{"type":"image","x":"~","media_id":"M1","created_at":"1709294400"}`,
				sendPaths[ChannelSubscribe]: `{"errcode":0,"errmsg":"o~k","msgid":1988810812324364291}`,
			}
			f.tamper = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
				reply(w, damage(answers[r.URL.Path]))
				return true
			}
			if tok := mustToken(t, c); tok.Value != "TOKEN_1" {
				t.Errorf("stable: %q", tok.Value)
			}
			if tok, err := k.fetchClassic(t.Context()); err != nil || tok.Value != "TOKEN_2" {
				t.Errorf("classic: %q %v", tok.Value, err)
			}
			if l, err := c.Login(t.Context(), "shop", testCode); err != nil || l.OpenID != "oX" || l.SessionKey != "k" {
				t.Errorf("login: %v %v", l, err)
			}
			list, err := c.Templates(t.Context(), "shop")
			if err != nil || len(list) != 1 || list[0].ID != "T1" || list[0].Type != 3 || !cmp.Equal(list[0].Keywords, []string{"thing1"}) {
				t.Errorf("templates: %+v %v", list, err)
			}
			if p, err := c.Phone(t.Context(), "shop", testCode); err != nil || p.PurePhoneNumber != "13800000000" || p.CountryCode != "86" {
				t.Errorf("phone: %+v %v", p, err)
			}
			if m, err := c.Upload(t.Context(), "shop", "a.png", "image/png", []byte("x")); err != nil || m.ID != "M1" || m.CreatedAt != 1709294400 {
				t.Errorf("media: %+v %v", m, err)
			}
			r, err := c.Send(t.Context(), "shop", ChannelSubscribe, json.RawMessage(`{}`))
			if err != nil || r.MsgID != "1988810812324364291" {
				t.Errorf("send: %+v %v", r, err)
			}
		})
	}
}

// An errcode counts before anything else in the answer, and although the rest of it cannot be read.
func TestErrcodeFirst(t *testing.T) {
	for _, body := range []string{
		`{"errcode":45009,"errmsg":"say "please" first"}`,
		`{"errcode":45009,"errmsg":"cut`,
		`{"errmsg":"ok","errcode":"45009","data":[{]}`,
		`{"errcode":45009,"errmsg":{"zh":"x"},"openid":["o"],"msgid":1}`,
		`{"errcode":45009,"data":"not a list","template_list":7,"phone_info":[]}`,
	} {
		f := newFake()
		c := newTestClient(t, miniClient(t, miniredis.RunT(t)), serveFake(t, f))
		mustToken(t, c)
		f.with(func(f *fake) {
			f.tamper = func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { reply(w, body); return true }
		})
		k, _ := c.keeper("shop")
		for name, err := range map[string]error{
			"send":      send(t, c),
			"login":     second(c.Login(t.Context(), "shop", testCode)),
			"templates": second(c.Templates(t.Context(), "shop")),
			"phone":     second(c.Phone(t.Context(), "shop", testCode)),
			"media":     second(c.Upload(t.Context(), "shop", "a.png", "image/png", []byte("x"))),
			"token":     second(k.fetchStable(t.Context(), false)),
		} {
			if codeOf(err) != 45009 {
				t.Errorf("%s: %s: %v", body, name, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A send that was taken is taken, whatever stands behind its errcode; a list that is damaged is not an empty list.
func TestDamagedAnswers(t *testing.T) {
	for body, want := range map[string]string{
		`{"errcode":0,"errmsg":"ok","msgid":198881081232`: "", // the digits may go on
		`{"errcode":0,"errmsg":"ok","msgid":19888 x`:      "19888",
		`{"errcode":0,"msgid":1988,"errmsg":"o`:           "1988",
	} {
		a, ok := readAnswer([]byte(body))
		r, err := readReceipt(&a)
		if !ok || err != nil || r.MsgID != want || !a.partial {
			t.Errorf("%s: %v %+v %v", body, ok, r, err)
		}
	}
	f := newFake()
	c := newTestClient(t, miniClient(t, miniredis.RunT(t)), serveFake(t, f))
	f.answer[pathTemplates] = func(w http.ResponseWriter, _ *http.Request) {
		reply(w, `{"errcode":0,"errmsg":"ok","data":[{"priTmplId":"T1","title":"`)
	}
	if list, err := c.Templates(t.Context(), "shop"); codeOf(err) != CodeNoAnswer {
		t.Errorf("%v %v", list, err)
	}
}

// What readAnswer makes of anything is a JSON object that encoding/json reads, with the errcode it says.
func FuzzReadAnswer(f *testing.F) {
	for _, damage := range damages {
		f.Add([]byte(damage(`{"errcode":40001,"errmsg":"~","data":[{"a":"\u4e00"}]}`)))
	}
	f.Add([]byte(`{"errcode":0,"errmsg":"ok","msgid":1`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, ok := readAnswer(body)
		if !ok {
			return
		}
		var m map[string]json.RawMessage
		if err := json.Unmarshal(a.body, &m); err != nil {
			t.Fatalf("%q became %q: %v", body, a.body, err)
		}
		if json.Valid(body) && a.partial {
			t.Errorf("%q is whole", body)
		}
	})
}

func BenchmarkReadAnswer(b *testing.B) {
	for _, body := range []string{`{"errcode":0,"errmsg":"ok","msgid":1988810812324364291}`, fmt.Sprintf(`{"errcode":0,"data":%q}`, strings.Repeat("x", 60<<10))} {
		b.Run(fmt.Sprint(len(body)), func(b *testing.B) {
			for b.Loop() {
				if _, ok := readAnswer([]byte(body)); !ok {
					b.Fatal("not read")
				}
			}
		})
	}
}
