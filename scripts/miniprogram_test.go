package house

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The file for mini-programs does its work against the whole simulated world.
func TestTheMiniProgramsFileWorks(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("NOT RUN: the file for mini-programs is tested with node")
	}
	ctx, ports := simulated(t)
	file, err := filepath.Abs("../gateway/docs/assets/wxrelay.js")
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Get(ports["WeChat, the control"] + "/api/state")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var world struct {
		Apps []struct {
			Name      string
			Templates []struct {
				ID   string
				Type int
			}
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&world); err != nil {
		t.Fatal(err)
	}
	var once []string
	for _, a := range world.Apps {
		for _, tpl := range a.Templates {
			if a.Name == "shop" && tpl.Type == 2 && len(once) < 2 {
				once = append(once, tpl.ID)
			}
		}
	}
	cmd := exec.CommandContext(ctx, node, "testdata/miniprogram.mjs")
	cmd.Env = append(os.Environ(), "FILE="+file, "GATEWAY="+ports["gateway, public door"], "CONTROL="+ports["WeChat, the control"], "TEMPLATES="+strings.Join(once, ","))
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "ok") {
		t.Errorf("%v\n%s", err, out)
	}
}
