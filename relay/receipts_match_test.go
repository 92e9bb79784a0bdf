package relay

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// reportsAt reads "R1@5 ok, R2@7 failed: blocked" and callsAt "A@0 B@3 C@9*" (* = sent twice), times in seconds.
func reportsAt(text string) (out []receipt) {
	for _, part := range strings.Split(text, ", ") {
		var id, word, why string
		var at int64
		fmt.Sscanf(strings.NewReplacer("@", " ", ":", "").Replace(part), "%s %d %s %s", &id, &at, &word, &why)
		out = append(out, receipt{msgid: id, came: time.Unix(at, 0), ok: word == "ok", status: why})
	}
	return out
}

func callsAt(text string) (out []openCall) {
	for _, part := range strings.Fields(text) {
		var id string
		var at int64
		fmt.Sscanf(strings.NewReplacer("@", " ", "*", "").Replace(part), "%s %d", &id, &at)
		out = append(out, openCall{id, at * 1000, strings.HasSuffix(part, "*")})
	}
	return out
}

func TestReportsSettleWhatTheyLeaveNoDoubtAbout(t *testing.T) {
	for name, c := range map[string]struct{ reports, calls, want string }{
		"one of one":                            {"R1@5 ok", "A@0", "A=R1"},
		"one of two":                            {"R1@5 ok", "A@0 B@1", ""},
		"two alike of two":                      {"R2@6 ok, R1@5 ok", "B@1 A@0", "A=R1 B=R2"},
		"two that differ":                       {"R1@5 ok, R2@6 failed: blocked", "A@0 B@1", ""},
		"two failed alike":                      {"R1@5 failed: blocked, R2@6 failed: blocked", "A@0 B@1", "A=R1 blocked B=R2 blocked"},
		"two failed otherwise":                  {"R1@5 failed: blocked, R2@6 failed: system", "A@0 B@1", "A=R1 blocked or system B=R2 blocked or system"},
		"two alike of three":                    {"R1@5 ok, R2@6 ok", "A@0 B@1 C@2", ""},
		"two alike before the third left":       {"R1@5 ok, R2@6 ok", "A@0 B@1 C@9", "A=R1 B=R2"},
		"one before, one after the second left": {"R1@5 ok, R2@9 ok", "A@0 B@7", "A=R1 B=R2"},
		"they differ, and one is of the first":  {"R1@5 ok, R2@9 failed: blocked", "A@0 B@7", "A=R1 B=R2 blocked"},
		"the second came after the third left":  {"R1@5 ok, R2@12 ok", "A@0 B@1 C@10", ""},
		"all three at last":                     {"R1@5 ok, R2@12 ok, R3@13 ok", "A@0 B@1 C@10", "A=R1 B=R2 C=R3"},
		"one was sent twice":                    {"R1@5 ok, R2@6 ok", "A@0* B@1", ""},
		"the one that is open was sent twice":   {"R1@5 ok", "A@0*", "A=R1"},
		"a report from before all calls":        {"R1@5 ok", "A@6 B@7", ""},
		"a report more than there are calls":    {"R1@5 ok, R2@6 ok, R3@7 ok", "A@0 B@1", "A=R1 B=R2"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, p := range certain(reportsAt(c.reports), callsAt(c.calls)) {
				got = append(got, strings.TrimSpace(p.id+"="+p.rc.msgid+" "+p.rc.status))
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}
