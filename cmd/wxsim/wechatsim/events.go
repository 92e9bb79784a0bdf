package wechatsim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Field is one leaf of a push, in the order WeChat writes it.
type Field struct {
	Name  string
	Value any // string or Number
}

// Number is a leaf that goes over the wire without quotes.
type Number int64

// entry is one element of List.
type entry []Field

// happening is a push before it has a format: what happened, to whom.
type happening struct {
	to, from string
	stamp    int64 // CreateTime
	msgType  string
	event    string
	fields   []Field
	wrapper  string // SubscribeMsgPopupEvent ...: the element around List
	entries  []entry
}

// name is the event, or the message type of a message.
func (h happening) name() string {
	if h.event != "" {
		return h.event
	}
	return h.msgType
}

func (h happening) list(wrapper string, entries ...entry) happening {
	h.wrapper, h.entries = wrapper, entries
	return h
}

// event of an account; its stamp is set when it is pushed.
func (s *Sim) event(acc *account, name string, fields ...Field) happening {
	h := s.pushed(acc, "event", fields...)
	h.event = name
	return h
}

func (s *Sim) pushed(acc *account, msgType string, fields ...Field) happening {
	return happening{to: acc.app.conf().OriginalID, from: acc.openid, msgType: msgType, fields: fields}
}

// render writes the plain body.
func (h happening) render(f Format, shape Shape) []byte {
	if f == XML {
		return h.xml("")
	}
	return h.json(shape)
}

// bare are the leaves of List that XML writes without CDATA; JSON quotes every leaf of List.
var bare = map[string]bool{"PopupScene": true, "MsgID": true, "ErrorCode": true}

// xml as the subscribe message guide shows it; encrypted, when not empty, is added as Encrypt (compat mode).
func (h happening) xml(encrypted string) []byte {
	var b bytes.Buffer
	b.WriteString("<xml>")
	xmlLeaf(&b, "ToUserName", h.to)
	xmlLeaf(&b, "FromUserName", h.from)
	xmlLeaf(&b, "CreateTime", Number(h.stamp))
	xmlLeaf(&b, "MsgType", h.msgType)
	if h.event != "" {
		xmlLeaf(&b, "Event", h.event)
	}
	for _, f := range h.fields {
		xmlLeaf(&b, f.Name, f.Value)
	}
	if h.wrapper != "" {
		fmt.Fprintf(&b, "<%s>", h.wrapper)
		for _, e := range h.entries {
			b.WriteString("<List>")
			for _, f := range e {
				if n, err := strconv.ParseInt(fmt.Sprint(f.Value), 10, 64); err == nil && bare[f.Name] {
					f.Value = Number(n)
				}
				xmlLeaf(&b, f.Name, f.Value)
			}
			b.WriteString("</List>")
		}
		fmt.Fprintf(&b, "</%s>", h.wrapper)
	}
	if encrypted != "" {
		xmlLeaf(&b, "Encrypt", encrypted)
	}
	b.WriteString("</xml>")
	return b.Bytes()
}

func xmlLeaf(b *bytes.Buffer, name string, v any) {
	if n, ok := v.(Number); ok {
		fmt.Fprintf(b, "<%s>%d</%s>", name, n, name)
		return
	}
	text := strings.ReplaceAll(fmt.Sprint(v), "]]>", "]]]]><![CDATA[>")
	fmt.Fprintf(b, "<%s><![CDATA[%s]]></%s>", name, text, name)
}

func (h happening) json(shape Shape) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	jsonLeaf(&b, "ToUserName", h.to)
	b.WriteByte(',')
	jsonLeaf(&b, "FromUserName", h.from)
	b.WriteByte(',')
	if shape == Documented {
		jsonLeaf(&b, "CreateTime", strconv.FormatInt(h.stamp, 10))
	} else {
		jsonLeaf(&b, "CreateTime", Number(h.stamp))
	}
	b.WriteByte(',')
	jsonLeaf(&b, "MsgType", h.msgType)
	if h.event != "" {
		b.WriteByte(',')
		jsonLeaf(&b, "Event", h.event)
	}
	for _, f := range h.fields {
		b.WriteByte(',')
		jsonLeaf(&b, f.Name, f.Value)
	}
	if h.wrapper != "" {
		b.WriteByte(',')
		if shape == Wrapped {
			fmt.Fprintf(&b, "%q:{", h.wrapper)
		}
		h.jsonList(&b, shape)
		if shape == Wrapped {
			b.WriteByte('}')
		}
	}
	b.WriteByte('}')
	if shape == Pretty {
		var p bytes.Buffer
		if err := json.Indent(&p, b.Bytes(), "", "  "); err != nil {
			panic(err) // what was written above is JSON
		}
		p.WriteByte('\n')
		return p.Bytes()
	}
	return b.Bytes()
}

// jsonList is an object for one entry and an array for several, always an array as Documented.
func (h happening) jsonList(b *bytes.Buffer, shape Shape) {
	b.WriteString(`"List":`)
	array := len(h.entries) != 1 || shape == Documented
	if array {
		b.WriteByte('[')
	}
	for i, e := range h.entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('{')
		for j, f := range e {
			if j > 0 {
				b.WriteByte(',')
			}
			jsonLeaf(b, f.Name, f.Value)
		}
		b.WriteByte('}')
	}
	if array {
		b.WriteByte(']')
	}
}

func jsonLeaf(b *bytes.Buffer, name string, v any) {
	quoted(b, name)
	b.WriteByte(':')
	switch v := v.(type) {
	case Number:
		b.WriteString(strconv.FormatInt(int64(v), 10))
	case string:
		quoted(b, v)
	default:
		quoted(b, fmt.Sprint(v))
	}
}

// quoted writes a JSON string without HTML escaping.
func quoted(b *bytes.Buffer, text string) {
	plain := true
	for i := 0; i < len(text) && plain; i++ {
		c := text[i]
		plain = c >= ' ' && c != '"' && c != '\\' && c < 0x7f
	}
	if plain {
		b.WriteByte('"')
		b.WriteString(text)
		b.WriteByte('"')
		return
	}
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		panic(err) // a string always encodes
	}
	b.Truncate(b.Len() - 1) // the newline Encode adds
}
