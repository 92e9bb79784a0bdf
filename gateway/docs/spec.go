package docs

import (
	"encoding/json"
	"fmt"
	"html/template"
	"strings"

	"go.yaml.in/yaml/v3"
)

// spec is openapi.yaml as the pages read it: as nodes, which keep the order of its author.
type spec struct {
	root *yaml.Node
}

func parseSpec(raw []byte) (*spec, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 {
		return nil, fmt.Errorf("the description is empty")
	}
	return &spec{root: doc.Content[0]}, nil
}

// at walks down a mapping; nil when there is nothing.
func at(n *yaml.Node, names ...string) *yaml.Node {
	for _, name := range names {
		n = member(n, name)
	}
	return n
}

func member(n *yaml.Node, name string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// pairs are the members of a mapping in their order.
func pairs(n *yaml.Node) (out []pair) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		out = append(out, pair{n.Content[i].Value, n.Content[i+1]})
	}
	return out
}

type pair struct {
	name string
	node *yaml.Node
}

func text(n *yaml.Node, names ...string) string {
	if n = at(n, names...); n == nil {
		return ""
	}
	return n.Value
}

const schemaRef = "#/components/schemas/"

// ref is the name of the schema that a node points to.
func ref(n *yaml.Node) string { return strings.TrimPrefix(text(n, "$ref"), schemaRef) }

// resolve follows a $ref of any component.
func (s *spec) resolve(n *yaml.Node) *yaml.Node {
	if target := text(n, "$ref"); target != "" {
		return at(s.root, strings.Split(strings.TrimPrefix(target, "#/"), "/")...)
	}
	return n
}

// typeOf says in a few words what values a schema takes.
func (s *spec) typeOf(n *yaml.Node) template.HTML {
	if n == nil {
		return ""
	}
	if name := ref(n); name != "" {
		if simple := at(s.root, "components", "schemas", name); at(simple, "properties") == nil && at(simple, "allOf") == nil && at(simple, "enum") == nil {
			return s.typeOf(simple)
		}
		return template.HTML(fmt.Sprintf(`<a href="/docs/api#%s">%s</a>`, template.HTMLEscapeString(name), template.HTMLEscapeString(name)))
	}
	if c := at(n, "const"); c != nil {
		return template.HTML("<code>" + template.HTMLEscapeString(c.Value) + "</code>")
	}
	if enum := at(n, "enum"); enum != nil {
		var parts []string
		for _, v := range enum.Content {
			parts = append(parts, "<code>"+template.HTMLEscapeString(v.Value)+"</code>")
		}
		return template.HTML(strings.Join(parts, " · "))
	}
	for _, word := range []string{"oneOf", "anyOf"} {
		if list := at(n, word); list != nil {
			var parts []string
			for _, v := range list.Content {
				parts = append(parts, string(s.typeOf(v)))
			}
			return template.HTML(strings.Join(parts, " | "))
		}
	}
	typ := at(n, "type")
	if typ == nil {
		return "any"
	}
	words := []string{typ.Value}
	if typ.Kind == yaml.SequenceNode {
		words = nil
		for _, v := range typ.Content {
			words = append(words, v.Value)
		}
	}
	for i, w := range words {
		switch {
		case w == "array":
			words[i] = "array of " + string(s.typeOf(at(n, "items")))
		case w == "string" && text(n, "format") == "date-time":
			words[i] = "time"
		}
	}
	return template.HTML(strings.Join(words, " | "))
}

// field is one row of a table of properties.
type field struct {
	Name     string
	Type     template.HTML
	Required bool
	About    template.HTML
}

// fields are the properties of a schema, those of allOf too, and of the objects in them, one level deep.
func (s *spec) fields(n *yaml.Node, prefix string) (out []field) {
	n = s.resolve(n)
	for _, part := range contentOf(at(n, "allOf")) {
		out = append(out, s.fields(part, prefix)...)
	}
	required := map[string]bool{}
	for _, r := range contentOf(at(n, "required")) {
		required[r.Value] = true
	}
	for _, p := range pairs(at(n, "properties")) {
		out = append(out, field{Name: prefix + p.name, Type: s.typeOf(p.node), Required: required[p.name], About: inline(text(p.node, "description"))})
		switch {
		case at(p.node, "properties") != nil:
			out = append(out, s.fields(p.node, prefix+p.name+".")...)
		case at(p.node, "items", "properties") != nil:
			out = append(out, s.fields(at(p.node, "items"), prefix+p.name+"[].")...)
		}
	}
	return out
}

func contentOf(n *yaml.Node) []*yaml.Node {
	if n == nil {
		return nil
	}
	return n.Content
}

// inline renders a description inside of a sentence or cell.
func inline(markdown string) template.HTML {
	if markdown == "" {
		return ""
	}
	out, err := toHTML([]byte(markdown))
	if err != nil {
		return template.HTML(template.HTMLEscapeString(markdown))
	}
	s := strings.TrimSpace(string(out))
	if one := strings.TrimSuffix(strings.TrimPrefix(s, "<p>"), "</p>"); !strings.Contains(one, "<p>") {
		s = one
	}
	return template.HTML(s)
}

// eventSchema is the JSON Schema (2020-12) of an event type; it needs no other file.
func (s *spec) eventSchema(typ string) ([]byte, bool) {
	item := at(s.root, "webhooks", typ, "post")
	if item == nil {
		return nil, false
	}
	content := at(item, "requestBody", "content", "application/json")
	defs := map[string]any{}
	schema := s.plain(at(content, "schema"), defs)
	m := schema.(map[string]any)
	m["$schema"], m["title"], m["description"] = "https://json-schema.org/draft/2020-12/schema", typ, text(item, "summary")
	m["examples"] = []any{s.plain(at(content, "example"), defs)}
	if len(defs) > 0 {
		m["$defs"] = defs
	}
	out, err := json.MarshalIndent(m, "", "  ")
	return out, err == nil
}

// plain turns nodes into JSON's values; schemas that are referred to are collected.
func (s *spec) plain(n *yaml.Node, defs map[string]any) any {
	if n == nil {
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for _, p := range pairs(n) {
			if name, ok := strings.CutPrefix(p.node.Value, schemaRef); ok && p.name == "$ref" {
				if _, done := defs[name]; !done {
					defs[name] = nil
					defs[name] = s.plain(at(s.root, "components", "schemas", name), defs)
				}
				m["$ref"] = "#/$defs/" + name
				continue
			}
			m[p.name] = s.plain(p.node, defs)
		}
		return m
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, c := range n.Content {
			list[i] = s.plain(c, defs)
		}
		return list
	}
	var v any
	if n.Tag == "!!timestamp" { // a time is text in JSON
		return n.Value
	}
	if err := n.Decode(&v); err != nil {
		return n.Value
	}
	return v
}
