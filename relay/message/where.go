package message

import (
	"strconv"
	"strings"
)

// How the decoder names what is wrong, and where.

// blame notes a fault at the path as deep as depth. Enough of them end the reading.
func (d *decoder) blame(depth int, reason string) {
	if d.silent > 0 {
		return
	}
	d.issues.Add(d.where(depth), reason)
	if len(d.issues) >= d.limit {
		d.fail(errEnough)
	}
}

// over notes that a list or map has too much in it, and ends the reading.
func (d *decoder) over(depth int, reason string) {
	d.silent = 0
	d.blame(depth, reason)
	d.fail(errEnough)
}

// mismatch goes past a value of the wrong type, and notes it.
func (d *decoder) mismatch(depth int) {
	from := d.i
	d.skip(depth)
	d.mistyped(from, depth)
}

// mistyped notes that the value that began at from is of the wrong type.
func (d *decoder) mistyped(from, depth int) {
	if d.err != nil {
		return
	}
	d.wrong.Add(d.where(depth-1), "a JSON "+kindAt(d.s, from)+" does not fit here")
	if len(d.wrong) >= d.limit {
		d.fail(errEnough)
	}
}

func kindAt(s string, i int) string {
	switch s[i] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "bool"
	case 'n':
		return "null"
	}
	return "number"
}

// where is the path as deep as depth.
func (d *decoder) where(depth int) string {
	var p strings.Builder
	for i, s := range d.path[:depth+1] {
		if s.item {
			p.WriteString("[" + strconv.Itoa(s.index) + "]")
			continue
		}
		if i > 0 {
			p.WriteByte('.')
		}
		p.WriteString(strings.ToValidUTF8(s.name[:min(len(s.name), maxName)], ""))
	}
	return p.String()
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *decoder) syntax(what string) {
	d.fail(&Malformed{Detail: "not JSON: " + what + " (byte " + strconv.Itoa(d.i) + ")", Syntax: true})
}
