package message

import (
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"unsafe"
)

const (
	maxDepth = 32       // levels of nesting that are read
	maxItems = 1000     // items of a list or names of a map, where no `max` tag says otherwise
	copied   = 64 << 10 // bytes of a body that is copied as a whole, so that its texts are pieces of one string
	maxName  = 64       // bytes of one name in the path of an issue
)

// Decode reads a body, one JSON object, into v, a pointer to a struct with `json` tags. Each name stands in its exact spelling and
// once; what is unknown, given twice or no Unicode text is an issue at its path, and v is read as if it were not there. One byte
// order mark before the object is passed over.
//
// It reads the body once, checks as it goes, and stops at [MaxIssues], at 32 levels of nesting and at the bound of a list
// or map (1,000 items, or the number of the field's tag `max`), so that a hostile body costs no more than it says. Nothing in
// v refers to body, but for a [Batch].
//
// The error is a *[Malformed] (not JSON, a wrong type) or a *[TooLarge].
func Decode(body []byte, v any) (Issues, error) { return decode(body, v, false) }

// DecodeLoose is Decode for clients that nobody can mend: unknown fields are passed over, whatever is in them.
func DecodeLoose(body []byte, v any) (Issues, error) { return decode(body, v, true) }

func decode(body []byte, v any, loose bool) (Issues, error) {
	d := decoder{loose: loose, limit: MaxIssues}
	if len(body) <= copied {
		d.s = string(body)
	} else {
		d.s, d.borrowed = unsafe.String(unsafe.SliceData(body), len(body)), true // body is not written to while it is read
	}
	return d.whole(v)
}

// whole reads the body into v.
func (d *decoder) whole(v any) (Issues, error) {
	d.s = strings.TrimPrefix(d.s, "\ufeff")
	d.seen = d.few[:0]
	switch d.space(); {
	case d.i >= len(d.s):
		return nil, &Malformed{Detail: "the body is empty: a JSON object is expected"}
	case d.s[d.i] != '{':
		return nil, &Malformed{Detail: "the body is not a JSON object"}
	}
	d.into(v, 0, 0)
	if d.space(); d.err == nil && d.i < len(d.s) {
		d.syntax("there is something after the JSON object")
	}
	return d.result()
}

func (d *decoder) result() (Issues, error) {
	switch m, ok := errors.AsType[*Malformed](d.err); {
	case ok:
		m.Issues = d.all()
		return nil, m
	case len(d.wrong) > 0:
		return nil, &Malformed{Detail: "a field has the wrong type", Issues: d.all()}
	case d.err == errEnough:
		return d.issues, nil
	}
	return d.issues, d.err
}

// all are the fields of a wrong type, and then the others at fault.
func (d *decoder) all() Issues {
	all := append(d.wrong, d.issues...)
	return all[:min(len(all), MaxIssues)]
}

// errEnough ends the reading of a body with too many faults.
var errEnough = errors.New("message: enough faults")

// decoder reads one body. Its methods return at once when err is set.
type decoder struct {
	s        string
	i        int
	borrowed bool // s is the caller's: what is kept of it is copied
	loose    bool
	silent   int // > 0: inside what is passed over whatever is in it
	limit    int // how many issues are enough
	path     [maxDepth + 1]step
	seen     []string // names of the objects that are open, innermost last
	few      [16]string
	issues   Issues
	wrong    Issues // fields of a wrong type
	err      error
}

// step is one level of the path to where the decoder is: a name, or the index of an item.
type step struct {
	name  string
	index int
	item  bool
}

// reader is a type of this package that reads itself, from the value that begins at the decoder's place.
type reader interface {
	readJSON(d *decoder, depth int)
}

// value reads the value that begins here into v. An invalid v takes anything and keeps nothing.
func (d *decoder) value(v reflect.Value, p *plan, most, depth int) {
	if d.space(); d.err != nil {
		return
	}
	if d.i >= len(d.s) {
		d.syntax("it ends early")
		return
	}
	if !v.IsValid() {
		d.skip(depth)
		return
	}
	if p.how != raw && p.how != itself && d.s[d.i] == 'n' {
		d.word("null")
		return
	}
	switch p.how {
	case itself:
		v.Addr().Interface().(reader).readJSON(d, depth)
	case raw:
		from := d.i
		if d.skip(depth); d.err == nil {
			v.SetBytes([]byte(d.s[from:d.i]))
		}
	case rawMap:
		d.rawMap(v.Addr().Interface().(*map[string]json.RawMessage), most, depth)
	case foreign:
		from := d.i
		if d.skip(depth); d.err == nil {
			if err := json.Unmarshal([]byte(d.s[from:d.i]), v.Addr().Interface()); err != nil {
				d.mistyped(from, depth)
			}
		}
	case pointer:
		to := reflect.New(p.elem.of)
		d.value(to.Elem(), p.elem, most, depth)
		v.Set(to)
	case text:
		if s, ok := d.stringOf(depth); ok {
			v.SetString(s)
		}
	case truth:
		switch d.s[d.i] {
		case 't':
			d.word("true")
			v.SetBool(true)
		case 'f':
			d.word("false")
			v.SetBool(false)
		default:
			d.mismatch(depth)
		}
	case number:
		if s, ok := d.numberOf(depth); ok {
			n, err := strconv.ParseInt(s, 10, v.Type().Bits())
			if err != nil {
				d.mistyped(d.i-1, depth)
				return
			}
			v.SetInt(n)
		}
	case list:
		d.list(depth, most, func(int) {
			v.Grow(1)
			v.SetLen(v.Len() + 1)
			d.value(v.Index(v.Len()-1), p.elem, 0, depth+1)
		})
	case names:
		if v.IsNil() {
			v.Set(reflect.MakeMap(p.of))
		}
		d.object(depth, most, func(name string) {
			to := reflect.New(p.elem.of).Elem()
			d.value(to, p.elem, 0, depth+1)
			v.SetMapIndex(reflect.ValueOf(d.keep(name)), to)
		})
	case object:
		d.object(depth, len(d.s), func(name string) {
			f, known := p.fields[name]
			switch {
			case !known && d.loose:
				d.silent++
				d.skip(depth + 1)
				d.silent--
				return
			case !known:
				d.blame(depth, "unknown field")
				d.skip(depth + 1)
				return
			}
			d.value(v.FieldByIndex(f.index), f.plan, f.most, depth+1)
		})
	}
}

// into reads the value that begins here into what v points to.
func (d *decoder) into(v any, most, depth int) {
	to := reflect.ValueOf(v).Elem()
	d.value(to, planOf(to.Type()), most, depth)
}

func (d *decoder) rawMap(to *map[string]json.RawMessage, most, depth int) {
	*to = make(map[string]json.RawMessage, 8)
	d.object(depth, most, func(name string) {
		d.space()
		from := d.i
		if d.skip(depth + 1); d.err == nil {
			(*to)[d.keep(name)] = json.RawMessage(d.s[from:d.i])
		}
	})
}
