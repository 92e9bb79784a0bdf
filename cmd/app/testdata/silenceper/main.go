// A program as WeChat teams have it, made with an SDK for WeChat itself. Only the address is another one: its transport sends
// to the gateway what is meant for api.weixin.qq.com.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/credential"
	"github.com/silenceper/wechat/v2/miniprogram/auth"
	"github.com/silenceper/wechat/v2/miniprogram/config"
	mini "github.com/silenceper/wechat/v2/miniprogram/context"
	"github.com/silenceper/wechat/v2/miniprogram/subscribe"
	oaconfig "github.com/silenceper/wechat/v2/officialaccount/config"
	oa "github.com/silenceper/wechat/v2/officialaccount/context"
	"github.com/silenceper/wechat/v2/officialaccount/material"
	"github.com/silenceper/wechat/v2/util"
)

type elsewhere struct{ base *url.URL }

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.Host = e.base.Scheme, e.base.Host, ""
	return http.DefaultTransport.RoundTrip(out)
}

func main() {
	base, err := url.Parse(os.Args[1])
	must(err)
	appid, secret, code, template, file := os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6]
	util.DefaultHTTPClient = &http.Client{Transport: elsewhere{base}}
	said := map[string]string{}
	memory := cache.NewMemory()
	for kind, tokens := range map[string]credential.AccessTokenHandle{
		"classic": credential.NewDefaultAccessToken(appid, secret, "classic", memory),
		"stable":  credential.NewStableAccessToken(appid, secret, "stable", memory),
	} {
		token, err := tokens.GetAccessToken()
		must(err)
		said[kind] = token
	}
	tokens := credential.NewStableAccessToken(appid, secret, "used", memory)
	handle := tokens.(credential.AccessTokenContextHandle)
	ctx := &mini.Context{Config: &config.Config{AppID: appid, AppSecret: secret, Cache: memory}, AccessTokenContextHandle: handle}

	who, err := auth.NewAuth(ctx).Code2Session(code)
	must(err)
	said["openid"], said["session_key"] = who.OpenID, who.SessionKey

	msgid, err := subscribe.NewSubscribe(ctx).SendGetMsgID(&subscribe.Message{ToUser: who.OpenID, TemplateID: template, Page: "pages/order?id=1&x=2",
		Data: map[string]*subscribe.DataItem{"thing1": {Value: "一杯咖啡"}, "amount2": {Value: "¥18"}}})
	must(err)
	said["msgid"] = fmt.Sprint(msgid)

	media, err := material.NewMaterial(&oa.Context{Config: &oaconfig.Config{AppID: appid, Cache: memory}, AccessTokenHandle: tokens}).
		MediaUpload(material.MediaTypeImage, file)
	must(err)
	said["media_id"] = media.MediaID

	err = subscribe.NewSubscribe(ctx).Send(&subscribe.Message{ToUser: who.OpenID, TemplateID: template,
		Data: map[string]*subscribe.DataItem{"thing1": {Value: "x"}, "amount2": {Value: "¥18"}}})
	said["second"] = fmt.Sprint(err)
	must(json.NewEncoder(os.Stdout).Encode(said))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
