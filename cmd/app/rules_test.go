package app

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/relay/ledger"
)

// What the operator says about an app's pushes is what the ear is given, key by key.
func TestTheEarIsWhatTheConfigSays(t *testing.T) {
	c := parse(t, `
apps:
  - id: shop
    appid: wx0123456789abcdef
    secret: x
    original_id: gh_0123456789ab
    push:
      token: TokenNow
      encoding_aes_key: NowNowNowNowNowNowNowNowNowNowNowNowNowNow1
      mode: compat
      previous:
        - {token: TokenBefore, encoding_aes_key: BeforeBeforeBeforeBeforeBeforeBeforeBefore1}
        - {token: TokenLongAgo, encoding_aes_key: LongAgoLongAgoLongAgoLongAgoLongAgoLongAgo1}
      max_age: 36h
      reply: transfer_customer_service
      pay_app_key: PayKey
  - id: news
    appid: wx0123456789abcde0
    secret: x
    push: {token: TokenNews, mode: plain, max_age: 0}
  - id: plain
    appid: wx0123456789abcde1
    secret: x
    push: {token: TokenNow, encoding_aes_key: NowNowNowNowNowNowNowNowNowNowNowNowNowNow1}
`)
	key := callback.Key{Token: "TokenNow", EncodingAESKey: "NowNowNowNowNowNowNowNowNowNowNowNowNowNow1"}
	for i, want := range []callback.App{
		{Name: "shop", AppID: "wx0123456789abcdef", OriginalID: "gh_0123456789ab", Mode: callback.Compat, Key: key,
			Previous: []callback.Key{{Token: "TokenBefore", EncodingAESKey: "BeforeBeforeBeforeBeforeBeforeBeforeBefore1"}, {Token: "TokenLongAgo", EncodingAESKey: "LongAgoLongAgoLongAgoLongAgoLongAgoLongAgo1"}},
			MaxAge:   36 * time.Hour, Reply: "transfer_customer_service", PayAppKey: "PayKey"},
		{Name: "news", AppID: "wx0123456789abcde0", Mode: callback.Plain, Key: callback.Key{Token: "TokenNews"}, Reply: "success"},
		{Name: "plain", AppID: "wx0123456789abcde1", Mode: callback.Secure, Key: key, MaxAge: 24 * time.Hour, Reply: "success"},
	} {
		if diff := cmp.Diff(want, CallbackApp(c.Apps[i])); diff != "" {
			t.Errorf("%s: %s", want.Name, diff)
		}
	}
	p, err := planOf(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := callback.NewHandler(p.callback, nil, callback.HandlerOptions{}); err != nil {
		t.Errorf("callback refuses it: %v", err)
	}
}

// An app's policy is the policy of all but for what it says itself; a 0 of the config is a 0.
func TestConsentIsWhatTheConfigSays(t *testing.T) {
	c := parse(t, `
apps:
  - {id: shop, appid: wx0123456789abcdef, secret: x, push: {token: TokenNow, mode: plain, max_age: 48h}}
  - {id: news, appid: wx0123456789abcde0, secret: x, push: {token: TokenNow, mode: plain}, subscriptions: {trust: client, popup_reject: keep}}
  - {id: zero, appid: wx0123456789abcde1, secret: x, push: {token: TokenNow, mode: plain}, subscriptions: {pairing_window: 0, unproven_max: 0}}
subscriptions: {trust: event, pairing_window: 90s, popup_reject: clear, unproven_max: 7}
`)
	p, err := planOf(c)
	if err != nil {
		t.Fatal(err)
	}
	for app, want := range map[string]ledger.Policy{
		"shop": {Trust: "event", PairingWindow: 90 * time.Second, PopupReject: "clear", UnprovenMax: 7},
		"news": {Trust: "client", PairingWindow: 90 * time.Second, PopupReject: "keep", UnprovenMax: 7},
		"zero": {Trust: "event", PairingWindow: -1, PopupReject: "clear", UnprovenMax: -1},
	} {
		if diff := cmp.Diff(want, p.rules.Apps[app].Consent); diff != "" {
			t.Errorf("%s: %s", app, diff)
		}
	}
	if got := p.rules.Apps["shop"].PushMaxAge; got != 48*time.Hour {
		t.Errorf("max_age %s", got)
	}
}
