package callback

import (
	"bytes"
	"strings"
)

// Format is how a push is written.
type Format string

// The formats, known by the first byte; Content-Type is not used.
const (
	JSON Format = "json"
	XML  Format = "xml"
)

var bom = []byte("\xef\xbb\xbf")

// formatOf tells the format of a body that is not proven yet; "" when it is neither.
func formatOf(body []byte) Format {
	switch b := trimLeft(bytes.TrimPrefix(body, bom)); {
	case len(b) == 0:
	case b[0] == '<':
		return XML
	case b[0] == '{':
		return JSON
	}
	return ""
}

// envelope finds the values of Encrypt in a body that is not proven yet, wherever they stand: in compat mode a user's
// text stands beside the encrypted one and may hold Encrypt too, or break the structure around it. Which value counts
// is decided by msg_signature, which covers the value itself, so its place need not be known. Values do not overlap:
// all of them together are no longer than the body.
type envelope struct {
	format Format
	rest   []byte
}

func newEnvelope(body []byte) envelope { return envelope{formatOf(body), body} }

// next returns the next value that can be a cipher text, and nil when there is none.
func (e *envelope) next(s *scratch) []byte {
	open, read := xmlEncrypt, s.xmlValue
	if e.format == JSON {
		open, read = jsonEncrypt, s.jsonValue
	}
	for e.format != "" {
		n := bytes.Index(e.rest, open)
		if n < 0 {
			return nil
		}
		e.rest = e.rest[n+len(open):]
		if value := read(e.rest); len(value) >= minEncrypt {
			return value
		}
	}
	return nil
}

// minEncrypt is the length of one block of cipher text in base64.
const minEncrypt = (padBlock + 2) / 3 * 4

var (
	xmlEncrypt  = []byte("<Encrypt>")
	jsonEncrypt = []byte(`"Encrypt"`)
)

// xmlValue reads the text of the element whose content b begins with, in CDATA or not. Character references outside
// CDATA are undone. It looks no further than the next tag.
func (s *scratch) xmlValue(b []byte) []byte {
	n := bytes.IndexByte(b, '<')
	cdata := false
	if n >= 0 && bytes.HasPrefix(b[n:], []byte(cdataOpen)) && len(trimLeft(b[:n])) == 0 {
		b, cdata = b[n+len(cdataOpen):], true
		n = bytes.IndexByte(b, '<')
	}
	if n < 0 || !bytes.HasPrefix(b[n:], []byte("</")) {
		return nil
	}
	b = trim(b[:n])
	switch {
	case cdata:
		text, ok := bytes.CutSuffix(b, []byte(cdataClose))
		if !ok {
			return nil
		}
		return trim(text)
	case bytes.IndexByte(b, '&') >= 0:
		s.encrypt = append(s.encrypt[:0], unescape(string(b))...)
		return s.encrypt
	}
	return b
}

// jsonValue reads the text that b begins with, after its colon. Escapes are undone. It looks no further than the next
// quote.
func (s *scratch) jsonValue(b []byte) []byte {
	b = trimLeft(b)
	if len(b) == 0 || b[0] != ':' {
		return nil
	}
	if b = trimLeft(b[1:]); len(b) == 0 || b[0] != '"' {
		return nil
	}
	b = b[1:]
	n := bytes.IndexByte(b, '"')
	if n < 0 {
		return nil
	}
	if b = b[:n]; bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	var text strings.Builder
	for rest := string(b); ; {
		n := strings.IndexByte(rest, '\\')
		if n < 0 {
			text.WriteString(rest)
			s.encrypt = append(s.encrypt[:0], text.String()...)
			return s.encrypt
		}
		text.WriteString(rest[:n])
		size := unescapeJSON(&text, rest[n:])
		if size == 0 {
			return nil
		}
		rest = rest[n+size:]
	}
}
