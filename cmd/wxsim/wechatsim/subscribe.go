package wechatsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_sendmessage

func subscribeRoutes() []route {
	return []route{
		{path: "/cgi-bin/message/subscribe/send", method: http.MethodPost, token: true, writes: true, paced: true,
			kind: MiniProgram, serve: (*call).subscribeSend},
		{path: "/cgi-bin/message/subscribe/bizsend", method: http.MethodPost, token: true, writes: true, paced: true,
			kind: OfficialAccount, serve: (*call).subscribeSend},
	}
}

const concurrentText = "Cannot make concurrent calls to the same OpenID, please try again"

type sendRequest struct {
	ToUser   string          `json:"touser"`
	Template string          `json:"template_id"`
	Page     string          `json:"page"`
	Data     json.RawMessage `json:"data"`
	State    string          `json:"miniprogram_state"`
	Lang     string          `json:"lang"`
	Mini     json.RawMessage `json:"miniprogram"`
}

// subscribeSend checks in the order: body, openid, template, data, page, content, concurrency, credit.
func (c *call) subscribeSend() answer {
	var q sendRequest
	if bad := c.read(&q); bad.errcode != 0 {
		return bad
	}
	c.tell = &Send{OpenID: q.ToUser, Template: q.Template}
	acc, bad := c.recipient(q.ToUser)
	if bad.errcode != 0 {
		return bad
	}
	t := c.app.template(q.Template)
	if t == nil || t.Legacy || t.OfOA {
		return fail(40037, "invalid template_id")
	}
	values, bad := t.fill(q.Data)
	if bad.errcode != 0 {
		return bad
	}
	if bad := c.acceptable(q, values); bad.errcode != 0 {
		return bad
	}
	if acc.sending.Add(1) > 1 {
		acc.sending.Add(-1)
		return fail(43108, concurrentText)
	}
	defer acc.sending.Add(-1)
	c.takeTime()
	if bad := acc.spend(t, values, c.memory()); bad.errcode != 0 {
		return bad
	}
	id := c.dice.bigID()
	c.tell.MsgID = id
	c.hand(acc, Message{Channel: "subscribe", Template: t.ID, MsgID: id, Page: q.Page, Values: values, Body: c.fields()})
	if c.app.conf().NoMsgID || c.app.conf().Kind == OfficialAccount {
		return fine
	}
	return answer{body: struct {
		Errcode int    `json:"errcode"`
		Errmsg  string `json:"errmsg"`
		MsgID   int64  `json:"msgid"`
	}{0, "ok", id}}
}

// recipient is the account of an openid of the calling app.
func (c *call) recipient(openid string) (*account, answer) {
	acc := c.world.account(openid)
	if acc == nil || acc.app != c.app {
		return nil, fail(40003, "invalid openid")
	}
	acc.mu.Lock()
	defer acc.mu.Unlock()
	if acc.gone {
		return nil, fail(40003, "invalid openid")
	}
	return acc, answer{}
}

// fill judges data against the template's keywords and names the first bad one.
func (t *Template) fill(raw json.RawMessage) (map[string]string, answer) {
	var data map[string]json.RawMessage
	if json.Unmarshal(raw, &data) != nil {
		data = nil // a stringified object reads as if every keyword were missing
	}
	values := map[string]string{}
	for _, key := range t.keywords() {
		var item struct {
			Value json.RawMessage `json:"value"`
		}
		if json.Unmarshal(data[key], &item) != nil || len(item.Value) == 0 || string(item.Value) == `""` || string(item.Value) == "null" {
			return nil, fail(47003, fmt.Sprintf("argument invalid! data.%s.value is empty", key))
		}
		var text string
		if json.Unmarshal(item.Value, &text) != nil || !valueFits(key, text, t.Enums) {
			return nil, fail(47003, fmt.Sprintf("argument invalid! data.%s.value invalid", key))
		}
		values[key] = text
	}
	return values, answer{}
}

var (
	states   = map[string]bool{"": true, "developer": true, "trial": true, "formal": true}
	langs    = map[string]bool{"": true, "zh_CN": true, "en_US": true, "zh_HK": true, "zh_TW": true}
	pagePath = regexp.MustCompile(`^[0-9A-Za-z_\-./]+$`)
)

// acceptable judges state, language, page and content.
func (c *call) acceptable(q sendRequest, values map[string]string) answer {
	conf := c.app.conf()
	switch {
	case !states[q.State]:
		return fail(47003, "argument invalid! miniprogram_state invalid")
	case !langs[q.Lang]:
		return fail(47003, "argument invalid! lang invalid")
	case conf.Kind == MiniProgram && q.Page != "" && !conf.hasPage(q.Page):
		return fail(41030, "invalid page")
	case conf.Kind == OfficialAccount && q.Page != "" && !webPage(q.Page):
		return fail(41030, "invalid page")
	}
	for _, v := range values {
		for _, word := range conf.Blacklist {
			if strings.Contains(v, word) {
				return fail(45168, "hit keyword in blacklist")
			}
		}
	}
	return answer{}
}

// hasPage says whether the released version has the page; no leading slash, query allowed.
func (conf *App) hasPage(page string) bool {
	path, _, _ := strings.Cut(page, "?")
	if strings.HasPrefix(path, "/") || !pagePath.MatchString(path) {
		return false
	}
	for _, p := range conf.Pages {
		if p == path {
			return true
		}
	}
	return len(conf.Pages) == 0
}

func webPage(page string) bool {
	u, err := url.Parse(page)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// spend takes one credit of the line, or says 43101 for every reason there is.
func (acc *account) spend(t *Template, values map[string]string, now time.Time) answer {
	acc.mu.Lock()
	defer acc.mu.Unlock()
	l := acc.line(t.ID)
	refused := fail(43101, "user refuse to accept the msg")
	switch {
	case acc.mainOff || l.closed:
		return refused
	case t.Type == LongTerm && !l.open:
		return refused
	case t.Type == OneTime && l.credits < 1:
		return refused
	case t.Type == OneTime:
		l.credits--
		return answer{}
	case t.Frequency == 0:
		return answer{}
	}
	key := values[t.FreqKey]
	if last, sent := l.sentAt[key]; sent && now.Sub(last) < t.Frequency {
		return fail(40038, "push count exceeds threshold")
	}
	if l.sentAt == nil {
		l.sentAt = map[string]time.Time{}
	}
	l.sentAt[key] = now
	return answer{}
}

// hand delivers an accepted subscribe message and reports it by the sent event: after the answer, or before it when the
// mood SentFirst says so. Only system failures are reported as failed, and then the user got nothing.
func (c *call) hand(acc *account, m Message) {
	code, status := "0", "success"
	if f, fails := c.pushMood(SentFails, "subscribe_msg_sent_event", acc); fails {
		code, status = "-1", "failed: system failed"
		if f.Errcode != 0 {
			code, status = fmt.Sprint(f.Errcode), f.Errmsg
		}
	} else {
		c.receive(acc, m)
	}
	if c.app.conf().NoSentEvents {
		return
	}
	ev := c.event(acc, "subscribe_msg_sent_event").list("SubscribeMsgSentEvent", entry{{"ErrorCode", code},
		{"ErrorStatus", status}, {"MsgID", fmt.Sprint(m.MsgID)}, {"TemplateId", m.Template}})
	c.report(acc, ev)
}

// report pushes an event about a send, after its answer or before it.
func (c *call) report(acc *account, ev happening) {
	if f, early := c.pushMood(SentFirst, ev.name(), acc); early {
		c.first, c.lag = c.push(c.app, acc, ev), f.Delay
		return
	}
	c.flying.Add(1) // so that Settle, asked by who has the answer, waits for it
	c.later = append(c.later, func() {
		c.push(c.app, acc, ev)
		c.flying.Add(-1)
		c.seen.poke()
	})
}

// fields of the body as they came.
func (c *call) fields() map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if c.o.Keep < 0 || json.Unmarshal(c.body, &m) != nil {
		return nil
	}
	return m
}
