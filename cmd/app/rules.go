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

// plan is a config in the terms of the packages it configures.
type plan struct {
	callback []callback.App
	wechat   []wechat.App
	rules    relay.Rules
	limits   gateway.Limits
	keys     *keyring
}

// Load reads a config like config.Load, and has the packages judge it too: every fault of either comes at once.
func Load(path string, env []string, rules ...config.Rule) (*config.Config, error) {
	return config.Load(path, env, append([]config.Rule{endpointRule}, rules...)...)
}

// endpointRule has webhook judge what only it can: an endpoint's address, a pattern, a secret.
func endpointRule(c *config.Config, refuse func(path, format string, a ...any)) {
	checker := webhook.NewSender(webhook.SenderOptions{AllowPrivate: c.AllowPrivateEndpoints})
	secrets := func(at string, given []config.Secret) {
		for i, s := range given {
			if _, err := webhook.ParseSecret(s.Reveal()); err != nil {
				refuse(fmt.Sprintf("%s.secrets[%d]", at, i), "%v", err)
			}
		}
	}
	for i, partner := range c.Partners {
		path := fmt.Sprintf("partners[%d]", i)
		secrets(path, partner.Secrets)
		for j, e := range partner.Endpoints {
			at := fmt.Sprintf("%s.endpoints[%d]", path, j)
			if err := checker.CheckURL(string(e.URL)); err != nil {
				refuse(at+".url", "%v", err)
			}
			for k, pattern := range e.Events {
				if err := webhook.CheckPattern(pattern); err != nil {
					refuse(fmt.Sprintf("%s.events[%d]", at, k), "%v", err)
				}
			}
			secrets(at, e.Secrets)
		}
	}
}

// planOf translates a valid config. One that was not read by Load is judged here, and what is wrong comes as
// config.Faults.
func planOf(c *config.Config) (*plan, error) {
	var faults config.Faults
	endpointRule(c, func(path, format string, a ...any) {
		faults = append(faults, config.Fault{Path: path, Reason: fmt.Sprintf(format, a...)})
	})
	if len(faults) > 0 {
		return nil, faults
	}
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
		KeepMessages: c.Retention.Messages, KeepEvents: c.Retention.Events, KeepBuried: c.Retention.Buried,
		UnknownDeadline: c.Messages.UnknownDeadline, BatchLimit: c.Limits.Batch, HeldPerUser: c.Messages.HeldPerUser,
	}
	for _, a := range c.Apps {
		p.callback = append(p.callback, CallbackApp(a))
		p.wechat = append(p.wechat, WeChatApp(a))
		p.rules.Apps[a.ID] = relayApp(a)
	}
	for _, partner := range c.Partners {
		out := relay.Partner{Name: partner.ID, Apps: partner.Apps, Allow: map[string]bool{},
			PerSecond: partner.Rate.PerSecond, Burst: partner.Rate.Burst,
			WeChatSecret: partner.WeChatSecret.Reveal(), WeChatPaths: partner.WeChatPaths}
		for _, name := range partner.Allow {
			out.Allow[name] = true
		}
		out.Secrets = secretsOf(partner.Secrets)
		for _, e := range partner.Endpoints {
			out.Endpoints = append(out.Endpoints, endpointOf(partner.ID, e))
			if e.Kind == relay.KindWeChat {
				if out.WeChat == nil {
					out.WeChat = map[string]relay.WeChatKeys{}
				}
				out.WeChat[e.ID] = relay.WeChatKeys{Token: e.WeChat.Token.Reveal(), EncodingAESKey: e.WeChat.EncodingAESKey.Reveal(),
					Mode: e.WeChat.Mode, Format: e.WeChat.Format}
			}
		}
		p.rules.Partners[partner.ID] = out
	}
	return p, nil
}

// endpointOf is an endpoint of the config as events are sent to it.
func endpointOf(partner string, e config.Endpoint) webhook.Endpoint {
	out := webhook.Endpoint{Partner: partner, ID: e.ID, URL: string(e.URL), Events: e.Events, Timeout: e.Timeout, InFlight: e.InFlight,
		Rate: e.Rate, Ordered: e.Order == relay.OrderUser, Secrets: secretsOf(e.Secrets), Filter: map[string][]string{
			"app": e.Filter.App, "event": e.Filter.Event, "template_id": e.Filter.TemplateID, "openid": e.Filter.OpenID}}
	for name, value := range e.Headers {
		if out.Headers == nil {
			out.Headers = map[string]string{}
		}
		out.Headers[name] = value.Reveal()
	}
	return out
}

// secretsOf parses what endpointRule has judged.
func secretsOf(given []config.Secret) (out []webhook.Secret) {
	for _, s := range given {
		if parsed, err := webhook.ParseSecret(s.Reveal()); err == nil {
			out = append(out, parsed)
		}
	}
	return out
}

// CallbackApp is an app as callback knows it.
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
