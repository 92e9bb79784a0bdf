package wechat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

func TestLogin(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		var query url.Values
		var answers []string
		f.answer[pathLogin] = func(w http.ResponseWriter, r *http.Request) {
			query = r.URL.Query()
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, answers[0])
			answers = answers[1:]
		}
		c := newTestClient(t, rdb, serveFake(t, f))
		t.Run("success has no errcode and says text/plain", func(t *testing.T) {
			answers = []string{`{"session_key":"HyVFkGl5F5OQWJZZaNzBBg==","openid":"oX","unionid":"uX"}`}
			got, err := c.Login(t.Context(), "shop", testCode)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Login{OpenID: "oX", UnionID: "uX", SessionKey: "HyVFkGl5F5OQWJZZaNzBBg=="}, got); diff != "" {
				t.Error(diff)
			}
			want := url.Values{"appid": {testAppID}, "secret": {testSecret}, "js_code": {testCode}, "grant_type": {"authorization_code"}}
			if diff := cmp.Diff(want, query); diff != "" {
				t.Error(diff)
			}
		})
		for code, want := range map[int]Reaction{
			40029: ReactionPermanent, 40163: ReactionPermanent, 40226: ReactionPermanent, 45011: ReactionQuotaMinute,
			40013: ReactionConfig, 40125: ReactionConfig, 40001: ReactionConfig, 99999: ReactionUnknown,
		} {
			answers = []string{fmt.Sprintf(`{"errcode":%d,"errmsg":"words, rid: 6aac005a-01bfdbee-79769285"}`, code)}
			_, err := c.Login(t.Context(), "shop", testCode)
			var api *APIError
			if !errors.As(err, &api) || api.Code != code || api.Reaction() != want || api.RID != "6aac005a-01bfdbee-79769285" || api.Path != pathLogin {
				t.Errorf("%d: %v", code, err)
			}
		}
		t.Run("-1 is repeated once", func(t *testing.T) {
			answers = []string{`{"errcode":-1,"errmsg":"system error"}`, `{"openid":"oY","session_key":"k"}`}
			if l, err := c.Login(t.Context(), "shop", testCode); err != nil || l.OpenID != "oY" {
				t.Errorf("%v %v", l, err)
			}
			answers = []string{`{"errcode":-1,"errmsg":"system error"}`, `{"errcode":40163,"errmsg":"code been used"}`, "never asked"}
			if _, err := c.Login(t.Context(), "shop", testCode); codeOf(err) != 40163 || len(answers) != 1 {
				t.Errorf("%v, %d answers left", err, len(answers))
			}
		})
		t.Run("what is no code is not sent", func(t *testing.T) {
			before := f.count(pathLogin)
			for _, code := range []string{"", "x&appid=wxATTACKER&secret=s", "a b", "a\nb", "a%26b", "代码", "x#y", "x?y", strings.Repeat("x", 513), "a\"b", "a;b"} {
				var api *APIError
				if _, err := c.Login(t.Context(), "shop", code); !errors.As(err, &api) || api.Code != 40029 {
					t.Errorf("%q: %v", code, err)
				}
				if _, err := c.Phone(t.Context(), "shop", code); !errors.As(err, &api) || api.Code != 40029 {
					t.Errorf("phone %q: %v", code, err)
				}
			}
			if n := f.count(pathLogin) - before; n != 0 {
				t.Errorf("%d reached WeChat", n)
			}
		})
		t.Run("odd but legal codes arrive whole", func(t *testing.T) {
			answers = []string{`{"openid":"oX","session_key":"k"}`}
			if _, err := c.Login(t.Context(), "shop", "a+b/c=d|e~f"); err != nil || query.Get("js_code") != "a+b/c=d|e~f" {
				t.Errorf("%v, arrived as %q", err, query.Get("js_code"))
			}
		})
		if f.count(pathStable) != 0 {
			t.Error("login needs no token")
		}
		if _, err := c.Login(t.Context(), "nobody", testCode); !errors.Is(err, ErrUnknownApp) {
			t.Errorf("unknown app: %v", err)
		}
	})
}

func TestTemplates(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		f.answer[pathTemplates] = func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet {
				t.Errorf("asked with %s", r.Method)
			}
			reply(w, `{"errcode":0,"errmsg":"ok","data":[
			{"priTmplId":"9Aw5ZV1j9xdWTFEkqCpZ7mIBbSC34khK55OtzUPl0rU","title":"报名结果通知","content":"会议时间:{{date2.DATA}}\n会议地点:{{thing1.DATA}}\n状态:{{enum_string3.DATA}}\n","example":"会议时间:2016年8月8日\n","type":2,
			 "keywordEnumValueList":[{"enumValueList":["前臂","后臂"],"keywordCode":"enum_string3.DATA"}]},
			{"priTmplId":"T2","title":"长期","content":"无","example":"","type":3}]}`)
		}
		f.answer[pathOATemplates] = func(w http.ResponseWriter, _ *http.Request) {
			reply(w, `{"template_list":[{"template_id":"OA1","title":"购买成功","primary_industry":"IT","deputy_industry":"x","content":"{{first.DATA}}\n商品：{{keyword1.DATA}}","example":"e"}]}`)
		}
		base := serveFake(t, f)
		c := newTestClient(t, rdb, base)
		old := mustToken(t, c)
		f.kill(old.Value, true) // healed on the way
		got, err := c.Templates(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		want := []Template{
			{ID: "9Aw5ZV1j9xdWTFEkqCpZ7mIBbSC34khK55OtzUPl0rU", Title: "报名结果通知", Content: "会议时间:{{date2.DATA}}\n会议地点:{{thing1.DATA}}\n状态:{{enum_string3.DATA}}\n",
				Example: "会议时间:2016年8月8日\n", Type: 2, Enums: map[string][]string{"enum_string3": {"前臂", "后臂"}}, Keywords: []string{"date2", "thing1", "enum_string3"}},
			{ID: "T2", Title: "长期", Content: "无", Type: 3},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		oa := newTestClient(t, rdb, base, func(o *Options) { o.Apps[0].Kind = KindOfficialAccount })
		got, err = oa.Templates(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		want = []Template{{ID: "OA1", Title: "购买成功", Content: "{{first.DATA}}\n商品：{{keyword1.DATA}}", Example: "e", Keywords: []string{"first", "keyword1"}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		f.with(func(f *fake) {
			f.answer[pathTemplates] = func(w http.ResponseWriter, _ *http.Request) { refuseWith(w, 200011, "banned rid: 1-2-3") }
		})
		if _, err := c.Templates(t.Context(), "shop"); codeOf(err) != 200011 {
			t.Errorf("refused: %v", err)
		}
	})
}

func TestPhone(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		f.answer[pathPhone] = func(w http.ResponseWriter, r *http.Request) {
			var in map[string]string
			_ = json.NewDecoder(r.Body).Decode(&in)
			if in["code"] != testCode {
				refuseWith(w, 40029, "invalid code rid: 6aac005a-01bfdbee-79769285")
				return
			}
			reply(w, `{"errcode":0,"errmsg":"ok","phone_info":{"phoneNumber":"+8613580006666","purePhoneNumber":"13580006666","countryCode":"86","watermark":{"timestamp":1637744274,"appid":"`+testAppID+`"}}}`)
		}
		c := newTestClient(t, rdb, serveFake(t, f))
		old := mustToken(t, c)
		f.kill(old.Value, false) // healed by force
		got, err := c.Phone(t.Context(), "shop", testCode)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(PhoneNumber{"+8613580006666", "13580006666", "86"}, got); diff != "" {
			t.Error(diff)
		}
		_, err = c.Phone(t.Context(), "shop", "another")
		var api *APIError
		if !errors.As(err, &api) || api.Code != 40029 || api.RID == "" || api.Path != pathPhone {
			t.Errorf("bad code: %v", err)
		}
		f.with(func(f *fake) {
			f.answer[pathPhone] = func(w http.ResponseWriter, _ *http.Request) { refuseWith(w, -1, "system error") }
		})
		before := f.count(pathPhone)
		if _, err := c.Phone(t.Context(), "shop", testCode); codeOf(err) != -1 || f.count(pathPhone)-before != 1 {
			t.Errorf("billed per success, so a -1 is not repeated: %v, %d calls", err, f.count(pathPhone)-before)
		}
	})
}
