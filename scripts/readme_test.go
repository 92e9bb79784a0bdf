package house

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The lines that README promises to work when pasted are pasted here, against the world they are about. Only the ports
// are others: the default ones may be somebody's.
func TestTheLinesOfREADMEWorkWhenPasted(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("README's lines need %s: %v", tool, err)
		}
	}
	ctx, ports := startSim(t)
	for _, name := range []string{"README.md", "README.zh-CN.md"} {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("..", name))
			if err != nil {
				t.Fatal(err)
			}
			block := regexp.MustCompile("(?s)```sh\n(# .*?/api/tap.*?)```").FindStringSubmatch(string(raw))
			if block == nil {
				t.Fatal("there is no block of lines to paste")
			}
			script := strings.NewReplacer("http://127.0.0.1:8080", ports["gateway, public door"], "http://127.0.0.1:8081", ports["gateway, operators"],
				"http://127.0.0.1:8083", ports["WeChat, the control"], "http://127.0.0.1:8084", ports["partner"]).Replace(block[1])
			out, err := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", strings.ReplaceAll(script, "curl -s", "curl -sS --fail-with-body")).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range []string{`requestSubscribeMessage:ok`, `"state":"queued"`, `"status":"ok"`} {
				if !strings.Contains(string(out), want) {
					t.Errorf("the answers lack %s:\n%s", want, out)
				}
			}
		})
	}
}

// startSim runs the simulated world (seed 1) until the test ends: where its parts answer, by the names it prints.
func startSim(t *testing.T, args ...string) (context.Context, map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	bin := filepath.Join(t.TempDir(), "wxsim")
	if out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, "../cmd/wxsim").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	sim := exec.CommandContext(ctx, bin, append([]string{"-seed", "1", "-addr", "127.0.0.1:0"}, args...)...)
	sim.Cancel = func() error { return sim.Process.Signal(os.Interrupt) }
	sim.WaitDelay = 10 * time.Second
	said, err := sim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = sim.Wait() })
	ports := map[string]string{}
	address := regexp.MustCompile(`^  (gateway, public door|gateway, operators|WeChat, the control|partner) +(http://\S+)`)
	lines := bufio.NewScanner(said)
	up := false
	for lines.Scan() {
		if m := address.FindStringSubmatch(lines.Text()); m != nil {
			ports[m[1]] = m[2]
		}
		if strings.HasPrefix(lines.Text(), "# how the gateway feels") { // the last of what it says
			up = true
			break
		}
	}
	if !up || len(ports) != 4 {
		t.Fatalf("wxsim did not come up: %v, addresses %v", lines.Err(), ports)
	}
	return ctx, ports
}
