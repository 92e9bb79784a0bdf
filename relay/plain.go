package relay

import (
	"bytes"
	"unicode/utf8"
)

// ReadPlain reads a request that says no more than nearly all do: the fields below, in texts without escapes. It is a short cut
// past encoding/json, which takes a tenth of what an accepted send costs the gateway; TestReadPlain holds it against that.
// body is a JSON object of known fields, each given once, and is referred to until Send returns. False: nothing was read.
func (q *SendRequest) ReadPlain(body []byte) bool {
	read := eachField(body, func(name, raw []byte) bool {
		switch string(name) {
		case "app":
			return plainText(raw, &q.App)
		case "template_id":
			return plainText(raw, &q.TemplateID)
		case "page":
			return plainText(raw, &q.Page)
		case "lang":
			return plainText(raw, &q.Lang)
		case "miniprogram_state":
			return plainText(raw, &q.MiniprogramState)
		case "no_credit":
			return plainText(raw, &q.NoCredit)
		case "on_unknown":
			return plainText(raw, &q.OnUnknown)
		case "priority":
			return plainText(raw, &q.Priority)
		case "supersede_key":
			return plainText(raw, &q.SupersedeKey)
		case "channel":
			q.Channel = OneOrMany{""}
			return plainText(raw, &q.Channel[0])
		case "metadata":
			q.Metadata = raw
			return true
		case "to":
			return q.To.readPlain(raw)
		case "data":
			q.Data = make(map[string]payload, 8)
			return eachField(raw, func(name, raw []byte) bool {
				q.Data[string(name)] = raw
				return true
			})
		}
		return false
	})
	if !read {
		*q = SendRequest{}
	}
	return read
}

func (t *To) readPlain(raw []byte) bool {
	return eachField(raw, func(name, raw []byte) bool {
		switch string(name) {
		case "openid":
			return plainText(raw, &t.OpenID)
		case "user":
			return plainText(raw, &t.User)
		case "unionid":
			return plainText(raw, &t.UnionID)
		}
		return false
	})
}

// plainText reads a JSON string without escapes.
func plainText(raw []byte, into *string) bool {
	if len(raw) < 2 || raw[0] != '"' || bytes.IndexByte(raw, '\\') >= 0 || !utf8.Valid(raw) {
		return false
	}
	*into = string(raw[1 : len(raw)-1])
	return true
}

// eachField calls f with the name and the value of every field of a JSON object, valid already, until it says no. An object
// with escapes in a name, and what is no object, is a no.
func eachField(b []byte, f func(name, raw []byte) bool) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	if len(b) == 0 || b[0] != '{' {
		return false
	}
	for b = bytes.TrimLeft(b[1:], " \t\r\n"); len(b) > 0 && b[0] == '"'; {
		end := valueEnd(b)
		name := b[1 : end-1]
		if bytes.IndexByte(name, '\\') >= 0 || !utf8.Valid(name) {
			return false
		}
		b = bytes.TrimLeft(b[end:], " \t\r\n:")
		end = valueEnd(b)
		if !f(name, b[:end:end]) {
			return false
		}
		b = bytes.TrimLeft(b[end:], " \t\r\n,")
	}
	return len(b) > 0 && b[0] == '}'
}

// valueEnd is where the JSON value that b begins with is over.
func valueEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return min(i+1, len(b))
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				return i + 1 + depth // of an enclosing object: it is not ours
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}
