package callback

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// xmlText puts a leaf's text together: blanks around it go, CDATA stays as it is.
type xmlText struct {
	one   string // the first piece, nearly always the only one
	more  []byte // all pieces, when there are several
	end   int    // of more, without the blanks after the last piece
	any   bool
	first bool // the first piece is CDATA
	last  bool // the last piece is
}

func (t *xmlText) add(piece string, cdata bool) {
	blank := !cdata && trim(piece) == ""
	if cdata {
		piece = oneLine(piece)
	} else {
		piece = unescape(piece)
	}
	switch {
	case piece == "" || !t.any && blank:
		return
	case !t.any:
		t.one, t.any, t.first, t.last = piece, true, cdata, cdata
		return
	case t.more == nil:
		t.more = append(t.more, t.one...)
		t.end = len(t.more)
	}
	if t.more = append(t.more, piece...); !blank {
		t.end, t.last = len(t.more), cdata
	}
}

func (t *xmlText) value() string {
	s := t.one
	if t.more != nil {
		s = string(t.more[:t.end])
	}
	if !t.first {
		s = trimLeft(s)
	}
	if !t.last {
		s = trimRight(s)
	}
	return s
}

// oneLine writes line ends as XML reads them. https://www.w3.org/TR/xml/#sec-line-ends
func oneLine(s string) string {
	if strings.IndexByte(s, '\r') < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// unescape undoes entities outside CDATA; one that is not known stays as it is.
func unescape(s string) string {
	if strings.IndexByte(s, '&') < 0 {
		return oneLine(s)
	}
	s = oneLine(s)
	var b strings.Builder
	for {
		amp := strings.IndexByte(s, '&')
		if amp < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:amp])
		s = s[amp:]
		semi := strings.IndexByte(s[:min(len(s), longestEntity)], ';')
		c := rune(-1)
		if semi > 1 {
			c = entity(s[1:semi])
		}
		if c < 0 {
			b.WriteByte('&')
			s = s[1:]
			continue
		}
		b.WriteRune(c)
		s = s[semi+1:]
	}
}

// longestEntity bounds the search for an entity's end; a reference may have zeros before its number.
const longestEntity = 40

func entity(name string) rune {
	switch name {
	case "lt":
		return '<'
	case "gt":
		return '>'
	case "amp":
		return '&'
	case "quot":
		return '"'
	case "apos":
		return '\''
	}
	digits, base := strings.CutPrefix(name, "#")
	if !base {
		return -1
	}
	radix := 10
	if hex, ok := strings.CutPrefix(digits, "x"); ok {
		digits, radix = hex, 16
	}
	n, err := strconv.ParseUint(digits, radix, 32)
	switch {
	case err != nil || n == 0 || n > utf8.MaxRune:
		return -1
	case !utf8.ValidRune(rune(n)): // half of a surrogate pair
		return utf8.RuneError
	}
	return rune(n)
}
