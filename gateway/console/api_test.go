package console

import (
	"encoding/json"
	"regexp"
	"testing"
)

// TestKeysAreLowerCase: whoever reads the JSON behind the pages finds one way of writing, down to the last field.
func TestKeysAreLowerCase(t *testing.T) {
	form := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	for _, p := range samples() {
		if _, ok := p.(*Trouble); ok {
			continue // a page only
		}
		raw, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		var walk func(v any, path string)
		walk = func(v any, path string) {
			switch v := v.(type) {
			case map[string]any:
				for key, inner := range v {
					if !form.MatchString(key) {
						t.Errorf("%s: %s.%s", p.template(), path, key)
					}
					walk(inner, path+"."+key)
				}
			case []any:
				for _, inner := range v {
					walk(inner, path+"[]")
				}
			}
		}
		walk(v, "")
	}
}
