package app

import (
	"fmt"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/gateway"
	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/ledger"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// plan is a config in the rooms' own words, checked by their own rules.
type plan struct {
	callback []callback.App
	wechat   []wechat.App
	rules    relay.Rules
	limits   gateway.Limits
	keys     *keyring
}

// planOf translates a valid config. What only a room can judge (an endpoint's address, a pattern) is judged here, and
// comes as config.Faults.
func planOf(c *config.Config) (*plan, error) {
	var faults config.Faults
	keys, err := newKeyring(c.MasterKey, c.MasterKeyPrevious)
	if err != nil {
		return nil, err
	}
	p := &plan{keys: keys, limits: gateway.Limits{
		Body: int64(c.Limits.Body), ProxyBody: int64(c.Limits.ProxyBody),
		MPPerIP: gateway.Rate(c.Limits.MPPerIP), MPPerOpenID: gateway.Rate(c.Limits.MPPerOpenID),
		TrustedProxies: c.TrustedProxies,
	}}
	p.rules = relay.Rules{
		Apps: map[string]relay.App{}, Partners: map[string]relay.Partner{},
		KeepMessages: c.Retention.Messages, KeepEvents: c.Retention.Events,
		UnknownDeadline: c.Messages.UnknownDeadline, BatchLimit: c.Limits.Batch, HeldPerUser: c.Messages.HeldPerUser,
	}
	for _, a := range c.Apps {
		p.callback = append(p.callback, CallbackApp(a))
		p.wechat = append(p.wechat, WeChatApp(a))
		p.rules.Apps[a.ID] = relayApp(a)
	}
	checker := webhook.NewSender(webhook.SenderOptions{AllowPrivate: c.AllowPrivateEndpoints})
	for i, partner := range c.Partners {
		out := relay.Partner{Name: partner.ID, Apps: partner.Apps, Allow: map[string]bool{},
			PerSecond: partner.Rate.PerSecond, Burst: partner.Rate.Burst}
		for _, name := range partner.Allow {
			out.Allow[name] = true
		}
		path := fmt.Sprintf("partners[%d]", i)
		out.Secrets = secretsOf(&faults, path, partner.Secrets)
		for j, e := range partner.Endpoints {
			at := fmt.Sprintf("%s.endpoints[%d]", path, j)
			if err := checker.CheckURL(string(e.URL)); err != nil {
				faults = append(faults, config.Fault{Path: at + ".url", Reason: err.Error()})
			}
			for k, pattern := range e.Events {
				if err := webhook.CheckPattern(pattern); err != nil {
					faults = append(faults, config.Fault{Path: fmt.Sprintf("%s.events[%d]", at, k), Reason: err.Error()})
				}
			}
			out.Endpoints = append(out.Endpoints, webhook.Endpoint{Partner: partner.ID, ID: e.ID, URL: string(e.URL), Events: e.Events,
				Secrets: secretsOf(&faults, at, e.Secrets)})
		}
		p.rules.Partners[partner.ID] = out
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return p, nil
}

// CheckRooms says what the rooms themselves find wrong with a config that loads: config.Faults, or nil.
func CheckRooms(c *config.Config) error {
	p, err := planOf(c)
	if err != nil {
		return err
	}
	_, err = callback.NewHandler(p.callback, nil, callback.HandlerOptions{})
	return err
}

func secretsOf(faults *config.Faults, path string, given []config.Secret) (out []webhook.Secret) {
	for i, s := range given {
		parsed, err := webhook.ParseSecret(s.Reveal())
		if err != nil {
			*faults = append(*faults, config.Fault{Path: fmt.Sprintf("%s.secrets[%d]", path, i), Reason: err.Error()})
			continue
		}
		out = append(out, parsed)
	}
	return out
}

// CallbackApp is an app as the ear knows it.
func CallbackApp(a config.App) callback.App {
	out := callback.App{Name: a.ID, AppID: a.AppID, OriginalID: a.OriginalID, Mode: callback.Mode(a.Push.Mode),
		Key:    callback.Key{Token: a.Push.Token.Reveal(), EncodingAESKey: a.Push.EncodingAESKey.Reveal()},
		MaxAge: a.Push.MaxAge, Reply: a.Push.Reply, PayAppKey: a.Push.PayAppKey.Reveal()}
	for _, k := range a.Push.Previous {
		out.Previous = append(out.Previous, callback.Key{Token: k.Token.Reveal(), EncodingAESKey: k.EncodingAESKey.Reveal()})
	}
	return out
}

// WeChatApp is an app as WeChat's API knows it.
func WeChatApp(a config.App) wechat.App {
	out := wechat.App{Name: a.ID, AppID: a.AppID, Secret: a.Secret.Reveal(), Kind: a.Kind,
		Token: wechat.TokenSource{Kind: a.Token.Source, URL: a.Token.URL.Reveal()}}
	for name, value := range a.Token.Header {
		if out.Token.Header == nil {
			out.Token.Header = map[string]string{}
		}
		out.Token.Header[name] = value.Reveal()
	}
	return out
}

func relayApp(a config.App) relay.App {
	out := relay.App{Name: a.ID, AppID: a.AppID, Kind: a.Kind, PushMaxAge: a.Push.MaxAge, Reply: a.Push.Reply, ReplyEndpoint: a.Push.ReplyEndpoint,
		PhoneEcho: a.PhoneEcho, Consent: consentPolicy(a.Subscriptions)}
	for _, t := range a.Templates {
		if out.Templates == nil {
			out.Templates = map[string]relay.Alias{}
		}
		out.Templates[t.ID] = relay.Alias{TemplateID: t.TemplateID, Page: t.Page, Data: t.Data}
		if t.Kind != "" {
			if out.Counts == nil {
				out.Counts = map[string]relay.Counting{}
			}
			out.Counts[t.TemplateID] = relay.Counting{Kind: ledger.Kind(t.Kind), Every: t.Every, Keyword: t.Keyword}
		}
	}
	return out
}

// consentPolicy keeps a configured 0 apart from the ledger's "not said".
func consentPolicy(s config.AppSubscriptions) ledger.Policy {
	p := ledger.Policy{Trust: s.Trust, PairingWindow: s.PairingWindow, PopupReject: s.PopupReject, UnprovenMax: s.UnprovenMax}
	if p.UnprovenMax == 0 {
		p.UnprovenMax = -1
	}
	if p.PairingWindow == 0 {
		p.PairingWindow = -1
	}
	return p
}
