package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// filling is one pass over the schema (the structs of config.go), the YAML tree and the environment at once.
// A struct type with a defaults method is given them before it is filled.
type filling struct {
	env      map[string]string
	usedEnv  map[string]bool
	dir      string            // relative secret files are found from here
	contents map[string][]byte // every secret file that was asked for; nil = unreadable
	origin   map[string]string // path -> "file X" or "env X", for values that do not stand in the YAML
	faults   Faults

	settled int // of so many faults one is enough for a value: those of reading, and for rules those of validation too
}

func (f *filling) fault(path, format string, a ...any) {
	f.faults = append(f.faults, Fault{oneLine(path), oneLine(fmt.Sprintf(format, a...))})
}

// oneLine keeps a key with a line break in it from looking like two faults.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
}

// fields lists the keys of a struct of the schema in their order.
func fields(t reflect.Type) (names []string, index []int) {
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			names, index = append(names, name), append(index, i)
		}
	}
	return names, index
}

var (
	secretType = reflect.TypeFor[Secret]()
	urlType    = reflect.TypeFor[URL]()
)

// secretShaped reports whether a key of this type also comes as <key>_file.
func secretShaped(t reflect.Type) bool {
	return t == secretType || t == urlType ||
		(t.Kind() == reflect.Slice || t.Kind() == reflect.Map) && t.Elem() == secretType
}

// isPart reports whether t is a struct of the schema and not a value that happens to be one.
func isPart(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != secretType && t != urlType && t != reflect.TypeFor[netip.Prefix]()
}

func isPartList(t reflect.Type) bool { return t.Kind() == reflect.Slice && isPart(t.Elem()) }

// under joins a key to a path.
func under(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// envName spells one step of an environment variable's name.
func envName(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }

func (f *filling) lookupEnv(name string) (string, bool) {
	v, ok := f.env[name]
	if ok {
		f.usedEnv[name] = true
	}
	return v, ok
}

// part fills a struct from a mapping (nil = the file says nothing here) and from the environment.
func (f *filling) part(v reflect.Value, node *yaml.Node, path, env string) {
	if d, ok := v.Addr().Interface().(interface{ defaults() }); ok {
		d.defaults()
	}
	names, index := fields(v.Type())
	keys := f.mapping(node, path)
	known := map[string]bool{}
	for i, name := range names {
		field, p, e := v.Field(index[i]), under(path, name), env+"_"+envName(name)
		known[name] = true
		switch t := field.Type(); {
		case secretShaped(t):
			known[name+"_file"] = true
			f.secret(field, keys.node[name], keys.node[name+"_file"], p, e)
		case isPart(t):
			f.part(field, keys.node[name], p, e)
		case isPartList(t):
			f.parts(field, keys.node[name], p, e)
		default:
			f.plain(field, keys.node[name], p, e)
		}
	}
	for _, key := range keys.order {
		if !known[key] {
			f.fault(under(path, key), "unknown key%s", hint(key, known, path))
		}
	}
}

// hint says what an unknown key was probably meant to be.
func hint(key string, known map[string]bool, path string) string {
	siblings := make([]string, 0, len(known))
	for k := range known {
		siblings = append(siblings, k)
	}
	sort.Strings(siblings)
	if n := nearest(key, siblings); n != "" {
		return fmt.Sprintf(", did you mean %q?", n)
	}
	var elsewhere []string // those in the fewest lists
	for _, p := range KnownPaths() {
		if !strings.HasSuffix(p, "."+key) && p != key {
			continue
		}
		if lists := strings.Count(p, "[]"); len(elsewhere) > 0 && lists < strings.Count(elsewhere[0], "[]") {
			elsewhere = nil
		} else if len(elsewhere) > 0 && lists > strings.Count(elsewhere[0], "[]") {
			continue
		}
		elsewhere = append(elsewhere, p)
	}
	if len(elsewhere) == 1 {
		return fmt.Sprintf(" here, it belongs at %s", elsewhere[0])
	}
	if path == "" {
		return ""
	}
	return fmt.Sprintf(" here; known are %s", strings.Join(siblings, ", "))
}

// parts fills a list of structs; an item is named by its id in the environment, by its position without one.
func (f *filling) parts(v reflect.Value, node *yaml.Node, path, env string) {
	items, ok := f.list(node, path)
	if !ok {
		return
	}
	made := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		name := strconv.Itoa(i)
		if id := cmp.Or(peek(item, "id"), peek(item, "name")); id != "" {
			name = envName(id)
		}
		f.part(made.Index(i), item, fmt.Sprintf("%s[%d]", path, i), env+"_"+name)
	}
	if len(items) > 0 {
		v.Set(made)
	}
}

// plain fills a scalar, or a list or map of scalars; the environment gives those with commas.
func (f *filling) plain(v reflect.Value, node *yaml.Node, path, env string) {
	isList := v.Kind() == reflect.Slice
	if text, ok := f.lookupEnv(env); ok && !strings.HasSuffix(path, ".id") && !strings.HasSuffix(path, ".name") {
		f.origin[path] = "env " + env
		if v.Kind() == reflect.Map {
			f.words(v, text, path, env)
		} else if isList {
			f.texts(v, splitList(text, ","), path, " (from "+env+")")
		} else if err := setScalar(v, text); err != nil {
			f.fault(path, "%v (from %s)", err, env)
		}
		return
	}
	if isList {
		items, ok := f.list(node, path)
		if !ok {
			return
		}
		var texts []string
		for i, item := range items {
			text, ok := f.scalar(item, fmt.Sprintf("%s[%d]", path, i))
			if !ok {
				return
			}
			texts = append(texts, text)
		}
		f.texts(v, texts, path, "")
		return
	}
	if absent(node) {
		return
	}
	if v.Kind() == reflect.Map {
		keys, m := f.mapping(node, path), map[string]string{}
		for _, name := range keys.order {
			m[name], _ = f.scalar(keys.node[name], under(path, name))
		}
		v.Set(reflect.ValueOf(m))
		return
	}
	if text, ok := f.scalar(node, path); ok {
		if err := setScalar(v, text); err != nil {
			f.fault(path, "%v", err)
		}
	}
}

// words fills a map from the environment: name=value,name=value.
func (f *filling) words(v reflect.Value, text, path, env string) {
	m := map[string]string{}
	for _, item := range splitList(text, ",") {
		name, value, ok := strings.Cut(item, "=")
		if !ok {
			f.fault(path, "wants name=value,name=value (from %s)", env)
			return
		}
		m[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	v.Set(reflect.ValueOf(m))
}

func (f *filling) texts(v reflect.Value, texts []string, path, from string) {
	made := reflect.MakeSlice(v.Type(), len(texts), len(texts))
	for i, text := range texts {
		if err := setScalar(made.Index(i), text); err != nil {
			f.fault(fmt.Sprintf("%s[%d]", path, i), "%v%s", err, from)
		}
	}
	v.Set(made)
}

// splitList cuts and trims; empty items fall away.
func splitList(text, sep string) []string {
	out := []string{}
	for item := range strings.SplitSeq(text, sep) {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

// setScalar puts a text into a field of the schema.
func setScalar(v reflect.Value, text string) error {
	switch v.Interface().(type) {
	case time.Duration:
		d, err := parseDuration(text)
		v.SetInt(int64(d))
		return err
	case Size:
		n, err := parseSize(text)
		v.SetInt(int64(n))
		return err
	case netip.Prefix:
		p, err := parsePrefix(text)
		v.Set(reflect.ValueOf(p))
		return err
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		v.SetInt(int64(n))
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		v.SetFloat(n)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(text == "true")
	default:
		panic("config: the schema has a " + v.Type().String() + ", which nobody can fill")
	}
	return nil
}

// parsePrefix takes a CIDR, or one address for itself alone.
func parsePrefix(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		if p.Masked() != p {
			return p, fmt.Errorf("%q has bits beyond its length, did you mean %s?", text, p.Masked())
		}
		return p, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is not a CIDR such as 10.0.0.0/8", text)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}
