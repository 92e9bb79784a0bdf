package config

import (
	"strings"
)

// Fault is one thing that is wrong with a config.
type Fault struct {
	Path   string `json:"path"` // apps[0].push.token; the file's name for a file that cannot be read; "yaml" for one that is not YAML
	Reason string `json:"reason"`
}

// String gives "path: reason".
func (f Fault) String() string { return f.Path + ": " + f.Reason }

// Faults is everything that is wrong, one per line. It is the error of Load and Parse; errors.As finds it.
type Faults []Fault

// Error gives one "path: reason" per line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// nearest gives the known name closest to a mistaken one, "" when none is close.
func nearest(mistaken string, known []string) string {
	best, least := "", len(mistaken)/3+1
	for _, k := range known {
		d := distance(strings.ToLower(mistaken), k)
		if d <= least && (best == "" || d < least) {
			best, least = k, d
		}
	}
	return best
}

// distance counts the letters to insert, drop, change or swap to get from a to b.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
