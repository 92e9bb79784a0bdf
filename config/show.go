package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"sort"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// KnownPaths lists every key of the schema, lists as "apps[]", each secret also as <key>_file.
func KnownPaths() []string { return pathsOf(reflect.TypeFor[Config](), "") }

func pathsOf(t reflect.Type, path string) (paths []string) {
	names, index := fields(t)
	for i, name := range names {
		ft, p := t.Field(index[i]).Type, under(path, name)
		switch {
		case isPart(ft):
			paths = append(paths, pathsOf(ft, p)...)
		case isPartList(ft):
			paths = append(paths, pathsOf(ft.Elem(), p+"[]")...)
		case secretShaped(ft):
			paths = append(paths, p, p+"_file")
		default:
			paths = append(paths, p)
		}
	}
	return paths
}

// Show gives the effective config as YAML: defaults, environment and files taken in, secrets as ***, with a comment
// where a value does not come from the file itself.
func (c *Config) Show() []byte {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(c.shown(reflect.ValueOf(c).Elem(), "")); err != nil {
		panic("config: a tree of plain nodes did not encode: " + err.Error())
	}
	_ = enc.Close()
	return out.Bytes()
}

func (c *Config) shown(v reflect.Value, path string) *yaml.Node {
	n := c.bare(v, path)
	if from := c.from.origin[path]; from != "" {
		n.LineComment = "from " + from
	}
	return n
}

func (c *Config) bare(v reflect.Value, path string) *yaml.Node {
	switch t := v.Type(); {
	case isPart(t):
		n := &yaml.Node{Kind: yaml.MappingNode}
		names, index := fields(t)
		for i, name := range names {
			if f := v.Field(index[i]); !secretShaped(f.Type()) || f.Kind() == reflect.Slice || !f.IsZero() {
				n.Content = append(n.Content, text(name), c.shown(f, under(path, name)))
			}
		}
		return n
	case t.Kind() == reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if !isPart(t.Elem()) {
			n.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			n.Content = append(n.Content, c.shown(v.Index(i), fmt.Sprintf("%s[%d]", path, i)))
		}
		return n
	case t.Kind() == reflect.Map:
		n, names := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}, v.MapKeys()
		sort.Slice(names, func(i, j int) bool { return names[i].String() < names[j].String() })
		for _, name := range names {
			n.Content = append(n.Content, text(name.String()), c.shown(v.MapIndex(name), under(path, name.String())))
		}
		return n
	}
	return scalarNode(v)
}

func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

func scalarNode(v reflect.Value) *yaml.Node {
	switch x := v.Interface().(type) {
	case Secret:
		return text(x.String())
	case URL:
		return text(x.String())
	case HookURL:
		return text(maskURL(string(x)))
	case Size:
		return plainNode(x.String())
	case time.Duration:
		return plainNode(formatDuration(x))
	case netip.Prefix:
		return text(x.String())
	case float64:
		return plainNode(strconv.FormatFloat(x, 'f', -1, 64))
	case int:
		return plainNode(strconv.Itoa(x))
	case bool:
		return plainNode(strconv.FormatBool(x))
	}
	return text(v.String())
}

func plainNode(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: s} }
