package wechat

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
)

// answer is what WeChat said, read as far as it can be.
type answer struct {
	body    []byte // one JSON object
	code    int    // errcode; 0 when it is absent
	coded   bool   // an errcode stood in it
	msg     string // errmsg
	msgID   string // msgid as the digits that came; "" when absent, null or 0
	partial bool   // the object could not be read to its end: body holds the members before the damage
}

// readAnswer reads a JSON object as leniently as pushes are read: a byte order mark, blanks and control characters before
// it, raw control characters and bad escapes inside its strings and anything behind it do not matter. Of an object that is
// damaged otherwise the members before the damage count, so that an errcode is never lost. ok is false when no object
// begins, or nothing of it can be read.
func readAnswer(body []byte) (a answer, ok bool) {
	a.body = body
	if a.readEnvelope() == nil {
		return a, true
	}
	a.body, a.partial = repair(body)
	return a, a.body != nil && a.readEnvelope() == nil
}

func (a *answer) readEnvelope() error {
	var e struct {
		Code  *looseInt `json:"errcode"`
		Msg   looseText `json:"errmsg"`
		MsgID looseText `json:"msgid"`
	}
	if err := json.Unmarshal(a.body, &e); err != nil {
		return err
	}
	if e.Code != nil {
		a.code, a.coded = int(*e.Code), true
	}
	if a.msg, a.msgID = string(e.Msg), string(e.MsgID); a.msgID == "0" {
		a.msgID = ""
	}
	return nil
}

// into reads the members of the answer into v, a pointer to a struct.
func (a *answer) into(v any) error { return json.Unmarshal(a.body, v) }

// repair makes valid JSON of an object that is not. partial: only the members before the damage could be kept.
func repair(body []byte) (object []byte, partial bool) {
	start := bytes.IndexByte(body, '{')
	if start < 0 || len(bytes.TrimFunc(body[:start], isNoise)) > 0 {
		return nil, false
	}
	object, closed := copyObject(body[start:])
	if closed && json.Valid(object) {
		return object, false
	}
	return leadingMembers(object), true
}

// isNoise tells what may stand before an object: blanks, control characters, a byte order mark.
func isNoise(r rune) bool { return r <= ' ' || r == '\uFEFF' || r == 0x7f }

// copyObject copies one object: control characters are dropped outside strings and escaped inside, a backslash that begins
// no escape is escaped itself, and what follows the object is left. closed: its end was found.
func copyObject(text []byte) (out []byte, closed bool) {
	out = make([]byte, 0, len(text)+16)
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quoted && c == '\\':
			if escape := escapeLen(text[i:]); escape > 0 {
				out = append(out, text[i:i+escape]...)
				i += escape - 1
				continue
			}
			out = append(out, '\\', '\\')
			continue
		case quoted && c < ' ':
			out = append(out, '\\', 'u', '0', '0')
			out = hex.AppendEncode(out, []byte{c})
			continue
		case c == '"':
			quoted = !quoted
		case quoted:
		case c < ' ' && c != '\t' && c != '\r' && c != '\n' || c == 0x7f:
			continue
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return append(out, c), true
			}
		}
		out = append(out, c)
	}
	return out, false
}

// escapeLen is the length of the escape that text begins with; 0 when it is none.
func escapeLen(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(text) >= 6 {
			if _, err := hex.DecodeString(string(text[2:6])); err == nil {
				return 6
			}
		}
	}
	return 0
}

// leadingMembers is an object of those members of a damaged one that were read whole; nil when there is none. The last one
// counts only when something follows it: a number at the end may lack digits.
func leadingMembers(text []byte) []byte {
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	out := []byte{'{'}
	for {
		key, err := dec.Token()
		name, isText := key.(string)
		var value json.RawMessage
		if err != nil || !isText || dec.Decode(&value) != nil || int(dec.InputOffset()) >= len(text) {
			break
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		quoted, _ := json.Marshal(name) // a string marshals
		out = append(append(append(out, quoted...), ':'), value...)
	}
	if len(out) == 1 {
		return nil
	}
	return append(out, '}')
}

// looseInt is a number that may stand in quotes; null and "" are 0.
type looseInt int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *looseInt) UnmarshalJSON(raw []byte) error {
	s := strings.Trim(string(raw), `" `)
	if s == "" || s == "null" {
		*n = 0
		return nil
	}
	v, err := strconv.ParseInt(s, 10, 64)
	*n = looseInt(v)
	return err
}

// looseText is a text that may come as a number, whose digits are kept as they are; null and anything else is "".
type looseText string

// UnmarshalJSON implements json.Unmarshaler.
func (t *looseText) UnmarshalJSON(raw []byte) error {
	*t = ""
	switch c := raw[0]; {
	case c == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		*t = looseText(s)
	case c == '-' || '0' <= c && c <= '9':
		*t = looseText(raw)
	}
	return nil
}
