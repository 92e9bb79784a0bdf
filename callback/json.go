package callback

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonScan reads JSON in one pass. Numbers stay the text they are, so that ids past 2^53 stay exact. It is more
// lenient than the standard where WeChat's documents are: a comma before a closing bracket and blanks inside a key's
// quotes are passed over. Of an object's equal keys the first counts, on every level.
type jsonScan struct {
	s     string
	i     int
	r     *reader
	clean bool // no backslash anywhere
	muted int  // how many values open now are of a key that came before: they are passed over
}

// readJSON reads the object s begins with.
func readJSON(s string, r *reader) error {
	j := jsonScan{s: s, r: r, clean: strings.IndexByte(s, '\\') < 0}
	if err := j.object(0); err != nil {
		return err
	}
	if j.peek(); j.i < len(s) {
		return malformed("more than one document", j.i)
	}
	return nil
}

// peek passes over blanks and returns the next byte, 0 at the end.
func (j *jsonScan) peek() byte {
	for j.i < len(j.s) {
		switch c := j.s[j.i]; c {
		case ' ', '\t', '\r', '\n':
			j.i++
		default:
			return c
		}
	}
	return 0
}

// object reads the members of the object that begins here, each a leaf, a container or an array of them.
func (j *jsonScan) object(depth int) error {
	j.i++
	base := len(j.r.keys)
	var more map[string]bool
	for {
		switch j.peek() {
		case '}':
			j.i++
			j.r.keys = j.r.keys[:base]
			return nil
		case ',':
			j.i++
			continue
		case '"':
		default:
			return malformed("no key", j.i)
		}
		key, err := j.text()
		if err != nil {
			return err
		}
		if len(key) > 0 && (key[0] <= ' ' || key[len(key)-1] <= ' ') {
			key = trim(key)
		}
		if j.peek() != ':' {
			return malformed("no colon", j.i)
		}
		j.i++
		again := j.peek() != 'n' && j.repeated(key, base, &more) // null is as if it were not there
		if again {
			j.muted++
		}
		if err := j.value(key, depth+1); err != nil {
			return err
		}
		if again {
			j.muted--
		}
		if c := j.peek(); c != ',' && c != '}' {
			return malformed("no comma", j.i)
		}
	}
}

// manyKeys is how many keys of an object are compared one by one. WeChat's objects have fewer.
const manyKeys = 32

// repeated says whether the object whose keys begin at base has had the key, and notes it. Past manyKeys, more has
// the keys.
func (j *jsonScan) repeated(key string, base int, more *map[string]bool) bool {
	keys := j.r.keys[base:]
	if slices.Contains(keys, key) || (*more)[key] {
		return true
	}
	if len(keys) < manyKeys {
		j.r.keys = append(j.r.keys, key)
		return false
	}
	if *more == nil {
		*more = make(map[string]bool)
	}
	(*more)[key] = true
	return false
}

func (j *jsonScan) leaf(key, value string) {
	if j.muted == 0 {
		j.r.leaf(key, value)
	}
}

func (j *jsonScan) value(key string, depth int) error {
	if depth > maxDepth {
		return malformed("too deep", j.i)
	}
	switch c := j.peek(); {
	case c == '"':
		text, err := j.text()
		if err != nil {
			return err
		}
		j.leaf(key, text)
	case c == '{':
		if j.muted > 0 {
			return j.object(depth)
		}
		j.r.enter(key)
		if err := j.object(depth); err != nil {
			return err
		}
		j.r.leave()
	case c == '[':
		return j.array(key, depth)
	case c == '-' || c >= '0' && c <= '9':
		from := j.i
		for j.i < len(j.s) && isNumeric(j.s[j.i]) {
			j.i++
		}
		if j.i == len(j.s) { // cut off: it may go on
			return malformed("unclosed object", j.i)
		}
		j.leaf(key, j.s[from:j.i])
	case strings.HasPrefix(j.s[j.i:], "true"):
		j.i += 4
		j.leaf(key, "true")
	case strings.HasPrefix(j.s[j.i:], "false"):
		j.i += 5
		j.leaf(key, "false")
	case strings.HasPrefix(j.s[j.i:], "null"): // as if it were not there
		j.i += 4
	default:
		return malformed("no value", j.i)
	}
	return nil
}

func (j *jsonScan) array(key string, depth int) error {
	j.i++
	for {
		switch j.peek() {
		case ']':
			j.i++
			return nil
		case ',':
			j.i++
			continue
		}
		j.r.item = j.muted == 0
		if err := j.value(key, depth+1); err != nil {
			return err
		}
		j.r.item = false
		if c := j.peek(); c != ',' && c != ']' {
			return malformed("no comma", j.i)
		}
	}
}

func isNumeric(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// text reads the string that begins here; a piece of the input unless something in it is escaped.
func (j *jsonScan) text() (string, error) {
	rest := j.s[j.i+1:]
	end := strings.IndexByte(rest, '"')
	if end < 0 {
		return "", malformed("unclosed text", j.i)
	}
	if !j.clean {
		if slash := strings.IndexByte(rest[:end], '\\'); slash >= 0 {
			return j.escaped(slash)
		}
	}
	j.i += end + 2
	return rest[:end], nil
}

// escaped reads a string whose first backslash stands slash bytes into it.
func (j *jsonScan) escaped(slash int) (string, error) {
	var b strings.Builder
	rest := j.s[j.i+1:]
	for i := slash; ; {
		b.WriteString(rest[:i])
		if rest = rest[i:]; rest == "" {
			return "", malformed("unclosed text", j.i)
		}
		if rest[0] == '"' {
			j.i = len(j.s) - len(rest) + 1
			return b.String(), nil
		}
		n := unescapeJSON(&b, rest)
		if n == 0 {
			return "", malformed("unknown escape", len(j.s)-len(rest))
		}
		rest = rest[n:]
		if i = strings.IndexAny(rest, `"\`); i < 0 {
			return "", malformed("unclosed text", j.i)
		}
	}
}

// unescapeJSON writes what the escape at the beginning of s means and returns its length; 0 when it means nothing.
func unescapeJSON(b *strings.Builder, s string) int {
	if len(s) < 2 {
		return 0
	}
	switch c := s[1]; c {
	case '"', '\\', '/':
		b.WriteByte(c)
	case 'b':
		b.WriteByte('\b')
	case 'f':
		b.WriteByte('\f')
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case 't':
		b.WriteByte('\t')
	case 'u':
		first, ok := hex4(s)
		if !ok {
			return 0
		}
		if utf16.IsSurrogate(first) {
			if second, ok := hex4(s[6:]); ok {
				if r := utf16.DecodeRune(first, second); r != utf8.RuneError {
					b.WriteRune(r)
					return 12
				}
			}
			first = utf8.RuneError
		}
		b.WriteRune(first)
		return 6
	default:
		return 0
	}
	return 2
}

func hex4(s string) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(s[2:6], 16, 16)
	return rune(n), err == nil
}
