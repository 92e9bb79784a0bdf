package config

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

func (c *Config) validateEndpoints(f *filling, partnerPath string, partner *Partner) {
	seen := ids{}
	for i := range partner.Endpoints {
		e, p := &partner.Endpoints[i], fmt.Sprintf("%s.endpoints[%d]", partnerPath, i)
		f.name(seen, p, e.ID)
		if e.URL == "" {
			f.refuse(p+".url", "required")
		} else {
			f.httpURL(p+".url", string(e.URL), false)
			if u, err := url.Parse(string(e.URL)); err == nil && u.Scheme == "http" && len(c.AllowPrivateEndpoints) == 0 {
				f.refuse(p+".url", "plain http is only possible inside allow_private_endpoints, which is empty")
			}
		}
		if len(e.Events) == 0 {
			f.refuse(p+".events", "none; leave the key out for every event")
		}
		for j, pattern := range e.Events {
			if !eventForm.MatchString(pattern) {
				f.refuse(fmt.Sprintf("%s.events[%d]", p, j), "%q: wants a type such as message.sent, a prefix such as message.*, or *", pattern)
			}
		}
		f.endpointKind(p, e)
		f.filter(p+".filter", e.Filter, partner.Apps)
		f.headers(p+".headers", e.Headers)
		f.between(p+".timeout", e.Timeout, time.Second, maxTimeout)
		f.count(p+".in_flight", e.InFlight, 1, maxInFlight)
		if !(e.Rate >= 0 && e.Rate <= 1e6) {
			f.refuse(p+".rate", "%v, wants 0 (no limit) to 1000000", e.Rate)
		}
		f.oneOf(p+".order", e.Order, "none", "user")
	}
}

// endpointKind checks the keys an endpoint of its kind needs: secrets to sign with, or the pair to seal pushes with.
func (f *filling) endpointKind(p string, e *Endpoint) {
	f.oneOf(p+".kind", e.Kind, "webhook", "wechat")
	if e.Kind != "wechat" {
		f.webhookSecrets(p+".secrets", e.Secrets)
		var none EndpointWeChat
		if none.defaults(); e.WeChat != none {
			f.refuse(p+".wechat", "only with kind: wechat")
		}
		return
	}
	if len(e.Secrets) > 0 {
		f.webhookSecrets(p+".secrets", e.Secrets)
	}
	f.oneOf(p+".wechat.mode", e.WeChat.Mode, "secure", "compat", "plain")
	f.oneOf(p+".wechat.format", e.WeChat.Format, "same", "xml", "json")
	f.pushKey(p+".wechat", e.WeChat.Token, e.WeChat.EncodingAESKey, e.WeChat.Mode != "plain")
}

func (f *filling) filter(p string, filter Filter, apps []string) {
	for i, app := range filter.App {
		if !slices.Contains(apps, app) {
			f.refuse(fmt.Sprintf("%s.app[%d]", p, i), "%q is no app of this partner", app)
		}
	}
	for _, l := range []struct {
		name   string
		values []string
	}{{"app", filter.App}, {"event", filter.Event}, {"template_id", filter.TemplateID}, {"openid", filter.OpenID}} {
		f.count(under(p, l.name), len(l.values), 0, maxFilter)
		for i, v := range l.values {
			if !visibleForm.MatchString(v) {
				f.refuse(fmt.Sprintf("%s.%s[%d]", p, l.name, i), "%q: wants 1 to 128 visible ASCII characters", v)
			}
		}
	}
}

// notSettable are headers that belong to HTTP itself; webhook-*, content-* and proxy-* are refused by their beginning.
var notSettable = []string{"Host", "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect"}

// headers checks what is sent along with each attempt.
func (f *filling) headers(p string, headers map[string]Secret) {
	f.count(p, len(headers), 0, maxHeaders)
	f.headerNames(p, headers)
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		canonical := http.CanonicalHeaderKey(name)
		reserved := slices.Contains(notSettable, canonical)
		for _, prefix := range []string{"Webhook-", "Content-", "Proxy-"} {
			reserved = reserved || strings.HasPrefix(canonical, prefix)
		}
		switch path := under(p, name); {
		case reserved:
			f.refuse(path, "is set by the gateway itself")
		case seen[canonical]:
			f.refuse(path, "given twice: upper and lower case are the same")
		}
		seen[canonical] = true
	}
}
