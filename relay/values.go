package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"unicode/utf8"
)

// The values of a message's keywords: read, checked against the template, and written as WeChat wants them.

// subscribeMessage is the body of subscribe/send, in the order WeChat documents.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_sendmessage
func subscribeMessage(openid string, q *SendRequest, data map[string]value) payload {
	b := appendText(append(make([]byte, 0, 512), `{"touser":`...), openid)
	b = appendText(append(b, `,"template_id":`...), q.TemplateID)
	if q.Page != "" {
		b = appendText(append(b, `,"page":`...), q.Page)
	}
	b = append(b, `,"data":{`...)
	for i, k := range slices.Sorted(maps.Keys(data)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, k), `:{"value":`...)
		b = appendText(b, data[k].Value)
		if c := data[k].Color; c != "" {
			b = appendText(append(b, `,"color":`...), c)
		}
		b = append(b, '}')
	}
	b = appendText(append(b, `},"miniprogram_state":`...), orElse(q.MiniprogramState, "formal"))
	b = appendText(append(b, `,"lang":`...), orElse(q.Lang, "zh_CN"))
	return append(b, '}')
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
		v, ok := simpleValue(raw)
		if ok {
			out[key] = v
			continue
		}
		var err error
		if len(raw) > 0 && raw[0] == '"' {
			err = json.Unmarshal(raw, &v.Value)
		} else {
			err = decodeStrict(raw, &v, "invalid_message")
		}
		if err != nil || len(raw) == 0 || raw[0] != '"' && raw[0] != '{' {
			f.add(where+"data."+key, `must be a string or {"value":"..."}`)
			continue
		}
		out[key] = v
	}
	return out
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
func (r *Relay) subscribeValues(ctx context.Context, f *faults, where, app string, q *SendRequest) map[string]value {
	if q.TemplateID == "" {
		f.add(where+"template_id", "is required")
	}
	if len(q.Data) == 0 {
		f.add(where+"data", "is required: an object with every keyword of the template")
		return nil
	}
	vals := plainValues(f, where, q.Data)
	tpl := r.checkKeywords(ctx, f, where, app, q)
	for k := range vals {
		if len(tpl.Keywords) > 0 && !slices.Contains(tpl.Keywords, k) {
			delete(vals, k) // told already
		}
	}
	keys := make([]string, 0, len(vals))
	for k := range vals {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		v := vals[k]
		if q.Truncate {
			v.Value = shorten(k, v.Value)
			vals[k] = v
		}
		if reason := checkValue(k, v.Value, tpl.Enums[k]); reason != "" {
			f.add(where+"data."+k, reason)
		}
	}
	return vals
}
