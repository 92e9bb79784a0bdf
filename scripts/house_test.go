// Package house holds the plan of who may import whom against the code.
package house

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/wxrelay/wxrelay"

// room is what one package of ours may import. ours and outside are import paths; a trailing /... opens everything below.
type room struct {
	ours    []string // below the module
	outside []string // neither ours nor the standard library
	onlyStd bool     // nothing but the standard library, in tests too
}

const (
	redisModule = "github.com/redis/go-redis/v9"
	sdk         = "github.com/silenceper/wechat/v2/..."
)

// plan is the house: every package stands here, or the test fails.
var plan = map[string]room{
	"callback":      {outside: []string{"github.com/silenceper/wechat/v2/util"}},
	"config":        {outside: []string{"go.yaml.in/yaml/v3"}},
	"relay/queue":   {outside: []string{redisModule}},
	"relay/ledger":  {outside: []string{redisModule}},
	"relay/binding": {outside: []string{redisModule}},
	"relay/webhook": {outside: []string{redisModule, "code.dny.dev/ssrf"}},
	"relay/wechat":  {outside: []string{redisModule, sdk}},
	"relay/message": {},
	"relay": {ours: []string{"callback", "relay/queue", "relay/ledger", "relay/binding", "relay/webhook", "relay/wechat", "relay/message"},
		outside: []string{"go.uber.org/zap"}},
	"gateway/docs": {outside: []string{"github.com/yuin/goldmark", "github.com/yuin/goldmark/...", "golang.org/x/text/language", "go.yaml.in/yaml/v3"}},
	"gateway": {ours: []string{"callback", "relay", "gateway/console", "gateway/docs"},
		outside: []string{"github.com/gin-gonic/gin", "github.com/gin-gonic/gin/...", "go.uber.org/zap"}},
	"gateway/console": {ours: []string{"relay"}},
	"cmd/app": {ours: []string{"config", "callback", "relay", "relay/...", "gateway", "gateway/console"},
		outside: []string{redisModule, "go.uber.org/zap", "go.uber.org/zap/...", "github.com/prometheus/client_golang/...", "github.com/alicebob/miniredis/v2",
			"go.opentelemetry.io/otel/..."}},
	"cmd/wxrelay": {ours: []string{"config", "cmd/app", "callback", "relay", "relay/..."},
		outside: []string{redisModule, "go.uber.org/zap", "go.uber.org/zap/..."}},
	"cmd/wxsim": {ours: []string{"config", "cmd/app", "cmd/wxsim/wechatsim", "cmd/wxsim/partnersim"},
		outside: []string{"go.uber.org/zap", "go.uber.org/zap/..."}},
	"cmd/wxsim/wechatsim":  {onlyStd: true},
	"cmd/wxsim/partnersim": {onlyStd: true},
	"scripts":              {outside: []string{"go.yaml.in/yaml/v3"}},
	"scripts/openapi":      {outside: []string{"github.com/getkin/kin-openapi/..."}},
	"scripts/slow":         {},
	"scripts/testredis":    {outside: []string{redisModule, "github.com/alicebob/miniredis/v2"}},
	"scripts/bench": {ours: []string{"config", "cmd/app", "callback", "relay", "relay/...", "gateway", "cmd/wxsim/wechatsim", "cmd/wxsim/partnersim"},
		outside: []string{"github.com/gin-gonic/gin", redisModule, "go.uber.org/zap"}},
}

// inTests is what a _test.go file of any room may add, but for those of the standard library alone.
var inTests = []string{"github.com/google/go-cmp/...", "github.com/alicebob/miniredis/v2/...", "pgregory.net/rapid", redisModule + "/...",
	"go.uber.org/zap", "go.uber.org/zap/...", "github.com/gin-gonic/gin", "github.com/yuin/gopher-lua/parse",
	"github.com/standard-webhooks/standard-webhooks/libraries/go", sdk, "golang.org/x/net/dns/dnsmessage", "go.opentelemetry.io/proto/otlp/...",
	"google.golang.org/protobuf/proto", "github.com/chromedp/chromedp", "github.com/chromedp/cdproto/..."}

// forTests is what is made for tests alone.
var forTests = []string{"scripts/openapi", "scripts/testredis", "scripts/slow"}

// testJoins are rooms whose tests may see more of the house than they themselves: journeys need the world around them.
var testJoins = map[string][]string{
	"relay":       {"cmd/wxsim/wechatsim", "cmd/wxsim/partnersim"},
	"gateway":     {"relay/...", "cmd/wxsim/wechatsim", "cmd/wxsim/partnersim"},
	"cmd/app":     {"cmd/wxsim/wechatsim", "cmd/wxsim/partnersim"},
	"cmd/wxrelay": {"cmd/wxsim/wechatsim", "cmd/wxsim/partnersim"},
}

// breaks lists every import under root that the plan does not allow.
func breaks(root string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && file != root || d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		name := path.Dir(filepath.ToSlash(rel))
		r, ok := plan[name]
		if !ok {
			out = append(out, rel+": package "+name+" is not in the plan of scripts/house_test.go")
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range f.Imports {
			p := strings.Trim(imp.Path.Value, `"`)
			if !r.allows(name, p, strings.HasSuffix(file, "_test.go")) {
				out = append(out, rel+": "+name+" may not import "+p)
			}
		}
		return nil
	})
	return out, err
}

func (r room) allows(name, p string, test bool) bool {
	if ours, ok := strings.CutPrefix(p, module+"/"); ok {
		if r.onlyStd {
			return false
		}
		return ours == name && test || matches(r.ours, ours) || test && (matches(testJoins[name], ours) || matches(forTests, ours))
	}
	if first, _, _ := strings.Cut(p, "/"); !strings.Contains(first, ".") {
		return true // the standard library
	}
	if r.onlyStd {
		return false
	}
	return matches(r.outside, p) || test && matches(inTests, p)
}

func matches(allowed []string, p string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		if below, ok := strings.CutSuffix(a, "/..."); ok {
			return p == below || strings.HasPrefix(p, below+"/")
		}
		return a == p
	})
}

func TestEveryImportIsInThePlan(t *testing.T) {
	found, err := breaks("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range found {
		t.Error(b)
	}
}

func TestEveryRoomOfThePlanStands(t *testing.T) {
	for name := range plan {
		if files, err := filepath.Glob(filepath.Join("..", name, "*.go")); err != nil || len(files) == 0 {
			t.Errorf("%s is in the plan and has no Go file (%v)", name, err)
		}
	}
}

// A check that cannot fail is none: each of these houses breaks one rule.
func TestAForbiddenImportIsFound(t *testing.T) {
	for name, c := range map[string]struct{ file, imports string }{
		"a room sees another room":            {"relay/queue/a.go", module + "/relay/ledger"},
		"config outside cmd":                  {"relay/a.go", module + "/config"},
		"tracing outside the wiring":          {"relay/a.go", "go.opentelemetry.io/otel/trace"},
		"gin outside the gateway":             {"relay/a.go", "github.com/gin-gonic/gin"},
		"the journeys speak Redis":            {"relay/a.go", redisModule},
		"the gateway sees behind the relay":   {"gateway/a.go", module + "/relay/queue"},
		"the console sees behind the relay":   {"gateway/console/a.go", module + "/relay/wechat"},
		"the gateway speaks Redis":            {"gateway/a.go", redisModule},
		"callback touches Redis":              {"callback/a.go", redisModule},
		"webhook knows WeChat":                {"relay/webhook/a.go", "github.com/silenceper/wechat/v2/util"},
		"the SDK's root package":              {"callback/a.go", "github.com/silenceper/wechat/v2"},
		"the simulator uses what it tests":    {"cmd/wxsim/wechatsim/a.go", module + "/callback"},
		"the simulator uses a library":        {"cmd/wxsim/wechatsim/a_test.go", "github.com/google/go-cmp/cmp"},
		"what is for tests in the product":    {"relay/queue/a.go", module + "/scripts/testredis"},
		"the simulator linked in the product": {"cmd/wxrelay/a.go", module + "/cmd/wxsim/wechatsim"},
		"a test library in the product":       {"relay/queue/a.go", "pgregory.net/rapid"},
		"a package without a place":           {"utils/a.go", "fmt"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			file := filepath.Join(root, c.file)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte("package a\n\nimport _ \""+c.imports+"\"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			found, err := breaks(root)
			if err != nil {
				t.Fatal(err)
			}
			if len(found) != 1 {
				t.Fatalf("found %q, want exactly one break", found)
			}
		})
	}
}
