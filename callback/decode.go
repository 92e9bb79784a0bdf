package callback

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Decode reads a proven message as WeChat wrote it, XML or JSON. Every event and message is read as far as it is
// known; what is not known is no fault. Of fields that stand there twice the first counts. A message that breaks off
// or is not well-formed after its first fields is [Event.Doubtful]. The error is [ErrMalformed]: neither format, or
// broken before it says what it is.
func Decode(raw []byte) (Format, Event, error) {
	var ev Event
	format, err := ev.read(string(raw), nil)
	return format, ev, err
}

// maxDepth is the deepest nesting that is read. WeChat's own messages stay below 6.
const maxDepth = 32

// maxSubscribes is how many entries of a subscribe event are read. A popup shows 5 templates at most.
// https://developers.weixin.qq.com/miniprogram/dev/api/open-api/subscribe-message/wx.requestSubscribeMessage.html
const maxSubscribes = 200

// read fills the event from text, of which the event keeps parts. t, when it is not nil, gets all fields.
func (ev *Event) read(text string, t *tree) (Format, error) {
	text = trimLeft(strings.TrimPrefix(text, "\ufeff"))
	r := newReader(ev)
	r.tree = t
	defer r.free()
	var format Format
	var err error
	switch {
	case strings.HasPrefix(text, "<"):
		r.likely = 1 + (len(text)-400)/140
		r.xml = true
		format, err = XML, readXML(text, r)
	case strings.HasPrefix(text, "{"):
		r.likely = 1 + (len(text)-280)/110
		format, err = JSON, readJSON(text, r)
	default:
		return "", fmt.Errorf("%w: neither XML nor JSON", ErrMalformed)
	}
	r.doubt = r.doubt || err != nil
	r.finish()
	if err != nil && ev.MsgType == "" && ev.Component == nil {
		return format, err
	}
	return format, nil
}

func trimLeft[T string | []byte](s T) T {
	for len(s) > 0 && isBlank(s[0]) {
		s = s[1:]
	}
	return s
}

func trimRight[T string | []byte](s T) T {
	for len(s) > 0 && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func trim[T string | []byte](s T) T { return trimLeft(trimRight(s)) }

func isBlank(c byte) bool { return c <= ' ' && (c == ' ' || c == '\t' || c == '\r' || c == '\n') }

func malformed(what string, at int) error {
	return fmt.Errorf("%w: %s at byte %d", ErrMalformed, what, at)
}

// leaf is a field that is placed when the event's name is known. A leaf without a key marks the beginning of a
// container.
type leaf struct{ in, key, value string }

// reader makes an Event of what the two scanners find. Both formats lead to the same calls: a container is entered
// and left, a leaf has a key and a text. An array in JSON is the same key several times, like repeated elements in
// XML.
type reader struct {
	ev      *Event
	names   [4]string // of the containers open now, outermost first; deeper ones need no name
	depth   int
	entry   int  // the depth of the subscribe entry open now; 0: none
	dropped bool // the entry open now is past maxSubscribes
	bare    bool // the subscribe wrapper open now has fields but no List yet
	likely  int  // how many subscribe entries fit into a push of this length
	xml     bool
	doubt   bool       // the message is not well-formed, or says something twice
	has     uint8      // which of the fields directly below the root have been read
	seen    [24]string // of XML, the names directly below the root; WeChat's pushes have fewer
	known   int        // how many of seen there are
	rest    []leaf
	keys    []string // of the JSON objects open now, outermost first
	tree    *tree    // gets all fields, unless it is nil
	item    bool     // the next value stands in an array of JSON
}

var readers = sync.Pool{New: func() any { return &reader{rest: make([]leaf, 0, 24), keys: make([]string, 0, 24)} }}

func newReader(ev *Event) *reader {
	r := readers.Get().(*reader)
	r.ev = ev
	return r
}

// free keeps the reader for the next message, without anything of this one.
func (r *reader) free() {
	clear(r.rest)
	clear(r.keys[:cap(r.keys)])
	*r = reader{rest: r.rest[:0], keys: r.keys[:0]}
	if cap(r.rest) <= 256 && cap(r.keys) <= 64 {
		readers.Put(r)
	}
}

func (r *reader) parent() string {
	switch {
	case r.depth == 0:
		return ""
	case r.depth > len(r.names):
		return "deeper"
	}
	return r.names[r.depth-1]
}

func (r *reader) enter(name string) {
	if r.tree != nil {
		r.tree.enter(name, r.item)
		r.item = false
	}
	if r.depth == 0 {
		r.meet(name)
	}
	wrapped := strings.HasPrefix(r.parent(), "SubscribeMsg")
	if r.depth < len(r.names) {
		r.names[r.depth] = name
	}
	r.depth++
	switch {
	case name == "List" && (r.depth == 1 || r.depth == 2 && wrapped):
		r.addSubscribe()
		r.entry = r.depth
	case r.depth == 1 && strings.HasPrefix(name, "SubscribeMsg"):
		r.bare = true
	default:
		r.rest = append(r.rest, leaf{in: name})
	}
}

// meet notes a name directly below the root. A name that comes twice is a sign of text that ended its CDATA and went
// on as elements: what is read from there on may be a user's. JSON's repetitions are dropped by its scanner.
func (r *reader) meet(name string) {
	if !r.xml || r.doubt {
		return
	}
	if slices.Contains(r.seen[:r.known], name) {
		r.doubt = name != "List" && name != "illegal_content" && name != "detail" && !strings.HasPrefix(name, "SubscribeMsg")
	} else if r.known < len(r.seen) {
		r.seen[r.known] = name
		r.known++
	}
}

func (r *reader) leave() {
	if r.tree != nil {
		r.tree.leave()
	}
	if r.entry == r.depth {
		r.entry = 0
	}
	r.depth--
}

func (r *reader) addSubscribe() {
	if r.dropped = len(r.ev.Subscribes) >= maxSubscribes; r.dropped {
		return
	}
	if r.ev.Subscribes == nil {
		r.ev.Subscribes = make([]Subscribe, 0, min(max(r.likely, 1), 8))
	}
	r.ev.Subscribes = append(r.ev.Subscribes, Subscribe{})
}

func (r *reader) leaf(key, value string) {
	if r.tree != nil {
		r.tree.leaf(key, value, r.item)
		r.item = false
	}
	switch {
	case r.depth == 0:
		r.top(key, value)
	case r.entry == r.depth:
		r.subscribe(key, value)
	case r.depth == 1 && strings.HasPrefix(r.names[0], "SubscribeMsg"):
		if r.bare {
			r.addSubscribe()
			r.bare = false
		}
		r.subscribe(key, value)
	default:
		r.rest = append(r.rest, leaf{r.parent(), key, value})
	}
}

// top takes a field directly below the root. The first of a name counts, also when it is empty.
func (r *reader) top(key, value string) {
	ev := r.ev
	r.meet(key)
	switch key {
	case "ToUserName":
		r.once(hasTo, &ev.ToUserName, value)
	case "FromUserName":
		r.once(hasFrom, &ev.FromUserName, value)
	case "CreateTime":
		if r.has&hasTime == 0 {
			ev.CreateTime = whole(value)
		}
		r.has |= hasTime
	case "MsgType":
		r.once(hasType, &ev.MsgType, value)
	case "Event":
		r.once(hasEvent, &ev.Event, value)
	case "MsgId", "MsgID", "msgid", "MSGID", "msgId", "Msgid":
		r.once(hasID, &ev.MsgID, value)
	case "Status":
		r.once(hasStatus, &ev.Status, value)
	case "List": // empty: List had no entry
	default:
		r.rest = append(r.rest, leaf{key: key, value: value})
	}
}

// The fields directly below the root that have been read.
const (
	hasTo = 1 << iota
	hasFrom
	hasTime
	hasType
	hasEvent
	hasID
	hasStatus
)

func (r *reader) once(bit uint8, to *string, value string) {
	if r.has&bit == 0 {
		*to = value
	}
	r.has |= bit
}

// first sets a text that is not set yet: of two fields of a name the first counts.
func first(to *string, value string) {
	if *to == "" {
		*to = value
	}
}

func firstWhole(to *int64, value string) {
	if *to == 0 {
		*to = whole(value)
	}
}

func (r *reader) subscribe(key, value string) {
	if r.dropped || len(r.ev.Subscribes) == 0 {
		return
	}
	s := &r.ev.Subscribes[len(r.ev.Subscribes)-1]
	switch key {
	case "TemplateId", "TemplateID", "template_id":
		first(&s.TemplateID, value)
	case "SubscribeStatusString":
		first(&s.Status, value)
	case "PopupScene":
		first(&s.PopupScene, value)
	case "MsgID", "MsgId", "msgid":
		first(&s.MsgID, value)
	case "ErrorCode":
		first(&s.ErrorCode, value)
	case "ErrorStatus":
		first(&s.ErrorStatus, value)
	}
}

// finish places what waited for the event's name.
func (r *reader) finish() {
	ev := r.ev
	ev.OpenID = ev.FromUserName
	if ev.MsgType != "event" { // only an event has an event's fields, whatever a user wrote into a message
		ev.Event, ev.Status = "", ""
	}
	if r.doubt {
		ev.Doubtful, ev.MsgID, ev.Status, ev.Subscribes = true, "", "", nil
		if ev.MsgType == "" {
			ev.placeInfoType(r.rest)
		}
	}
	if ev.Subscribes != nil {
		if !strings.HasPrefix(ev.Event, "subscribe_msg_") {
			ev.Subscribes = nil // some other event's List
		}
		ev.Subscribes = slices.DeleteFunc(ev.Subscribes, func(s Subscribe) bool { return s.TemplateID == "" })
	}
	if len(r.rest) > 0 && !r.doubt {
		ev.place(r.rest)
	}
	if isAuthorization(ev.Event) && (ev.Authorization == nil || ev.Authorization.OpenID == "") {
		ev.OpenID = "" // FromUserName is an account of WeChat's own
	}
}

// whole reads an integer WeChat wrote as a number or a text; 0 when it is none.
func whole(s string) int64 {
	s = trim(s)
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil {
		return n
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && f > -1<<53 && f < 1<<53 {
		return int64(f)
	}
	return 0
}
