package relay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// The forms of what is passed on in WeChat's own words: its required fields, and no others.

// maxText is how many bytes of text one customer service message may have; more is 45002.
const maxText = 2048

func (r *Relay) composeCustomerService(f *faults, where string, o *order, q *SendRequest) payload {
	parts := map[string]json.RawMessage{"text": q.Text, "image": q.Image, "link": q.Link, "miniprogrampage": q.MiniprogramPage}
	part, known := parts[q.MsgType]
	if !known {
		f.add(where+"msgtype", "must be one of text, image, link, miniprogrampage")
		return nil
	}
	for _, name := range []string{"text", "image", "link", "miniprogrampage"} {
		if name != q.MsgType && present(parts[name]) != nil {
			f.add(where+name, "stands beside msgtype "+q.MsgType+": a message is one of them")
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
				f.add(at+".content", fmt.Sprintf("%d bytes, at most %d", n, maxText))
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
	return encode(map[string]any{"touser": o.OpenID, "msgtype": q.MsgType, q.MsgType: plainJSON(f, at, part)})
}

// checkMiniprogram is where a template message of an official account leads.
func checkMiniprogram(f *faults, where string, raw json.RawMessage) {
	var v struct {
		AppID    string `json:"appid"`
		PagePath string `json:"pagepath"`
	}
	if present(raw) != nil && inner(f, where+"miniprogram", raw, &v) {
		required(f, where+"miniprogram", "appid", v.AppID)
	}
}

// checkUniform looks at the two halves of a uniform message. What the data must be the old templates decide, which no API lists.
func checkUniform(f *faults, where string, q *SendRequest) {
	if present(q.WeappTemplateMsg) == nil && present(q.MpTemplateMsg) == nil {
		f.add(where+"mp_template_msg", "weapp_template_msg or mp_template_msg is required")
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
			f.add(where+"weapp_template_msg.page", reason)
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

// plainJSON is an object without \u escapes, which WeChat refuses (40033) and many a JSON library writes for every Chinese
// character. JSON has no other form for control characters, so they are faults; two line separators it escapes for the
// sake of JavaScript become the line breaks they mean.
func plainJSON(f *faults, at string, raw json.RawMessage) json.RawMessage {
	if present(raw) == nil || !bytes.Contains(raw, []byte(`\u`)) && !bytes.ContainsAny(raw, "\u2028\u2029") {
		return present(raw)
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		f.add(at, "is not JSON")
		return nil
	}
	bad := false
	v = eachString(v, func(s string) string {
		bad = bad || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\n' && c != '\r' && c != '\t' })
		return strings.NewReplacer("\u2028", "\n", "\u2029", "\n").Replace(s)
	})
	if bad {
		f.add(at, "has a control character: remove it")
	}
	return encode(v)
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
func inner(f *faults, at string, raw json.RawMessage, into any) bool {
	if len(raw) == 0 || raw[0] != '{' {
		f.add(at, "is required: an object with WeChat's fields")
		return false
	}
	err := decodeStrict(raw, into, "invalid_message")
	var inv *Invalid
	switch {
	case err == nil:
		return true
	case errors.As(err, &inv): // it was read all the same: what it lacks is told beside what it has too much
		for _, fault := range inv.Fields {
			f.add(at+"."+fault.Field, fault.Reason)
		}
		return true
	default:
		f.add(at, err.Error())
	}
	return false
}

// required wants each named value: pairs of name and value.
func required(f *faults, at string, pairs ...string) {
	for pair := range slices.Chunk(pairs, 2) {
		if strings.TrimSpace(pair[1]) == "" {
			f.add(at+"."+pair[0], "is required")
		}
	}
}

func webAddress(f *faults, at, v string) {
	u, err := url.Parse(v)
	if v != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		f.add(at, "must be an http or https address")
	}
}
