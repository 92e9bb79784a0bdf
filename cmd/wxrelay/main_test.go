package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/wxrelay/wxrelay/config"
)

// ran is what one command line came to.
type ran struct {
	code        int
	out, errors string
}

// wxrelay runs a command line in this process.
func wxrelay(t *testing.T, env []string, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	p := &program{ctx: t.Context(), stdout: &out, stderr: &errs, env: env}
	code := p.run(args)
	return ran{code, out.String(), errs.String()}
}

// file writes a file of the test.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommandLines(t *testing.T) {
	good := file(t, "good.yml", string(config.Example()))
	bad := file(t, "bad.yml", "lisen: x\nlog: {level: loud}\n")
	for line, want := range map[string]struct {
		code        int
		out, errors string // contained
	}{
		"":                                {2, "", "wxrelay serve"},
		"help":                            {0, "wxrelay serve", ""},
		"--help":                          {0, "wxrelay bench", ""},
		"-h":                              {0, "Exit codes", ""},
		"help push":                       {0, "usage: wxrelay push", ""},
		"push --help":                     {0, "-template id", ""},
		"help nothing":                    {2, "", `unknown command "nothing"`},
		"srve":                            {2, "", `unknown command "srve"`},
		"-x":                              {2, "", `unknown command "-x"`},
		"version":                         {0, "wxrelay ", ""},
		"--version":                       {0, "commit ", ""},
		"version -json":                   {0, `"go":"go1.`, ""},
		"version extra":                   {2, "", `unexpected "extra"`},
		"serve -nope":                     {2, "", "flag provided but not defined: -nope"},
		"serve -c":                        {2, "", "flag needs an argument: -c"},
		"serve -c /nonexistent.yml":       {2, "", "/nonexistent.yml: no such file or directory"},
		"serve -c BAD":                    {2, "", `lisen: unknown key, did you mean "listen"?`},
		"check -c BAD":                    {2, "", "log.level: "},
		"check -c BAD -json":              {2, `"faults":[{"path":"lisen","reason":"unknown key`, "log.level: "},
		"config":                          {2, "", "example or show is missing"},
		"config exmaple":                  {2, "", `"exmaple": example or show`},
		"config example":                  {0, "encoding_aes_key:", ""},
		"config show -c GOOD":             {0, "password: '***'", ""},
		"config -c GOOD show":             {0, "password: '***'", ""},
		"-c GOOD config show":             {0, "password: '***'", ""},
		"--c=GOOD config show":            {0, "password: '***'", ""},
		"config --c GOOD -- show":         {0, "password: '***'", ""},
		"config show -- -c":               {2, "", `unexpected "-c"`},
		"config show -c BAD":              {2, "", "lisen: "},
		"keygen":                          {0, "webhook_secret: whsec_", ""},
		"keygen 3":                        {2, "", "unexpected"},
		"push -c GOOD --format yaml":      {2, "", `-format "yaml"`},
		"push -c GOOD --mode open":        {2, "", `-mode "open"`},
		"push -c GOOD --app nobody":       {2, "", "-app: one of shop"},
		"push -c GOOD --to junk":          {2, "", "-to: not a URL such as https://relay.example.com/callback/shop (http or https)"},
		"push -c GOOD --to ftp://h/cb":    {2, "", "-to: not a URL"},
		"push -c GOOD --to http://:80/cb": {2, "", "-to: not a URL"},
		"push -c GOOD --to http://%zz":    {2, "", "-to: not a URL"},
		"push -c BAD":                     {2, "", "lisen: "},
		"send -c GOOD --partner nobody":   {2, "", "-partner: one of orders"},
		"send -c GOOD":                    {2, "", "-to is missing"},
		"send -c GOOD -to o -data x":      {2, "", `-data "x": wants key=value`},
		"send -c GOOD -url nothing":       {2, "", "-url: not a URL"},
		"send -c GOOD -url ftp://h":       {2, "", "-url: not a URL"},
		"explain":                         {2, "", "an errcode is missing"},
		"explain 43101":                   {0, "43101 ", ""},
		"explain --lang zh 43101":         {0, "含义:", ""},
		"explain -lang de 43101":          {2, "", `-lang "de": en or zh`},
		"explain many":                    {2, "", `"many" is no errcode`},
		"explain 43101 -json":             {0, `"reaction":"ledger"`, ""},
		"explain 123456789":               {1, "123456789 unknown", ""},
		"sign":                            {2, "", "-secret is missing"},
		"sign -secret x":                  {2, "", "-secret: "},
		"sign -secret SECRET -method GET": {2, "", "-method and -target come together"},
		"sign -secret SECRET -id a.b":     {2, "", "-id: wants 1 to 128"},
		"sign -secret SECRET":             {0, "webhook-signature: v1,", ""},
		"verify -secret SECRET":           {2, "", "is missing"},
		"health -c BAD":                   {2, "", "lisen: "},
		"bench -n -1":                     {2, "", "positive"},
		"bench -c GOOD -to http://h/x":    {2, "", "another machine is not put under load"},
		"bench -c GOOD -to https://[::1]": {2, "", "another machine is not put under load"},
	} {
		t.Run(line, func(t *testing.T) {
			got := wxrelay(t, nil, strings.Fields(strings.NewReplacer("GOOD", good, "BAD", bad, "SECRET", "whsec_"+strings.Repeat("A", 32)).Replace(line))...)
			if got.code != want.code || !strings.Contains(got.out, want.out) || !strings.Contains(got.errors, want.errors) {
				t.Errorf("exit %d, want %d\nout: %s\nerrors: %s", got.code, want.code, got.out, got.errors)
			}
			if want.code == 0 && got.errors != "" || want.code == 2 && got.out != "" && want.out == "" {
				t.Errorf("said at the wrong place\nout: %s\nerrors: %s", got.out, got.errors)
			}
		})
	}
}

// TestKeygenFits: what keygen prints goes into a config as it is, and is another each time.
func TestKeygenFits(t *testing.T) {
	keys := func() map[string]string {
		k := map[string]string{}
		for line := range strings.Lines(wxrelay(t, nil, "keygen").out) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			k[name] = value
		}
		return k
	}
	k, other := keys(), keys()
	if len(k) != 4 {
		t.Errorf("%d lines", len(k))
	}
	for name := range k {
		if k[name] == other[name] {
			t.Errorf("%s is the same twice", name)
		}
	}
	c, err := config.Parse(config.Example(), ".", []string{"WXRELAY_APPS_SHOP_PUSH_TOKEN=" + k["token"], "WXRELAY_MASTER_KEY=" + k["master_key"],
		"WXRELAY_APPS_SHOP_PUSH_ENCODING_AES_KEY=" + k["encoding_aes_key"], "WXRELAY_PARTNERS_ORDERS_SECRETS=" + k["webhook_secret"]})
	if err != nil {
		t.Fatal(err)
	}
	if c.Apps[0].Push.Token.Reveal() != k["token"] {
		t.Error("the token was not taken")
	}
}

// TestServeRefusesTheExample: its secrets are public. They are named together with whatever else is wrong.
func TestServeRefusesTheExample(t *testing.T) {
	yaml := strings.NewReplacer("https://orders.example.com/hook", "https://10.0.0.1/hook", "shutdown_grace", "shutdown_grave").Replace(string(config.Example()))
	got := wxrelay(t, nil, "serve", "-c", file(t, "c.yml", yaml))
	for _, want := range []string{"shutdown_grave: unknown key", "partners[0].endpoints[0].url: ", "admin.password: still the example's",
		"apps[0].secret: still the example's", "partners[0].endpoints[0].secrets[0]: still the example's", "master_key: still the example's"} {
		if got.code != 2 || !strings.Contains(got.errors, want) {
			t.Errorf("exit %d, no %q in\n%s", got.code, want, got.errors)
		}
	}
}

// TestConfigShow: what stands in files and in the environment counts and is not shown; what is shown has no other keys.
func TestConfigShow(t *testing.T) {
	path := file(t, "wxrelay.yml", string(config.Example()))
	got := wxrelay(t, []string{"WXRELAY_REDIS_URL=redis://u:hunter2@h/1", "WXRELAY_APPS_SHOP_SECRET=hunter2", "WXRELAY_LIMITS_BODY=64KiB"}, "config", "show", "-c", path)
	if got.code != 0 || strings.Contains(got.out, "hunter2") {
		t.Fatalf("exit %d\n%s%s", got.code, got.out, got.errors)
	}
	for _, want := range []string{"url: redis://u:***@h/1 # from env WXRELAY_REDIS_URL", "secret: '***' # from env WXRELAY_APPS_SHOP_SECRET", "body: 64KiB # from env"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	if _, err := config.Parse([]byte(got.out), ".", nil); err != nil && strings.Contains(err.Error(), "unknown key") {
		t.Error(err)
	}
	refused := file(t, "refused.yml", strings.Replace(string(config.Example()), "https://orders.example.com/hook", "https://127.0.0.1/hook", 1))
	if got := wxrelay(t, nil, "config", "show", "-c", refused); got.code != 2 || !strings.HasPrefix(got.errors, "partners[0].endpoints[0].url: ") {
		t.Errorf("an address no partner may have: exit %d, %s", got.code, got.errors)
	}
}

// gatewayYAML is a config for a gateway on loopback: WeChat is platform, partners are told at hook.
func gatewayYAML(redis, platform, hook string) string {
	return fmt.Sprintf(`
listen: "127.0.0.1:0"
admin: {listen: "127.0.0.1:0"}
shutdown_grace: 5s
redis: {url: %q}
wechat: {base_url: %q}
master_key: HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
apps:
  - id: shop
    appid: wx0123456789abcde0
    secret: appsecret
    push: {token: AAAAA, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG}
partners:
  - id: orders
    secrets: [whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVu]
    apps: [shop]
    allow: [messages, subscriptions]
    endpoints: [{id: main, url: %q, secrets: [whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVu]}]
allow_private_endpoints: [127.0.0.0/8]
`, redis, platform, hook)
}

// TestServePushSend runs a gateway in this process and tries it with the tools.
func TestServePushSend(t *testing.T) {
	platform := httptest.NewServer(standIn())
	defer platform.Close()
	told := make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e struct{ Type string }
		_ = json.NewDecoder(r.Body).Decode(&e)
		told <- e.Type
	}))
	defer hook.Close()
	path := file(t, "wxrelay.yml", gatewayYAML("embedded://", platform.URL, hook.URL))
	log := newLog()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan int, 1)
	go func() {
		done <- (&program{ctx: ctx, stdout: log, stderr: log}).run([]string{"serve", "-c", path})
	}()
	addr := log.wait(t, `"msg":"serving"`)["public"].(string)

	callback, base := "http://"+addr+"/callback/shop", "http://"+addr
	openid := "oShopper000000000000000000"
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"push --event popup --to URL --openid O --template T --format json --mode secure", 0, "200 OK success"},
		{"push --event popup --to URL --openid O2 --template T --format xml --mode secure", 0, "200 OK success"},
		{"push --event popup --to URL --openid O3 --template T --format xml --mode compat", 0, "200 OK success"},
		{"push --event popup --to URL --openid O4 --template T --format json --mode plain", 1, "403"},
		{"push --event change --to URL --openid O4 --template T --status reject", 0, "success"},
		{"push --event sent --to URL --openid O4 --template T --msgid 1988810812324364291", 0, "success"},
		{"push --event text --to URL --openid O4 --content hi", 0, "success"},
		{"push --event user_enter_tempsession --to URL --openid O4 --times 2", 0, "success\n200 OK success"},
		{"push --to http://127.0.0.1:1/callback/shop", 1, ""},
		{"send --url BASE --partner orders --to O4 --template T --data thing1=hello", 1, ""},
		{"send --url BASE --partner orders --to O --template T --data thing1=hello --id m1 --wait --timeout 3s", 0, "sent"},
		{"send --url BASE --partner orders --to O --template T --data thing1=hello --id m1", 0, "msg_"},
		{"send --url http://127.0.0.1:1 --to O --template T --data thing1=hello", 1, ""},
	} {
		line := strings.NewReplacer("URL", callback, "BASE", base, "O2", openid+"2", "O3", openid+"3", "O4", openid+"4", " O ", " "+openid+" ", " T", " "+benchTemplate).Replace(c.args)
		args := append(strings.Fields(line), "-c", path)
		if got := wxrelay(t, nil, args...); got.code != c.code || !strings.Contains(got.out, c.want) || (c.code != 0) != (got.errors != "") {
			t.Errorf("%s: exit %d, want %d\nout: %s\nerrors: %s", line, got.code, c.code, got.out, got.errors)
		}
	}
	if got := wxrelay(t, nil, "bench", "-c", path, "-to", callback, "-n", "20", "-conns", "2", "-duration", "20s"); got.code != 0 || !strings.Contains(got.out, "pushes, wxrelay") {
		t.Errorf("bench of a running gateway: exit %d %s%s", got.code, got.out, got.errors)
	}
	wanted := map[string]bool{"push.received": true, "subscription.accepted": true, "subscription.cancelled": true, "message.sent": true}
	for len(wanted) > 0 {
		select {
		case typ := <-told:
			delete(wanted, typ)
		case <-log.deadline(t):
			t.Fatalf("never told: %v", wanted)
		}
	}
	stop()
	if code := <-done; code != 0 {
		t.Errorf("serve: exit %d", code)
	}
	log.wait(t, `"msg":"stopped"`)
}

// TestBenchWantsItsOwnDatabase: what a load test queues must not be worked on by a real gateway.
func TestBenchWantsItsOwnDatabase(t *testing.T) {
	m := miniredis.RunT(t)
	if err := m.Set("somebody", "else"); err != nil {
		t.Fatal(err)
	}
	line := []string{"bench", "-redis", "redis://" + m.Addr(), "-n", "4", "-conns", "1", "-duration", "30s", "-json"}
	if got := wxrelay(t, nil, line...); got.code != 1 || !strings.Contains(got.errors, "1 keys that are not a load test's") {
		t.Errorf("exit %d %s", got.code, got.errors)
	}
	m.FlushAll()
	for range 2 {
		if got := wxrelay(t, nil, line...); got.code != 0 {
			t.Errorf("exit %d %s", got.code, got.errors)
		}
	}
	if got := wxrelay(t, nil, "bench", "-redis", "redis://127.0.0.1:1"); got.code != 1 {
		t.Errorf("no Redis: exit %d", got.code)
	}
	if got := wxrelay(t, nil, "bench", "-redis", "http://u:hunter2@h"); got.code != 2 || strings.Contains(got.errors, "hunter2") {
		t.Errorf("no Redis URL: exit %d %s", got.code, got.errors)
	}
}

func TestBenchOwn(t *testing.T) {
	got := wxrelay(t, nil, "bench", "-n", "60", "-conns", "4", "-duration", "30s", "-json")
	var r benchResult
	if err := json.Unmarshal([]byte(got.out), &r); got.code != 0 || err != nil {
		t.Fatalf("exit %d: %v\n%s%s", got.code, err, got.out, got.errors)
	}
	if len(r.Steps) != 4 || r.Conns != 4 || r.Redis != "embedded://" {
		t.Fatalf("%+v", r)
	}
	for i, s := range r.Steps {
		if s.Requests != 60 || s.Refused != 0 || s.PerSecond <= 0 || s.P50 <= 0 || s.P99 < s.P50 || s.Ratio <= 0 || i%2 == 0 && s.Ratio != 1 {
			t.Errorf("%+v", s)
		}
	}
}
