package message

import (
	"strconv"
	"strings"
)

// How the decoder goes through objects and lists, wanted or passed over.

// object reads an object: each is called where the value of a name begins, and reads it. A name that was there is
// passed over.
func (d *decoder) object(depth, most int, each func(name string)) {
	if d.opens('{', depth) {
		return
	}
	mark := len(d.seen)
	var many map[string]bool // once an object has too many names to compare one by one
	for n := 0; ; n++ {
		if d.space(); n == 0 && d.eat('}') {
			break
		}
		name, fine, ok := d.str()
		if !ok {
			return
		}
		if d.space(); !d.eat(':') {
			d.syntax("a colon is missing after a name")
			return
		}
		if n >= bound(most) {
			d.over(depth-1, "has more than "+strconv.Itoa(bound(most))+" fields")
			return
		}
		d.path[depth] = step{name: name}
		had := false
		if d.silent == 0 {
			had, many = d.had(name, mark, many)
		}
		switch {
		case !fine:
			d.blame(depth, NotText)
			d.skip(depth + 1)
		case had:
			d.blame(depth, "given twice")
			d.skip(depth + 1)
		default:
			each(name)
		}
		if d.err != nil {
			return
		}
		if d.space(); d.eat('}') {
			break
		}
		if !d.eat(',') {
			d.syntax("a comma or } is missing")
			return
		}
	}
	d.seen = d.seen[:mark]
}

// list reads an array: each is called where an item begins, and reads it.
func (d *decoder) list(depth, most int, each func(n int)) {
	if d.opens('[', depth) {
		return
	}
	for n := 0; ; n++ {
		if d.space(); n == 0 && d.eat(']') {
			return
		}
		if n >= bound(most) {
			d.over(depth-1, "has more than "+strconv.Itoa(bound(most))+" items")
			return
		}
		d.path[depth] = step{index: n, item: true}
		if each(n); d.err != nil {
			return
		}
		if d.space(); d.eat(']') {
			return
		}
		if !d.eat(',') {
			d.syntax("a comma or ] is missing")
			return
		}
	}
}

// keep is a piece of the body that outlives the reading.
func (d *decoder) keep(s string) string {
	if d.borrowed {
		return strings.Clone(s)
	}
	return s
}

func bound(most int) int {
	if most == 0 {
		return maxItems
	}
	return most
}

// opens goes into an object or a list; true means there is none, or none that may be gone into.
func (d *decoder) opens(c byte, depth int) bool {
	switch {
	case d.err != nil:
		return true
	case depth >= maxDepth:
		d.fail(&Malformed{Detail: "nested deeper than " + strconv.Itoa(maxDepth) + " levels"})
		return true
	case !d.eat(c):
		d.mismatch(depth)
		return true
	}
	return false
}

// skip goes past the value that begins here, and checks what is in it.
func (d *decoder) skip(depth int) {
	if d.space(); d.err != nil {
		return
	}
	if d.i >= len(d.s) {
		d.syntax("it ends early")
		return
	}
	most := 0
	if d.silent > 0 { // no name is kept
		most = len(d.s)
	}
	switch d.s[d.i] {
	case '{':
		d.object(depth, most, func(string) { d.skip(depth + 1) })
	case '[':
		d.list(depth, most, func(int) { d.skip(depth + 1) })
	case '"':
		if _, fine, ok := d.str(); ok && !fine {
			d.blame(depth-1, NotText)
		}
	case 't':
		d.word("true")
	case 'f':
		d.word("false")
	case 'n':
		d.word("null")
	default:
		d.digits()
	}
}

// had notes a name and tells whether the object had it already.
func (d *decoder) had(name string, mark int, many map[string]bool) (bool, map[string]bool) {
	const compared = 24 // names of one object, one by one
	if many == nil {
		for _, k := range d.seen[mark:] {
			if k == name {
				return true, nil
			}
		}
		d.seen = append(d.seen, name)
		if len(d.seen)-mark < compared {
			return false, nil
		}
		many = make(map[string]bool, 2*compared)
		for _, k := range d.seen[mark:] {
			many[k] = true
		}
		return false, many
	}
	was := many[name]
	many[name] = true
	return was, many
}
