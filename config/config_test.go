package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// TestBad reads every bad_*.yml: its "# fault:" lines are the faults, all of them, in order and word for word.
func TestBad(t *testing.T) {
	names, err := filepath.Glob("testdata/bad_*.yml")
	if err != nil || len(names) < 30 {
		t.Fatalf("%d fixtures, err %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".yml"), func(t *testing.T) {
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var want, env []string
			for line := range strings.Lines(string(raw)) {
				if w, ok := strings.CutPrefix(line, "# fault: "); ok {
					want = append(want, strings.TrimSuffix(w, "\n"))
				}
				if e, ok := strings.CutPrefix(line, "# env: "); ok {
					env = append(env, strings.TrimSuffix(e, "\n"))
				}
			}
			_, err = Load(name, env)
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("no faults but %v", err)
			}
			if diff := cmp.Diff(strings.Join(want, "\n"), err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGood(t *testing.T) {
	names, _ := filepath.Glob("testdata/good_*.yml")
	if len(names) < 4 {
		t.Fatalf("only %d fixtures", len(names))
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			c, err := Load(name, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.Path() != name {
				t.Errorf("path %q", c.Path())
			}
		})
	}
}

func TestMinimalHasTheDefaultsOfTheExample(t *testing.T) {
	c, err := Load("testdata/good_minimal.yml", nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Parse(Example(), ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	// Everything of the example that is not a placeholder is a default.
	e.Admin, e.MasterKey, e.Apps, e.Partners = c.Admin, c.MasterKey, c.Apps, c.Partners
	e.MasterKeyPrevious, e.AllowPrivateEndpoints = nil, nil
	if diff := cmp.Diff(string(c.Show()), string(e.Show())); diff != "" {
		t.Error(diff)
	}
	a := c.Apps[0]
	if a.Kind != "miniprogram" || a.Push.Mode != "secure" || a.Push.MaxAge != 24*time.Hour || a.Push.Reply != "success" || a.Token.Source != "stable" {
		t.Errorf("defaults of an app: %+v", a)
	}
}

var uncommented = regexp.MustCompile(`(?m)^( *)# ((- )?[a-z_]+: .*)$`)

// TestExampleIsComplete: every key of the schema stands in the example, in use or commented out, and has a word said
// about it on the line before.
func TestExampleIsComplete(t *testing.T) {
	known := map[string]bool{}
	for _, p := range KnownPaths() {
		known[p] = false
	}
	raw := string(Example())
	lines := strings.Split(raw, "\n")
	var doc yaml.Node
	// Commented keys become keys; a comment that is prose with a colon would not be at a known path.
	opened := uncommented.ReplaceAllStringFunc(raw, func(line string) string {
		m := uncommented.FindStringSubmatch(line)
		key, _, _ := strings.Cut(m[2], ":")
		if slices.ContainsFunc(KnownPaths(), func(p string) bool { return p == key || strings.HasSuffix(p, "."+key) }) {
			return m[1] + m[2]
		}
		return line
	})
	if err := yaml.Unmarshal([]byte(opened), &doc); err != nil {
		t.Fatalf("%v\n%s", err, opened)
	}
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i < len(n.Content); i += 2 {
				p := under(path, n.Content[i].Value)
				if _, ok := known[p]; ok {
					known[p] = true
					said := lines[n.Content[i].Line-2]
					if !strings.HasSuffix(p, "_file") && !strings.HasPrefix(strings.TrimSpace(said), "#") && n.Content[i+1].Kind == yaml.ScalarNode {
						t.Errorf("line %d: nothing is said about %s", n.Content[i].Line, p)
					}
				}
				walk(n.Content[i+1], p)
			}
		case yaml.SequenceNode:
			for _, item := range n.Content {
				walk(item, path+"[]")
			}
		}
	}
	walk(doc.Content[0], "")
	for p, seen := range known {
		if !seen {
			t.Errorf("the example has no %s", p)
		}
	}
}

// TestEveryScalarFromTheEnvironment sets each key of the example by its variable and finds it there.
func TestEveryScalarFromTheEnvironment(t *testing.T) {
	for path, set := range map[string]struct{ env, value, want string }{
		"listen":                     {"WXRELAY_LISTEN", "127.0.0.1:1", "listen: 127.0.0.1:1 # from env WXRELAY_LISTEN"},
		"admin.listen":               {"WXRELAY_ADMIN_LISTEN", "127.0.0.1:2", "listen: 127.0.0.1:2 # from env WXRELAY_ADMIN_LISTEN"},
		"redis.url":                  {"WXRELAY_REDIS_URL", "redis://u:hunter2@h/1", "url: redis://u:***@h/1 # from env WXRELAY_REDIS_URL"},
		"redis.shards":               {"WXRELAY_REDIS_SHARDS", "4", "shards: 4 # from env"},
		"wechat.base_url":            {"WXRELAY_WECHAT_BASE_URL", "http://x", "base_url: http://x # from env"},
		"wechat.timeout":             {"WXRELAY_WECHAT_TIMEOUT", "900ms", "timeout: 900ms # from env"},
		"apps.secret":                {"WXRELAY_APPS_SHOP_SECRET", "hunter2", "secret: '***' # from env WXRELAY_APPS_SHOP_SECRET"},
		"apps.push.token":            {"WXRELAY_APPS_SHOP_PUSH_TOKEN", "hunter2", "token: '***' # from env WXRELAY_APPS_SHOP_PUSH_TOKEN"},
		"apps.push.previous":         {"WXRELAY_APPS_SHOP_PUSH_PREVIOUS_0_TOKEN", "hunter2", "token: '***' # from env WXRELAY_APPS_SHOP_PUSH_PREVIOUS_0_TOKEN"},
		"apps.push.max_age":          {"WXRELAY_APPS_SHOP_PUSH_MAX_AGE", "0", "max_age: 0 # from env"},
		"apps.phone_echo":            {"WXRELAY_APPS_SHOP_PHONE_ECHO", "true", "phone_echo: true # from env WXRELAY_APPS_SHOP_PHONE_ECHO"},
		"partners.secrets":           {"WXRELAY_PARTNERS_ORDERS_SECRETS", "whsec_" + strings.Repeat("A", 32), "secrets: ['***'] # from env"},
		"partners.rate":              {"WXRELAY_PARTNERS_ORDERS_RATE_PER_SECOND", "0.5", "per_second: 0.5 # from env"},
		"partners.endpoints":         {"WXRELAY_PARTNERS_ORDERS_ENDPOINTS_MAIN_URL", "https://h/x", "url: https://h/x # from env"},
		"limits.body":                {"WXRELAY_LIMITS_BODY", "64KiB", "body: 64KiB # from env"},
		"subscriptions.unproven_max": {"WXRELAY_SUBSCRIPTIONS_UNPROVEN_MAX", "0", "unproven_max: 0 # from env"},
		"allow_private_endpoints":    {"WXRELAY_ALLOW_PRIVATE_ENDPOINTS", "10.0.0.0/8, 127.0.0.1", "[10.0.0.0/8, 127.0.0.1/32] # from env"},
		"templates":                  {"WXRELAY_APPS_SHOP_TEMPLATES_ORDER_SHIPPED_DATA", "a=thing1, b = date2", "data: {a: thing1, b: date2} # from env WXRELAY_APPS_SHOP_TEMPLATES_ORDER_SHIPPED_DATA"},
		"shutdown_grace":             {"WXRELAY_SHUTDOWN_GRACE", "1m", "shutdown_grace: 1m # from env"},
		"log.format":                 {"WXRELAY_LOG_FORMAT", "console", "format: console # from env"},
	} {
		t.Run(path, func(t *testing.T) {
			c, err := Parse(Example(), ".", []string{"HOME=/", set.env + "=" + set.value, "WXRELAY_ADMIN_PASSWORD="})
			if err != nil {
				t.Fatal(err)
			}
			if shown := string(c.Show()); !strings.Contains(shown, set.want) || strings.Contains(shown, "hunter2") {
				t.Errorf("no %q in\n%s", set.want, shown)
			}
			if len(c.UnknownEnv()) > 0 {
				t.Errorf("unknown %v", c.UnknownEnv())
			}
		})
	}
}

func TestExampleSecrets(t *testing.T) {
	e, err := Parse(Example(), ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := e.ExampleSecrets(); len(got) != 11 || !slices.Contains(got, "apps[0].push.previous[0].token") {
		t.Errorf("of the example: %v", got)
	}
	c, err := Load("testdata/good_minimal.yml", []string{"WXRELAY_APPS_SHOP_SECRET=fresh", "WXRELAY_ADMIN_PASSWORD=change-me-please"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"admin.password"}, c.ExampleSecrets()); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownEnvironmentIsTold(t *testing.T) {
	c, err := Parse(Example(), ".", []string{"WXRELAY_APPS_SHOP_SECRETT=x", "WXRELAY_PORT=tcp://1.2.3.4:80",
		"WXRELAY_SERVICE_HOST=1.2.3.4", "WXRELAY_TEST_REDIS=redis://h"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"WXRELAY_APPS_SHOP_SECRETT"}, c.UnknownEnv()); diff != "" {
		t.Error(diff)
	}
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("secret", "hunter2\n")
	write("pair", "whsec_"+strings.Repeat("A", 32)+"\nwhsec_"+strings.Repeat("B", 32)+"\n")
	write("header", "X-Key: hunter2\nAuthorization: Bearer hunter3\n")
	raw := strings.NewReplacer(
		"secret: ReplaceThisAppSecretByYourOwnOne", "secret_file: secret",
		"secrets: [whsec_cmVwbGFjZSB0aGlzIHBhcnRuZXIgc2VjcmV0IG5vdyE=]", "secrets_file: "+filepath.Join(dir, "pair"),
		"source: stable", "source: external\n      url: https://t.example/x?key=hunter2\n      header_file: header",
	).Replace(string(Example()))
	write("wxrelay.yml", raw)
	_, err := Load(filepath.Join(dir, "wxrelay.yml"), []string{"WXRELAY_MASTER_KEY_FILE=" + filepath.Join(dir, "missing")})
	want := "master_key_file: " + filepath.Join(dir, "missing") + ": no such file or directory"
	if err == nil || err.Error() != want {
		t.Fatalf("%v", err)
	}
	c, err := Load(filepath.Join(dir, "wxrelay.yml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Apps[0].Secret.Reveal() != "hunter2" || len(c.Partners[0].Secrets) != 2 || c.Apps[0].Token.Header["X-Key"].Reveal() != "hunter2" {
		t.Errorf("read %+v", c.Apps[0].Token.Header)
	}
	shown := string(c.Show())
	if strings.Contains(shown, "hunter") || !strings.Contains(shown, "secret: '***' # from file "+filepath.Join(dir, "secret")) ||
		!strings.Contains(shown, "url: https://t.example/x?key=***") {
		t.Error(shown)
	}
}

// TestSecretFilesFromWindows: a byte order mark and line ends of any kind are not part of a secret, and a whole config may
// have them too.
func TestSecretFilesFromWindows(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, b := "whsec_"+strings.Repeat("A", 32), "whsec_"+strings.Repeat("B", 32)
	write("secret", "\ufeffhunter2\r\n")
	write("pair", "\ufeff"+a+"\r\n"+b+"\r\n")
	write("url", "\ufeffredis://:hunter2@h/0\r\n")
	raw := strings.NewReplacer(
		"secret: ReplaceThisAppSecretByYourOwnOne", "secret_file: secret",
		"secrets: [whsec_cmVwbGFjZSB0aGlzIHBhcnRuZXIgc2VjcmV0IG5vdyE=]", "secrets_file: pair",
		"url: redis://127.0.0.1:6379/0", "url_file: url", "\n", "\r\n",
	).Replace(string(Example()))
	write("c.yml", "\ufeff"+raw)
	c, err := Load(filepath.Join(dir, "c.yml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var secrets []string
	for _, s := range c.Partners[0].Secrets {
		secrets = append(secrets, s.Reveal())
	}
	if diff := cmp.Diff([]string{a, b}, secrets); diff != "" || c.Apps[0].Secret.Reveal() != "hunter2" || c.Redis.URL.Reveal() != "redis://:hunter2@h/0" {
		t.Errorf("%q %q %s", c.Apps[0].Secret.Reveal(), c.Redis.URL.Reveal(), diff)
	}
	for content, want := range map[string]string{
		"hunter\x142":             "contains a control character",
		"\xff\xfeh\x00u\x00n\x00": "is not UTF-8", // UTF-16, as old editors save it
		"hunter2\r\nhunter3":      "contains a control character",
	} {
		write("secret", content)
		if _, err := Load(filepath.Join(dir, "c.yml"), nil); err == nil || !strings.HasPrefix(err.Error(), "apps[0].secret: "+want) {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// TestRulesSpeakWithTheOthers: what other packages have to say comes at once with unknown keys, and only once a value.
func TestRulesSpeakWithTheOthers(t *testing.T) {
	rule := func(c *Config, refuse func(string, string, ...any)) {
		refuse("partners[0].endpoints[0].url", "%s is private", c.Partners[0].Endpoints[0].URL)
		refuse("log.level", "and again")
	}
	raw := strings.NewReplacer("level: info", "level: loud", "orders.example.com", "10.0.0.1", "shutdown_grace", "shutdown_grave").Replace(string(Example()))
	_, err := Parse([]byte(raw), ".", nil, rule)
	want := `shutdown_grave: unknown key, did you mean "shutdown_grace"?
log.level: "loud" is unknown, wants one of debug, info, warn, error
partners[0].endpoints[0].url: https://10.0.0.1/hook is private`
	if err == nil || cmp.Diff(want, err.Error()) != "" {
		t.Errorf("%v", err)
	}
}

// TestNotTheExample: what everybody can read is refused, each by its path.
func TestNotTheExample(t *testing.T) {
	_, err := Parse(Example(), ".", []string{"WXRELAY_APPS_SHOP_SECRET=fresh"}, NotTheExample)
	var faults Faults
	if !errors.As(err, &faults) || len(faults) != 10 || faults[0].Path != "admin.password" || strings.Contains(err.Error(), "apps[0].secret") {
		t.Errorf("%v", err)
	}
}

// TestShowMasksEndpoints: many receivers know their senders by what stands in the address.
func TestShowMasksEndpoints(t *testing.T) {
	c, err := Parse(Example(), ".", []string{"WXRELAY_PARTNERS_ORDERS_ENDPOINTS_MAIN_URL=https://orders.example.com/hook?tok=hunter2&hunter3"})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Partners[0].Endpoints[0].URL; got != "https://orders.example.com/hook?tok=hunter2&hunter3" {
		t.Errorf("told at %s", got)
	}
	if shown := string(c.Show()); strings.Contains(shown, "hunter") || !strings.Contains(shown, "url: https://orders.example.com/hook?tok=***&*** # from env") {
		t.Error(shown)
	}
}

// TestShowReadsBack: what is shown has only known keys, and the values that are not secret are the same again.
func TestShowReadsBack(t *testing.T) {
	c, err := Load("testdata/good_full.yml", nil)
	if err != nil {
		t.Fatal(err)
	}
	shown := c.Show()
	_, err = Parse(shown, ".", nil)
	var faults Faults
	errors.As(err, &faults)
	for _, f := range faults {
		if !strings.Contains(f.Path, "secret") && !strings.Contains(f.Path, "token") && !strings.Contains(f.Path, "key") &&
			!strings.Contains(f.Path, "password") {
			t.Errorf("%s", f)
		}
	}
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if strings.Contains(n.Value, "hunter") {
			t.Errorf("a secret on line %d", n.Line)
		}
		for _, child := range n.Content {
			walk(child)
		}
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(shown, &doc); err != nil {
		t.Fatal(err)
	}
	walk(&doc)
}

func TestSecretsNeverPrint(t *testing.T) {
	type holder struct {
		Secret Secret
		URL    URL
		hidden Secret
		deep   *struct{ s Secret }
		list   []Secret
	}
	h := holder{newSecret("hunter2"), newURL("redis://u:hunter2@h"), newSecret("hunter2"),
		&struct{ s Secret }{newSecret("hunter2")}, []Secret{newSecret("hunter2")}}
	asJSON, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
		for _, x := range []any{h, &h, h.Secret, &h.Secret, h.URL, h.list, errors.New(fmt.Sprint(h))} {
			if s := fmt.Sprintf(verb, x); strings.Contains(s, "hunter") || strings.Contains(s, "68756e746572") {
				t.Errorf("%s prints %s", verb, s)
			}
		}
	}
	if s := string(asJSON) + string(asYAML); strings.Contains(s, "hunter") || !strings.Contains(s, "***") {
		t.Error(s)
	}
	if newSecret("").String() != "" || !newSecret("").IsZero() || !newSecret("a").Equal(newSecret("a")) {
		t.Error("an absent secret, or two equal ones, are not told as such")
	}
}

func TestMaskURL(t *testing.T) {
	for raw, want := range map[string]string{
		"redis://127.0.0.1:6379/0":           "redis://127.0.0.1:6379/0",
		"redis://user:hunter2@h:1/0":         "redis://user:***@h:1/0",
		"redis://:hunter2@h:1/0":             "redis://:***@h:1/0",
		"redis://:p@ss/w:rd@h:1/0":           "redis://:***@h:1/0",
		"redis+sentinel://u:x@a,b/master":    "redis+sentinel://u:***@a,b/master",
		"redis://h/0?password=hunter2&db=1":  "redis://h/0?password=***&db=1",
		"redis://h/0?%6bey=hunter2&db=1":     "redis://h/0?%6bey=***&db=1",
		"https://h/x?appid=1&%6bey=hunter2":  "https://h/x?appid=***&%6bey=***",
		"https://u:hunter2@h/x?tok=hunter2":  "https://u:***@h/x?tok=***",
		"HTTP://h/x?hunter2":                 "HTTP://h/x?***",
		"https://h/x?a=b=c&&d=#e":            "https://h/x?a=***&&d=***",
		"https://h/x?":                       "https://h/x?",
		"hunter2":                            "***",
		"":                                   "",
		"redis://mysecretpassword@h":         "redis://***@h",
		"redis+cluster://hunter2@a,b":        "redis+cluster://***@a,b",
		"redis://:pa?hunter2@h":              "redis://***",
		"redis://h?password=hunter2@h":       "redis://***",
		"unix://hunter2@/run/r.sock":         "unix://***@/run/r.sock",
		"rediss://h?username=u&sslcert=file": "rediss://h?username=u&sslcert=file",
	} {
		if got := maskURL(raw); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}

func TestDurationsAndSizes(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"5s": 5 * time.Second, "7d": 168 * time.Hour, "1d12h": 36 * time.Hour, "0": 0, "-5s": -5 * time.Second,
		"1h30m": 90 * time.Minute, "500ms": 500 * time.Millisecond, "0d": 0,
	} {
		d, err := parseDuration(s)
		if err != nil || d != want {
			t.Errorf("%s: %v %v", s, d, err)
		}
		if back, err := parseDuration(formatDuration(d)); err != nil || back != d {
			t.Errorf("%s: written as %s, read as %v %v", s, formatDuration(d), back, err)
		}
	}
	for _, s := range []string{"", "5", "d", "-", "1.5d", "--5s", "5 s", "d5", "106752d", "1d-5h", "99999d"} {
		if d, err := parseDuration(s); err == nil {
			t.Errorf("%q is %v", s, d)
		}
	}
	for s, want := range map[string]Size{"256KiB": 256 << 10, "12MiB": 12 << 20, "100": 100, "1 GB": 1e9, "5kib": 5120, "7B": 7, "0": 0} {
		if n, err := parseSize(s); err != nil || n != want {
			t.Errorf("%s: %d %v", s, n, err)
		}
		if back, err := parseSize(want.String()); err != nil || back != want {
			t.Errorf("%d: written as %s, read as %d", want, want, back)
		}
	}
	for _, s := range []string{"", "KiB", "1.5MiB", "12 parsecs", "9999999999GiB", "1e3"} {
		if n, err := parseSize(s); err == nil {
			t.Errorf("%q is %d", s, n)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"token", "encoding_aes_key", "mode", "previous", "max_age"}
	for mistaken, want := range map[string]string{
		"tokne": "token", "Token": "token", "encodingaeskey": "encoding_aes_key", "maxage": "max_age", "zzz": "", "": "",
	} {
		if got := nearest(mistaken, known); got != want {
			t.Errorf("%q: %q, want %q", mistaken, got, want)
		}
	}
}
