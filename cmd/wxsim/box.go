package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"text/template"
	"time"

	"github.com/wxrelay/wxrelay/cmd/app"
	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
	"github.com/wxrelay/wxrelay/config"
)

var errTaken = errors.New("a port is taken (-addr 127.0.0.1:0 takes free ones)")

// box is the whole world, running.
type box struct {
	options      options
	sim          *wechatsim.Sim
	partner      *partnersim.Partner
	client       *partnersim.Client
	app          *app.App
	mini         wechatsim.App
	secret       string // the partner's
	wechatSecret string // with which it may use an SDK of WeChat's
	servers      []*http.Server

	public, admin, wechat, control, hook string // base URLs
	dir                                  string // of the config and the log, removed at the end
	log                                  *os.File
}

const (
	appName     = "shop"
	partnerName = "orders"
	person      = "ann"
)

// doors are the listeners of the simulators; the gateway opens its own.
type doors struct{ wechat, control, hook net.Listener }

func (d doors) close() {
	for _, l := range []net.Listener{d.wechat, d.control, d.hook} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// open puts the world together. Doors stand side by side: gateway, operators, WeChat, its control, partner.
func open(ctx context.Context, w options) (_ *box, err error) {
	b := &box{options: w}
	defer func() {
		if err != nil {
			_ = b.close() // the first fault is the one to tell
		}
	}()
	host, first, err := portsFrom(w.addr)
	if err != nil {
		return nil, err
	}
	at := func(i int) string {
		if first == 0 {
			return net.JoinHostPort(host, "0")
		}
		return net.JoinHostPort(host, strconv.Itoa(first+i))
	}
	d, err := listen(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTaken, err)
	}
	seeded := sha256.Sum256(fmt.Appendf(nil, "wxsim partner %d", w.seed))
	b.secret = "whsec_" + base64.StdEncoding.EncodeToString(seeded[:])
	wx := sha256.Sum256([]byte("wechat_secret" + b.secret))
	b.wechatSecret = hex.EncodeToString(wx[:16])
	if b.partner, err = partnersim.New(partnersim.Options{Secrets: []string{b.secret}}); err != nil {
		d.close()
		return nil, err
	}
	b.sim = wechatsim.New(wechatsim.Options{Seed: w.seed, Calm: w.calm, PushSpacing: time.Second,
		Apps: []wechatsim.App{{Name: appName, Kind: wechatsim.MiniProgram}}})
	b.mini = b.sim.App(appName)
	b.wechat, b.control, b.hook = b.serve(d.wechat, b.sim), b.serve(d.control, b.sim.Control()), b.serve(d.hook, b.partner.Admin())

	if w.callback != "" {
		b.sim.SetApp(appName, func(a *wechatsim.App) { a.CallbackURL = w.callback })
		b.sim.User(appName, person)
		return b, nil
	}
	if b.dir, err = os.MkdirTemp("", "wxsim-"); err != nil {
		return nil, err
	}
	if b.log, err = os.Create(filepath.Join(b.dir, "gateway.log")); err != nil {
		return nil, err
	}
	raw, err := b.config(at(0), at(1))
	if err != nil {
		return nil, err
	}
	c, err := config.Parse(raw, b.dir, nil)
	if err != nil {
		return nil, err
	}
	if b.app, err = app.Start(ctx, c, app.Options{Stderr: b.log, Version: "wxsim"}); err != nil {
		if taken(err) {
			err = fmt.Errorf("%w: %w", errTaken, err)
		}
		return nil, err
	}
	return b, b.settleIn(ctx)
}

// settleIn waits for the gateway and tells everybody where it is.
func (b *box) settleIn(ctx context.Context) error {
	select {
	case <-b.app.Ready():
	case err := <-b.app.Failed():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
	b.public, b.admin = urlOf(b.app.PublicAddr()), urlOf(b.app.AdminAddr())
	b.client = &partnersim.Client{Base: b.public, Partner: partnerName, Secret: b.secret}
	b.sim.SetApp(appName, func(a *wechatsim.App) { a.CallbackURL = b.public + "/callback/" + appName })
	raw, err := b.config(b.app.PublicAddr(), b.app.AdminAddr())
	if err != nil {
		return err
	}
	return os.WriteFile(b.configFile(), raw, 0o600)
}

func (b *box) configFile() string { return filepath.Join(b.dir, "wxrelay.yml") }

func portsFrom(addr string) (host string, first int, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("-addr %q: host:port is needed", addr)
	}
	first, err = strconv.Atoi(port)
	if err != nil || first < 0 || first > 65535-4 {
		return "", 0, fmt.Errorf("-addr %q: not a port", addr)
	}
	return host, first, nil
}

func listen(ctx context.Context, at func(int) string) (d doors, err error) {
	var lc net.ListenConfig
	for i, l := range []*net.Listener{&d.wechat, &d.control, &d.hook} {
		if *l, err = lc.Listen(ctx, "tcp", at(2+i)); err != nil {
			d.close()
			return doors{}, err
		}
	}
	return d, nil
}

func taken(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "listen"
}

func (b *box) serve(l net.Listener, h http.Handler) string {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	b.servers = append(b.servers, s)
	go func() { _ = s.Serve(l) }() // ends when the box closes
	return urlOf(l.Addr().String())
}

// urlOf a door; one that listens on all addresses is reached by loopback.
func urlOf(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "http://" + addr
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// close takes the world apart: the gateway first, so that nobody it speaks to is gone before it.
func (b *box) close() error {
	var faults []error
	if b.app != nil {
		faults = append(faults, b.app.Close(context.Background()))
	}
	if b.sim != nil {
		b.sim.Close()
	}
	for _, s := range b.servers {
		faults = append(faults, s.Close())
	}
	if b.log != nil {
		faults = append(faults, b.log.Close())
	}
	if b.dir != "" {
		faults = append(faults, os.RemoveAll(b.dir))
	}
	return errors.Join(faults...)
}

// failed gives the error that ended our gateway; never one when there is none.
func (b *box) failed() <-chan error {
	if b.app == nil {
		return nil
	}
	return b.app.Failed()
}

// explain shows the end of the gateway's log.
func (b *box) explain(w io.Writer) {
	if b.log == nil {
		return
	}
	raw, err := os.ReadFile(b.log.Name())
	if err != nil {
		return
	}
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	fmt.Fprintln(w, "the gateway's last words:")
	for _, l := range lines[max(0, len(lines)-30):] {
		fmt.Fprintf(w, "  %s\n", l)
	}
}

// config is what the gateway runs on; the same text stands in configFile with the ports that were really taken.
func (b *box) config(listen, admin string) ([]byte, error) {
	var out bytes.Buffer
	err := sheet.Execute(&out, map[string]any{"Listen": listen, "Admin": admin, "WeChat": b.wechat, "App": b.mini, "Secret": b.secret, "WeChatSecret": b.wechatSecret,
		"Hook": b.hook + "/hook", "OwnHook": b.options.hook, "OwnSecret": b.options.secret, "Guarded": guarded(admin), "Password": adminPassword, "AppName": appName, "PartnerName": partnerName})
	return out.Bytes(), err
}

const adminPassword = "wxsim-operator"

// guarded says whether the operators' door needs a password: it does when others can reach it.
func guarded(admin string) bool {
	host, _, err := net.SplitHostPort(admin)
	ip := net.ParseIP(host)
	return err != nil || ip == nil || !ip.IsLoopback()
}

var sheet = template.Must(template.New("config").Parse(`# made by wxsim: everything in it is simulated and gone at its end
listen: "{{.Listen}}"
admin:
  listen: "{{.Admin}}"
{{- if .Guarded}}
  password: {{.Password}}
{{- end}}
shutdown_grace: 5s
redis: {url: "embedded://"}
wechat: {base_url: "{{.WeChat}}", timeout: 2s}
apps:
  - id: {{.AppName}}
    appid: {{.App.AppID}}
    secret: {{.App.Secret}}
    original_id: {{.App.OriginalID}}
    kind: miniprogram
    push: {token: {{.App.Token}}, encoding_aes_key: {{.App.EncodingAESKey}}, mode: {{.App.Mode}}}
    token: {source: stable}
partners:
  - id: {{.PartnerName}}
    secrets: [{{.Secret}}]
    wechat_secret: {{.WeChatSecret}}
    apps: [{{.AppName}}]
    allow: [messages, subscriptions, bindings, tokens, wechat_api, endpoints]
    endpoints:
      - {id: main, url: "{{.Hook}}", events: ["*"], secrets: [{{.Secret}}]}
{{- if .OwnHook}}
      - {id: own, url: "{{.OwnHook}}", events: ["*"], secrets: [{{.OwnSecret}}]}
allow_private_endpoints: ["0.0.0.0/0", "::/0"]
{{- else}}
allow_private_endpoints: ["127.0.0.0/8", "::1/128"]
{{- end}}
log: {level: info, format: json}
`))
