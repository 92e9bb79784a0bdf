package message

import (
	"slices"
	"unicode/utf8"
)

// MaxIssues is how many faults of one request are named.
const MaxIssues = 100

// Issue is one fault of a request: where, and what to do about it.
type Issue struct {
	Field  string `json:"field"`  // path as in the request: data.thing1
	Reason string `json:"reason"` // "23 characters, at most 20"
}

// Issues are the faults of one request, in the order they were found.
type Issues []Issue

// Add notes a fault. Past [MaxIssues] it notes nothing.
func (l *Issues) Add(field, reason string) {
	if len(*l) < MaxIssues {
		*l = append(*l, Issue{field, reason})
	}
}

// Has tells whether a field is named already.
func (l Issues) Has(field string) bool {
	return slices.ContainsFunc(l, func(i Issue) bool { return i.Field == field })
}

// NotText is the reason of a text that is not Unicode: bytes that are not UTF-8, or half of a surrogate pair.
const NotText = "is not Unicode text: it has bytes that are not UTF-8, or half of a surrogate pair"

// CheckText notes a text from outside a body (a path, a query) that is not Unicode.
func (l *Issues) CheckText(field, s string) {
	if !utf8.ValidString(s) {
		l.Add(field, NotText)
	}
}

// Malformed says that a body is not the JSON that was expected. Issues name the fields of a wrong type first, and
// then what else was found wrong.
type Malformed struct {
	Detail string
	Issues Issues
	Syntax bool // it is not JSON at all
}

func (e *Malformed) Error() string { return e.Detail }

// TooLarge says that a body has more of something than is taken.
type TooLarge struct{ Detail string }

func (e *TooLarge) Error() string { return e.Detail }
