package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// Each channel has its path, its payload goes out as it is, without HTML escaping, and msgid comes back to the digit.
func TestSendChannels(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		var got struct {
			path, body, contentType string
			query                   url.Values
		}
		f.tamper = func(_ http.ResponseWriter, r *http.Request, body []byte) bool {
			if r.URL.Path != pathStable {
				got.path, got.body, got.contentType, got.query = r.URL.Path, string(body), r.Header.Get("Content-Type"), r.URL.Query()
			}
			return false
		}
		f.answer[sendPaths[ChannelCustomerService]] = func(w http.ResponseWriter, _ *http.Request) { reply(w, `{"errcode":0,"errmsg":"ok"}`) }
		f.answer[sendPaths[ChannelOATemplate]] = func(w http.ResponseWriter, _ *http.Request) {
			reply(w, `{"errcode":0,"errmsg":"ok","msgid":"3395159288267931652"}`)
		}
		f.answer[sendPaths[ChannelTemplate]] = func(w http.ResponseWriter, _ *http.Request) {
			refuseWith(w, 45103, "This API has been unsupported rid: 1-2-3")
		}
		f.answer[sendPaths[ChannelUniform]] = func(w http.ResponseWriter, _ *http.Request) {
			refuseWith(w, 45109, "This API has been unsupported rid: 1-2-3")
		}
		c := newTestClient(t, rdb, serveFake(t, f))
		tok := mustToken(t, c)
		for _, x := range []struct {
			channel Channel
			path    string
			body    string
			msgID   string
			code    int
		}{
			{ChannelSubscribe, "/cgi-bin/message/subscribe/send",
				`{"touser":"o1","template_id":"T1","page":"pages/a?x=1&y=<2>","data":{"thing1":{"value":"a & b","color":""}},"miniprogram_state":"","lang":""}`,
				"1988810812324364291", 0},
			{ChannelSubscribe, "/cgi-bin/message/subscribe/send",
				`{"touser":"o1","new_field":"<&>","n":9007199254740993}`, "1988810812324364291", 0},
			{ChannelCustomerService, "/cgi-bin/message/custom/send", `{"touser":"o1","msgtype":"text"}`, "", 0},
			{ChannelOATemplate, "/cgi-bin/message/template/send",
				`{"touser":"o2","template_id":"OA","data":null,"client_msg_id":"c1","miniprogram":{"appid":"","pagepath":""}}`, "3395159288267931652", 0},
			{ChannelTemplate, "/cgi-bin/message/wxopen/template/send",
				`{"touser":"o1","template_id":"L","form_id":"f1","data":null,"emphasis_keyword":"keyword1.DATA"}`, "", 45103},
			{ChannelUniform, "/cgi-bin/message/wxopen/template/uniform_send", `{"touser":"o1"}`, "", 45109},
		} {
			r, err := c.Send(t.Context(), "shop", x.channel, json.RawMessage(x.body))
			if codeOf(err) != x.code || r.MsgID != x.msgID {
				t.Errorf("%s: %+v %v", x.channel, r, err)
			}
			if got.path != x.path || got.body != x.body {
				t.Errorf("%s went to %s as\n%s", x.channel, got.path, got.body)
			}
			if diff := cmp.Diff(url.Values{"access_token": {tok.Value}}, got.query); diff != "" {
				t.Error(diff)
			}
			var api *APIError
			if errors.As(err, &api) && api.Reaction() != ReactionRetired {
				t.Errorf("%s: %s", x.channel, api.Reaction())
			}
		}
	})
}

func TestReadReceipt(t *testing.T) {
	for body, want := range map[string]string{
		`{"errcode":0,"errmsg":"ok","msgid":23637352235060880}`: "23637352235060880",
		`{"errcode":0,"msgid":3395159288267931652}`:             "3395159288267931652",
		`{"errcode":"0","msgid":"18446744073709551615"}`:        "18446744073709551615",
		`{"msgid":5}`:                 "5",
		`{"errcode":0,"errmsg":"ok"}`: "",
		`{"errcode":0,"msgid":null}`:  "",
		`{"errcode":0,"msgid":0}`:     "",
		" {\"errcode\":0,\"msgid\": 1864323726461255680 , \"x\":[1]}\n": "1864323726461255680",
	} {
		a, ok := readAnswer([]byte(body))
		if r, err := readReceipt(&a); !ok || err != nil || r.MsgID != want {
			t.Errorf("%s: %q %v, want %q", body, r.MsgID, err, want)
		}
	}
	for _, body := range []string{`{}`, `{"errcode":"x"}`, `{"errcode":1.5}`, `{"errcode":[]}`, `{"errmsg":3}`} {
		a, ok := readAnswer([]byte(body))
		if _, err := readReceipt(&a); ok && err == nil {
			t.Errorf("%s is taken for an acceptance", body)
		}
	}
}

// Whatever WeChat says but a dead token is said once: nothing else is repeated here.
func TestSendRepeatsNothingElse(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		c := newTestClient(t, rdb, serveFake(t, f))
		path := sendPaths[ChannelSubscribe]
		for _, row := range Errcodes() {
			if row.Code == 0 || row.Reaction == ReactionToken {
				continue
			}
			f.with(func(f *fake) {
				f.calls[path] = 0
				f.answer[path] = func(w http.ResponseWriter, _ *http.Request) { refuseWith(w, row.Code, row.Name) }
			})
			var api *APIError
			if err := send(t, c); !errors.As(err, &api) || api.Code != row.Code || api.Reaction() != row.Reaction {
				t.Errorf("%d: %v", row.Code, err)
			}
			if n := f.count(path); n != 1 {
				t.Errorf("%d was sent %d times", row.Code, n)
			}
		}
		if f.count(pathStable) != 1 {
			t.Errorf("%d token fetches", f.count(pathStable))
		}
	})
}

func TestSendWhatCannotBeSent(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		c := newTestClient(t, rdb, serveFake(t, f))
		for name, body := range map[string]json.RawMessage{"bad JSON": json.RawMessage(`{"touser":`), "nothing": nil} {
			if _, err := c.Send(t.Context(), "shop", ChannelSubscribe, body); !errors.Is(err, ErrBody) || errors.Is(err, ErrNotLeft) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := c.Send(t.Context(), "shop", "pigeon", nil); !errors.Is(err, ErrBody) {
			t.Errorf("unknown channel: %v", err)
		}
		if _, err := c.Send(t.Context(), "nobody", ChannelSubscribe, nil); !errors.Is(err, ErrUnknownApp) {
			t.Errorf("unknown app: %v", err)
		}
		if n := f.count(sendPaths[ChannelSubscribe]); n != 0 {
			t.Errorf("%d reached WeChat", n)
		}
	})
}

func TestOnCall(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		type seen struct {
			App, Path string
			Code      int
		}
		var mu sync.Mutex
		var all []seen
		f := newFake()
		f.answer["/wxa/partner/made/this/up"] = func(w http.ResponseWriter, _ *http.Request) { refuseWith(w, 48001, "api unauthorized") }
		c := newTestClient(t, rdb, serveFake(t, f), func(o *Options) {
			o.OnCall = func(_ context.Context, app, path string, code int, d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				if d <= 0 {
					t.Error("no duration")
				}
				all = append(all, seen{app, path, code})
			}
		})
		if err := send(t, c); err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{"/wxa/partner/made/this/up", "/made-up/x"} {
			if status, _, err := proxied(t, c, Request{Method: http.MethodPost, Target: target, Body: []byte("{}")}); err != nil || status != 200 {
				t.Fatal(status, err)
			}
		}
		want := []seen{{"shop", pathStable, 0}, {"shop", "/cgi-bin/message/subscribe/send", 0}, {"shop", "/wxa/*", 48001}, {"shop", "/*", 0}}
		if diff := cmp.Diff(want, all); diff != "" {
			t.Error(diff)
		}
	})
}
