package callback

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/silenceper/wechat/v2/util"
)

// ComposeRequest makes the request with which WeChat would push the message: the URL's query and the body, in the
// app's mode and with its current key. raw is the message, written in format, which is the envelope's too. It is for
// tests and for trying a deployment.
func ComposeRequest(a App, format Format, raw []byte, nonce string, at time.Time) (query string, body []byte, err error) {
	e, err := NewVerifier(a)
	if err != nil {
		return "", nil, err
	}
	written, ev, err := Decode(raw)
	switch {
	case err != nil:
		return "", nil, err
	case written != format:
		return "", nil, fmt.Errorf("callback: the message is %s, not %s", written, format)
	}
	l, timestamp := e.keys[0], strconv.FormatInt(at.Unix(), 10)
	q := "signature=" + util.Signature(a.Key.Token, timestamp, nonce) + "&timestamp=" + timestamp + "&nonce=" + url.QueryEscape(nonce)
	if ev.FromUserName != "" {
		q += "&openid=" + url.QueryEscape(ev.FromUserName)
	}
	if e.app.Mode == Plain {
		return q, raw, nil
	}
	var random [16]byte
	rand.Read(random[:])
	encrypt := l.encrypt(a.AppID, random, raw)
	q += "&encrypt_type=aes&msg_signature=" + util.Signature(a.Key.Token, timestamp, nonce, encrypt)
	return q, wrap(format, e.app.Mode, ev.ToUserName, encrypt, raw), nil
}

// wrap writes the envelope: beside the plain fields in compat mode, with only ToUserName in secure mode.
func wrap(format Format, mode Mode, to, encrypt string, raw []byte) []byte {
	text := trimRight(string(raw))
	switch {
	case format == XML && mode == Compat:
		end := strings.LastIndex(text, "</")
		return append(appendElement([]byte(text[:max(end, 0)]), "Encrypt", encrypt), text[max(end, 0):]...)
	case format == XML:
		return append(appendElement(appendElement([]byte("<xml>"), "ToUserName", to), "Encrypt", encrypt), "</xml>"...)
	case mode == Compat:
		inner := strings.TrimRight(strings.TrimSuffix(text, "}"), " \t\r\n,")
		b := []byte(inner)
		if !strings.HasSuffix(inner, "{") {
			b = append(b, ',')
		}
		return append(append(append(b, `"Encrypt":"`...), encrypt...), `"}`...)
	}
	b := appendQuoted([]byte(`{"ToUserName":`), to)
	return append(append(append(b, `,"Encrypt":"`...), encrypt...), `"}`...)
}

// Compose writes an event or message as WeChat does on the wire: in JSON the time a number, entries' fields texts in
// alphabetical order, one entry an object and several an array; in XML the entries in the event's wrapper. It writes
// what [Event] itself holds, Message.Content, and no other family.
func Compose(format Format, ev Event) ([]byte, error) {
	switch format {
	case XML:
		return composeXML(&ev), nil
	case JSON:
		return composeJSON(&ev), nil
	}
	return nil, fmt.Errorf("callback: no format %q", format)
}

type field struct{ name, value string }

// fields are the event's own, in the order of the documents; empty ones are left out.
func (ev *Event) fields() []field {
	f := []field{{"Event", ev.Event}, {"SessionFrom", ev.SessionFrom}, {"EventKey", ev.EventKey}, {"Ticket", ev.Ticket}}
	if ev.Message != nil {
		f = append(f, field{"Content", ev.Message.Content})
	}
	return append(f, field{"MsgId", ev.MsgID}, field{"Status", ev.Status})
}

func (s *Subscribe) fields() []field {
	return []field{{"ErrorCode", s.ErrorCode}, {"ErrorStatus", s.ErrorStatus}, {"MsgID", s.MsgID}, {"PopupScene", s.PopupScene},
		{"SubscribeStatusString", s.Status}, {"TemplateId", s.TemplateID}}
}

func composeXML(ev *Event) []byte {
	b := appendElement(appendElement([]byte("<xml>"), "ToUserName", ev.ToUserName), "FromUserName", ev.FromUserName)
	b = append(strconv.AppendInt(append(b, "<CreateTime>"...), ev.CreateTime, 10), "</CreateTime>"...)
	b = appendElement(b, "MsgType", ev.MsgType)
	for _, f := range ev.fields() {
		if f.value != "" {
			b = appendElement(b, f.name, f.value)
		}
	}
	if len(ev.Subscribes) > 0 {
		wrapper := map[string]string{"subscribe_msg_popup_event": "SubscribeMsgPopupEvent",
			"subscribe_msg_change_event": "SubscribeMsgChangeEvent", "subscribe_msg_sent_event": "SubscribeMsgSentEvent"}[ev.Event]
		if wrapper == "" {
			wrapper = "SubscribeMsgEvent"
		}
		b = append(b, "<"+wrapper+">"...)
		for i := range ev.Subscribes {
			b = append(b, "<List>"...)
			for _, f := range ev.Subscribes[i].fields() {
				if f.value != "" {
					b = appendElement(b, f.name, f.value)
				}
			}
			b = append(b, "</List>"...)
		}
		b = append(b, "</"+wrapper+">"...)
	}
	return append(b, "</xml>"...)
}

func composeJSON(ev *Event) []byte {
	b := appendQuoted([]byte(`{"ToUserName":`), ev.ToUserName)
	b = appendQuoted(append(b, `,"FromUserName":`...), ev.FromUserName)
	b = strconv.AppendInt(append(b, `,"CreateTime":`...), ev.CreateTime, 10)
	b = appendQuoted(append(b, `,"MsgType":`...), ev.MsgType)
	for _, f := range ev.fields() {
		if f.value == "" {
			continue
		}
		b = append(append(append(b, `,"`...), f.name...), `":`...)
		if f.name == "MsgId" && isDigits(f.value) {
			b = append(b, f.value...)
			continue
		}
		b = appendQuoted(b, f.value)
	}
	if n := len(ev.Subscribes); n > 0 {
		b = append(b, `,"List":`...)
		if n > 1 {
			b = append(b, '[')
		}
		for i := range ev.Subscribes {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, '{')
			for _, f := range ev.Subscribes[i].fields() {
				if f.value == "" {
					continue
				}
				if b[len(b)-1] != '{' {
					b = append(b, ',')
				}
				b = appendQuoted(append(appendQuoted(b, f.name), ':'), f.value)
			}
			b = append(b, '}')
		}
		if n > 1 {
			b = append(b, ']')
		}
	}
	return append(b, '}')
}

func isDigits(s string) bool {
	return s != "" && s[0] != '0' && strings.Trim(s, "0123456789") == ""
}

// appendElement writes an element with its text in CDATA.
func appendElement(b []byte, name, value string) []byte {
	b = append(append(append(b, '<'), name...), '>')
	b = append(append(append(b, cdataOpen...), strings.ReplaceAll(value, cdataClose, "]]]]><![CDATA[>")...), cdataClose...)
	return append(append(append(b, "</"...), name...), '>')
}

// appendQuoted writes a JSON string. WeChat refuses \u in place of plain characters (40033): only what must be is
// escaped.
func appendQuoted(b []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
