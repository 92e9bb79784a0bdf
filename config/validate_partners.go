package config

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Allowances are the names that may stand in a partner's allow list.
var Allowances = []string{"messages", "subscriptions", "bindings", "tokens", "wechat_api", "endpoints", "session_keys"}

var (
	wechatSecretForm = regexp.MustCompile(`^[0-9a-f]{32}$`)
	eventForm        = regexp.MustCompile(`^(\*|[a-z_]+\.(\*|[a-z_]+))$`)
	wechatPathForm   = regexp.MustCompile(`^([A-Za-z0-9_-]+/)*([A-Za-z0-9_-]+|\*)$`)
	visibleForm      = regexp.MustCompile(`^[!-~]{1,128}$`)
)

func (c *Config) validatePartners(f *filling) {
	apps := map[string]bool{}
	for _, a := range c.Apps {
		apps[a.ID] = true
	}
	seen, faces := ids{}, map[string]string{}
	for i := range c.Partners {
		partner, p := &c.Partners[i], fmt.Sprintf("partners[%d]", i)
		f.name(seen, p, partner.ID)
		f.webhookSecrets(p+".secrets", partner.Secrets)
		if s := partner.WeChatSecret.Reveal(); s != "" {
			if !wechatSecretForm.MatchString(s) {
				f.refuse(p+".wechat_secret", "wants 32 of 0-9a-f, this has %s", characters(s))
			} else if faces[s] != "" {
				f.refuse(p+".wechat_secret", "is the one of %s too; it names the partner, so it must be its own", faces[s])
			}
			faces[s] = p
		}
		f.partnerApps(p, partner.Apps, apps)
		given := map[string]bool{}
		for j, name := range partner.Allow {
			ap := fmt.Sprintf("%s.allow[%d]", p, j)
			f.oneOf(ap, name, Allowances...)
			if given[name] {
				f.refuse(ap, "%q is given twice", name)
			}
			given[name] = true
		}
		f.wechatPaths(p, partner)
		f.rate(p+".rate", partner.Rate)
		c.validateEndpoints(f, p, partner)
	}
}

func (f *filling) partnerApps(p string, names []string, apps map[string]bool) {
	if len(names) == 0 {
		f.refuse(p+".apps", "none; name the apps this partner may use")
	}
	known := make([]string, 0, len(apps))
	for id := range apps {
		known = append(known, id)
	}
	given := map[string]bool{}
	for j, name := range names {
		path := fmt.Sprintf("%s.apps[%d]", p, j)
		switch n := nearest(name, known); {
		case given[name]:
			f.refuse(path, "%q is given twice", name)
		case !apps[name] && n != "":
			f.refuse(path, "%q is no app of this config, did you mean %q?", name, n)
		case !apps[name]:
			f.refuse(path, "%q is no app of this config", name)
		}
		given[name] = true
	}
}

// wechatPaths checks what a partner may reach of WeChat's API.
func (f *filling) wechatPaths(p string, partner *Partner) {
	if len(partner.WeChatPaths) > 0 && !slices.Contains(partner.Allow, "wechat_api") {
		f.refuse(p+".wechat_paths", "only with allow: wechat_api")
	}
	for i, path := range partner.WeChatPaths {
		if !wechatPathForm.MatchString(path) {
			f.refuse(fmt.Sprintf("%s.wechat_paths[%d]", p, i), "%q: wants a path such as wxa/msg_sec_check or cgi-bin/message/*", path)
		}
	}
}

// webhookSecrets checks Standard Webhooks secrets: one, or two while they are rotated.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
func (f *filling) webhookSecrets(p string, secrets []Secret) {
	if len(secrets) == 0 {
		f.refuse(p, "required, 1 or 2 (or secrets_file, one per line)")
	}
	if len(secrets) > 2 {
		f.refuse(p, "%d, at most 2", len(secrets))
	}
	for i, s := range secrets {
		path := fmt.Sprintf("%s[%d]", p, i)
		text, ok := strings.CutPrefix(s.Reveal(), "whsec_")
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			raw, err = base64.RawStdEncoding.DecodeString(text)
		}
		switch {
		case !ok:
			f.refuse(path, "wants whsec_ in front, as wxrelay keygen prints it")
		case err != nil:
			f.refuse(path, "behind whsec_ stands no base64")
		case len(raw) < 24 || len(raw) > 64:
			f.refuse(path, "%d bytes in base64, wants 24 to 64", len(raw))
		case i > 0 && s.Equal(secrets[0]):
			f.refuse(path, "the same as the first")
		}
	}
}
