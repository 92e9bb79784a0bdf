package gateway

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/wxrelay/wxrelay/relay"
)

// decode reads a partner's body into v, a pointer to a struct, and leaves nothing to chance: see [relay.Decode].
func decode(body []byte, v any) error { return named(relay.Decode(body, v)) }

// loose reads a mini-program's body. Unknown fields are passed over: mini-programs of many versions are in users'
// hands, and nobody can mend the old ones.
func loose(body []byte, v any) error { return named(relay.DecodeLoose(body, v)) }

// named keeps the fields of a body that is malformed.
func named(err error) error {
	if m, ok := errors.AsType[*relay.Malformed](err); ok {
		return &fault{code: Malformed, detail: m.Detail, fields: m.Issues}
	}
	return err
}

// maxQuery is how many bytes of a query are read.
const maxQuery = 8 << 10

// parseQuery reads a query whose values are text.
func parseQuery(raw string) (url.Values, error) {
	if len(raw) > maxQuery {
		return nil, invalid("query", "has more than "+strconv.Itoa(maxQuery)+" bytes")
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, &fault{code: Malformed, detail: "the query is not form-encoded"}
	}
	f := &fault{code: InvalidRequest}
	for name, values := range q {
		if !relay.IsText(name) || slices.ContainsFunc(values, func(v string) bool { return !relay.IsText(v) }) {
			f.fields = append(f.fields, relay.Field{Field: strings.ToValidUTF8(name, ""), Reason: relay.NotText})
		}
	}
	return q, f.orNil()
}

// orNil is the fault with its fields in order, or nil when it has none.
func (f *fault) orNil() error {
	if len(f.fields) == 0 {
		return nil
	}
	slices.SortFunc(f.fields, func(a, b relay.Field) int { return strings.Compare(a.Field, b.Field) })
	f.fields = f.fields[:min(len(f.fields), relay.MaxFields)]
	return f
}

func invalid(field, reason string) error {
	return &fault{code: InvalidRequest, fields: []relay.Field{{Field: field, Reason: reason}}}
}
