package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/cmd/app"
	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/webhook"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

var checkCommand = command{
	name: "check", args: "-c FILE [-json]", summary: "the doctor: config, Redis, and every app at WeChat",
	help: `
Looks at what serve would need: the config (every fault at once), Redis (reachable, version, eviction, persistence,
cluster, clock) and, for each app, whether WeChat gives a token and lists the templates; what is wrong comes with its
cure. It takes the same token the gateway uses, and writes nothing else.
Exit 0: nothing wrong. 1: a finding (what only deserves a look does not count). 2: the config is wrong.`,
	run: check,
}

// Grades of a finding. Only a problem makes the exit code 1.
const (
	gradeOK      = "ok"
	gradeNote    = "note"
	gradeProblem = "problem"
)

// finding is one thing the doctor looked at.
type finding struct {
	Subject string `json:"subject"` // config, redis, app shop
	Check   string `json:"check"`   // reachable, token, ...
	Grade   string `json:"grade"`
	Detail  string `json:"detail"`
	Errcode *int   `json:"errcode,omitempty"` // WeChat's
	Cure    string `json:"cure,omitempty"`
	CureZH  string `json:"cure_zh,omitempty"`
	Doc     string `json:"doc,omitempty"`
}

// findings are collected, then printed or encoded.
type findings struct {
	OK     bool           `json:"ok"`
	Faults []config.Fault `json:"faults"` // of the config; nothing else was looked at then
	List   []finding      `json:"findings"`
}

func (f *findings) add(x finding) { f.List = append(f.List, x) }

func (f *findings) ok(subject, check, format string, a ...any) {
	f.add(finding{Subject: subject, Check: check, Grade: gradeOK, Detail: fmt.Sprintf(format, a...)})
}

func (f *findings) note(subject, check, detail, cure string) {
	f.add(finding{Subject: subject, Check: check, Grade: gradeNote, Detail: detail, Cure: cure})
}

func (f *findings) problem(subject, check, detail, cure string) {
	f.add(finding{Subject: subject, Check: check, Grade: gradeProblem, Detail: detail, Cure: cure})
}

func check(p *program, fs *flag.FlagSet, args []string) error {
	path := configFlag(fs)
	asJSON := fs.Bool("json", false, "print the findings as JSON")
	patience := fs.Duration("timeout", 30*time.Second, "of everything together")
	if _, err := parse(fs, args); err != nil {
		return err
	}
	c, err := p.load(*path)
	if err != nil {
		var faults config.Faults
		if *asJSON && errors.As(err, &faults) {
			if err := json.NewEncoder(p.stdout).Encode(findings{Faults: faults, List: []finding{}}); err != nil {
				return err
			}
		}
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, *patience)
	defer cancel()
	f := &findings{Faults: []config.Fault{}, List: []finding{}}
	f.ok("config", "load", "%s: %d apps, %d partners", *path, len(c.Apps), len(c.Partners))
	checkConfig(f, c)
	proven, err := checkRedisAndApps(ctx, f, c)
	if err != nil {
		return err
	}
	checkSecrets(f, c, proven)
	f.OK = true
	for _, x := range f.List {
		f.OK = f.OK && x.Grade != gradeProblem
	}
	if *asJSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(f); err != nil {
			return err
		}
	} else {
		p.printFindings(f)
	}
	if !f.OK {
		return errSilent
	}
	return nil
}

func (p *program) printFindings(f *findings) {
	for _, x := range f.List {
		fmt.Fprintf(p.stdout, "%-8s %-12s %-12s %s\n", x.Grade, x.Subject, x.Check, x.Detail)
		for _, line := range []string{x.Cure, x.CureZH, x.Doc} {
			if line != "" {
				fmt.Fprintf(p.stdout, "%8s -> %s\n", "", line)
			}
		}
	}
}

// checkConfig notes what is allowed and still deserves a look.
func checkConfig(f *findings, c *config.Config) {
	if c.MasterKey.IsZero() {
		f.note("config", "master_key", "none: access tokens and session keys lie in Redis as they are", "wxrelay keygen prints one")
	}
	for _, id := range c.AgelessApps() {
		f.note("app "+id, "max_age", "push.max_age is 0: a recorded push that is replayed after 24 h counts again", "set it to 24h, the default")
	}
	for _, name := range c.UnknownEnv() {
		f.note("config", "environment", name+" sets nothing, is it misspelt?", "")
	}
	if strings.HasPrefix(c.WeChat.BaseURL, "http://") && !config.Loopback(hostPort(c.WeChat.BaseURL)) {
		f.problem("config", "base_url", "AppSecrets and tokens would travel unencrypted to "+c.WeChat.BaseURL, "use https")
	}
	checkEvents(f, c)
	for i := range c.Apps {
		a := &c.Apps[i]
		f.ok("app "+a.ID, "callback", "in WeChat's console: URL https://<your host>/callback/%s, mode %s, format JSON or XML, and the token and key of this config", a.ID, a.Push.Mode)
	}
}

// checkSecrets names what everybody can read in the example. An AppSecret that WeChat has given a token for is the app's own,
// however it looks; one that got none is a likely cause.
func checkSecrets(f *findings, c *config.Config, proven map[string]bool) {
	left := slices.DeleteFunc(c.ExampleSecrets(), func(path string) bool { return proven[path] })
	if len(left) > 0 {
		f.problem("config", "secrets", "still the example's: "+strings.Join(left, ", "),
			"wxrelay keygen makes new ones; an AppSecret comes from WeChat's console")
	}
}

// hostPort is what a base URL is dialled at.
func hostPort(base string) string {
	host, _, _ := strings.Cut(strings.TrimPrefix(base, "http://"), "/")
	if !strings.Contains(host, ":") {
		host += ":80"
	}
	return host
}

// checkRedisAndApps looks at Redis and the apps. A stable token is asked for at WeChat itself, over a store of the doctor's own: one
// that lies in the gateway's would say nothing of the secret of today, and asking ends none. A token of another source comes
// through the gateway's store; when that is away, a classic one is not asked for, because it would end the one in use. proven
// has the paths of the AppSecrets that WeChat was seen to take.
func checkRedisAndApps(ctx context.Context, f *findings, c *config.Config) (proven map[string]bool, err error) {
	rdb, closing, err := app.OpenRedis(c.Redis.URL)
	if err != nil {
		return nil, err
	}
	defer func() { _ = closing() }()
	spare, done, err := spareRedis()
	if err != nil {
		return nil, err
	}
	defer func() { _ = done() }()
	shared := true
	if app.Embedded(c.Redis.URL) {
		f.note("redis", "embedded", "in-process, lost at exit: for trying things out only", "a Redis of its own for anything else")
		shared = false
	} else if !checkRedis(ctx, f, c, rdb) {
		shared, rdb = false, spare
	}
	at := map[string]*wechat.Client{}
	for source, store := range map[string]redis.UniversalClient{"stable": spare, "classic": rdb, "external": rdb} {
		if at[source], err = app.NewWeChat(store, c); err != nil {
			return nil, err
		}
	}
	proven = map[string]bool{}
	for i := range c.Apps {
		a := &c.Apps[i]
		got := checkApp(ctx, f, at[a.Token.Source], a, shared)
		proven[fmt.Sprintf("apps[%d].secret", i)] = got && a.Token.Source == "stable" // the others' may have been there before
	}
	if shared {
		err = checkEndpoints(ctx, f, rdb, c)
	}
	return proven, err
}

// checkEndpoints finds the endpoints that receive nothing now.
func checkEndpoints(ctx context.Context, f *findings, rdb redis.UniversalClient, c *config.Config) error {
	list, err := app.EndpointConditions(ctx, rdb, c)
	if err != nil {
		return err
	}
	for _, e := range list {
		name := e.Partner + "/" + e.Endpoint
		switch e.State {
		case webhook.Off:
			f.problem("endpoint "+name, "state", fmt.Sprintf("disabled since %s (%s): its deliveries wait", e.Since.UTC().Format(time.RFC3339), e.Reason),
				"wxrelay endpoints enable "+name+", once it works again")
		case webhook.Open, webhook.Probing:
			f.problem("endpoint "+name, "state", fmt.Sprintf("benched since %s (%s): it is probed from time to time", e.Since.UTC().Format(time.RFC3339), e.Reason),
				"wxrelay endpoints probe "+name+" looks at once")
		default:
			f.ok("endpoint "+name, "state", "%s", e.State)
		}
	}
	return nil
}

func spareRedis() (redis.UniversalClient, func() error, error) {
	return app.OpenRedis(app.EmbeddedURL)
}

// checkApp tells whether there is a token.
func checkApp(ctx context.Context, f *findings, w *wechat.Client, a *config.App, shared bool) (token bool) {
	subject := "app " + a.ID
	if a.Token.Source == "classic" && !shared {
		f.note(subject, "token", "not asked for: without the gateway's Redis a classic token would end the one in use", "")
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	t, err := w.Token(ctx, a.ID)
	if err != nil {
		f.add(wechatFinding(subject, "token", err))
		return false
	}
	f.ok(subject, "token", "obtained (%s), ends in %s", a.Token.Source, time.Until(t.ExpiresAt).Round(time.Second))
	list, err := w.Templates(ctx, a.ID)
	if err != nil {
		f.add(wechatFinding(subject, "templates", err))
		return true
	}
	if len(list) == 0 {
		checkTemplates(f, subject, a, list)
		f.note(subject, "templates", "none", "choose some in WeChat's console, or there is nothing to subscribe to")
		return true
	}
	f.ok(subject, "templates", "%d", len(list))
	checkTemplates(f, subject, a, list)
	for _, t := range list {
		f.ok(subject, "template", "%s  %s (%s)", t.ID, t.Title, strings.Join(t.Keywords, ", "))
	}
	return true
}

// checkTemplates finds aliases of templates the app does not have, and fields that are no keywords of theirs.
func checkTemplates(f *findings, subject string, a *config.App, list []wechat.Template) {
	for _, alias := range a.Templates {
		i := slices.IndexFunc(list, func(t wechat.Template) bool { return t.ID == alias.TemplateID })
		if i < 0 {
			f.problem(subject, "alias", fmt.Sprintf("templates %s: the app has no template %s", alias.ID, alias.TemplateID),
				"take one of the app's own; wxrelay check lists them")
			continue
		}
		for field, keyword := range alias.Data {
			if len(list[i].Keywords) > 0 && !slices.Contains(list[i].Keywords, keyword) {
				f.problem(subject, "alias", fmt.Sprintf("templates %s: data.%s: the template has no keyword %s", alias.ID, field, keyword),
					"one of "+strings.Join(list[i].Keywords, ", "))
			}
		}
	}
}

// checkEvents finds patterns that match no event there is.
func checkEvents(f *findings, c *config.Config) {
	for i, partner := range c.Partners {
		for j, e := range partner.Endpoints {
			for k, pattern := range e.Events {
				matches := func(typ string) bool { return webhook.Endpoint{Events: []string{pattern}}.Wants(typ) }
				if !slices.ContainsFunc(relay.EventTypes(), matches) {
					f.problem("config", "events", fmt.Sprintf("partners[%d].endpoints[%d].events[%d]: %q matches no event", i, j, k, pattern),
						"types are "+strings.Join(relay.EventTypes(), ", "))
				}
			}
		}
	}
}

// wechatFinding says what WeChat refused, why, and what to do: 40164 with the address to allow.
func wechatFinding(subject, check string, err error) finding {
	out := finding{Subject: subject, Check: check, Grade: gradeProblem, Detail: err.Error()}
	var api *wechat.APIError
	if !errors.As(err, &api) {
		if errors.Is(err, wechat.ErrNotLeft) {
			out.Cure = "WeChat's API cannot be reached from here: DNS, firewall, proxy, or wechat.base_url"
		}
		return out
	}
	row := wechat.Lookup(api.Code)
	out.Errcode, out.Cure, out.CureZH, out.Doc = &api.Code, api.Cure(), api.CureZH(), row.Doc
	out.Detail = fmt.Sprintf("errcode %d %s: %s", api.Code, row.Name, row.Meaning)
	if ip := api.IP(); ip != "" {
		out.Detail += "; WeChat sees us as " + ip
	}
	if api.Msg != "" {
		out.Detail += " (" + api.Msg + ")"
	}
	return out
}
