package wechatsim

import (
	"encoding/base64"
	"fmt"
	"sort"
	"strings"
	"time"
)

// Methods here are what happens on a user's phone. They panic for an openid or app that does not exist.

// AlwaysKeep, appended to a choice of Tap ("accept+keep"), ticks 总是保持以上选择: later Taps show no popup for it.
const AlwaysKeep = "+keep"

// Tap is the user answering wx.requestSubscribeMessage for the templates of choices (template id -> accept, reject, ban,
// filter, or an accept variant such as acceptWithAudio; "" answers what was kept). It books the credits, pushes the popup
// event and returns the object the client API hands to the front end, to be reported verbatim:
//
//	{"errMsg":"requestSubscribeMessage:ok","T1":"accept"}
//
// A failure has errMsg "requestSubscribeMessage:fail ..." and errCode, as on a phone (20004 main switch off, 20001
// unknown template, 20002 mixed types, 20003 too many).
// https://developers.weixin.qq.com/miniprogram/dev/api/open-api/subscribe-message/wx.requestSubscribeMessage.html
func (s *Sim) Tap(openid, app string, choices map[string]string) map[string]any {
	acc := s.mustAccount(openid)
	if a := s.mustApp(app); a != acc.app {
		return tapFailed(10001, "TmplIds can't be empty")
	}
	ids := make([]string, 0, len(choices))
	for id := range choices {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	if fail := acc.mayAsk(ids); fail != nil {
		return fail
	}
	answer := map[string]any{"errMsg": "requestSubscribeMessage:ok"}
	var shown []entry
	acc.mu.Lock()
	acc.lastSeen = s.memory()
	for _, id := range ids {
		choice, keep := strings.CutSuffix(choices[id], AlwaysKeep)
		kept, silent := acc.kept[id]
		if silent {
			choice = kept
		}
		if choice == "" {
			choice = "reject"
		}
		if keep {
			if acc.kept == nil {
				acc.kept = map[string]string{}
			}
			acc.kept[id] = choice
		}
		answer[id] = choice
		if choice == "ban" || choice == "filter" {
			continue
		}
		status := "reject"
		if strings.HasPrefix(choice, "accept") {
			status = "accept"
			acc.grant(id, 1)
		}
		if !silent || acc.app.conf().PopupWhenKept {
			shown = append(shown, entry{{"PopupScene", popupScene(acc.app)}, {"SubscribeStatusString", status}, {"TemplateId", id}})
		}
	}
	acc.mu.Unlock()
	if len(shown) > 0 {
		s.push(acc.app, acc, s.event(acc, "subscribe_msg_popup_event").list("SubscribeMsgPopupEvent", shown...))
	}
	return answer
}

// Accept is the commonest Tap: one accept for every template given.
func (s *Sim) Accept(openid string, templates ...string) map[string]any {
	choices := map[string]string{}
	for _, t := range templates {
		choices[t] = "accept"
	}
	return s.Tap(openid, s.mustAccount(openid).app.conf().AppID, choices)
}

// Reject is a Tap with one reject for every template given.
func (s *Sim) Reject(openid string, templates ...string) map[string]any {
	choices := map[string]string{}
	for _, t := range templates {
		choices[t] = "reject"
	}
	return s.Tap(openid, s.mustAccount(openid).app.conf().AppID, choices)
}

func popupScene(a *app) string {
	if a.conf().Kind == OfficialAccount {
		return "1"
	}
	return "0"
}

func tapFailed(code int, text string) map[string]any {
	return map[string]any{"errMsg": "requestSubscribeMessage:fail " + text, "errCode": code}
}

func (acc *account) mayAsk(ids []string) map[string]any {
	acc.mu.Lock()
	off := acc.mainOff
	acc.mu.Unlock()
	switch {
	case len(ids) == 0:
		return tapFailed(10001, "TmplIds can't be empty")
	case len(ids) > 5:
		return tapFailed(20003, "Templates count out of max bounds")
	case off:
		return tapFailed(20004, "The main switch is switched off")
	}
	kinds := map[TemplateType]bool{}
	for _, id := range ids {
		t := acc.app.template(id)
		if t == nil || t.Legacy {
			return tapFailed(20001, "No template data return, verify the template id exist")
		}
		kinds[t.Type] = true
	}
	if len(kinds) > 1 {
		return tapFailed(20002, "Templates type must be same")
	}
	return nil
}

// grant adds n credits, or opens a long-term line; the caller holds mu.
func (acc *account) grant(template string, n int) {
	l := acc.line(template)
	t := acc.app.template(template)
	if l.closed {
		l.closed, l.credits = false, 0
	}
	if t != nil && t.Type == LongTerm {
		l.open = true
		return
	}
	l.credits += n
}

// Grant books n accepts without a tap and without an event: stock for load tests.
func (s *Sim) Grant(openid, template string, n int) {
	acc := s.mustAccount(openid)
	acc.mu.Lock()
	defer acc.mu.Unlock()
	acc.grant(template, n)
}

// Credits WeChat still has for the line: -1 for an open long-term line. No API of WeChat tells this.
func (s *Sim) Credits(openid, template string) int {
	acc := s.mustAccount(openid)
	acc.mu.Lock()
	defer acc.mu.Unlock()
	l := acc.line(template)
	switch {
	case l.closed || acc.mainOff:
		return 0
	case l.open:
		return -1
	}
	return l.credits
}

// ChangeSetting is the user managing one template in the card's menu. value "reject" closes the line and is pushed;
// "accept" is silent and restores nothing until the next Tap.
func (s *Sim) ChangeSetting(openid, template, value string) {
	acc := s.mustAccount(openid)
	acc.mu.Lock()
	if acc.kept == nil {
		acc.kept = map[string]string{}
	}
	acc.kept[template] = value
	rejected := value == "reject"
	if rejected {
		l := acc.line(template)
		l.closed, l.open, l.credits = true, false, 0
	}
	acc.mu.Unlock()
	if rejected {
		s.push(acc.app, acc, s.event(acc, "subscribe_msg_change_event").list("SubscribeMsgChangeEvent",
			entry{{"SubscribeStatusString", "reject"}, {"TemplateId", template}}))
	}
}

// MainSwitch turns all subscriptions of the user in this app on or off. Nothing is pushed.
func (s *Sim) MainSwitch(openid string, on bool) {
	acc := s.mustAccount(openid)
	acc.mu.Lock()
	acc.mainOff = !on
	acc.mu.Unlock()
	s.seen.poke()
}

// Settings is subscriptionsSetting of wx.getSetting({withSubscriptions:true}): only kept choices are in itemSettings.
func (s *Sim) Settings(openid string) map[string]any {
	acc := s.mustAccount(openid)
	acc.mu.Lock()
	defer acc.mu.Unlock()
	items := map[string]string{}
	for id, choice := range acc.kept {
		items[id] = choice
	}
	return map[string]any{"mainSwitch": !acc.mainOff, "itemSettings": items}
}

// Login is wx.login: a code that jscode2session takes once within five minutes.
func (s *Sim) Login(openid string) string {
	acc := s.mustAccount(openid)
	return s.codes.issue(loginCode, acc, "0"+s.dice.text(31), s.memory().Add(5*time.Minute))
}

// PhoneCode is the code of a getPhoneNumber button, good once within five minutes for getuserphonenumber.
func (s *Sim) PhoneCode(openid string) string {
	acc := s.mustAccount(openid)
	return s.codes.issue(phoneCode, acc, s.dice.text(64), s.memory().Add(5*time.Minute))
}

// Say is a text the user writes to customer service. It opens the 5-in-48-hours window; the returned MsgId is past 2^53.
func (s *Sim) Say(openid, text string) string {
	return s.message(openid, "text", Field{"Content", text})
}

// Show is a picture the user sends to customer service.
func (s *Sim) Show(openid, picURL string) string {
	return s.message(openid, "image", Field{"PicUrl", picURL}, Field{"MediaId", "media_" + s.dice.text(16)})
}

func (s *Sim) message(openid, msgType string, fields ...Field) string {
	acc := s.mustAccount(openid)
	now := s.memory()
	acc.mu.Lock()
	acc.allow(now, 5, 48*time.Hour)
	acc.lastSeen = now
	away := now.Before(acc.agentUntil)
	acc.mu.Unlock()
	id := s.dice.bigID()
	if !away {
		s.push(acc.app, acc, s.pushed(acc, msgType, append(fields, Field{"MsgId", Number(id)})...))
	}
	return fmt.Sprint(id)
}

// EnterSession is the user opening the customer service chat: 2 messages within a minute.
func (s *Sim) EnterSession(openid, from string) {
	acc := s.mustAccount(openid)
	now := s.memory()
	acc.mu.Lock()
	acc.allow(now, 2, time.Minute)
	acc.lastSeen = now
	acc.mu.Unlock()
	s.push(acc.app, acc, s.event(acc, "user_enter_tempsession", Field{"SessionFrom", from}))
}

// allow raises the customer service allowance to the trigger's, never adds to it; the caller holds mu.
func (acc *account) allow(now time.Time, count int, window time.Duration) {
	if !now.Before(acc.until) {
		acc.remaining = 0
	}
	acc.remaining = max(acc.remaining, count)
	if until := now.Add(window); until.After(acc.until) {
		acc.until = until
	}
}

// SubmitForm is a <form report-submit> the user sent: a form_id, single use, 7 days.
func (s *Sim) SubmitForm(openid string) string { return s.credential(openid, s.dice.digits(13), 1, 0) }

// Pay is a payment that succeeded: its prepay_id, usable App.PrepayUses times from App.PrepayLag on, for 7 days.
func (s *Sim) Pay(openid string) string {
	conf := s.mustAccount(openid).app.conf()
	return s.credential(openid, "wx"+s.now().Format("20060102150405")+s.dice.text(20), conf.PrepayUses, conf.PrepayLag)
}

func (s *Sim) credential(openid, id string, uses int, lag time.Duration) string {
	acc := s.mustAccount(openid)
	now := s.memory()
	acc.mu.Lock()
	defer acc.mu.Unlock()
	if acc.forms == nil {
		acc.forms = map[string]*form{}
	}
	acc.forms[id] = &form{uses: uses, from: now.Add(lag), expires: now.Add(7 * 24 * time.Hour)}
	return id
}

// Revoke is the user withdrawing authorisation: event is user_authorization_revoke, user_authorization_cancellation or
// user_info_modified; "" means the first. FromUserName is a platform id, the user stands in OpenID. A cancellation also
// closes the account: sends answer 40003 from then on.
func (s *Sim) Revoke(openid, event string) {
	if event == "" {
		event = "user_authorization_revoke"
	}
	acc := s.mustAccount(openid)
	acc.mu.Lock()
	if event != "user_info_modified" {
		acc.lines, acc.kept = nil, nil
	}
	acc.gone = acc.gone || event == "user_authorization_cancellation"
	acc.mu.Unlock()
	ev := s.event(acc, event, Field{"OpenID", openid}, Field{"AppID", acc.app.conf().AppID}, Field{"RevokeInfo", "1"})
	ev.from = "o" + base64.RawURLEncoding.EncodeToString([]byte("weixin-platform-user"))[:27]
	s.push(acc.app, acc, ev)
}

// Follow is the user following (or not) an official account, told by a subscribe or unsubscribe event.
func (s *Sim) Follow(openid string, follows bool) {
	acc := s.mustAccount(openid)
	acc.mu.Lock()
	acc.follows = follows
	if follows {
		acc.allow(s.memory(), 3, time.Minute)
	}
	acc.mu.Unlock()
	name := "unsubscribe"
	if follows {
		name = "subscribe"
	}
	s.push(acc.app, acc, s.event(acc, name, Field{"EventKey", ""}))
}

// Block is the user blocking an official account (OA sends fail at delivery, customer service answers 48002).
func (s *Sim) Block(openid string, blocked bool) {
	acc := s.mustAccount(openid)
	acc.mu.Lock()
	acc.blocked = blocked
	acc.mu.Unlock()
}

// PushEvent pushes any event about a user: for families the phone has no button for (wxa_media_check, trade_manage_*,
// debug_demo ...). Values are strings, or numbers from Number.
func (s *Sim) PushEvent(openid, event string, fields ...Field) {
	acc := s.mustAccount(openid)
	s.push(acc.app, acc, s.event(acc, event, fields...))
}
