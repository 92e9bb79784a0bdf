package gateway

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/wxrelay/wxrelay/relay"
)

// decode reads a partner's body into v, a pointer to a struct, and leaves nothing to chance: bytes that are not UTF-8,
// anything after the value, nesting past maxDepth and wrong types are `malformed`; unknown fields (in their exact spelling)
// and fields given twice are faults of the given code, all of them at once and with their paths. Where v can be blamed for them
// the answer is nil: v tells them with the faults it finds itself. Only then v is read as if those fields were not there.
func decode(body []byte, v any, code Code) error {
	if !utf8.Valid(body) {
		return &fault{code: Malformed, detail: "the body is not UTF-8"}
	}
	var room [few][]byte
	w := walker{b: body, keys: room[:0]}
	if body = bytes.TrimLeft(body, " \t\r\n"); len(body) == 0 || body[0] != '{' {
		return &fault{code: Malformed, detail: "the body is not a JSON object"}
	}
	whole := w.value(shapeOf(reflect.TypeOf(v)), 0)
	if w.deep {
		return &fault{code: Malformed, detail: "nested deeper than " + strconv.Itoa(maxDepth) + " levels"}
	}
	if p, ok := v.(plainReader); ok && whole && len(w.faults) == 0 && json.Valid(w.b) && p.ReadPlain(w.b) {
		return nil
	}
	if len(w.faults) > 0 && json.Valid(w.b) {
		w.b = w.blameless()
	}
	if err := json.Unmarshal(w.b, v); err != nil {
		return malformed(err, w.faults...)
	}
	if !whole {
		return &fault{code: Malformed, detail: "the body is not JSON"}
	}
	if len(w.faults) == 0 {
		return nil
	}
	if b, ok := v.(blamed); ok {
		b.Blame(w.faults)
		return nil
	}
	return &fault{code: code, fields: w.faults}
}

// blamed is told of the faults of its body, and lists them with those that are found only later.
type blamed interface{ Blame(faults []relay.Field) }

// plainReader reads a body by itself when it is simple, and leaves the others to encoding/json.
type plainReader interface{ ReadPlain(body []byte) bool }

// malformed says where reading stopped, in the words of the format and not of our types, and after it what else is known.
func malformed(err error, more ...relay.Field) error {
	f := &fault{code: Malformed}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && t.Field != "" {
		f.detail = "a field has the wrong type"
		f.fields = append([]relay.Field{{Field: t.Field, Reason: "a JSON " + t.Value + " does not fit here"}}, more...)
		return f
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		f.detail = "not JSON: " + s.Error() + " (byte " + strconv.FormatInt(s.Offset, 10) + ")"
	}
	return f
}

const (
	maxDepth  = 32 // levels of nesting read
	maxFaults = 50 // faults listed
)

// walker reads JSON once for what encoding/json does not tell: fields given twice, fields in another case, and the path of
// every unknown field. It trusts encoding/json with the syntax and only takes care not to run astray.
type walker struct {
	b      []byte
	i      int
	path   [maxDepth + 1]step
	keys   [][]byte // names seen in the objects that are open, innermost last
	faults []relay.Field
	cuts   [][2]int // where the fields at fault stand, each with a comma
	deep   bool
}

// step is one level of the path to where the walker is: a name, or an index when name is nil.
type step struct {
	name  []byte
	index int
}

// value reads the value at depth d; false means it is not JSON.
func (w *walker) value(s *shape, d int) bool {
	w.space()
	if w.i >= len(w.b) {
		return false
	}
	if d >= maxDepth {
		w.deep = true
		return false
	}
	switch w.b[w.i] {
	case '{', '[':
		switch {
		case s != nil && s.apart:
			return w.pass()
		case w.b[w.i] == '{':
			return w.object(s, d)
		}
		return w.array(s, d)
	case '"':
		_, ok := w.str()
		return ok
	}
	from := w.i
	for w.i < len(w.b) && !delimits(w.b[w.i]) {
		w.i++
	}
	return w.i > from
}

func (w *walker) object(s *shape, d int) bool {
	w.i++
	mark := len(w.keys)
	comma := -1              // the last one that is not cut
	var many map[string]bool // once an object has too many names to compare one by one
	if w.space(); w.eat('}') {
		return true
	}
	for {
		w.space()
		from, bad := w.i, false
		name, ok := w.str()
		if w.space(); !ok || !w.eat(':') {
			return false
		}
		w.path[d] = step{name: name}
		inner, known := s.field(name)
		if !known {
			bad = true
			w.blame(d, "unknown field")
		} else if bad, many = w.seen(name, mark, many); bad {
			w.blame(d, "given twice")
		}
		if !w.value(inner, d+1) {
			return false
		}
		if w.space(); w.eat('}') {
			if bad {
				w.cut(from, w.i-1)
				w.cut(comma, comma+1)
			}
			w.keys = w.keys[:mark]
			return true
		}
		if !w.eat(',') {
			return false
		}
		if bad {
			w.cut(from, w.i)
		} else {
			comma = w.i - 1
		}
	}
}

func (w *walker) cut(from, to int) {
	if from >= 0 {
		w.cuts = append(w.cuts, [2]int{from, to})
	}
}

// blameless is the body without the fields at fault, so that the others can be read on their own.
func (w *walker) blameless() []byte {
	b := bytes.Clone(w.b)
	for _, c := range w.cuts {
		for i := c[0]; i < c[1]; i++ {
			b[i] = ' '
		}
	}
	return b
}

// pass goes past an object or a list without a look at what is in it.
func (w *walker) pass() bool {
	for depth := 0; w.i < len(w.b); {
		switch w.b[w.i] {
		case '"':
			if !w.skip() {
				return false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if w.i++; depth == 0 {
			return true
		}
	}
	return false
}

func (w *walker) array(s *shape, d int) bool {
	w.i++
	if w.space(); w.eat(']') {
		return true
	}
	for n := 0; ; n++ {
		w.path[d] = step{index: n}
		if !w.value(s.element(), d+1) {
			return false
		}
		if w.space(); w.eat(']') {
			return true
		}
		if !w.eat(',') {
			return false
		}
	}
}

// few is how many names of one object are compared one by one.
const few = 24

// seen notes a name and tells whether the object had it already.
func (w *walker) seen(name []byte, mark int, many map[string]bool) (bool, map[string]bool) {
	if many == nil {
		for _, k := range w.keys[mark:] {
			if bytes.Equal(k, name) {
				return true, nil
			}
		}
		w.keys = append(w.keys, name)
		if len(w.keys)-mark < few {
			return false, nil
		}
		many = make(map[string]bool, 2*few)
		for _, k := range w.keys[mark:] {
			many[string(k)] = true
		}
		return false, many
	}
	had := many[string(name)]
	many[string(name)] = true
	return had, many
}

// str reads a string and returns what it means; without escapes that is a piece of the body itself.
func (w *walker) str() ([]byte, bool) {
	from := w.i + 1
	if !w.skip() {
		return nil, false
	}
	if raw := w.b[from : w.i-1]; bytes.IndexByte(raw, '\\') < 0 {
		return raw, true
	}
	var s string
	if json.Unmarshal(w.b[from-1:w.i], &s) != nil {
		return nil, false
	}
	return []byte(s), true
}

// skip goes past a string.
func (w *walker) skip() bool {
	if !w.eat('"') {
		return false
	}
	from := w.i
	for {
		n := bytes.IndexByte(w.b[w.i:], '"')
		if n < 0 {
			return false
		}
		at := w.i + n
		w.i = at + 1
		back := at
		for back > from && w.b[back-1] == '\\' {
			back--
		}
		if (at-back)%2 == 0 { // else it is an escaped quote
			return true
		}
	}
}

func (w *walker) space() {
	for w.i < len(w.b) && (w.b[w.i] == ' ' || w.b[w.i] == '\n' || w.b[w.i] == '\t' || w.b[w.i] == '\r') {
		w.i++
	}
}

func (w *walker) eat(c byte) bool {
	if w.i < len(w.b) && w.b[w.i] == c {
		w.i++
		return true
	}
	return false
}

func delimits(c byte) bool {
	switch c {
	case ',', '}', ']', ' ', '\n', '\t', '\r':
		return true
	}
	return false
}

func (w *walker) blame(d int, reason string) {
	if len(w.faults) >= maxFaults {
		return
	}
	var p strings.Builder
	for i, s := range w.path[:d+1] {
		switch {
		case s.name == nil:
			p.WriteString("[" + strconv.Itoa(s.index) + "]")
		case i > 0:
			p.WriteByte('.')
			fallthrough
		default:
			p.Write(s.name[:min(len(s.name), 64)])
		}
	}
	w.faults = append(w.faults, relay.Field{Field: strings.ToValidUTF8(p.String(), ""), Reason: reason})
}

// apart is JSON that is read later, by itself: what is wrong in it is not a fault of what it stands in.
type apart json.RawMessage

// UnmarshalJSON keeps it as it is.
func (a *apart) UnmarshalJSON(b []byte) error {
	*a = bytes.Clone(b)
	return nil
}

// shape is which names a type knows, at every level. A nil shape takes anything.
type shape struct {
	fields map[string]*shape // nil = not an object of ours
	elem   *shape            // of arrays and maps
	apart  bool              // not looked into
}

func (s *shape) field(name []byte) (*shape, bool) {
	if s == nil || s.fields == nil {
		return s.element(), true
	}
	inner, ok := s.fields[string(name)]
	return inner, ok
}

func (s *shape) element() *shape {
	if s == nil {
		return nil
	}
	return s.elem
}

var shapes sync.Map // reflect.Type -> *shape

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := measure(t, nil)
	shapes.Store(t, s)
	return s
}

var (
	readsJSON = reflect.TypeFor[json.Unmarshaler]()
	readsText = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// measure makes a type's shape; types that read themselves, and types inside themselves, take anything.
func measure(t reflect.Type, above []reflect.Type) *shape {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == reflect.TypeFor[apart]() {
		return &shape{apart: true}
	}
	if p := reflect.PointerTo(t); p.Implements(readsJSON) || p.Implements(readsText) {
		return nil
	}
	for _, a := range above {
		if a == t {
			return nil
		}
	}
	above = append(above, t)
	switch t.Kind() {
	case reflect.Slice, reflect.Array, reflect.Map:
		if e := measure(t.Elem(), above); e != nil {
			return &shape{elem: e}
		}
	case reflect.Struct:
		s := &shape{fields: map[string]*shape{}}
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() || name == "-" || f.Anonymous && name == "" {
				continue
			}
			if name == "" {
				name = f.Name
			}
			s.fields[name] = measure(f.Type, above)
		}
		return s
	}
	return nil
}
