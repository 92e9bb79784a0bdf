package message

import (
	"fmt"
	"strings"
)

// Batch reads the list of a batch's messages. It stops at the first item that cannot be a message, and past Most
// items. It refers to the body until Each has returned.
type Batch struct {
	Most     int      // items
	MostEach int      // bytes of one item
	items    []string // pieces of the body
}

func (b *Batch) readJSON(d *decoder, depth int) {
	if d.null() {
		return
	}
	d.list(depth, b.Most+1, func(n int) {
		switch from := d.i; {
		case n >= b.Most:
			d.fail(&TooLarge{fmt.Sprintf("more than %d messages in one batch", b.Most)})
		case d.i >= len(d.s):
			d.syntax("it ends early")
		case d.s[d.i] != '{':
			d.mistyped(d.i, depth+1)
			d.fail(errEnough)
		default:
			d.pass()
			b.items = append(b.items, d.s[from:d.i])
		}
	})
}

// Len is how many messages there are.
func (b *Batch) Len() int { return len(b.items) }

// maxBatchIssues is how many faults of a batch are named in all. From there on each item names its first one.
const maxBatchIssues = 5000

// Each parses every item, and calls f with what Parse would have answered. The error is a *[Malformed]: an item is
// not JSON, so the batch is not.
func (b *Batch) Each(f func(n int, q Request, err error)) error {
	left := maxBatchIssues
	for n, item := range b.items {
		if b.MostEach > 0 && len(item) > b.MostEach {
			f(n, Request{}, &TooLarge{fmt.Sprintf("the message is larger than %d bytes", b.MostEach)})
			continue
		}
		q, err := parse(strings.Clone(item), min(MaxIssues, max(left, 1)))
		if m, ok := err.(*Malformed); ok {
			if m.Syntax {
				return &Malformed{Detail: fmt.Sprintf("messages[%d]: %s", n, m.Detail), Syntax: true}
			}
			left -= len(m.Issues)
		}
		left -= len(q.issues)
		f(n, q, err)
	}
	return nil
}
