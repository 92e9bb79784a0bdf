package relay

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// Formats of a forwarded push besides WeChat's own.
const formatSame = "same"

// anyAppID has the form of one: which app's pushes come, keys do not know.
const anyAppID = "wx0000000000000000"

// check names what is wrong with a subscriber's keys, by field.
func (k *WeChatKeys) check() map[string]string {
	out := map[string]string{}
	if k.Mode == "" {
		k.Mode = string(callback.Secure)
	}
	if k.Format == "" {
		k.Format = formatSame
	}
	switch callback.Mode(k.Mode) {
	case callback.Secure, callback.Compat:
		if len(k.EncodingAESKey) != 43 {
			out["encoding_aes_key"] = "must have 43 characters in this mode"
		}
	case callback.Plain:
	default:
		out["mode"] = "must be secure, compat or plain"
	}
	if k.Token == "" {
		out["token"] = "is missing"
	}
	if k.Format != formatSame && k.Format != string(callback.XML) && k.Format != string(callback.JSON) {
		out["format"] = "must be same, xml or json"
	}
	if len(out) == 0 {
		if _, err := callback.NewVerifier(k.app(anyAppID)); err != nil {
			out["encoding_aes_key"] = err.Error()
		}
	}
	return out
}

func (k *WeChatKeys) app(appID string) callback.App {
	return callback.App{Name: "subscriber", AppID: appID, Mode: callback.Mode(k.Mode), Key: callback.Key{Token: k.Token, EncodingAESKey: k.EncodingAESKey}}
}

// forwarded is what is needed of a push.received to write it anew.
type forwarded struct {
	App    string `json:"app"`
	Format string `json:"format"`
	Raw    string `json:"raw"`
}

// encoder posts a push as WeChat would push it to the subscriber, with the subscriber's own keys, mode and format.
func (r *Relay) encoder(keys WeChatKeys) webhook.Encoder {
	return func(payload []byte, now time.Time) (webhook.Encoded, error) {
		var event struct {
			Type string    `json:"type"`
			Data forwarded `json:"data"`
		}
		if err := json.Unmarshal(payload, &event); err != nil {
			return webhook.Encoded{}, err
		}
		if event.Type == EventEndpointTest {
			event.Data = testPush(r.rules.Load(), payload, now)
		}
		app, ok := r.App(event.Data.App)
		if !ok {
			return webhook.Encoded{}, fmt.Errorf("app %s is not in the config", event.Data.App)
		}
		format, raw := callback.Format(event.Data.Format), []byte(event.Data.Raw)
		if keys.Format != formatSame && keys.Format != string(format) {
			to := callback.Format(keys.Format)
			var err error
			if raw, err = transcode(raw, to); err != nil {
				return webhook.Encoded{}, fmt.Errorf("the push cannot be written as %s: %w", to, err)
			}
			format = to
		}
		query, body, err := callback.ComposeRequest(keys.app(app.AppID), format, raw, nonce(), now)
		if err != nil {
			return webhook.Encoded{}, err
		}
		contentType := "application/json"
		if format == callback.XML {
			contentType = "text/xml"
		}
		return webhook.Encoded{Query: query, ContentType: contentType, Body: body}, nil
	}
}

// testPush is an event that no handler knows: it is answered like any other and means nothing.
const testPushEvent = "wxrelay_endpoint_test"

func testPush(rules *Rules, payload []byte, now time.Time) forwarded {
	var event struct {
		Data TestEvent `json:"data"`
	}
	_ = json.Unmarshal(payload, &event) // our own
	out := forwarded{Format: string(callback.XML)}
	if apps := rules.Partners[event.Data.Partner].Apps; len(apps) > 0 {
		out.App = apps[0]
	}
	raw, _ := callback.Compose(callback.XML, callback.Event{ToUserName: "wxrelay", FromUserName: "wxrelay", CreateTime: now.Unix(), MsgType: "event", Event: testPushEvent})
	out.Raw = string(raw)
	return out
}

// nonce is what WeChat calls so: digits that make a signature differ.
func nonce() string { return strconv.FormatUint(rand.Uint64(), 10) }
