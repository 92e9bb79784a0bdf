package callback

import "strings"

const (
	cdataOpen  = "<![CDATA["
	cdataClose = "]]>"
)

// xmlScan reads WeChat's XML in one pass: elements, CDATA, the five entities and character references. Attributes,
// comments and processing instructions are passed over; a DOCTYPE is malformed, and so no entity can be declared.
type xmlScan struct {
	s     string
	i     int
	r     *reader
	clean bool // no entity and no carriage return anywhere: texts are what they are
}

func readXML(s string, r *reader) error {
	x := xmlScan{s: s, r: r, clean: strings.IndexByte(s, '&') < 0 && strings.IndexByte(s, '\r') < 0}
	if err := x.misc(); err != nil {
		return err
	}
	name, closed, err := x.tag()
	if err != nil {
		return err
	}
	if !closed {
		if err := x.element(name, 0); err != nil {
			return err
		}
	}
	if err := x.misc(); err != nil {
		return err
	}
	if x.i < len(s) {
		return malformed("more than one document", x.i)
	}
	return nil
}

// misc skips blanks, comments and processing instructions outside the root.
func (x *xmlScan) misc() error {
	for {
		x.i = len(x.s) - len(trimLeft(x.s[x.i:]))
		if skipped, err := x.aside(); !skipped {
			return err
		}
	}
}

// aside skips a comment or processing instruction.
func (x *xmlScan) aside() (bool, error) {
	begin, end := "<?", "?>"
	if strings.HasPrefix(x.s[x.i:], "<!--") {
		begin, end = "<!--", "-->"
	} else if !strings.HasPrefix(x.s[x.i:], begin) {
		return false, nil
	}
	n := strings.Index(x.s[x.i+len(begin):], end)
	if n < 0 {
		return false, malformed("unclosed "+begin, x.i)
	}
	x.i += len(begin) + n + len(end)
	return true, nil
}

// tag reads a start tag and says whether it closed itself.
func (x *xmlScan) tag() (name string, closed bool, err error) {
	from := x.i + 1
	if x.i >= len(x.s) || x.s[x.i] != '<' {
		return "", false, malformed("no element", x.i)
	}
	i := from
	for i < len(x.s) && !tagEnds[x.s[i]] {
		i++
	}
	name = x.s[from:i]
	if name == "" || name[0] == '!' {
		return "", false, malformed("no element name", x.i)
	}
	if i < len(x.s) && x.s[i] == '>' {
		x.i = i + 1
		return name, false, nil
	}
	for quote := byte(0); i < len(x.s); i++ {
		switch c := x.s[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '>':
			x.i = i + 1
			return name, x.s[i-1] == '/', nil
		}
	}
	return "", false, malformed("unclosed tag", x.i)
}

// tagEnds are the bytes a name in a tag ends before.
var tagEnds = [256]bool{'>': true, '/': true, ' ': true, '\t': true, '\r': true, '\n': true}

// closes reads </name> if it stands here.
func (x *xmlScan) closes(name string) bool {
	rest := x.s[x.i:]
	if len(rest) < len(name)+3 || rest[0] != '<' || rest[1] != '/' || rest[2:2+len(name)] != name {
		return false
	}
	i := 2 + len(name)
	for i < len(rest)-1 && isBlank(rest[i]) {
		i++
	}
	if rest[i] != '>' {
		return false
	}
	x.i += i + 1
	return true
}

// element reads the content of the root (depth 0) or of a container or leaf below it, up to its end tag.
func (x *xmlScan) element(name string, depth int) error {
	if depth > maxDepth {
		return malformed("too deep", x.i)
	}
	var text xmlText
	entered := depth == 0
	for {
		if x.i >= len(x.s) || x.s[x.i] != '<' {
			lt := strings.IndexByte(x.s[x.i:], '<')
			if lt < 0 {
				return malformed("unclosed element", x.i)
			}
			text.add(x.s[x.i:x.i+lt], false)
			x.i += lt
		}
		rest := x.s[x.i:]
		switch {
		case strings.HasPrefix(rest, "</"):
			if !x.closes(name) {
				return malformed("wrong end tag", x.i)
			}
			switch {
			case !entered:
				x.r.leaf(name, text.value())
			case depth > 0:
				x.r.leave()
			}
			return nil
		case strings.HasPrefix(rest, cdataOpen):
			if !entered && !text.any {
				return x.cdata(name)
			}
			n := cdataEnd(rest)
			if n < 0 {
				return malformed("unclosed CDATA", x.i)
			}
			text.add(rest[len(cdataOpen):n], true)
			x.i += n + len(cdataClose)
		case strings.HasPrefix(rest, "<!") || strings.HasPrefix(rest, "<?"):
			skipped, err := x.aside()
			if err != nil {
				return err
			}
			if !skipped {
				return malformed("a declaration", x.i)
			}
		default:
			if !entered {
				x.r.enter(name)
				entered = true
			}
			if err := x.child(depth + 1); err != nil {
				return err
			}
		}
	}
}

// cdata reads the rest of a field that begins with CDATA. It is a text, whatever stands in it: WeChat has been seen
// to put what a user typed into CDATA as it is, "]]>" and all. Pieces that are well-formed are joined; else the text
// is all that stands before the first "]]>" that is followed by the field's own end tag.
func (x *xmlScan) cdata(name string) error {
	from := x.i + len(cdataOpen)
	if text, ok := x.pieces(name); ok {
		x.r.leaf(name, text)
		return nil
	}
	end := cdataClose + "</" + name + ">"
	n := strings.Index(x.s[from:], end)
	if n < 0 {
		return malformed("unclosed CDATA", from)
	}
	x.i = from + n + len(end)
	x.r.leaf(name, oneLine(x.s[from:from+n]))
	return nil
}

// pieces joins CDATA and plain text up to the end tag of name and passes over comments; false when anything else
// stands between.
func (x *xmlScan) pieces(name string) (string, bool) {
	var text xmlText
	for {
		rest := x.s[x.i:]
		switch {
		case strings.HasPrefix(rest, cdataOpen):
			n := cdataEnd(rest)
			if n < 0 {
				return "", false
			}
			text.add(rest[len(cdataOpen):n], true)
			x.i += n + len(cdataClose)
		case strings.HasPrefix(rest, "</"):
			return text.value(), x.closes(name)
		case strings.HasPrefix(rest, "<"): // a comment that holds no end of CDATA swallowed none
			skipped, err := x.aside()
			if err != nil || !skipped || strings.Contains(rest[:len(rest)-(len(x.s)-x.i)], cdataClose) {
				return "", false
			}
		default:
			n := strings.IndexByte(rest, '<')
			if n < 0 || strings.Contains(rest[:n], cdataClose) {
				return "", false
			}
			text.add(rest[:n], false)
			x.i += n
		}
	}
}

// child reads one element below an open one. The first half is the fast path for a leaf of one piece, which nearly
// all are.
func (x *xmlScan) child(depth int) error {
	name, closed, err := x.tag()
	if err != nil {
		return err
	}
	if closed {
		x.r.leaf(name, "")
		return nil
	}
	rest, from := x.s[x.i:], x.i
	if strings.HasPrefix(rest, cdataOpen) {
		if n := cdataEnd(rest); n >= 0 {
			if x.i += n + len(cdataClose); x.closes(name) {
				text := rest[len(cdataOpen):n]
				if !x.clean {
					text = oneLine(text)
				}
				x.r.leaf(name, text)
				return nil
			}
		}
	} else if lt := strings.IndexByte(rest, '<'); lt >= 0 {
		if x.i += lt; x.closes(name) {
			text := rest[:lt]
			if !x.clean {
				text = unescape(text)
			}
			x.r.leaf(name, trim(text))
			return nil
		}
	}
	x.i = from
	return x.element(name, depth)
}

// cdataEnd is where the CDATA that s begins with ends, or -1.
func cdataEnd(s string) int {
	for i := len(cdataOpen); ; i++ {
		n := strings.IndexByte(s[i:], ']')
		if n < 0 {
			return -1
		}
		if i += n; strings.HasPrefix(s[i:], cdataClose) {
			return i
		}
	}
}
