package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse: whatever stands in the file or the environment, there are faults or a config that shows and reads back;
// never a panic, and never a fault without a path and a reason on one line.
func FuzzParse(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.yml")
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, "LOG_LEVEL", "debug")
	}
	f.Add(Example(), "APPS_SHOP_PUSH_PREVIOUS_0_TOKEN", "abc")
	f.Add([]byte("a: &a [*a]\napps: *a"), "APPS_", "x")
	f.Add([]byte("apps: &a [&b {id: x, <<: *b, push: *b}]"), "APPS_X_ID", "x")
	f.Add([]byte("? [a]\n: b\n? {}\n:\n"), "ALLOW_PRIVATE_ENDPOINTS", ",,")
	f.Fuzz(func(t *testing.T, raw []byte, name, value string) {
		c, err := Parse(raw, "testdata", []string{EnvPrefix + "_" + name + "=" + value})
		if err != nil {
			var faults Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("not faults: %v", err)
			}
			for _, fault := range faults {
				if fault.Path == "" || fault.Reason == "" || strings.ContainsAny(fault.String(), "\r\n") {
					t.Errorf("%q: %q", fault.Path, fault.Reason)
				}
			}
			return
		}
		if _, err := tree(c.Show()); err != nil {
			t.Errorf("what is shown is not YAML: %v", err)
		}
	})
}
