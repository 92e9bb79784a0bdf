package house

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// composeRelay is the relay of compose.yaml.
type composeRelay struct {
	Environment map[string]string
	User        string
	CapDrop     []string `yaml:"cap_drop"`
	CapAdd      []string `yaml:"cap_add"`
	Ports       []string
}

func readCompose(t *testing.T) composeRelay {
	t.Helper()
	raw, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Services map[string]composeRelay }
	if err := yaml.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	return file.Services["relay"]
}

// instruction gives the arguments of the last such line of the Dockerfile, which is the relay's.
func instruction(t *testing.T, name string) (args []string) {
	t.Helper()
	raw, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^`+name+`[^\[\n]*(\[.*\])$`).FindAllStringSubmatch(string(raw), -1)
	if len(all) == 0 {
		t.Fatalf("no %s in the Dockerfile", name)
	}
	if err := json.Unmarshal([]byte(all[len(all)-1][1]), &args); err != nil {
		t.Fatal(err)
	}
	return args
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestComposeInANamespace runs the image's command in a network namespace of its own, as the user and with the
// capabilities and environment of compose.yaml, on a config that is 0600 and somebody else's. What the ports publish is
// reached from outside, and the HEALTHCHECK holds.
func TestComposeInANamespace(t *testing.T) {
	for _, tool := range []string{"ip", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil || os.Getuid() != 0 {
			t.Skipf("NOT RUN: compose.yaml is tried in a network namespace, which needs root and %s", tool)
		}
	}
	relay := readCompose(t)
	dir, err := os.MkdirTemp("", "wxcompose")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "wxrelay")
	command(t, "go", "build", "-o", binary, "../cmd/wxrelay")
	const password = "a-long-password"
	file := filepath.Join(dir, "config.yml")
	config := `
admin: {listen: "127.0.0.1:8081", password: ` + password + `}
wechat: {base_url: "http://127.0.0.1:1"}
apps:
  - id: shop
    appid: wx0123456789abcdef
    secret: nobodysappsecret
    push: {token: AAAAA, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG}
`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 12345, 12345); err != nil {
		t.Skipf("NOT RUN: a file cannot be given to somebody else here: %v", err)
	}

	ns, outer, inner := fmt.Sprintf("wx%d", os.Getpid()), fmt.Sprintf("wxo%d", os.Getpid()), fmt.Sprintf("wxi%d", os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: no network namespaces here: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	if out, err := exec.Command("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", ns).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: no pair of network devices here: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", outer).Run() })
	command(t, "ip", "addr", "add", "198.18.77.1/30", "dev", outer)
	command(t, "ip", "link", "set", outer, "up")
	command(t, "ip", "-n", ns, "addr", "add", "198.18.77.2/30", "dev", inner)
	command(t, "ip", "-n", ns, "link", "set", inner, "up")
	command(t, "ip", "-n", ns, "link", "set", "lo", "up")

	// inside is a command of the image as compose runs it.
	inside := func(ctx context.Context, args []string) *exec.Cmd {
		uid, gid, _ := strings.Cut(relay.User, ":")
		caps := ""
		for _, c := range relay.CapDrop {
			caps += ",-" + strings.ToLower(c)
		}
		for _, c := range relay.CapAdd {
			caps += ",+" + strings.ToLower(c)
		}
		line := []string{"netns", "exec", ns, "setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "--bounding-set", caps[1:], "--no-new-privs", binary}
		for _, a := range args {
			line = append(line, strings.Replace(a, "/etc/wxrelay/config.yml", file, 1))
		}
		cmd := exec.CommandContext(ctx, "ip", line...)
		cmd.Env = append(os.Environ(), "WXRELAY_REDIS_URL=embedded://") // the one of compose is another container
		for name, value := range relay.Environment {
			if name != "WXRELAY_REDIS_URL" {
				cmd.Env = append(cmd.Env, name+"="+value)
			}
		}
		return cmd
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	served := inside(ctx, instruction(t, "CMD"))
	var log strings.Builder
	served.Stderr = &log
	if err := served.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = served.Wait(); close(ended) }()
	t.Cleanup(func() { stop(); <-ended })
	get := func(url string) (int, string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("operator", password)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body)
	}
	reach := func(url, want string) {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			status, said := get(url)
			if status == http.StatusOK && strings.Contains(said, want) {
				return
			}
			select {
			case <-ended:
				t.Fatalf("it ended:\n%s", log.String())
			case <-ctx.Done():
				t.Fatalf("%s: %d %.200s", url, status, said)
			case <-tick.C:
			}
		}
	}
	for _, port := range relay.Ports { // "127.0.0.1:8081:8081": the last is the container's
		reach("http://198.18.77.2:"+port[strings.LastIndexByte(port, ':')+1:]+"/healthz", "")
	}
	reach("http://198.18.77.2:8081/", "<html")
	if out, err := inside(ctx, instruction(t, "HEALTHCHECK")[1:]).CombinedOutput(); err != nil {
		t.Errorf("HEALTHCHECK: %v %s", err, out)
	}
}
