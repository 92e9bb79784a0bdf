package callback

import "bytes"

// Format is how a push is written.
type Format string

// The formats, told by the first byte; Content-Type is not asked.
const (
	JSON Format = "json"
	XML  Format = "xml"
)

var bom = []byte("\xef\xbb\xbf")

// envelope finds the outermost Encrypt in a body that nobody has vouched for yet, and its format ("" when it is neither). It
// looks at the body's structure only as far as it must: Encrypt inside another field is that field's text. Whatever it
// takes, the very same bytes are then proven by msg_signature, so a body made to confuse it can only refuse itself.
func (s *scratch) envelope(body []byte) (Format, []byte) {
	b := trimLeft(bytes.TrimPrefix(body, bom))
	if len(b) == 0 {
		return "", nil
	}
	var format Format
	var encrypt []byte
	switch b[0] {
	case '<':
		format, encrypt = XML, xmlEncrypt(b)
	case '{':
		format, encrypt = JSON, s.jsonEncrypt(b)
	}
	if len(encrypt) == 0 {
		return format, nil
	}
	return format, encrypt
}

// xmlEncrypt returns the text of <xml><Encrypt>, nil when there is none. Base64 needs no entities: none are undone.
func xmlEncrypt(b []byte) []byte {
	depth := 0
	for {
		lt := bytes.IndexByte(b, '<')
		if lt < 0 || lt+1 >= len(b) {
			return nil
		}
		b = b[lt:]
		from, end := 1, ">"
		switch {
		case bytes.HasPrefix(b, []byte("<![CDATA[")):
			end = "]]>"
		case bytes.HasPrefix(b, []byte("<!--")):
			from, end = 4, "-->"
		case b[1] == '?' || b[1] == '!':
		case b[1] == '/':
			if depth--; depth <= 0 {
				return nil
			}
		default:
			if depth == 1 && bytes.HasPrefix(b, []byte("<Encrypt>")) {
				return xmlValue(b[len("<Encrypt>"):])
			}
			depth++
		}
		gt := bytes.Index(b[from:], []byte(end))
		if gt < 0 {
			return nil
		}
		if end == ">" && b[from+gt-1] == '/' {
			depth--
		}
		b = b[from+gt+len(end):]
	}
}

func xmlValue(b []byte) []byte {
	b = trimLeft(b)
	end := "<"
	if cdata := []byte("<![CDATA["); bytes.HasPrefix(b, cdata) {
		b, end = b[len(cdata):], "]]>"
	}
	n := bytes.Index(b, []byte(end))
	if n < 0 {
		return nil
	}
	return trim(b[:n])
}

// jsonEncrypt returns the text of the outermost object's Encrypt, nil when there is none.
func (s *scratch) jsonEncrypt(b []byte) []byte {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				return nil
			}
		case '"':
			end := jsonTextEnd(b, i+1)
			if end < 0 {
				return nil
			}
			text := b[i+1 : end]
			if i = end; depth != 1 || string(text) != "Encrypt" {
				continue
			}
			rest := trimLeft(b[end+1:])
			if len(rest) == 0 || rest[0] != ':' { // a value that says Encrypt
				continue
			}
			rest = trimLeft(rest[1:])
			if len(rest) == 0 || rest[0] != '"' {
				return nil
			}
			if end = jsonTextEnd(rest, 1); end < 0 {
				return nil
			}
			return s.unslash(rest[1:end])
		}
	}
	return nil
}

// jsonTextEnd is where the text beginning at from is closed, or -1.
func jsonTextEnd(b []byte, from int) int {
	for i := from; ; i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		slashes := 0
		for i-1-slashes >= from && b[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
}

// unslash undoes \/, the one escape some writers put into base64.
func (s *scratch) unslash(b []byte) []byte {
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	out := s.encrypt[:0]
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) && b[i+1] == '/' {
			continue
		}
		out = append(out, b[i])
	}
	s.encrypt = out
	return out
}
