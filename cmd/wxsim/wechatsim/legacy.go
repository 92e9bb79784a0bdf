package wechatsim

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// The retired APIs. In Era2018 they work, today they say so.
// https://developers.weixin.qq.com/miniprogram/dev/api-backend/open-api/template-message/templateMessage.send.html

func legacyRoutes() []route {
	return []route{
		{path: "/cgi-bin/message/wxopen/template/send", method: http.MethodPost, token: true, writes: true,
			kind: MiniProgram, serve: (*call).legacySend},
		{path: "/cgi-bin/message/wxopen/template/uniform_send", method: http.MethodPost, token: true, writes: true,
			serve: (*call).uniformSend},
	}
}

type legacyRequest struct {
	ToUser   string          `json:"touser"`
	Template string          `json:"template_id"`
	Page     string          `json:"page"`
	FormID   string          `json:"form_id"`
	Data     json.RawMessage `json:"data"`
	Emphasis string          `json:"emphasis_keyword"`
}

func (c *call) legacySend() answer {
	if Era(c.era.Load()) != Era2018 {
		c.tell = &Send{OpenID: c.touser()}
		return fail(45103, "This API has been unsupported")
	}
	var q legacyRequest
	if bad := c.read(&q); bad.errcode != 0 {
		return old(bad)
	}
	c.tell = &Send{OpenID: q.ToUser, Template: q.Template}
	return old(c.legacyMessage(q, "template"))
}

// old gives an error the form of its time: a hint instead of a rid.
func old(a answer) answer {
	a.hint = true
	return a
}

func (c *call) legacyMessage(q legacyRequest, channel string) answer {
	acc, bad := c.recipient(q.ToUser)
	if bad.errcode != 0 {
		return bad
	}
	t := c.app.template(q.Template)
	switch {
	case t == nil || !t.Legacy:
		return fail(40037, "invalid template_id")
	case q.Page != "" && !c.app.conf().hasPage(q.Page):
		return fail(41030, "invalid page")
	case q.Emphasis != "" && !t.has(q.Emphasis):
		return fail(40037, "invalid emphasis_keyword")
	}
	if bad := acc.useForm(q.FormID, c.memory()); bad.errcode != 0 {
		return bad
	}
	c.receive(acc, Message{Channel: channel, Template: t.ID, Page: q.Page, Values: loose(q.Data), Body: c.fields()})
	return fine
}

func (t *Template) has(emphasis string) bool {
	for _, k := range t.keywords() {
		if emphasis == k+".DATA" {
			return true
		}
	}
	return false
}

// useForm spends one use of a form_id or prepay_id of this user.
func (acc *account) useForm(id string, now time.Time) answer {
	acc.mu.Lock()
	defer acc.mu.Unlock()
	f := acc.forms[id]
	switch {
	case f == nil || strings.Contains(id, "mock") || now.Before(f.from) || !now.Before(f.expires):
		return fail(41028, "invalid form id")
	case f.uses < 1:
		return fail(41029, "form id used count reach limit")
	}
	f.uses--
	return answer{}
}

const uniformOver = "This API has been unsupported. For more details, please view https://developers.weixin.qq.com/community/develop/doc/000ae8d6348af08e7030bc2546bc01"

// uniformSend prefers the mini-program's part when there is one.
func (c *call) uniformSend() answer {
	if Era(c.era.Load()) != Era2018 {
		c.tell = &Send{OpenID: c.touser()}
		return fail(45109, uniformOver)
	}
	var q struct {
		ToUser string         `json:"touser"`
		Weapp  *legacyRequest `json:"weapp_template_msg"`
		MP     *struct {
			AppID string `json:"appid"`
			oaRequest
		} `json:"mp_template_msg"`
	}
	if bad := c.read(&q); bad.errcode != 0 {
		return old(bad)
	}
	c.tell = &Send{OpenID: q.ToUser}
	switch {
	case q.Weapp != nil && q.Weapp.Template != "":
		q.Weapp.ToUser = q.ToUser
		c.tell.Template = q.Weapp.Template
		return old(c.legacyMessage(*q.Weapp, "uniform"))
	case q.MP == nil:
		return old(fail(47001, "data format error"))
	}
	oa := c.world.app(q.MP.AppID)
	if oa == nil || oa.conf().Kind != OfficialAccount || oa.conf().Platform == "" || oa.conf().Platform != c.app.conf().Platform {
		return old(fail(40013, "invalid appid"))
	}
	q.MP.ToUser, c.tell.Template = q.ToUser, q.MP.Template
	if acc := c.world.account(q.ToUser); acc != nil && acc.app == c.app {
		q.MP.ToUser = c.world.enter(oa, acc.person).openid
	}
	a := c.officialMessage(oa, q.MP.oaRequest, "uniform")
	if a.errcode == 0 {
		return fine
	}
	return old(a)
}

// FormUses is how often a form_id or prepay_id of the user may still be spent.
func (s *Sim) FormUses(openid, id string) int {
	acc := s.mustAccount(openid)
	now := s.memory()
	acc.mu.Lock()
	defer acc.mu.Unlock()
	if f := acc.forms[id]; f != nil && now.Before(f.expires) {
		return f.uses
	}
	return 0
}

// PayUnfinished is a prepay_id whose payment has not succeeded: 41028 until Finish is called.
func (s *Sim) PayUnfinished(openid string) (prepayID string, finish func()) {
	conf := s.mustAccount(openid).app.conf()
	id := s.credential(openid, "wx"+s.now().Format("20060102150405")+s.dice.text(20), conf.PrepayUses, 100*365*24*time.Hour)
	return id, func() {
		acc := s.mustAccount(openid)
		acc.mu.Lock()
		defer acc.mu.Unlock()
		acc.forms[id].from = s.memory().Add(conf.PrepayLag)
	}
}
