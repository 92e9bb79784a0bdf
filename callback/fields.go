package callback

import "strings"

// maxFields is how many values [Fields] reads. WeChat's pushes have fewer than 100.
const maxFields = 1000

// Fields is a message as an object under WeChat's own names, the same for XML and JSON: every value is a text, a container is a
// map[string]any, and what WeChat writes several times, or as an array, is a []any. List, illegal_content and the containers
// named detail are always arrays; the entries of a subscribe event are List, without the wrapper that XML has around them.
//
// It is nil for what cannot be read without doubt ([ErrMalformed], [Event.Doubtful]), for more than 1,000 values, and for the
// notices of a third-party platform, which hold secrets of the platform.
func Fields(raw []byte) map[string]any {
	var ev Event
	root := make(map[string]any)
	t := &tree{open: []map[string]any{root}}
	if _, err := ev.read(string(raw), t); err != nil || ev.Doubtful || ev.Component != nil || t.values > maxFields {
		return nil
	}
	if len(ev.Subscribes) > 0 {
		for name := range root {
			if strings.HasPrefix(name, "SubscribeMsg") {
				delete(root, name)
			}
		}
		var list []any
		for i := range ev.Subscribes {
			entry := make(map[string]any)
			for _, f := range ev.Subscribes[i].fields() {
				if f.value != "" {
					entry[f.name] = f.value
				}
			}
			list = append(list, entry)
		}
		root["List"] = list
	}
	return root
}

// tree collects what a scanner finds, beside the [reader].
type tree struct {
	open   []map[string]any // the containers open now, outermost first
	values int
}

// leaf adds a text. item says that it stands in an array.
func (t *tree) leaf(key, value string, item bool) {
	t.add(key, value, item || key == "illegal_content")
}

func (t *tree) enter(key string, item bool) {
	inner := make(map[string]any)
	t.add(key, inner, item || key == "List" || key == "detail")
	t.open = append(t.open, inner)
}

func (t *tree) leave() { t.open = t.open[:len(t.open)-1] }

// add puts a value into the innermost container. A key that comes again makes an array: the scanner of JSON drops keys that come
// again outside an array, and XML that repeats a name directly below the root is in doubt.
func (t *tree) add(key string, value any, list bool) {
	if t.values++; t.values > maxFields {
		return
	}
	in := t.open[len(t.open)-1]
	old, again := in[key]
	switch all, isList := old.([]any); {
	case isList:
		in[key] = append(all, value)
	case again:
		in[key] = []any{old, value}
	case list:
		in[key] = []any{value}
	default:
		in[key] = value
	}
}
