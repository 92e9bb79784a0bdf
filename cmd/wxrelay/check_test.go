package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/scripts/testredis"
)

// checked runs the doctor and reads its JSON.
func checked(t *testing.T, yaml string) (int, findings) {
	t.Helper()
	got := wxrelay(t, nil, "check", "-json", "-c", file(t, "c.yml", yaml))
	var f findings
	if err := json.Unmarshal([]byte(got.out), &f); err != nil {
		t.Fatalf("%v\n%s%s", err, got.out, got.errors)
	}
	if f.OK != (got.code == 0) {
		t.Errorf("ok %t, exit %d", f.OK, got.code)
	}
	return got.code, f
}

// find gives the findings of one check as "grade detail".
func (f findings) find(subject, check string) (out []string) {
	for _, x := range f.List {
		if x.Subject == subject && x.Check == check {
			out = append(out, x.Grade+" "+x.Detail)
		}
	}
	return out
}

func TestCheckFine(t *testing.T) {
	platform := httptest.NewServer(standIn())
	defer platform.Close()
	code, f := checked(t, gatewayYAML("embedded://", platform.URL, "http://127.0.0.1:1/x"))
	if code != 0 {
		t.Errorf("exit %d: %+v", code, f.List)
	}
	for check, want := range map[string]string{
		"token": "ok obtained (stable), ends in", "templates": "ok 1", "template": "ok " + benchTemplate + "  bench (thing1)",
		"callback": "ok in WeChat's console: URL https://<your host>/callback/shop, mode secure",
	} {
		if got := f.find("app shop", check); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%s: %q, want %q", check, got, want)
		}
	}
	// The same for people.
	got := wxrelay(t, nil, "check", "-c", file(t, "c.yml", gatewayYAML("embedded://", platform.URL, "http://127.0.0.1:1/x")))
	if got.code != 0 || !strings.Contains(got.out, "ok       app shop     token        obtained") {
		t.Errorf("exit %d\n%s%s", got.code, got.out, got.errors)
	}
}

// TestCheckSaysTheCure: WeChat's refusals come with their meaning and cure, 40164 with the address to allow.
func TestCheckSaysTheCure(t *testing.T) {
	for answer, want := range map[string]struct {
		code   int
		detail string
	}{
		`{"errcode":40164,"errmsg":"invalid ip 203.0.113.9 ipv6 ::ffff:203.0.113.9, not in whitelist rid: 1-2-3"}`: {40164, "WeChat sees us as 203.0.113.9"},
		`{"errcode":40125,"errmsg":"invalid appsecret rid: 1-2-3"}`:                                                {40125, "errcode 40125"},
		`{"errcode":40013,"errmsg":"invalid appid"}`:                                                               {40013, "errcode 40013"},
	} {
		platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
		code, f := checked(t, gatewayYAML("embedded://", platform.URL, "http://127.0.0.1:1/x"))
		platform.Close()
		if code != 1 {
			t.Errorf("%d: exit %d", want.code, code)
		}
		found := false
		for _, x := range f.List {
			if x.Subject == "app shop" && x.Check == "token" {
				found = true
				if x.Grade != gradeProblem || x.Errcode == nil || *x.Errcode != want.code || !strings.Contains(x.Detail, want.detail) || x.Cure == "" || x.CureZH == "" {
					t.Errorf("%+v", x)
				}
				if strings.Contains(fmt.Sprint(x), "appsecret\"") || strings.Contains(x.Detail, "secret=") {
					t.Errorf("a secret in %+v", x)
				}
			}
		}
		if !found {
			t.Errorf("%d: nothing found", want.code)
		}
	}
}

// TestCheckWithoutRedis: the apps are still looked at, but a classic token, which would end the one in use, is not taken.
func TestCheckWithoutRedis(t *testing.T) {
	platform := httptest.NewServer(standIn())
	defer platform.Close()
	yaml := gatewayYAML("unix:///nonexistent/r.sock", platform.URL, "http://127.0.0.1:1/x")
	code, f := checked(t, yaml)
	if got := f.find("redis", "reachable"); code != 1 || len(got) != 1 || !strings.HasPrefix(got[0], "problem ") {
		t.Errorf("exit %d, %q", code, got)
	}
	if got := f.find("app shop", "token"); len(got) != 1 || !strings.HasPrefix(got[0], "ok ") {
		t.Errorf("%q", got)
	}
	_, f = checked(t, strings.Replace(yaml, "partners:", "    token: {source: classic}\npartners:", 1))
	if got := f.find("app shop", "token"); len(got) != 1 || !strings.HasPrefix(got[0], "note not asked for") {
		t.Errorf("%q", got)
	}
}

func TestCheckNotesPlaceholders(t *testing.T) {
	platform := httptest.NewServer(standIn())
	defer platform.Close()
	yaml := strings.Replace(gatewayYAML("embedded://", platform.URL, "http://127.0.0.1:1/x"), "token: AAAAA", "token: ReplaceThisToken", 1)
	code, f := checked(t, yaml)
	if diff := cmp.Diff([]string{"problem still the example's: apps[0].push.token"}, f.find("config", "secrets")); code != 1 || diff != "" {
		t.Errorf("exit %d %s", code, diff)
	}
}

// TestCheckTakesAnExampleSecretWeChatTakes: an AppSecret for which there is a token is the app's own, however it looks. Without
// a token it is named; so is what no platform vouches for.
func TestCheckTakesAnExampleSecretWeChatTakes(t *testing.T) {
	good := httptest.NewServer(standIn())
	defer good.Close()
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"errcode":40125,"errmsg":"invalid appsecret"}`)
	}))
	defer bad.Close()
	const secret, master = "secret: ReplaceThisAppSecretByYourOwnOne", "master_key: cmVwbGFjZSB0aGlzIG1hc3RlciBrZXkgcGxlYXNlISE="
	appSecret := func(yaml string) string { return strings.Replace(yaml, "secret: appsecret", secret, 1) }
	masterKey := func(yaml string) string {
		return strings.Replace(yaml, "master_key: HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", master, 1)
	}
	external := func(yaml string) string {
		return strings.Replace(yaml, "partners:", "    token: {source: external, url: "+good.URL+"/cgi-bin/token}\npartners:", 1)
	}
	for name, c := range map[string]struct {
		yaml string
		left []string
	}{
		"a token":         {appSecret(gatewayYAML("embedded://", good.URL, "http://127.0.0.1:1/x")), nil},
		"no token":        {appSecret(gatewayYAML("embedded://", bad.URL, "http://127.0.0.1:1/x")), []string{"problem still the example's: apps[0].secret"}},
		"a master key":    {masterKey(gatewayYAML("embedded://", good.URL, "http://127.0.0.1:1/x")), []string{"problem still the example's: master_key"}},
		"both":            {masterKey(appSecret(gatewayYAML("embedded://", good.URL, "http://127.0.0.1:1/x"))), []string{"problem still the example's: master_key"}},
		"another's token": {external(appSecret(gatewayYAML("embedded://", good.URL, "http://127.0.0.1:1/x"))), []string{"problem still the example's: apps[0].secret"}},
		"not asked for":   {strings.Replace(appSecret(gatewayYAML("embedded://", good.URL, "http://127.0.0.1:1/x")), "partners:", "    token: {source: classic}\npartners:", 1), []string{"problem still the example's: apps[0].secret"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, f := checked(t, c.yaml)
			if diff := cmp.Diff(c.left, f.find("config", "secrets")); diff != "" || (code == 0) != (c.left == nil) {
				t.Errorf("exit %d, %+v\n%s", code, f.List, diff)
			}
		})
	}
}

// TestCheckAsksWeChat: that a token lies in Redis says nothing of the secret of today.
func TestCheckAsksWeChat(t *testing.T) {
	var refuses atomic.Bool
	good := standIn()
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuses.Load() {
			fmt.Fprint(w, `{"errcode":40125,"errmsg":"invalid appsecret"}`)
			return
		}
		good.ServeHTTP(w, r)
	}))
	defer platform.Close()
	yaml := gatewayYAML("redis://"+miniredis.RunT(t).Addr(), platform.URL, "http://127.0.0.1:1/x")
	token := func(yaml string) string {
		_, f := checked(t, yaml)
		return strings.Join(f.find("app shop", "token"), "; ")
	}
	classic := strings.Replace(yaml, "partners:", "    token: {source: classic}\npartners:", 1)
	if got := token(classic); !strings.HasPrefix(got, "ok ") { // it lies in Redis from now on
		t.Fatal(got)
	}
	refuses.Store(true)
	if got := token(classic); !strings.HasPrefix(got, "ok ") { // the one in use is not ended to try the secret
		t.Error(got)
	}
	if got := token(yaml); !strings.Contains(got, "40125") {
		t.Errorf("a stable token: %s", got)
	}
}

// TestServerFindings judges what INFO says.
func TestServerFindings(t *testing.T) {
	good := map[string]string{"redis_version": "7.2.4", "role": "master", "maxmemory_policy": "noeviction", "aof_enabled": "1", "aof_last_write_status": "ok"}
	for name, c := range map[string]struct {
		key, value string
		check      string // of the problem; "" = none
	}{
		"good":            {"", "", ""},
		"old":             {"redis_version", "6.0.16", "version"},
		"just new enough": {"redis_version", "6.2", ""},
		"no number":       {"redis_version", "unstable", "version"},
		"replica":         {"role", "slave", "role"},
		"evicts":          {"maxmemory_policy", "allkeys-lru", "eviction"},
		"no aof":          {"aof_enabled", "0", "persistence"},
		"aof broken":      {"aof_last_write_status", "err", "persistence"},
	} {
		t.Run(name, func(t *testing.T) {
			info := map[string]string{}
			for k, v := range good {
				info[k] = v
			}
			info[c.key] = c.value
			var f findings
			serverFindings(&f, "h:1", info)
			for _, x := range f.List {
				if (x.Grade == gradeProblem) != (x.Check == c.check) {
					t.Errorf("%+v", x)
				}
			}
		})
	}
	var f findings
	serverFindings(&f, "h:1", parseInfo("# Memory\r\nused_memory:900\r\nmaxmemory:1000\r\nmaxmemory_policy:noeviction\r\nredis_version:7.0.0\r\naof_enabled:1\r\n"))
	if got := f.find("redis", "memory"); len(got) != 1 {
		t.Errorf("nearly full: %q", got)
	}
}

// TestCheckRealRedis looks at a real server, which the test run has set up well but perhaps without an append-only file.
func TestCheckRealRedis(t *testing.T) {
	url := testredis.URL(t)
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	platform := httptest.NewServer(standIn())
	defer platform.Close()
	_, f := checked(t, gatewayYAML(url, platform.URL, "http://127.0.0.1:1/x"))
	for check, want := range map[string]string{"reachable": "ok ", "clock": "ok ", "version": "ok ", "eviction": "ok ", "persistence": ""} {
		if got := f.find("redis", check); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%s: %q", check, got)
		}
	}
	if o.Network == "unix" {
		return // a cluster is reached by name and port
	}
	_, f = checked(t, gatewayYAML("redis+cluster://"+o.Addr, platform.URL, "http://127.0.0.1:1/x"))
	if f.OK {
		t.Error("a cluster is seen where there is none")
	}
}

// TestCheckFindsWhatServeRefuses and what would do nothing: shards, a template the app does not have, a pattern of no event.
func TestCheckFindsWhatServeRefuses(t *testing.T) {
	platform := httptest.NewServer(standIn())
	defer platform.Close()
	m := miniredis.RunT(t)
	yaml := gatewayYAML("redis://"+m.Addr(), platform.URL, "http://127.0.0.1:1/x")
	if _, f := checked(t, yaml); !strings.HasPrefix(strings.Join(f.find("redis", "shards"), ";"), "ok no gateway has used this Redis yet") {
		t.Errorf("%q", f.find("redis", "shards"))
	}
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer rdb.Close()
	if _, err := queue.Open(t.Context(), rdb, queue.Options{Shards: 16}); err != nil {
		t.Fatal(err)
	}
	yaml = strings.Replace(yaml, ", secrets: [whsec_", `, events: ["mesage.sent", "message.*", "user.bond"], secrets: [whsec_`, 1)
	yaml = strings.Replace(yaml, "partners:", "    templates: [{id: gone, template_id: TheTemplateID}, {id: other, template_id: "+benchTemplate+", data: {a: thing9}}]\npartners:", 1)
	code, f := checked(t, strings.Replace(yaml, "}\nwechat", ", shards: 8}\nwechat", 1))
	if code != 1 {
		t.Errorf("exit %d", code)
	}
	for _, c := range []struct {
		subject, check string
		want           []string
	}{
		{"redis", "shards", []string{"problem this Redis was started with 16 shards, redis.shards is 8: serve refuses to start"}},
		{"app shop", "alias", []string{"problem templates gone: the app has no template TheTemplateID", "problem templates other: data.a: the template has no keyword thing9"}},
		{"config", "events", []string{`problem partners[0].endpoints[0].events[0]: "mesage.sent" matches no event`, `problem partners[0].endpoints[0].events[2]: "user.bond" matches no event`}},
	} {
		if diff := cmp.Diff(c.want, f.find(c.subject, c.check)); diff != "" {
			t.Errorf("%s %s: %s", c.subject, c.check, diff)
		}
	}
}

// TestCheckUnderAnACL without INFO, which serve does not need: what was skipped is said, and is no problem.
func TestCheckUnderAnACL(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("NOT TESTED: no redis-server on this machine")
	}
	platform := httptest.NewServer(standIn())
	defer platform.Close()
	dir, err := os.MkdirTemp("", "wxr") // t.TempDir is too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "r.sock")
	server := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--user", "wx", "on", ">hunter2", "~*", "&*", "+@all", "-info", "-config", "-cluster",
		"--user", "default", "on", "nopass", "~*", "+@all")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
	defer rdb.Close()
	for limit := time.Now().Add(20 * time.Second); rdb.Ping(t.Context()).Err() != nil; {
		if time.Now().After(limit) {
			t.Fatal("redis-server does not answer")
		}
	}
	code, f := checked(t, gatewayYAML("unix://wx:hunter2@"+socket, platform.URL, "http://127.0.0.1:1/x"))
	if got := f.find("redis", "info"); code != 0 || len(got) != 1 || !strings.HasPrefix(got[0], "note skipped: NOPERM") {
		t.Errorf("exit %d, %q\n%+v", code, got, f.List)
	}
	_, f = checked(t, gatewayYAML("unix://wx:wrong1@"+socket, platform.URL, "http://127.0.0.1:1/x"))
	if got := strings.Join(f.find("redis", "reachable"), ";"); !strings.Contains(got, "lets us not in: WRONGPASS") || strings.Contains(got, "wrong1") {
		t.Errorf("%q", got)
	}
}

// TestCheckNotesPushesOfAnyAge: what can be replayed for ever deserves a look.
func TestCheckNotesPushesOfAnyAge(t *testing.T) {
	platform := httptest.NewServer(standIn())
	defer platform.Close()
	yaml := gatewayYAML("embedded://", platform.URL, "http://127.0.0.1:1/x")
	if _, f := checked(t, yaml); len(f.find("app shop", "max_age")) != 0 {
		t.Errorf("%+v", f.List)
	}
	code, f := checked(t, strings.Replace(yaml, "push: {", "push: {max_age: 0, ", 1))
	if got := f.find("app shop", "max_age"); code != 0 || len(got) != 1 || !strings.HasPrefix(got[0], "note push.max_age is 0") {
		t.Errorf("exit %d, %q", code, got)
	}
}
