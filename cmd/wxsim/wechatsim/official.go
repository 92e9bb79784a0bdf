package wechatsim

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// https://developers.weixin.qq.com/doc/service/api/notify/template/api_sendtemplatemessage.md

func officialRoutes() []route {
	return []route{
		{path: "/cgi-bin/message/template/send", method: http.MethodPost, token: true, writes: true,
			kind: OfficialAccount, serve: (*call).templateSend},
		{path: "/cgi-bin/template/get_all_private_template", method: http.MethodGet, token: true,
			kind: OfficialAccount, serve: (*call).officialTemplates},
	}
}

// officialTemplates lists the account's own templates.
// https://developers.weixin.qq.com/doc/service/api/notify/template/api_getalltemplates.md
func (c *call) officialTemplates() answer {
	type row struct {
		ID       string `json:"template_id"`
		Title    string `json:"title"`
		Industry string `json:"primary_industry"`
		Deputy   string `json:"deputy_industry"`
		Content  string `json:"content"`
		Example  string `json:"example"`
	}
	rows := []row{}
	for _, t := range c.app.conf().Templates {
		if t.OfOA {
			rows = append(rows, row{ID: t.ID, Title: t.Title, Content: t.Content, Example: t.Example})
		}
	}
	return answer{body: struct {
		List []row `json:"template_list"`
	}{rows}}
}

// onceFor is how long a client_msg_id is remembered per openid.
const onceFor = 10 * time.Minute

// onceWindow remembers client_msg_ids and what they were answered.
type onceWindow struct {
	mu    sync.Mutex
	known map[string]onceEntry
}

type onceEntry struct {
	msgid   int64
	expires time.Time
}

// claim gives the msgid of a first use, or the one given before.
func (o *onceWindow) claim(key string, msgid int64, now time.Time) (id int64, repeated bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e, ok := o.known[key]; ok && now.Before(e.expires) {
		return e.msgid, true
	}
	if o.known == nil {
		o.known = map[string]onceEntry{}
	}
	for k, e := range o.known {
		if !now.Before(e.expires) {
			delete(o.known, k)
		}
	}
	o.known[key] = onceEntry{msgid, now.Add(onceFor)}
	return msgid, false
}

type oaRequest struct {
	ToUser   string          `json:"touser"`
	Template string          `json:"template_id"`
	URL      string          `json:"url"`
	Data     json.RawMessage `json:"data"`
	ClientID string          `json:"client_msg_id"`
	Mini     struct {
		AppID    string `json:"appid"`
		PagePath string `json:"pagepath"`
	} `json:"miniprogram"`
}

func (c *call) templateSend() answer {
	var q oaRequest
	if bad := c.read(&q); bad.errcode != 0 {
		return bad
	}
	c.tell = &Send{OpenID: q.ToUser, Template: q.Template}
	return c.officialMessage(c.app, q, "oa_template")
}

// officialMessage sends a template message of an official account; uniform_send of 2018 comes this way too.
func (c *call) officialMessage(oa *app, q oaRequest, channel string) answer {
	acc := c.world.account(q.ToUser)
	if acc == nil || acc.app != oa {
		return fail(40003, "invalid openid")
	}
	acc.mu.Lock()
	gone, follows, blocked := acc.gone, acc.follows, acc.blocked
	acc.mu.Unlock()
	t := oa.template(q.Template)
	switch {
	case gone:
		return fail(40003, "invalid openid")
	case t == nil || !t.OfOA:
		return fail(40037, "invalid template_id")
	case oa.conf().FollowersOnly && !follows:
		return fail(43004, "require subscribe")
	case q.Mini.AppID != "" && (c.world.app(q.Mini.AppID) == nil || !c.world.app(q.Mini.AppID).conf().hasPage(q.Mini.PagePath)):
		return fail(40165, "invalid weapp pagepath")
	case len(q.Data) == 0 || q.Data[0] != '{':
		return fail(47001, "data format error")
	}
	id := c.dice.bigID()
	repeated := false
	if q.ClientID != "" {
		id, repeated = oa.once.claim(acc.openid+" "+q.ClientID, id, c.memory())
	}
	c.tell.MsgID = id
	if !repeated {
		c.handOfficial(oa, acc, Message{Channel: channel, Template: t.ID, MsgID: id, Page: q.Mini.PagePath,
			Values: loose(q.Data), Body: c.fields()}, blocked)
	}
	return answer{body: struct {
		Errcode int    `json:"errcode"`
		Errmsg  string `json:"errmsg"`
		MsgID   int64  `json:"msgid"`
	}{0, "ok", id}}
}

// handOfficial delivers and reports by TEMPLATESENDJOBFINISH, whose id is MsgID in XML and MsgId in JSON.
func (c *call) handOfficial(oa *app, acc *account, m Message, blocked bool) {
	status := "success"
	if f, fails := c.pushMood(SentFails, "TEMPLATESENDJOBFINISH", acc); fails {
		if status = "failed: system failed"; f.Errmsg != "" {
			status = f.Errmsg
		}
	} else if blocked {
		status = "failed:user block"
	} else {
		c.receive(acc, m)
	}
	name := "MsgID"
	if oa.conf().Format == JSON {
		name = "MsgId"
	}
	own := *c
	own.app = oa
	own.report(acc, c.event(acc, "TEMPLATESENDJOBFINISH", Field{name, Number(m.MsgID)}, Field{"Status", status}))
	c.first, c.lag, c.later = own.first, own.lag, own.later
}

// loose reads data without judging it: old templates print what they are given.
func loose(data json.RawMessage) map[string]string {
	var items map[string]struct {
		Value json.RawMessage `json:"value"`
	}
	values := map[string]string{}
	if json.Unmarshal(data, &items) != nil {
		return values
	}
	for k, item := range items {
		var text string
		if json.Unmarshal(item.Value, &text) != nil {
			text = string(item.Value)
		}
		values[k] = text
	}
	return values
}
