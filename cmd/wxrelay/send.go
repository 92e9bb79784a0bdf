package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

var sendCommand = command{
	name: "send", args: "-c FILE --partner P --app APP --to OPENID --template T --data thing1=hello [--wait]",
	summary: "a signed partner request that sends one message",
	help: `
Signed with the partner's secret from the config, as the partner would. --wait follows the message to its end: exit 0
when WeChat took it (sent, delivered), 1 otherwise.`,
	run: send,
}

func send(p *program, fs *flag.FlagSet, args []string) error {
	path := configFlag(fs)
	partner := fs.String("partner", "", "the partner's `id`")
	name := fs.String("app", "", "the app's `id`")
	to := fs.String("to", "", "the user: an `openid`, or user:U for the partner's own user")
	template := fs.String("template", "", "the template `id`")
	channel := fs.String("channel", "subscribe", "subscribe, customer_service, ...")
	text := fs.String("text", "", "customer_service: the text")
	page := fs.String("page", "", "the mini-program's page")
	lang := fs.String("lang", "", "zh_CN, en_US, ...")
	state := fs.String("miniprogram-state", "", "formal, trial or developer")
	noCredit := fs.String("no-credit", "", "refuse, hold or try")
	var fields list
	fs.Var(&fields, "data", "`key=value`, once per field")
	body := fs.String("body", "", "the whole request as JSON, instead of the flags above")
	base := fs.String("url", "", "the gateway (default: this machine, at the config's listen)")
	id := fs.String("id", "", "the webhook-id (default: a new one); the same one again gets the first answer")
	wait := fs.Bool("wait", false, "follow the message to its end")
	patience := fs.Duration("timeout", time.Minute, "how long to follow")
	if _, err := parse(fs, args); err != nil {
		return err
	}
	c, err := p.load(*path)
	if err != nil {
		return err
	}
	s, err := newSender(c, *partner, *base)
	if err != nil {
		return err
	}
	payload := []byte(*body)
	if *body == "" {
		a, err := appNamed(c, *name)
		if err != nil {
			return err
		}
		if payload, err = request(a.ID, *to, *channel, *template, *page, *lang, *state, *noCredit, *text, fields); err != nil {
			return err
		}
	}
	if *id == "" {
		*id = fmt.Sprintf("cli_%x", random(12))
	}
	ctx, cancel := context.WithTimeout(p.ctx, *patience)
	defer cancel()
	status, answer, err := s.do(ctx, http.MethodPost, "/messages", *id, payload)
	if err != nil {
		return err
	}
	var m relay.Message
	if status != http.StatusAccepted || json.Unmarshal(answer, &m) != nil || m.ID == "" {
		fmt.Fprintf(p.stderr, "%d %s\n", status, strings.TrimSpace(string(answer)))
		return errSilent
	}
	fmt.Fprintf(p.stdout, "%s %s\n", m.ID, m.State)
	if !*wait {
		return nil
	}
	return p.follow(ctx, s, m)
}

// request is the JSON of the flags.
func request(app, to, channel, template, page, lang, state, noCredit, text string, fields []string) ([]byte, error) {
	if to == "" {
		return nil, usagef("-to is missing")
	}
	whom := map[string]string{"openid": to}
	if user, ok := strings.CutPrefix(to, "user:"); ok {
		whom = map[string]string{"user": user}
	}
	m := map[string]any{"app": app, "to": whom, "channel": channel}
	for key, value := range map[string]string{"template_id": template, "page": page, "lang": lang, "miniprogram_state": state, "no_credit": noCredit} {
		if value != "" {
			m[key] = value
		}
	}
	if text != "" {
		m["msgtype"], m["text"] = "text", map[string]string{"content": text}
	}
	values := map[string]string{}
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, usagef("-data %q: wants key=value", f)
		}
		values[key] = value
	}
	if len(values) > 0 {
		m["data"] = values
	}
	return json.Marshal(m)
}

// sender speaks to the partner door as one partner.
type sender struct {
	base    string // http://host:port/v1/partners/orders
	secrets []webhook.Secret
	client  *http.Client
}

func newSender(c *config.Config, partner, base string) (*sender, error) {
	var known []string
	for i := range c.Partners {
		found := &c.Partners[i]
		known = append(known, found.ID)
		if found.ID != partner && (partner != "" || len(c.Partners) > 1) {
			continue
		}
		if base == "" {
			base = "http://" + reachable(c.Listen)
		}
		if err := webURL("url", base, "https://relay.example.com"); err != nil {
			return nil, err
		}
		s := &sender{base: strings.TrimSuffix(base, "/") + "/v1/partners/" + found.ID, client: client(20 * time.Second)}
		for _, secret := range found.Secrets {
			parsed, err := webhook.ParseSecret(secret.Reveal())
			if err != nil {
				return nil, err
			}
			s.secrets = append(s.secrets, parsed)
		}
		return s, nil
	}
	return nil, usagef("-partner: one of %s", strings.Join(known, ", "))
}

// do makes one signed request; POST messages is signed over the body alone, everything else over method and target too.
func (s *sender) do(ctx context.Context, method, target, id string, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, s.base+target, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	payload := body
	if method != http.MethodPost || target != "/messages" {
		payload = webhook.TargetPayload(method, req.URL.RequestURI(), body)
	}
	now := time.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", fmt.Sprint(now.Unix()))
	req.Header.Set("webhook-signature", webhook.Sign(s.secrets, id, now, payload))
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, answer, err
}

// follow prints each step of the message as it happens, until it can only change by WeChat's report or not at all.
func (p *program) follow(ctx context.Context, s *sender, m relay.Message) error {
	shown := 0
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		status, answer, err := s.do(ctx, http.MethodGet, "/messages/"+m.ID, fmt.Sprintf("cli_%x", random(12)), nil)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return err
		case status != http.StatusOK:
			fmt.Fprintf(p.stderr, "%d %s\n", status, strings.TrimSpace(string(answer)))
			return errSilent
		default:
			if err := json.Unmarshal(answer, &m); err != nil {
				return fmt.Errorf("answer of the gateway: %w", err)
			}
			for ; shown < len(m.Timeline); shown++ {
				fmt.Fprintln(p.stdout, stepLine(m.Timeline[shown]))
			}
		}
		switch m.State {
		case relay.StateDelivered:
			return nil
		case relay.StateFailed, relay.StateRefused, relay.StateExpired, relay.StateCancelled:
			if m.Errcode != nil {
				fmt.Fprintf(p.stderr, "%s: errcode %d %s\n", m.State, *m.Errcode, deref(m.Errmsg))
			}
			return errSilent
		}
		select {
		case <-ctx.Done():
			if m.State == relay.StateSent { // WeChat took it; its report may come later, or never
				fmt.Fprintln(p.stdout, "WeChat has not reported back yet")
				return nil
			}
			fmt.Fprintf(p.stderr, "still %s\n", m.State)
			return errSilent
		case <-tick.C:
		}
	}
}

func stepLine(s relay.Step) string {
	line := fmt.Sprintf("%s %s", s.At.Format("15:04:05.000"), s.State)
	if s.Cause != "" {
		line += " (" + s.Cause + ")"
	}
	if s.Errcode != nil && *s.Errcode != 0 {
		line += fmt.Sprintf(" errcode %d", *s.Errcode)
	}
	return line
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
