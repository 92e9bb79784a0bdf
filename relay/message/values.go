package message

import (
	"slices"
	"strings"
)

// Data are the keywords of a message with their values.
type Data []Keyword

// Keyword is a keyword of a template with its value.
type Keyword struct {
	Name  string
	Value string // a number is written as its digits were
	Color string
	wrong bool // it was no value, which is an issue already
}

// maxKeywords is how many keywords a message may have. WeChat's templates have a handful.
const maxKeywords = 100

const notAValue = `must be a string, a number or {"value": one of them}`

// Get is the keyword of that name.
func (l Data) Get(name string) (Keyword, bool) {
	for i := range l {
		if l[i].Name == name {
			return l[i], true
		}
	}
	return Keyword{}, false
}

// sorted are the keywords by their names, in a list of its own.
func (l Data) sorted() Data {
	l = slices.Clone(l)
	slices.SortFunc(l, func(a, b Keyword) int { return strings.Compare(a.Name, b.Name) })
	return l
}

// readJSON reads {"thing1":{"value":"..."}}, {"thing1":{"value":10}}, {"thing1":"..."} and {"thing1":10} alike.
func (l *Data) readJSON(d *decoder, depth int) {
	if d.null() {
		return
	}
	*l = make(Data, 0, 8)
	d.object(depth, maxKeywords, func(name string) {
		k := Keyword{Name: d.keep(name)}
		if d.space(); d.i < len(d.s) && d.s[d.i] == '{' {
			given, ok := false, true
			d.object(depth+1, 0, func(name string) {
				switch name {
				case "value":
					given = true
					k.Value, ok = d.scalar(depth, notAValue)
				case "color":
					if d.space(); !d.null() {
						k.Color, _ = d.scalar(depth+1, "must be a string")
					}
				default:
					d.blame(depth+1, "unknown field")
					d.skip(depth + 2)
				}
			})
			if !given {
				d.blame(depth, notAValue)
			}
			k.wrong = !given || !ok
		} else {
			var ok bool
			k.Value, ok = d.scalar(depth, notAValue)
			k.wrong = !ok
		}
		*l = append(*l, k)
	})
}

// scalar reads a text, or a number as its digits are. What is neither, or no Unicode text, is an issue at the path
// as deep as depth.
func (d *decoder) scalar(depth int, reason string) (string, bool) {
	switch d.space(); {
	case d.err != nil || d.i >= len(d.s):
		d.syntax("it ends early")
	case d.s[d.i] == '"':
		s, fine, ok := d.str()
		if ok && !fine {
			d.blame(depth, NotText)
		}
		return d.keep(s), fine && ok
	case d.s[d.i] == '-' || d.s[d.i] >= '0' && d.s[d.i] <= '9':
		from := d.i
		d.digits()
		return d.keep(d.s[from:d.i]), d.err == nil
	default:
		d.skip(depth + 2)
		if d.err == nil {
			d.blame(depth, reason)
		}
	}
	return "", false
}
