package wechat

import (
	"encoding/json"
	"errors"
	"io"
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
		text := &CustomerMessage{ToUser: "o1", Msgtype: "text"}
		for _, x := range []struct {
			channel Channel
			path    string
			payload any
			body    string
			msgID   string
			code    int
		}{
			{ChannelSubscribe, "/cgi-bin/message/subscribe/send",
				&SubscribeMessage{ToUser: "o1", TemplateID: "T1", Page: "pages/a?x=1&y=<2>", Data: map[string]*DataItem{"thing1": {Value: "a & b"}}},
				`{"touser":"o1","template_id":"T1","page":"pages/a?x=1&y=<2>","data":{"thing1":{"value":"a & b","color":""}},"miniprogram_state":"","lang":""}`,
				"1988810812324364291", 0},
			{ChannelSubscribe, "/cgi-bin/message/subscribe/send", json.RawMessage(`{"touser":"o1","new_field":"<&>","n":9007199254740993}`),
				`{"touser":"o1","new_field":"<&>","n":9007199254740993}`, "1988810812324364291", 0},
			{ChannelCustomerService, "/cgi-bin/message/custom/send", text, `{"touser":"o1","msgtype":"text"}`, "", 0},
			{ChannelOATemplate, "/cgi-bin/message/template/send", OATemplateMessage{ToUser: "o2", TemplateID: "OA", ClientMsgID: "c1"},
				`{"touser":"o2","template_id":"OA","data":null,"client_msg_id":"c1","miniprogram":{"appid":"","pagepath":""}}`, "3395159288267931652", 0},
			{ChannelTemplate, "/cgi-bin/message/wxopen/template/send", &TemplateMessage{ToUser: "o1", TemplateID: "L", FormID: "f1", EmphasisKeyword: "keyword1.DATA"},
				`{"touser":"o1","template_id":"L","form_id":"f1","data":null,"emphasis_keyword":"keyword1.DATA"}`, "", 45103},
			{ChannelUniform, "/cgi-bin/message/wxopen/template/uniform_send", json.RawMessage(`{"touser":"o1"}`), `{"touser":"o1"}`, "", 45109},
		} {
			r, err := c.Send(t.Context(), "shop", x.channel, x.payload)
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
		for name, body := range map[string]any{"bad JSON": json.RawMessage(`{"touser":`), "a channel": make(chan int)} {
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
			o.OnCall = func(app, path string, code int, d time.Duration) {
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
		status, _, _, err := c.Call(t.Context(), "shop", http.MethodPost, "/wxa/partner/made/this/up", nil, nil, []byte("{}"))
		if err != nil || status != 200 {
			t.Fatal(status, err)
		}
		_, _, _, _ = c.Call(t.Context(), "shop", http.MethodGet, "/made-up/x", nil, nil, nil)
		want := []seen{{"shop", pathStable, 0}, {"shop", "/cgi-bin/message/subscribe/send", 0}, {"shop", "/wxa/*", 48001}, {"shop", "/*", 0}}
		if diff := cmp.Diff(want, all); diff != "" {
			t.Error(diff)
		}
	})
}

func TestCallTouchesNothing(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		var got *http.Request
		var gotBody []byte
		binary := []byte("\x00\x01\xff{\"errcode\":40001}")
		f.answer["/cgi-bin/media/upload"] = func(w http.ResponseWriter, r *http.Request) {
			got = r
			gotBody, _ = io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Connection", "X-Hop, keep-alive")
			w.Header().Set("X-Hop", "1")
			w.Header().Set("X-Kept", "2")
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write(binary)
		}
		c := newTestClient(t, rdb, serveFake(t, f), func(o *Options) { o.CallLimit = 1 << 20 })
		old := mustToken(t, c)
		f.kill(old.Value, true)
		media := []byte("--b\r\nContent-Disposition: form-data; name=\"media\"; filename=\"a.png\"\r\n\r\n\x89PNG\x00\r\n--b--\r\n")
		header := http.Header{
			"Content-Type": {"multipart/form-data; boundary=b"}, "User-Agent": {"their-sdk/1"}, "Wechatmp-Signature": {"s"}, "Accept-Encoding": {"br"},
			"Connection": {"x-mine, close"}, "X-Mine": {"1"}, "Te": {"trailers"}, "Transfer-Encoding": {"chunked"}, "Upgrade": {"h2c"},
			"Authorization": {"Bearer ours"}, "Cookie": {"ours"}, "Webhook-Signature": {"ours"}, "Idempotency-Key": {"k"}, "Host": {"evil"}, "X-Forwarded-For": {"10.0.0.1"},
		}
		status, answerHeader, answer, err := c.Call(t.Context(), "shop", http.MethodPost, "/cgi-bin/media/upload?type=image&x=%41+b&access_token=THEIRS&&q",
			url.Values{"z": {"1 2"}, "access_token": {"THEIRS"}}, header, media)
		if err != nil {
			t.Fatal(err)
		}
		if status != http.StatusTeapot || string(answer) != string(binary) {
			t.Errorf("answer %d %q", status, answer)
		}
		if answerHeader.Get("X-Kept") != "2" || answerHeader.Get("X-Hop") != "" || answerHeader.Get("Connection") != "" || answerHeader.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("answer header %v", answerHeader)
		}
		if string(gotBody) != string(media) {
			t.Errorf("body %q", gotBody)
		}
		if want := "access_token=" + mustToken(t, c).Value + "&type=image&x=%41+b&q&z=1+2"; got.URL.RawQuery != want {
			t.Errorf("query %s\nwant %s", got.URL.RawQuery, want)
		}
		wantHeader := http.Header{"Content-Type": {"multipart/form-data; boundary=b"}, "User-Agent": {"their-sdk/1"}, "Wechatmp-Signature": {"s"}, "Accept-Encoding": {"br"}, "Content-Length": {got.Header.Get("Content-Length")}}
		if diff := cmp.Diff(wantHeader, got.Header); diff != "" {
			t.Error(diff)
		}
	})
}

func TestCallAnswers(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		c := newTestClient(t, rdb, serveFake(t, f), func(o *Options) { o.CallLimit = 1000 })
		call := func(method, path string, body []byte) (int, string, error) {
			status, _, answer, err := c.Call(t.Context(), "shop", method, path, nil, nil, body)
			return status, string(answer), err
		}
		f.answer["/wxa/refused"] = func(w http.ResponseWriter, _ *http.Request) { refuseWith(w, 48001, "no") }
		f.answer["/wxa/broken"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }
		f.answer["/wxa/long"] = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1001)) }
		f.answer["/wxa/always40001"] = func(w http.ResponseWriter, _ *http.Request) { refuseWith(w, 40001, "never good") }
		if status, answer, err := call("POST", "/wxa/refused", nil); err != nil || status != 200 || answer != `{"errcode":48001,"errmsg":"no"}` {
			t.Errorf("a refusal is an answer: %d %s %v", status, answer, err)
		}
		if status, _, err := call("POST", "/wxa/broken", nil); err != nil || status != 502 {
			t.Errorf("so is a status: %d %v", status, err)
		}
		if _, _, err := call("GET", "/wxa/long", nil); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("too long: %v", err)
		}
		if status, answer, err := call("GET", "/wxa/always40001", nil); err != nil || status != 200 || answer != `{"errcode":40001,"errmsg":"never good"}` || f.count("/wxa/always40001") > 2 {
			t.Errorf("not healable: %d %s %v", status, answer, err)
		}
		before := f.count("/wxa/refused")
		for _, bad := range []string{"", "wxa/x", "//evil.com/x", "/wxa/../x", "/wxa/%2e%2e/x", "/wxa//x", "/wxa/x#y", "/wxa/x y", "/wxa/%zz", "/wxa/./x", "/a\\b"} {
			if _, _, err := call("GET", bad, nil); !errors.Is(err, ErrBody) {
				t.Errorf("path %q: %v", bad, err)
			}
		}
		if _, _, err := call("BAD METHOD", "/wxa/refused", nil); !errors.Is(err, ErrBody) {
			t.Errorf("method: %v", err)
		}
		if _, _, err := call("POST", "/wxa/refused", make([]byte, 1001)); !errors.Is(err, ErrBody) {
			t.Errorf("long body: %v", err)
		}
		if n := f.count("/wxa/refused") - before; n != 0 {
			t.Errorf("%d of them left", n)
		}
	})
}
