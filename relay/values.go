package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"
)

// The values of a message's keywords: read, checked against the template, and written as WeChat wants them.

// subscribeMessage is the body of subscribe/send, in the order WeChat documents.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_sendmessage
func subscribeMessage(openid string, q *SendRequest, data []keyword) payload {
	b := appendText(append(make([]byte, 0, 512), `{"touser":`...), openid)
	b = appendText(append(b, `,"template_id":`...), q.TemplateID)
	if q.Page != "" {
		b = appendText(append(b, `,"page":`...), q.Page)
	}
	b = append(b, `,"data":{`...)
	for i := range data {
		k := &data[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, k.name), `:{"value":`...)
		b = appendText(b, k.Value)
		if k.Color != "" {
			b = appendText(append(b, `,"color":`...), k.Color)
		}
		b = append(b, '}')
	}
	b = appendText(append(b, `},"miniprogram_state":`...), orElse(q.MiniprogramState, "formal"))
	b = appendText(append(b, `,"lang":`...), orElse(q.Lang, "zh_CN"))
	return append(b, '}')
}

// keyword is a keyword of a template with its value.
type keyword struct {
	name string
	value
}

// value is a keyword's value in WeChat's form.
type value struct {
	Value string `json:"value"`
	Color string `json:"color,omitempty"`
}

// plainValues reads {"thing1":{"value":"..."}} and {"thing1":"..."} alike.
func plainValues(f *faults, where string, data map[string]json.RawMessage) map[string]value {
	out := make(map[string]value, len(data))
	for key, raw := range data {
		if v, ok := readValue(f, where, key, raw); ok {
			out[key] = v
		}
	}
	return out
}

func readValue(f *faults, where, key string, raw json.RawMessage) (v value, ok bool) {
	if v, ok = simpleValue(raw); ok {
		return v, true
	}
	var err error
	if len(raw) > 0 && raw[0] == '"' {
		err = json.Unmarshal(raw, &v.Value)
	} else {
		err = decodeStrict(raw, &v, "invalid_message")
	}
	if err != nil || len(raw) == 0 || raw[0] != '"' && raw[0] != '{' {
		f.add(where+"data."+key, `must be a string or {"value":"..."}`)
		return v, false
	}
	return v, true
}

// simpleValue reads what nearly every value is, text without escapes, alone or as {"value":"..."}: what encoding/json takes two
// microseconds for. raw is a JSON value already.
func simpleValue(raw []byte) (v value, ok bool) {
	if len(raw) > 0 && raw[0] == '{' {
		rest, named := bytes.CutPrefix(bytes.TrimLeft(raw[1:], " "), []byte(`"value":`))
		if !named || raw[len(raw)-1] != '}' {
			return v, false
		}
		raw = bytes.Trim(rest[:len(rest)-1], " ")
	}
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return v, false
	}
	text := raw[1 : len(raw)-1]
	if bytes.IndexByte(text, '\\') >= 0 || bytes.IndexByte(text, '"') >= 0 || !utf8.Valid(text) {
		return v, false
	}
	v.Value = string(text)
	return v, true
}

// subscribeValues reads and checks the keywords of a subscribe message against its template, where that is known.
func (r *Relay) subscribeValues(ctx context.Context, f *faults, where, app string, q *SendRequest) []keyword {
	if q.TemplateID == "" {
		f.add(where+"template_id", "is required")
	}
	if len(q.Data) == 0 {
		f.add(where+"data", "is required: an object with every keyword of the template")
		return nil
	}
	tpl := r.checkKeywords(ctx, f, where, app, q)
	vals := make([]keyword, 0, len(q.Data))
	for k, raw := range q.Data {
		v, ok := readValue(f, where, k, raw)
		if ok && (len(tpl.Keywords) == 0 || slices.Contains(tpl.Keywords, k)) { // else it is told already
			vals = append(vals, keyword{k, v})
		}
	}
	slices.SortFunc(vals, func(a, b keyword) int { return strings.Compare(a.name, b.name) })
	for i := range vals {
		k := &vals[i]
		if q.Truncate {
			k.Value = shorten(k.name, k.Value)
		}
		if reason := checkValue(k.name, k.Value, tpl.Enums[k.name]); reason != "" {
			f.add(where+"data."+k.name, reason)
		}
	}
	return vals
}
