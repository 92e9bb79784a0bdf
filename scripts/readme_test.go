package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The lines that README promises to work when pasted are pasted here, against the world they are about. Only the ports
// are others: the default ones may be somebody's.
func TestTheLinesOfREADMEWorkWhenPasted(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("README's lines need %s: %v", tool, err)
		}
	}
	ctx, ports := simulated(t)
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
