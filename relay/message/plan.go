package message

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// how a type is read.
type how int

const (
	foreign how = iota // by encoding/json, from the value's own bytes
	itself             // it is a reader
	raw                // kept as it is written
	rawMap             // map[string]json.RawMessage
	pointer
	text
	truth
	number
	list
	names // a map of texts to something
	object
)

// plan is how a type is read, found out once.
type plan struct {
	of     reflect.Type
	how    how
	elem   *plan
	fields map[string]field
}

type field struct {
	index []int
	plan  *plan
	most  int // items or names it may have; 0 = maxItems
}

var plans sync.Map // reflect.Type -> *plan

func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	p := planned(t, map[reflect.Type]*plan{})
	plans.Store(t, p)
	return p
}

var (
	readsItself = reflect.TypeFor[reader]()
	readsJSON   = reflect.TypeFor[json.Unmarshaler]()
	readsText   = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// planned makes the plan of a type; above are those that are being made.
func planned(t reflect.Type, above map[reflect.Type]*plan) *plan {
	if p := above[t]; p != nil {
		return p
	}
	p := &plan{of: t}
	above[t] = p
	switch to := reflect.PointerTo(t); {
	case to.Implements(readsItself):
		p.how = itself
		return p
	case t == reflect.TypeFor[json.RawMessage]():
		p.how = raw
		return p
	case t == reflect.TypeFor[map[string]json.RawMessage]():
		p.how = rawMap
		return p
	case t.Kind() != reflect.Pointer && (to.Implements(readsJSON) || to.Implements(readsText)):
		return p
	}
	switch t.Kind() {
	case reflect.Pointer:
		p.how, p.elem = pointer, planned(t.Elem(), above)
	case reflect.String:
		p.how = text
	case reflect.Bool:
		p.how = truth
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.how = number
	case reflect.Slice:
		p.how, p.elem = list, planned(t.Elem(), above)
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			p.how, p.elem = names, planned(t.Elem(), above)
		}
	case reflect.Struct:
		p.how, p.fields = object, map[string]field{}
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() || name == "-" || f.Anonymous && name == "" {
				continue
			}
			if name == "" {
				name = f.Name
			}
			most, _ := strconv.Atoi(f.Tag.Get("max"))
			p.fields[name] = field{f.Index, planned(f.Type, above), most}
		}
	}
	return p
}
