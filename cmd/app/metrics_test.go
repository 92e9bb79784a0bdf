package app

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
