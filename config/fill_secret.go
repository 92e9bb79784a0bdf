package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// secret fills what must not be printed, from the environment, the YAML or a file; at most one of each pair.
func (f *filling) secret(v reflect.Value, node, fileNode *yaml.Node, path, env string) {
	text, hasText := f.lookupEnv(env)
	file, hasFile := f.lookupEnv(env + "_FILE")
	switch {
	case hasText && hasFile:
		f.fault(path, "at most one of %s and %s_FILE", env, env)
	case hasText:
		f.origin[path] = "env " + env
		f.setSecret(v, text, ",", path)
	case hasFile:
		f.secretFile(v, file, path)
	case !absent(node) && !absent(fileNode):
		f.fault(path, "at most one of %s and %s_file", lastKey(path), lastKey(path))
	case !absent(fileNode):
		if name, ok := f.scalar(fileNode, path+"_file"); ok {
			f.secretFile(v, name, path)
		}
	case !absent(node):
		f.secretNode(v, node, path)
	}
}

func lastKey(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

func (f *filling) secretFile(v reflect.Value, name, path string) {
	if name == "" {
		f.fault(path+"_file", "no file named")
		return
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(f.dir, name)
	}
	f.origin[path] = "file " + name
	content, err := readSmall(name)
	if f.contents[name] = content; err != nil {
		f.contents[name] = nil
		f.fault(path+"_file", "%s: %s", name, reason(err))
		return
	}
	text := strings.TrimSpace(strings.TrimPrefix(string(content), byteOrderMark))
	if text == "" {
		f.fault(path+"_file", "%s is empty", name)
		return
	}
	f.setSecret(v, text, "\n", path)
}

// setSecret takes one text: a secret, or a list or map with sep between its items.
func (f *filling) setSecret(v reflect.Value, text, sep, path string) {
	switch v.Kind() {
	case reflect.Slice:
		var list []Secret
		for _, item := range splitList(text, sep) {
			list = append(list, f.secretText(fmt.Sprintf("%s[%d]", path, len(list)), item))
		}
		v.Set(reflect.ValueOf(list))
	case reflect.Map:
		m := map[string]Secret{}
		for _, item := range splitList(text, sep) {
			name, value, ok := strings.Cut(item, ":")
			if !ok {
				f.fault(path, "wants one \"Name: value\" per item")
				return
			}
			name = strings.TrimSpace(name)
			m[name] = f.secretText(under(path, name), strings.TrimSpace(value))
		}
		v.Set(reflect.ValueOf(m))
	default:
		f.assignSecret(v, text, path)
	}
}

func (f *filling) assignSecret(v reflect.Value, text, path string) {
	s := f.secretText(path, text)
	if v.Type() == urlType {
		v.Set(reflect.ValueOf(URL{s}))
		return
	}
	v.Set(reflect.ValueOf(s))
}

const byteOrderMark = "\ufeff"

// secretText refuses what nobody types: control characters and invisible ones, which editors and shells leave behind.
func (f *filling) secretText(path, text string) Secret {
	if !utf8.ValidString(text) {
		f.fault(path, "is not UTF-8; save the file as UTF-8")
	} else if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
		f.fault(path, "contains a control character or an invisible one (a line break, a byte order mark, ...)")
	}
	return newSecret(text)
}

func (f *filling) secretNode(v reflect.Value, node *yaml.Node, path string) {
	switch v.Kind() {
	case reflect.Slice:
		items, ok := f.list(node, path)
		if !ok {
			return
		}
		list := make([]Secret, 0, len(items))
		for i, item := range items {
			if text, ok := f.scalar(item, fmt.Sprintf("%s[%d]", path, i)); ok {
				list = append(list, f.secretText(fmt.Sprintf("%s[%d]", path, i), text))
			}
		}
		v.Set(reflect.ValueOf(list))
	case reflect.Map:
		keys, m := f.mapping(node, path), map[string]Secret{}
		for _, name := range keys.order {
			if text, ok := f.scalar(keys.node[name], under(path, name)); ok {
				m[name] = f.secretText(under(path, name), text)
			}
		}
		v.Set(reflect.ValueOf(m))
	default:
		if text, ok := f.scalar(node, path); ok {
			f.assignSecret(v, text, path)
		}
	}
}
