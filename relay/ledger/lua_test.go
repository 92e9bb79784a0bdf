package ledger

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/yuin/gopher-lua/parse"
)

// Each Lua file parses by itself, so that editors and linters can read it, and says what it is given and what it
// returns.
func TestLuaFilesParseAlone(t *testing.T) {
	files, err := filepath.Glob("*.lua")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse.Parse(strings.NewReader(string(src)), name); err != nil {
			t.Error(err)
		}
		if !strings.HasPrefix(string(src), "-- "+name) || !strings.Contains(string(src), "-- KEYS") || !strings.Contains(string(src), "Returns ") {
			t.Errorf("%s: no header with its name, KEYS and Returns", name)
		}
	}
}

// Every name in capitals is one of Go's constants.
func TestLuaKnowsItsConstants(t *testing.T) {
	comment, text := regexp.MustCompile(`--[^\n]*`), regexp.MustCompile(`'[^']*'`)
	for _, lua := range []string{Lua, AllowanceLua, constants(readLua)} {
		for _, name := range constantName.FindAllString(text.ReplaceAllString(comment.ReplaceAllString(lua, ""), ""), -1) {
			if name != "KEYS" && name != "ARGV" {
				t.Errorf("%s is not a constant", name)
			}
		}
	}
}
