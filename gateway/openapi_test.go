package gateway

import (
	"slices"
	"strings"
	"testing"

	"github.com/wxrelay/wxrelay/scripts/openapi"
)

// Every route is in the description, and nothing is described that is not there.
func TestRoutesAndDescriptionAgree(t *testing.T) {
	have := map[string]bool{}
	for _, r := range Public(Options{}).engine.Routes() {
		have[r.Method+" "+strings.TrimSuffix(openapi.PathOf(r.Path), "/")] = true // one slash at the end is the same route
	}
	described := openapi.Described(t).Operations()
	for _, op := range described {
		if !have[op] {
			t.Errorf("described and not there: %s", op)
		}
	}
	for op := range have {
		if !slices.Contains(described, op) && !strings.HasPrefix(op, "HEAD ") {
			t.Errorf("there and not described: %s", op)
		}
	}
}

// Every code that the gateway answers is in the description, and no other.
func TestCodesAndDescriptionAgree(t *testing.T) {
	var listed []string
	for _, v := range openapi.Described(t).Doc.Components.Schemas["ProblemCode"].Value.Enum {
		listed = append(listed, v.(string))
	}
	var have []string
	for _, e := range table {
		have = append(have, string(e.Code))
	}
	slices.Sort(listed)
	slices.Sort(have)
	if !slices.Equal(listed, have) {
		t.Errorf("described %v\nanswered  %v", listed, have)
	}
}
