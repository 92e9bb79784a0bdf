package callback_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/callback"
)

// The example of WeChat's documentation:
// https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html
var exampleApp = callback.App{
	Name:  "shop",
	AppID: "wxba5fad812f8e6fb9",
	Key:   callback.Key{Token: "AAAAA", EncodingAESKey: strings.Repeat("A", 43)},
}

const (
	exampleQuery = "signature=6c5c811b55cc85e0e1b54100749188c20beb3f5d&timestamp=1714112445&nonce=415670741" +
		"&openid=o9AgO5Kd5ggOC-bXrbNODIiE3bGY&encrypt_type=aes&msg_signature=046e02f8204d34f8ba5fa3b1db94908f3df2e9b3"
	exampleBody = `{"ToUserName":"gh_97417a04a28d","Encrypt":"+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4` +
		`RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2I` +
		`uQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04="}`
)

// Verify proves that a push comes from WeChat and decodes it.
func ExampleVerifier_Verify() {
	verifier, err := callback.NewVerifier(exampleApp)
	if err != nil {
		fmt.Println(err)
		return
	}
	push, err := verifier.Verify(callback.ParseQuery(exampleQuery), []byte(exampleBody), time.Unix(1714112445, 0))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(push.Event.Event, push.Event.OpenID)
	fmt.Println(string(push.Raw))

	forged := strings.Replace(exampleBody, "+qdx1", "+qdx2", 1)
	_, err = verifier.Verify(callback.ParseQuery(exampleQuery), []byte(forged), time.Unix(1714112445, 0))
	fmt.Println(err)
	// Output:
	// debug_demo o9AgO5Kd5ggOC-bXrbNODIiE3bGY
	// {"ToUserName":"gh_97417a04a28d","FromUserName":"o9AgO5Kd5ggOC-bXrbNODIiE3bGY","CreateTime":1714112445,"MsgType":"event","Event":"debug_demo","debug_str":"hello world"}
	// callback: not proven to be WeChat's
}

// A handler serves the callback URLs of all apps. The sink stores each proven push before WeChat gets its answer.
func ExampleHandler() {
	store := func(_ context.Context, p *callback.Push) (reply []byte, err error) {
		fmt.Println("stored:", p.App, p.Event.MsgType, p.Event.Event)
		return nil, nil
	}
	handler, err := callback.NewHandler([]callback.App{exampleApp}, store, callback.HandlerOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/callback/{app}", handler)
	server := httptest.NewServer(mux)
	defer server.Close()

	for _, app := range []string{"shop", "unknown"} {
		res, err := http.Post(server.URL+"/callback/"+app+"?"+exampleQuery, "application/json", strings.NewReader(exampleBody))
		if err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		fmt.Printf("%s: %d %q\n", app, res.StatusCode, body)
	}
	// Output:
	// stored: shop event debug_demo
	// shop: 200 "success"
	// unknown: 403 ""
}

// Decode reads a message that is already proven, in either format.
func ExampleDecode() {
	format, event, err := callback.Decode([]byte(`{"ToUserName":"gh_1","FromUserName":"oAnn","CreateTime":1700000000,"MsgType":"event",
		"Event":"subscribe_msg_popup_event","List":{"TemplateId":"T1","SubscribeStatusString":"accept","PopupScene":"0"}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(format, event.OpenID, event.Subscribes[0].TemplateID, event.Subscribes[0].Status)
	// Output: json oAnn T1 accept
}
