package webhook

import (
	"fmt"
	"strings"
)

// Endpoint is one address of a partner and the events it subscribes to.
type Endpoint struct {
	Partner, ID, URL string
	Events           []string // patterns: exact, prefix.*, *; none matches nothing
	Secrets          []Secret // newest first, 1 or 2
}

// Wants says whether one of the patterns matches.
func (e Endpoint) Wants(eventType string) bool {
	for _, p := range e.Events {
		if matches(p, eventType) {
			return true
		}
	}
	return false
}

// HealthKey names the endpoint for Health. It covers the URL: the state of one address says nothing about another.
func (e Endpoint) HealthKey() string { return e.Partner + "/" + e.ID + "/" + hashOf(e.URL) }

func matches(pattern, eventType string) bool {
	if pattern == "*" {
		return true
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok { // prefix keeps its full stop
		return len(eventType) > len(prefix) && strings.HasPrefix(eventType, prefix)
	}
	return pattern == eventType
}

// CheckPattern refuses what is neither *, nor an event type (words of a-z, 0-9 and _ divided by full stops), nor such a
// type's beginning followed by .* - ErrPattern.
func CheckPattern(p string) error {
	if p == "*" {
		return nil
	}
	for word := range strings.SplitSeq(strings.TrimSuffix(p, ".*"), ".") {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return fmt.Errorf("%w %q is not an event type, a prefix ending in .*, or *", ErrPattern, p)
		}
	}
	return nil
}
