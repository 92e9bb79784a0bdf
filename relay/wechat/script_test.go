package wechat

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yuin/gopher-lua/parse"
)

// Each script parses alone and says on top what it is given and what it returns.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("*.lua")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse.Parse(strings.NewReader(string(text)), file); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for _, part := range []string{"-- " + file, "-- KEYS"} {
			if !strings.Contains(string(text), part) {
				t.Errorf("%s: its header lacks %q", file, part)
			}
		}
		if file != "token.lua" && !strings.Contains(string(text), "-- Returns") {
			t.Errorf("%s: its header does not say what it returns", file)
		}
	}
}
