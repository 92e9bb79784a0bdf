package config

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The YAML tree as the schema sees it: mappings without doubles, lists, and scalars as their text. Nothing here
// quotes a value, it might be a secret.

// pairs is a mapping in the order of the file.
type pairs struct {
	order []string
	node  map[string]*yaml.Node
}

// real follows an alias.
func real(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// absent reports whether the file says nothing: no node, or a key without a value.
func absent(n *yaml.Node) bool {
	n = real(n)
	return n == nil || n.Kind == 0 || n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

func (f *filling) mapping(n *yaml.Node, path string) pairs {
	p := pairs{node: map[string]*yaml.Node{}}
	if absent(n) {
		return p
	}
	if n = real(n); n.Kind != yaml.MappingNode {
		f.fault(orTop(path), "wants keys below it, not %s", kindName(n))
		return p
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := real(n.Content[i])
		switch {
		case key.Tag == "!!merge":
			merged = append(merged, n.Content[i+1])
		case key.Kind != yaml.ScalarNode:
			f.fault(orTop(path), "a key on line %d is %s", key.Line, kindName(key))
		case p.node[key.Value] != nil:
			f.fault(under(path, key.Value), "given twice, again on line %d", key.Line)
		default:
			p.order, p.node[key.Value] = append(p.order, key.Value), n.Content[i+1]
		}
	}
	for _, m := range merged {
		f.merge(&p, m, path)
	}
	return p
}

// merge takes what "<<" names, one mapping or a list of them, where the mapping itself says nothing.
func (f *filling) merge(p *pairs, n *yaml.Node, path string) {
	sources := []*yaml.Node{real(n)}
	if sources[0].Kind == yaml.SequenceNode {
		sources = sources[0].Content
	}
	for _, s := range sources {
		if s = real(s); s.Kind != yaml.MappingNode {
			f.fault(under(path, "<<"), "wants a mapping, not %s", kindName(s))
			continue
		}
		for i := 0; i+1 < len(s.Content); i += 2 {
			if key := real(s.Content[i]); key.Kind == yaml.ScalarNode && key.Tag != "!!merge" && p.node[key.Value] == nil {
				p.order, p.node[key.Value] = append(p.order, key.Value), s.Content[i+1]
			}
		}
	}
}

func (f *filling) list(n *yaml.Node, path string) ([]*yaml.Node, bool) {
	if absent(n) {
		return nil, false
	}
	if n = real(n); n.Kind != yaml.SequenceNode {
		f.fault(path, "wants a list, not %s", kindName(n))
		return nil, false
	}
	return n.Content, true
}

func (f *filling) scalar(n *yaml.Node, path string) (string, bool) {
	if n = real(n); n == nil || n.Kind != yaml.ScalarNode {
		f.fault(path, "wants one value, not %s", kindName(n))
		return "", false
	}
	if n.Tag == "!!null" {
		f.fault(path, "wants one value, not nothing")
		return "", false
	}
	if strings.ContainsRune(n.Value, 0) {
		f.fault(path, "contains a NUL")
		return "", false
	}
	return n.Value, true
}

// peek gives a scalar below a mapping without complaining.
func peek(n *yaml.Node, key string) string {
	if n = real(n); n == nil || n.Kind != yaml.MappingNode {
		return ""
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if v := real(n.Content[i+1]); n.Content[i].Value == key && v.Kind == yaml.ScalarNode {
			return v.Value
		}
	}
	return ""
}

func orTop(path string) string {
	if path == "" {
		return "yaml"
	}
	return path
}

func kindName(n *yaml.Node) string {
	if n == nil {
		return "nothing"
	}
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		return "a single value"
	}
	return fmt.Sprintf("a node of kind %d", n.Kind)
}
