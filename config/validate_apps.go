package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	idForm      = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,30}[a-z0-9])?$`)
	appIDForm   = regexp.MustCompile(`^wx[0-9a-f]{16}$`)
	ghForm      = regexp.MustCompile(`^gh_[0-9A-Za-z]{6,32}$`)
	tokenForm   = regexp.MustCompile(`^[A-Za-z0-9]{3,32}$`)
	aesKeyForm  = regexp.MustCompile(`^[A-Za-z0-9+/]{43}$`)
	keywordForm = regexp.MustCompile(`^[a-z_]+[0-9]+$`)
	headerForm  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
)

// ids notes which item has an id, also in the form the environment knows it by.
type ids map[string]string

// name checks one id; seen lives as long as its list.
func (f *filling) name(seen ids, path, id string) { f.named(seen, path+".id", id) }

func (f *filling) named(seen ids, path, id string) {
	item := path[:strings.LastIndexByte(path, '.')]
	switch {
	case id == "":
		f.refuse(path, "required")
	case !idForm.MatchString(id):
		f.refuse(path, "%q: wants 1 to 32 of a-z, 0-9, - and _, with a letter or digit at both ends", id)
	case seen[id] != "":
		f.refuse(path, "%q is taken by %s", id, seen[id])
	case seen[envName(id)] != "":
		f.refuse(path, "%q is taken by %s: - and _ are the same in environment variables", id, seen[envName(id)])
	default:
		seen[id], seen[envName(id)] = item, item
	}
}

func (c *Config) validateApps(f *filling) {
	if len(c.Apps) == 0 {
		f.refuse("apps", "none; at least one app is wanted")
	}
	seen, appids := ids{}, map[string]string{}
	for i := range c.Apps {
		a, p := &c.Apps[i], fmt.Sprintf("apps[%d]", i)
		f.name(seen, p, a.ID)
		switch {
		case a.AppID == "":
			f.refuse(p+".appid", "required")
		case !appIDForm.MatchString(a.AppID):
			f.refuse(p+".appid", "%q: wants wx and 16 of 0-9a-f", a.AppID)
		case appids[a.AppID] != "":
			f.refuse(p+".appid", "%q is the appid of %s too", a.AppID, appids[a.AppID])
		default:
			appids[a.AppID] = p
		}
		if a.Secret.IsZero() && a.Token.Source != "external" {
			f.refuse(p+".secret", "required (or secret_file), unless token.source is external")
		} else if s := a.Secret.Reveal(); strings.Contains(s, " ") {
			f.refuse(p+".secret", "contains a space")
		}
		if a.OriginalID != "" && !ghForm.MatchString(a.OriginalID) {
			f.refuse(p+".original_id", "%q: wants gh_ and letters or digits", a.OriginalID)
		}
		f.oneOf(p+".kind", a.Kind, "miniprogram", "official_account")
		c.validatePush(f, &a.Push, p+".push")
		f.tokenSource(&a.Token, p+".token")
		f.subscriptions(p+".subscriptions", a.Subscriptions.said())
		named := ids{}
		for j, t := range a.Templates {
			tp := fmt.Sprintf("%s.templates[%d]", p, j)
			f.name(named, tp, t.ID)
			if t.TemplateID == "" {
				f.refuse(tp+".template_id", "required")
			}
			f.counting(tp, t)
			for k, other := range a.Templates[:j] {
				if t.Kind != "" && other.Kind != "" && t.TemplateID == other.TemplateID && (t.Kind != other.Kind || t.Every != other.Every || t.Keyword != other.Keyword) {
					f.refuse(tp+".kind", "another kind, every or keyword than %s.templates[%d] has for the same template", p, k)
				}
			}
		}
	}
}

// counting checks how a template is counted where WeChat's list does not tell: of type 3 there are three kinds.
func (f *filling) counting(p string, t Template) {
	if t.Kind != "" {
		f.oneOf(p+".kind", t.Kind, "rate_limited", "device")
	}
	if t.Kind != "rate_limited" {
		if t.Every != 0 {
			f.refuse(p+".every", "only with kind: rate_limited")
		}
		if t.Keyword != "" {
			f.refuse(p+".keyword", "only with kind: rate_limited")
		}
		return
	}
	if t.Every == 0 {
		f.refuse(p+".every", "required with kind: rate_limited: the template's period, such as 24h")
	} else {
		f.between(p+".every", t.Every, time.Second, maxRetention)
	}
	if t.Keyword == "" {
		f.refuse(p+".keyword", "required with kind: rate_limited: the template's mandatory keyword, such as character_string1")
	} else if !keywordForm.MatchString(t.Keyword) {
		f.refuse(p+".keyword", "%q: wants a keyword of the template, such as character_string1", t.Keyword)
	}
}

// said is an app's policy with the defaults, which have no faults, in place of what it leaves out.
func (s AppSubscriptions) said() Subscriptions {
	c := Config{Apps: []App{{Subscriptions: s}}}
	c.Subscriptions.defaults()
	c.inherit()
	return Subscriptions(c.Apps[0].Subscriptions)
}

func (c *Config) validatePush(f *filling, push *Push, p string) {
	f.oneOf(p+".mode", push.Mode, "secure", "compat", "plain")
	sealed := push.Mode != "plain"
	f.pushKey(p, push.Token, push.EncodingAESKey, sealed)
	for i, k := range push.Previous {
		f.pushKey(fmt.Sprintf("%s.previous[%d]", p, i), k.Token, k.EncodingAESKey, sealed)
	}
	f.count(p+".previous", len(push.Previous), 0, 4)
	f.between(p+".max_age", push.MaxAge, 0, 30*24*time.Hour)
	f.oneOf(p+".reply", push.Reply, "success", "transfer_customer_service", "partner")
	switch {
	case push.Reply == "partner" && push.ReplyEndpoint == "":
		f.refuse(p+".reply_endpoint", "required with reply: partner, as partner/endpoint")
	case push.ReplyEndpoint == "":
	case push.Reply != "partner":
		f.refuse(p+".reply_endpoint", "only with reply: partner")
	case !c.hasEndpoint(push.ReplyEndpoint):
		f.refuse(p+".reply_endpoint", "%q is no partner/endpoint of this config", push.ReplyEndpoint)
	}
}

func (c *Config) hasEndpoint(name string) bool {
	for _, partner := range c.Partners {
		for _, e := range partner.Endpoints {
			if partner.ID+"/"+e.ID == name {
				return true
			}
		}
	}
	return false
}

// pushKey checks the pair typed into WeChat's console.
// https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html
func (f *filling) pushKey(p string, token, key Secret, sealed bool) {
	switch t := token.Reveal(); {
	case t == "":
		f.refuse(p+".token", "required (or token_file)")
	case len(t) < 3 || len(t) > 32:
		f.refuse(p+".token", "%s, wants 3 to 32", characters(t))
	case !tokenForm.MatchString(t):
		f.refuse(p+".token", "only letters and digits are possible")
	}
	switch k := key.Reveal(); {
	case k == "" && sealed:
		f.refuse(p+".encoding_aes_key", "required (or encoding_aes_key_file), unless mode is plain")
	case k == "":
	case len(k) != maxAESKeyLen:
		f.refuse(p+".encoding_aes_key", "%s, wants %d", characters(k), maxAESKeyLen)
	case !aesKeyForm.MatchString(k):
		f.refuse(p+".encoding_aes_key", "only letters and digits are possible")
	}
}

func (f *filling) tokenSource(t *Token, p string) {
	f.oneOf(p+".source", t.Source, "stable", "classic", "external")
	if t.Source != "external" {
		if !t.URL.IsZero() {
			f.refuse(p+".url", "only with source: external")
		}
		if len(t.Header) > 0 {
			f.refuse(p+".header", "only with source: external")
		}
		return
	}
	if t.URL.IsZero() {
		f.refuse(p+".url", "required with source: external")
	} else {
		f.httpURL(p+".url", t.URL.Reveal(), false)
	}
	f.headerNames(p+".header", t.Header)
}

func (f *filling) headerNames(p string, headers map[string]Secret) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		if !headerForm.MatchString(name) {
			f.refuse(under(p, name), "not a header's name")
		}
	}
}
