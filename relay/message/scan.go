package message

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// What the decoder reads of JSON's own grammar (RFC 8259): blanks, words, numbers, strings.

func (d *decoder) space() {
	for d.i < len(d.s) {
		switch d.s[d.i] {
		case ' ', '\n', '\t', '\r':
			d.i++
		default:
			return
		}
	}
}

func (d *decoder) eat(c byte) bool {
	if d.i < len(d.s) && d.s[d.i] == c {
		d.i++
		return true
	}
	return false
}

// word goes past true, false or null.
func (d *decoder) word(w string) {
	if !strings.HasPrefix(d.s[d.i:], w) {
		d.syntax("a value is expected")
		return
	}
	d.i += len(w)
}

// null goes past a null, when there is one.
func (d *decoder) null() bool {
	if d.i >= len(d.s) || d.s[d.i] != 'n' {
		return false
	}
	d.word("null")
	return true
}

// digits goes past a number.
func (d *decoder) digits() {
	some := func() bool {
		from := d.i
		for d.i < len(d.s) && d.s[d.i] >= '0' && d.s[d.i] <= '9' {
			d.i++
		}
		return d.i > from
	}
	d.eat('-')
	whole := d.eat('0') || some()
	if whole && d.eat('.') {
		whole = some()
	}
	if whole && (d.eat('e') || d.eat('E')) {
		if !d.eat('+') {
			d.eat('-')
		}
		whole = some()
	}
	if !whole {
		d.syntax("a value is expected")
	}
}

// numberOf reads a number as its digits are.
func (d *decoder) numberOf(depth int) (string, bool) {
	if c := d.s[d.i]; c != '-' && (c < '0' || c > '9') {
		d.mismatch(depth)
		return "", false
	}
	from := d.i
	d.digits()
	return d.s[from:d.i], d.err == nil
}

// stringOf reads a text; one that is none is noted and not given.
func (d *decoder) stringOf(depth int) (string, bool) {
	if d.s[d.i] != '"' {
		d.mismatch(depth)
		return "", false
	}
	s, fine, ok := d.str()
	if ok && !fine {
		d.blame(depth-1, NotText)
	}
	return d.keep(s), ok && fine
}

// str reads a string and returns what it means; without escapes that is a piece of the body. fine: it is Unicode
// text, else what is none in it is U+FFFD. ok: it is a string of JSON.
func (d *decoder) str() (s string, fine, ok bool) {
	if !d.eat('"') {
		d.syntax("a string is expected")
		return "", false, false
	}
	from, escaped, wide := d.i, false, false
	for ; d.i < len(d.s); d.i++ {
		switch c := d.s[d.i]; {
		case c == '"':
			s = d.s[from:d.i]
			d.i++
			if escaped {
				return d.unescape(s)
			}
			if wide && !utf8.ValidString(s) {
				return strings.ToValidUTF8(s, "\ufffd"), false, true
			}
			return s, true, true
		case c == '\\':
			escaped = true
			d.i++
		case c < ' ':
			d.syntax("a control character stands in a string")
			return "", false, false
		case c >= utf8.RuneSelf:
			wide = true
		}
	}
	d.i = len(d.s) // an escape may have led past it
	d.syntax("a string has no end")
	return "", false, false
}

// unescape is what a string with escapes means.
func (d *decoder) unescape(s string) (out string, fine, ok bool) {
	b := make([]byte, 0, len(s))
	fine = true
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			n := strings.IndexByte(s[i:], '\\')
			if n < 0 {
				n = len(s) - i
			}
			b = append(b, s[i:i+n]...)
			i += n
			continue
		}
		if i++; i >= len(s) {
			d.syntax("an escape is cut")
			return "", false, false
		}
		at := strings.IndexByte(`"\/bfnrt`, s[i])
		switch {
		case at >= 0:
			b = append(b, "\"\\/\b\f\n\r\t"[at])
			i++
		case s[i] == 'u':
			r, ok := hex4(s[i+1:])
			if !ok {
				d.syntax(`\u has no four digits after it`)
				return "", false, false
			}
			i += 5
			if utf16.IsSurrogate(r) {
				pair := utf8.RuneError
				if low, ok := hex4(strings.TrimPrefix(s[i:], `\u`)); ok && strings.HasPrefix(s[i:], `\u`) {
					pair = utf16.DecodeRune(r, low)
				}
				if r = pair; pair == utf8.RuneError {
					fine = false
				} else {
					i += 6
				}
			}
			b = utf8.AppendRune(b, r)
		default:
			d.syntax("an escape is none of JSON's")
			return "", false, false
		}
	}
	out = string(b)
	if !utf8.ValidString(out) {
		return strings.ToValidUTF8(out, "\ufffd"), false, true
	}
	return out, fine, true
}

func hex4(s string) (rune, bool) {
	if len(s) < 4 || s[0] == '+' || s[0] == '-' {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:4], 16, 16)
	return rune(n), err == nil
}

// pass goes past an object or a list without a look at what is in it, at any depth.
func (d *decoder) pass() {
	for depth := 0; d.i < len(d.s); {
		switch d.s[d.i] {
		case '"':
			d.i++
			for d.i < len(d.s) && d.s[d.i] != '"' {
				if d.s[d.i] == '\\' {
					d.i++
				}
				d.i++
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if d.i++; depth == 0 {
			d.i = min(d.i, len(d.s))
			return
		}
	}
	d.i = len(d.s)
	d.syntax("it ends early")
}
