package relay

import (
	"slices"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/relay/message"
)

// appendJSON writes it as encoding/json would, but for the escaping of HTML: it is made for every push.
func (p *PushReceived) appendJSON(b []byte) []byte {
	b = message.AppendText(append(b, `{"app":`...), p.App)
	b = appendSome(append(b, `,"openid":`...), p.OpenID)
	b = appendSome(append(b, `,"msg_type":`...), p.MsgType)
	b = appendSome(append(b, `,"event":`...), p.Event)
	b = message.AppendText(append(b, `,"format":`...), p.Format)
	b = message.AppendText(append(b, `,"raw":`...), p.Raw)
	return append(appendField(append(b, `,"fields":`...), callback.Fields(p.Fields)), '}')
}

func appendSome(b []byte, s *string) []byte {
	if s == nil {
		return append(b, "null"...)
	}
	return message.AppendText(b, *s)
}

// appendField writes a value of [callback.Fields].
func appendField(b []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		return message.AppendText(b, v)
	case []any:
		b = append(b, '[')
		for i, item := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendField(b, item)
		}
		return append(b, ']')
	case map[string]any:
		if v == nil {
			break
		}
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		b = append(b, '{')
		for i, name := range names {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendField(append(message.AppendText(b, name), ':'), v[name])
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}
