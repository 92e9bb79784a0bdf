package house

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const snippets = "../gateway/docs/snippets/"

// languages are the snippets of the documents: what runs a file, and the tool that must be there.
var languages = []struct {
	name, tool   string
	send, verify []string
}{
	{"curl", "bash", []string{"bash", "-euo", "pipefail", snippets + "send.sh"}, []string{"bash", snippets + "verify.sh"}},
	{"node", "node", []string{"node", snippets + "send.mjs"}, []string{"node", snippets + "verify.mjs"}},
	{"python", "python3", []string{"python3", snippets + "send.py"}, []string{"python3", snippets + "verify.py"}},
	{"php", "php", []string{"php", snippets + "send.php"}, []string{"php", snippets + "verify.php"}},
	{"java", "java", []string{"java", snippets + "Send.java"}, []string{"java", snippets + "Verify.java"}},
	{"go", "go", []string{"go", "run", "send.go.txt"}, []string{"go", "run", "verify.go.txt"}}, // copied to .go below
}

// ready makes the command of one snippet; Go's carry another ending, so that they are not part of this module.
func ready(t *testing.T, args []string) []string {
	t.Helper()
	name, isGo := strings.CutSuffix(args[len(args)-1], ".txt")
	if !isGo {
		return args
	}
	raw, err := os.ReadFile(snippets + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"go", "run", file}
}

// The vector of the Standard Webhooks specification.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
var vector = []string{"WEBHOOK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "WEBHOOK_ID=msg_p5jXN8AQM9LWM0D4loKWxJek",
	"WEBHOOK_TIMESTAMP=1614265330", "WEBHOOK_SIGNATURE=v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}

func TestTheSnippetsOfTheDocumentsVerify(t *testing.T) {
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			if _, err := exec.LookPath(l.tool); err != nil {
				t.Skipf("NOT RUN: the snippets in %s need %s", l.name, l.tool)
			}
			t.Parallel()
			args := ready(t, l.verify)
			for _, c := range []struct {
				what, body, now string
				good            bool
			}{
				{"the vector", `{"test": 2432232314}`, "1614265333", true},
				{"another body", `{"test": 2432232315}`, "1614265333", false},
				{"a stale timestamp", `{"test": 2432232314}`, "1614266333", false},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
				cmd := exec.CommandContext(ctx, args[0], args[1:]...)
				cmd.Env = append(append(os.Environ(), vector...), "WEBHOOK_NOW="+c.now)
				cmd.Stdin = strings.NewReader(c.body)
				out, err := cmd.CombinedOutput()
				cancel()
				if (err == nil) != c.good {
					t.Errorf("%s: %v %s", c.what, err, out)
				}
			}
		})
	}
}

// README's first lines: one user, one template, one partner of the world with seed 1.
var firstSend = regexp.MustCompile(`(?s)body='(\{.*?\})'`)

func TestTheSnippetsOfTheDocumentsSend(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skipf("NOT RUN: the taps of the simulated user need curl: %v", err)
	}
	ctx, ports := simulated(t)
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	body := firstSend.FindSubmatch(readme)
	key := regexp.MustCompile(`key=([0-9a-f]{64})`).FindSubmatch(readme)
	if body == nil || key == nil {
		t.Fatal("README has no first send")
	}
	raw, err := hex.DecodeString(string(key[1]))
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "WXRELAY_URL="+ports["gateway, public door"]+"/v1/partners/orders/messages",
		"WXRELAY_SECRET=whsec_"+base64.StdEncoding.EncodeToString(raw), "WXRELAY_BODY="+string(body[1]))
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			if _, err := exec.LookPath(l.tool); err != nil {
				t.Skipf("NOT RUN: the snippets in %s need %s", l.name, l.tool)
			}
			tap := exec.CommandContext(ctx, "curl", "-sS", "--fail-with-body", ports["WeChat, the control"]+"/api/tap", "-d", `{"user":"ann","template":"T1","choice":"accept"}`)
			if out, err := tap.CombinedOutput(); err != nil {
				t.Fatalf("tap: %v %s", err, out)
			}
			args := ready(t, l.send)
			cmd := exec.CommandContext(ctx, args[0], args[1:]...)
			cmd.Env = env
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), `"state":"queued"`) {
				t.Errorf("%v %s", err, out)
			}
		})
	}
}
