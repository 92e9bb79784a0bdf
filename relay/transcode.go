package relay

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/relay/message"
)

// A push in WeChat's XML has the elements of its JSON under the same names, but the entries of subscribe events: these stand in
// a wrapper in XML and at the top in JSON.
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/subscribe-message.html
var listWrappers = map[string]string{"subscribe_msg_popup_event": "SubscribeMsgPopupEvent",
	"subscribe_msg_change_event": "SubscribeMsgChangeEvent", "subscribe_msg_sent_event": "SubscribeMsgSentEvent"}

const listName = "List"

// node is one field of a push: a text, or what it holds.
type node struct {
	name   string
	text   string
	number bool // a JSON number, or nothing but digits where JSON has a number
	kids   []node
	object bool
}

// numbers are the fields that WeChat's JSON has as numbers.
var numbers = map[string]bool{"CreateTime": true, "MsgId": true}

var errDoubtful = errors.New("it can be read in more than one way")

const maxNesting = 16

// transcode writes a push in the other format. It must say the same to whoever reads it: the one that came and the one that
// goes are compared, and a push that can be read in two ways is refused.
func transcode(raw []byte, to callback.Format) ([]byte, error) {
	_, before, err := callback.Decode(raw)
	if err != nil {
		return nil, err
	}
	if before.Doubtful {
		return nil, errDoubtful
	}
	var out []byte
	switch to {
	case callback.XML:
		top, err := readJSON(json.NewDecoder(bytes.NewReader(raw)))
		if err != nil {
			return nil, err
		}
		out = writeXML([]byte("<xml>"), wrapped(top.kids, before.Event))
		out = append(out, "</xml>"...)
	case callback.JSON:
		top, err := readXML(raw)
		if err != nil {
			return nil, err
		}
		out = writeJSON(nil, unwrapped(top.kids, before.Event))
	default:
		return nil, fmt.Errorf("no format %q", to)
	}
	_, after, err := callback.Decode(out)
	if err != nil {
		return nil, err
	}
	if a, b := encode(before), encode(after); !bytes.Equal(a, b) {
		return nil, errDoubtful
	}
	return out, nil
}

// wrapped puts a subscribe event's entries into their wrapper.
func wrapped(kids []node, event string) []node {
	wrapper := listWrappers[event]
	if wrapper == "" {
		return kids
	}
	var out, entries []node
	for _, k := range kids {
		if k.name == listName {
			entries = append(entries, k)
		} else {
			out = append(out, k)
		}
	}
	if len(entries) > 0 {
		out = append(out, node{name: wrapper, kids: entries, object: true})
	}
	return out
}

// unwrapped takes them out of it.
func unwrapped(kids []node, event string) []node {
	wrapper := listWrappers[event]
	var out []node
	for _, k := range kids {
		if wrapper != "" && k.name == wrapper {
			out = append(out, k.kids...)
		} else {
			out = append(out, k)
		}
	}
	return out
}

func readXML(raw []byte) (top node, err error) {
	d := xml.NewDecoder(bytes.NewReader(raw))
	d.Entity = map[string]string{}
	for {
		t, err := d.Token()
		if err != nil {
			return top, err
		}
		if start, ok := t.(xml.StartElement); ok {
			return readElement(d, start.Name.Local, 0)
		}
	}
}

func readElement(d *xml.Decoder, name string, depth int) (n node, err error) {
	if depth > maxNesting {
		return n, errDoubtful
	}
	n.name = name
	var text strings.Builder
	for {
		t, err := d.Token()
		if err != nil {
			return n, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			kid, err := readElement(d, t.Name.Local, depth+1)
			if err != nil {
				return n, err
			}
			n.kids, n.object = append(n.kids, kid), true
		case xml.CharData:
			text.Write(t)
		case xml.EndElement:
			if !n.object {
				n.text = text.String()
				n.number = numbers[name] && digits(n.text)
			}
			return n, nil
		}
	}
}

// readJSON reads an object with its fields in their order; the elements of an array are fields of one name.
func readJSON(d *json.Decoder) (top node, err error) {
	d.UseNumber()
	t, err := d.Token()
	if err != nil {
		return top, err
	}
	if t != json.Delim('{') {
		return top, errDoubtful
	}
	top.object = true
	top.kids, err = readFields(d, 0)
	return top, err
}

func readFields(d *json.Decoder, depth int) (kids []node, err error) {
	if depth > maxNesting {
		return nil, errDoubtful
	}
	for {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok { // the end of the object
			return kids, nil
		}
		if !isName(name) {
			return nil, fmt.Errorf("%q is no name of an element", name)
		}
		if kids, err = readValue(d, kids, name, depth); err != nil {
			return nil, err
		}
	}
}

func readValue(d *json.Decoder, kids []node, name string, depth int) ([]node, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch v := t.(type) {
	case string:
		return append(kids, node{name: name, text: v}), nil
	case json.Number:
		return append(kids, node{name: name, text: v.String(), number: true}), nil
	case bool:
		return append(kids, node{name: name, text: fmt.Sprint(v)}), nil
	case nil:
		return append(kids, node{name: name}), nil
	}
	if t == json.Delim('{') {
		inner, err := readFields(d, depth+1)
		return append(kids, node{name: name, kids: inner, object: true}), err
	}
	for d.More() {
		if kids, err = readValue(d, kids, name, depth+1); err != nil {
			return nil, err
		}
	}
	_, err = d.Token() // the end of the array
	return kids, err
}

// isName tells whether a field may be an element.
func isName(s string) bool {
	return s != "" && len(s) <= 128 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" && !strings.Contains("0123456789", s[:1])
}

func writeXML(b []byte, kids []node) []byte {
	for _, k := range kids {
		b = append(append(append(b, '<'), k.name...), '>')
		switch {
		case k.object:
			b = writeXML(b, k.kids)
		case k.number:
			b = append(b, k.text...)
		default: // "]]>" is the one text that would end it
			b = append(append(append(b, "<![CDATA["...), strings.ReplaceAll(k.text, "]]>", "]]]]><![CDATA[>")...), "]]>"...)
		}
		b = append(append(append(b, "</"...), k.name...), '>')
	}
	return b
}

// writeJSON writes an object; fields of one name become an array.
func writeJSON(b []byte, kids []node) []byte {
	b = append(b, '{')
	done := map[string]bool{}
	for i, k := range kids {
		if done[k.name] {
			continue
		}
		done[k.name] = true
		if len(done) > 1 {
			b = append(b, ',')
		}
		b = append(message.AppendText(b, k.name), ':')
		same := []node{k}
		for _, other := range kids[i+1:] {
			if other.name == k.name {
				same = append(same, other)
			}
		}
		if len(same) > 1 {
			b = append(b, '[')
		}
		for j, n := range same {
			if j > 0 {
				b = append(b, ',')
			}
			switch {
			case n.object:
				b = writeJSON(b, n.kids)
			case n.number:
				b = append(b, n.text...)
			default:
				b = message.AppendText(b, n.text)
			}
		}
		if len(same) > 1 {
			b = append(b, ']')
		}
	}
	return append(b, '}')
}

func digits(s string) bool {
	return s != "" && (s[0] != '0' || s == "0") && strings.Trim(s, "0123456789") == ""
}
