package app

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/config"
)

// TestLabelsAreBounded: the outside cannot grow our memory by making up names.
func TestLabelsAreBounded(t *testing.T) {
	b := bounded{most: 3}
	for i := range 100 {
		got := b.or(fmt.Sprint("made up ", i))
		if want := fmt.Sprint("made up ", i); i < 3 && got != want || i >= 3 && got != "other" {
			t.Errorf("%d: %s", i, got)
		}
	}
	if b.or("made up 1") != "made up 1" || b.or("new") != "other" || len(b.seen) != 3 {
		t.Error("what was known is forgotten, or more is kept")
	}
	long := bounded{most: 3}
	if got := long.or(strings.Repeat("x", 65)); got != "other" {
		t.Errorf("a name of 65 letters: %s", got)
	}
}

// TestValve: an outage is told of, not flooded with.
func TestValve(t *testing.T) {
	var v sampler
	passed := 0
	for range 1000 {
		if _, ok := v.allow(time.Unix(1, 0)); ok {
			passed++
		}
	}
	if passed != linesPerSecond {
		t.Errorf("%d lines in a second", passed)
	}
	if held, ok := v.allow(time.Unix(2, 0)); !ok || held != 1000-linesPerSecond {
		t.Errorf("the next second: %t, %d held back", ok, held)
	}
	if held, ok := v.allow(time.Unix(2, 1)); !ok || held != 0 {
		t.Errorf("told twice: %d", held)
	}
}

func TestLogLevelsAndForms(t *testing.T) {
	var out lines
	log, level, stop := NewLog(&out, config.Log{Level: "info", Format: "json"})
	log.Debug("hidden")
	log.Info("waits")
	if out.has("waits") {
		t.Error("an info line is written at once, one system call each")
	}
	log.Warn("at once")
	if !out.has(`"level":"warn"`) || !out.has(`"msg":"at once"`) || !out.has("waits") || out.has("hidden") {
		t.Error(out.String())
	}
	setLevel(level, "debug")
	log.Debug("shown", zap.String("k", "v"))
	stop()
	if !out.has(`"msg":"shown","k":"v"`) {
		t.Error(out.String())
	}
	var console lines
	log, _, stop = NewLog(&console, config.Log{Level: "error", Format: "console"})
	log.Warn("hidden")
	log.Error("shown")
	stop()
	if got := console.String(); !strings.Contains(got, "ERROR\tshown") || strings.Contains(got, "hidden") {
		t.Error(got)
	}
}

// TestNamedMetricsExist: each metric that the guides, the alert rules and the dashboard name is one of ours, and each is in both
// languages of the guide.
func TestNamedMetricsExist(t *testing.T) {
	m := newMetrics("test", newCollector(redis.NewClient(&redis.Options{})))
	descs, have := make(chan *prometheus.Desc), map[string]bool{}
	go func() {
		m.registry.Describe(descs)
		close(descs)
	}()
	for d := range descs {
		_, name, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ = strings.Cut(name, `"`)
		have[name] = true
	}
	named := map[string][]string{}
	for _, file := range []string{"gateway/docs/en/operating.md", "gateway/docs/zh/operating.md", "scripts/alerts.yml", "scripts/grafana.json"} {
		raw, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\bwxrelay_[a-z0-9_]+`).FindAllString(string(raw), -1) {
			if name = strings.TrimSuffix(name, "_bucket"); !have[name] {
				t.Errorf("%s names %s, which does not exist", file, name)
			}
			if !slices.Contains(named[file], name) {
				named[file] = append(named[file], name)
			}
		}
		if len(named[file]) < 10 {
			t.Errorf("%s names %d metrics", file, len(named[file]))
		}
	}
	if diff := cmp.Diff(named["gateway/docs/en/operating.md"], named["gateway/docs/zh/operating.md"]); diff != "" {
		t.Error(diff)
	}
}

// TestAlertRulesAreRules: promtool takes them, where it is installed; they are YAML and the dashboard is JSON everywhere.
func TestAlertRulesAreRules(t *testing.T) {
	raw, err := os.ReadFile("../../scripts/grafana.json")
	if err != nil || !json.Valid(raw) {
		t.Errorf("the dashboard is no JSON: %v", err)
	}
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("NO PROMTOOL WAS FOUND: scripts/alerts.yml is not checked by it")
	}
	if out, err := exec.CommandContext(t.Context(), tool, "check", "rules", "../../scripts/alerts.yml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestServedRequestsAreCounted: what nobody has a route for is one series, whatever path it names.
func TestServedRequestsAreCounted(t *testing.T) {
	m := newMetrics("test", newCollector(redis.NewClient(&redis.Options{})))
	m.serve("/callback/:app", "POST", 200, time.Millisecond)
	m.serve("none", "BREW", 404, time.Millisecond)
	got := map[string]float64{}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "wxrelay_http_requests_total" {
			for _, x := range f.GetMetric() {
				labels := ""
				for _, l := range x.GetLabel() {
					labels += l.GetValue() + " "
				}
				got[labels] = x.GetCounter().GetValue()
			}
		}
	}
	if diff := cmp.Diff(map[string]float64{"POST /callback/:app 200 ": 1, "other none 404 ": 1}, got); diff != "" {
		t.Error(diff)
	}
}
