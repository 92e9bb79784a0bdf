package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// What WeChat is given on each channel. What is passed on in WeChat's own words has its required fields, and no others.

// subscribeMessage is the body of subscribe/send, in the order WeChat documents.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_sendmessage
func subscribeMessage(openid string, q *Request, data Data) json.RawMessage {
	b := AppendText(append(make([]byte, 0, 512), `{"touser":`...), openid)
	b = AppendText(append(b, `,"template_id":`...), q.TemplateID)
	if q.Page != "" {
		b = AppendText(append(b, `,"page":`...), q.Page)
	}
	b = data.appendJSON(append(b, `,"data":`...))
	b = AppendText(append(b, `,"miniprogram_state":`...), orElse(q.MiniprogramState, "formal"))
	b = AppendText(append(b, `,"lang":`...), orElse(q.Lang, "zh_CN"))
	return append(b, '}')
}

// appendJSON appends the keywords as WeChat has them.
func (l Data) appendJSON(b []byte) []byte {
	b = append(b, '{')
	for i := range l {
		k := &l[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(AppendText(b, k.Name), `:{"value":`...)
		b = AppendText(b, k.Value)
		if k.Color != "" {
			b = AppendText(append(b, `,"color":`...), k.Color)
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

// templateMessage is the body of a template message: of an official account, or the legacy one of a mini-program.
func templateMessage(openid string, q *Request, data Data, miniprogram json.RawMessage) json.RawMessage {
	return Encode(struct {
		ToUser      string          `json:"touser"`
		TemplateID  string          `json:"template_id"`
		Page        string          `json:"page,omitempty"`
		URL         string          `json:"url,omitempty"`
		Miniprogram json.RawMessage `json:"miniprogram,omitempty"`
		FormID      string          `json:"form_id,omitempty"`
		Data        json.RawMessage `json:"data"`
		Emphasis    string          `json:"emphasis_keyword,omitempty"`
		Color       string          `json:"color,omitempty"`
	}{openid, q.TemplateID, q.Page, q.URL, miniprogram, q.FormID, data.appendJSON(nil), q.EmphasisKeyword, q.Color})
}

// uniformMessage is the body of a uniform message, whose halves are passed on.
func uniformMessage(f *Issues, where, openid string, q *Request) json.RawMessage {
	checkUniform(f, where, q)
	return Encode(struct {
		ToUser string          `json:"touser"`
		Weapp  json.RawMessage `json:"weapp_template_msg,omitempty"`
		MP     json.RawMessage `json:"mp_template_msg,omitempty"`
	}{openid, plainJSON(f, where+"weapp_template_msg", q.WeappTemplateMsg), plainJSON(f, where+"mp_template_msg", q.MpTemplateMsg)})
}

// maxText is how many bytes of text one customer service message may have; more is 45002.
const maxText = 2048

func customerServiceMessage(f *Issues, where, openid string, q *Request) json.RawMessage {
	parts := map[string]json.RawMessage{"text": q.Text, "image": q.Image, "link": q.Link, "miniprogrampage": q.MiniprogramPage}
	part, known := parts[q.MsgType]
	if !known {
		f.Add(where+"msgtype", "must be one of text, image, link, miniprogrampage")
		return nil
	}
	for _, name := range []string{"text", "image", "link", "miniprogrampage"} {
		if name != q.MsgType && present(parts[name]) != nil {
			f.Add(where+name, "stands beside msgtype "+q.MsgType+": a message is one of them")
		}
	}
	at := where + q.MsgType
	switch q.MsgType {
	case "text":
		var v struct {
			Content string `json:"content"`
		}
		if inner(f, at, part, &v) {
			required(f, at, "content", v.Content)
			if n := len(v.Content); n > maxText {
				f.Add(at+".content", fmt.Sprintf("%d bytes, at most %d", n, maxText))
			}
		}
	case "image":
		var v struct {
			MediaID string `json:"media_id"`
		}
		if inner(f, at, part, &v) {
			required(f, at, "media_id", v.MediaID)
		}
	case "link":
		var v struct {
			Title       string `json:"title"`
			Description string `json:"description"`
			URL         string `json:"url"`
			ThumbURL    string `json:"thumb_url"`
		}
		if inner(f, at, part, &v) {
			required(f, at, "title", v.Title, "url", v.URL)
			webAddress(f, at+".url", v.URL)
			webAddress(f, at+".thumb_url", v.ThumbURL)
		}
	case "miniprogrampage":
		var v struct {
			Title        string `json:"title"`
			AppID        string `json:"appid"` // an official account names the mini-program
			PagePath     string `json:"pagepath"`
			ThumbMediaID string `json:"thumb_media_id"`
		}
		if inner(f, at, part, &v) {
			required(f, at, "title", v.Title, "pagepath", v.PagePath, "thumb_media_id", v.ThumbMediaID)
		}
	}
	return Encode(map[string]any{"touser": openid, "msgtype": q.MsgType, q.MsgType: plainJSON(f, at, part)})
}

// checkMiniprogram is where a template message of an official account leads.
func checkMiniprogram(f *Issues, where string, raw json.RawMessage) {
	var v struct {
		AppID    string `json:"appid"`
		PagePath string `json:"pagepath"`
	}
	if present(raw) != nil && inner(f, where+"miniprogram", raw, &v) {
		required(f, where+"miniprogram", "appid", v.AppID)
	}
}

// checkUniform looks at the two halves of a uniform message. What the data must be the old templates decide, which
// no API lists.
func checkUniform(f *Issues, where string, q *Request) {
	if present(q.WeappTemplateMsg) == nil && present(q.MpTemplateMsg) == nil {
		f.Add(where+"mp_template_msg", "weapp_template_msg or mp_template_msg is required")
	}
	var weapp struct {
		TemplateID      string          `json:"template_id"`
		Page            string          `json:"page"`
		FormID          string          `json:"form_id"`
		Data            json.RawMessage `json:"data"`
		EmphasisKeyword string          `json:"emphasis_keyword"`
	}
	if present(q.WeappTemplateMsg) != nil && inner(f, where+"weapp_template_msg", q.WeappTemplateMsg, &weapp) {
		required(f, where+"weapp_template_msg", "template_id", weapp.TemplateID, "form_id", weapp.FormID)
		if reason := checkPage(weapp.Page); reason != "" {
			f.Add(where+"weapp_template_msg.page", reason)
		}
	}
	var mp struct {
		AppID       string          `json:"appid"`
		TemplateID  string          `json:"template_id"`
		URL         string          `json:"url"`
		Miniprogram json.RawMessage `json:"miniprogram"`
		Data        json.RawMessage `json:"data"`
	}
	if present(q.MpTemplateMsg) != nil && inner(f, where+"mp_template_msg", q.MpTemplateMsg, &mp) {
		required(f, where+"mp_template_msg", "appid", mp.AppID, "template_id", mp.TemplateID)
		checkMiniprogram(f, where+"mp_template_msg.", mp.Miniprogram)
	}
}

// plainJSON is an object without \u escapes, which WeChat refuses (40033) and many a JSON library writes for every
// Chinese character. JSON has no other form for control characters, so they are faults; two line separators it
// escapes for the sake of JavaScript become the line breaks they mean.
func plainJSON(f *Issues, at string, raw json.RawMessage) json.RawMessage {
	if present(raw) == nil || !bytes.Contains(raw, []byte(`\u`)) && !bytes.ContainsAny(raw, "\u2028\u2029") {
		return present(raw)
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		f.Add(at, "is not JSON")
		return nil
	}
	bad := false
	v = eachString(v, func(s string) string {
		bad = bad || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\n' && c != '\r' && c != '\t' })
		return strings.NewReplacer("\u2028", "\n", "\u2029", "\n").Replace(s)
	})
	if bad {
		f.Add(at, "has a control character: remove it")
	}
	return Encode(v)
}

// eachString maps every string inside a JSON value.
func eachString(v any, to func(string) string) any {
	switch x := v.(type) {
	case string:
		return to(x)
	case []any:
		for i := range x {
			x[i] = eachString(x[i], to)
		}
	case map[string]any:
		for k := range x {
			x[k] = eachString(x[k], to)
		}
	}
	return v
}

// inner reads an object inside a message as strictly as the message itself.
func inner(f *Issues, at string, raw json.RawMessage, into any) bool {
	if len(raw) == 0 || raw[0] != '{' {
		f.Add(at, "is required: an object with WeChat's fields")
		return false
	}
	d := decoder{s: string(raw), limit: MaxIssues}
	issues, err := d.whole(into)
	if m, ok := errors.AsType[*Malformed](err); ok {
		issues = m.Issues
	}
	for _, fault := range issues { // what it lacks is named beside what it has too much
		if path := at + "." + fault.Field; !f.Has(path) {
			f.Add(path, fault.Reason)
		}
	}
	return err == nil
}

// required wants each named value: pairs of name and value.
func required(f *Issues, at string, pairs ...string) {
	for pair := range slices.Chunk(pairs, 2) {
		if strings.TrimSpace(pair[1]) == "" {
			f.Add(at+"."+pair[0], "is required")
		}
	}
}

func webAddress(f *Issues, at, v string) {
	u, err := url.Parse(v)
	if v != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		f.Add(at, "must be an http or https address")
	}
}
