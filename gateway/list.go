package gateway

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay"
)

// list is the answer of every list.
type list[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next_cursor"`
}

// listOf makes a list answer; no items is [], no cursor null.
func listOf[T any](items []T, next string) list[T] {
	if items == nil {
		items = []T{}
	}
	l := list[T]{Items: items}
	if next != "" {
		l.Next = &next
	}
	return l
}

// How many items a page of a list has.
const (
	pageItems    = 50
	maxPageItems = 100
)

// listQuery reads the query of a list: the filters it knows, limit and cursor. A name misspelt would widen the list
// unseen, so it is a fault.
func listQuery(raw string, known ...string) (q map[string]string, limit int, err error) {
	values, err := parseQuery(raw)
	if err != nil {
		return nil, 0, err
	}
	known = append(known, "cursor", "limit")
	q, limit = make(map[string]string, len(values)), pageItems
	f := &fault{code: InvalidRequest}
	blame := func(field, reason string) { f.fields = append(f.fields, relay.Field{Field: field, Reason: reason}) }
	for name, given := range values {
		switch {
		case !slices.Contains(known, name):
			blame(name, "unknown, must be one of "+strings.Join(known, ", "))
		case len(given) > 1:
			blame(name, "given twice")
		default:
			q[name] = given[0]
		}
	}
	if s := q["limit"]; s != "" {
		limit, err = strconv.Atoi(s)
		if err != nil || limit < 1 || limit > maxPageItems {
			blame("limit", "must be a number from 1 to "+strconv.Itoa(maxPageItems))
		}
	}
	return q, limit, f.orNil()
}

// paged cuts one page out of a list that is known as a whole, in the order of the keys; the cursor is the last key
// shown.
func paged[T any](all []T, key func(T) string, cursor string, limit int) (list[T], error) {
	after, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return list[T]{}, invalid("cursor", "is not a next_cursor of this list: leave it out to begin")
	}
	all = slices.SortedStableFunc(slices.Values(all), func(a, b T) int { return cmp.Compare(key(a), key(b)) })
	from := 0
	if cursor != "" {
		from, _ = slices.BinarySearchFunc(all, string(after), func(item T, after string) int {
			if key(item) <= after {
				return -1
			}
			return 1
		})
	}
	page, next := all[from:min(from+limit, len(all))], ""
	if from+limit < len(all) {
		next = base64.RawURLEncoding.EncodeToString([]byte(key(page[len(page)-1])))
	}
	return listOf(page, next), nil
}

// between reads the since and until of a list; absent is open.
func between(q map[string]string) (since, until time.Time, err error) {
	f := &fault{code: InvalidRequest}
	read := func(name string) (t time.Time) {
		if text := q[name]; text != "" {
			var ok bool
			if t, ok = relay.ParseTime(text); !ok {
				f.fields = append(f.fields, relay.Field{Field: name, Reason: "must be a time in RFC 3339, like 2026-01-02T15:04:05Z"})
			}
		}
		return t
	}
	since, until = read("since"), read("until")
	if len(f.fields) == 0 && !since.IsZero() && !until.IsZero() && until.Before(since) {
		f.fields = append(f.fields, relay.Field{Field: "until", Reason: "is before since"})
	}
	return since, until, f.orNil()
}
