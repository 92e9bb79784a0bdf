package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/cmd/app"
	"github.com/wxrelay/wxrelay/config"
)

var pushCommand = command{
	name: "push", args: "-c FILE --app APP [--event popup --openid O --template T --status accept] [--to URL]",
	summary: "signs and posts a push as WeChat would",
	help: `
Tries a deployment: the push is signed and sealed with the app's keys from the config, and posted. The gateway cannot
tell it from WeChat's: the ledger is moved and partners are told.
--event is popup, change, sent, text, or any event name of WeChat's; --raw posts a message of your own.
Exit 0 when the answer is success, 1 otherwise.`,
	run: push,
}

// eventNames are the short names of --event.
var eventNames = map[string]string{
	"popup": "subscribe_msg_popup_event", "change": "subscribe_msg_change_event", "sent": "subscribe_msg_sent_event",
}

func push(p *program, fs *flag.FlagSet, args []string) error {
	path := configFlag(fs)
	name := fs.String("app", "", "the app's `id`")
	event := fs.String("event", "popup", "popup, change, sent, text, or a `name` of WeChat's")
	openid := fs.String("openid", "o"+strings.Repeat("0", 27), "the user")
	template := fs.String("template", "T1", "the template `id`")
	status := fs.String("status", "accept", "popup, change: accept or reject; sent: success or WeChat's reason")
	scene := fs.String("scene", "0", "popup: 0 mini-program, 1 H5, 2 article")
	msgid := fs.String("msgid", "", "sent: the msgid the send was given; text: the message's own")
	code := fs.String("errcode", "0", "sent: ErrorCode")
	content := fs.String("content", "hello", "text: what the user wrote")
	mode := fs.String("mode", "", "secure, compat or plain (default: the app's)")
	format := fs.String("format", "json", "json or xml")
	raw := fs.String("raw", "", "post the message in this `file` (- = stdin) instead of an event")
	to := fs.String("to", "", "the callback `URL` (default: this machine, at the config's listen, /callback/APP)")
	times := fs.Int("times", 1, "post the very same push so many times")
	if _, err := parse(fs, args); err != nil {
		return err
	}
	if *format != "json" && *format != "xml" {
		return usagef("-format %q: json or xml", *format)
	}
	if *to != "" {
		if err := webURL("to", *to, "https://relay.example.com/callback/shop"); err != nil {
			return err
		}
	}
	c, err := p.load(*path)
	if err != nil {
		return err
	}
	a, err := appNamed(c, *name)
	if err != nil {
		return err
	}
	target := app.CallbackApp(*a)
	if *mode != "" {
		if target.Mode = callback.Mode(*mode); target.Mode != callback.Secure && target.Mode != callback.Compat && target.Mode != callback.Plain {
			return usagef("-mode %q: secure, compat or plain", *mode)
		}
	}
	now := time.Now()
	message, err := readRaw(*raw)
	if message == nil && err == nil {
		account := a.OriginalID
		if account == "" {
			account = "gh_000000000000"
		}
		message, err = callback.Compose(callback.Format(*format), composed(*event, account, *openid, *msgid, *content, now,
			callback.Subscribe{TemplateID: *template, Status: *status, PopupScene: *scene, MsgID: *msgid, ErrorCode: *code}))
	}
	if err != nil {
		return err
	}
	query, body, err := callback.ComposeRequest(target, callback.Format(*format), message, strconv.FormatUint(nonce(), 10), now)
	if err != nil {
		return err
	}
	if *to == "" {
		*to = "http://" + reachable(c.Listen) + "/callback/" + a.ID
	}
	for range max(1, *times) {
		if err := p.postPush(*to+"?"+query, body); err != nil {
			return err
		}
	}
	return nil
}

// composed is the event of the flags.
func composed(event, account, openid, msgid, content string, now time.Time, s callback.Subscribe) callback.Event {
	e := callback.Event{ToUserName: account, FromUserName: openid, OpenID: openid, CreateTime: now.Unix(), MsgType: "event", Event: event}
	if full, ok := eventNames[event]; ok {
		e.Event = full
	}
	switch event {
	case "text":
		e.MsgType, e.Event, e.MsgID, e.Message = "text", "", msgid, &callback.Message{Content: content}
		if e.MsgID == "" {
			e.MsgID = strconv.FormatUint(nonce(), 10)
		}
	case "popup":
		s.MsgID, s.ErrorCode = "", ""
		e.Subscribes = []callback.Subscribe{s}
	case "change":
		s.MsgID, s.ErrorCode, s.PopupScene = "", "", ""
		e.Subscribes = []callback.Subscribe{s}
	case "sent":
		s.ErrorStatus, s.Status, s.PopupScene = s.Status, "", ""
		if s.ErrorStatus == "accept" { // the flag's default belongs to the other events
			s.ErrorStatus = "success"
		}
		e.Subscribes = []callback.Subscribe{s}
	}
	return e
}

func nonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	var n uint64
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return n >> 12
}

func readRaw(name string) ([]byte, error) {
	switch name {
	case "":
		return nil, nil
	case "-":
		return io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
	}
	return os.ReadFile(name)
}

func (p *program) postPush(target string, body []byte) error {
	req, err := http.NewRequestWithContext(p.ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return usagef("-to: not a URL")
	}
	resp, err := client(10 * time.Second).Do(req)
	if err != nil {
		return errors.New(plainly(err))
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%s %s\n", resp.Status, strings.TrimSpace(string(answer)))
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	fmt.Fprintln(p.stderr, pushHint(resp.StatusCode))
	return errSilent
}

// pushHint says what a refusal means; the gateway itself tells nobody outside.
func pushHint(status int) string {
	switch status {
	case http.StatusForbidden:
		return "not proven: the gateway knows no such app, or another token, key or appid, or its clock differs, or its mode is stronger than this push"
	case http.StatusBadRequest:
		return "proven, but the message is malformed"
	case http.StatusRequestEntityTooLarge:
		return "larger than limits.body"
	case http.StatusInternalServerError:
		return "proven, but not stored: see the gateway's log and /readyz; WeChat would push again"
	}
	return "this is not an answer of a wxrelay callback door; look at the URL and what stands in front of it"
}

// appNamed finds an app; the only one needs no name.
func appNamed(c *config.Config, name string) (*config.App, error) {
	var known []string
	for i := range c.Apps {
		if c.Apps[i].ID == name || name == "" && len(c.Apps) == 1 {
			return &c.Apps[i], nil
		}
		known = append(known, c.Apps[i].ID)
	}
	return nil, usagef("-app: one of %s", strings.Join(known, ", "))
}

// webURL refuses what cannot be the address of a gateway. It is not quoted: it may carry a password.
func webURL(flag, given, such string) error {
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return usagef("-%s: not a URL such as %s (http or https)", flag, such)
	}
	return nil
}

// reachable is how this machine reaches a listen address.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// client follows no redirects: a gateway gives none.
func client(timeout time.Duration) *http.Client {
	return &http.Client{Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// plainly drops the URL from a client's error: a push's query carries its signature.
func plainly(err error) string {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err.Error()
	}
	return err.Error()
}
