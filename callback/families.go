package callback

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// place puts the fields that only mean something in their family where they belong.
func (ev *Event) place(rest []leaf) {
	if ev.MsgType == "" {
		ev.placeComponent(rest)
		return
	}
	if ev.MsgType != "event" {
		ev.placeMessage(rest)
		return
	}
	for i := range rest {
		if l := &rest[i]; l.in == "" {
			switch l.key {
			case "SessionFrom":
				first(&ev.SessionFrom, l.value)
			case "EventKey":
				first(&ev.EventKey, l.value)
			case "Ticket":
				first(&ev.Ticket, l.value)
			}
		}
	}
	switch {
	case isAuthorization(ev.Event):
		ev.placeAuthorization(rest)
	case ev.Event == "notify_service_msg_send_result":
		ev.placeOpenID(rest)
	case isPayment(ev.Event):
		ev.placePayment(rest)
	}
}

// placeOpenID takes the user from the body of an event that comes from an account of WeChat's own.
func (ev *Event) placeOpenID(rest []leaf) {
	for i := range rest {
		if l := &rest[i]; l.in == "" && isOpenID(l.key) && l.value != "" {
			ev.OpenID = l.value
			return
		}
	}
}

func isOpenID(key string) bool { return key == "OpenID" || key == "OpenId" || key == "openid" }

func isAuthorization(event string) bool {
	return strings.HasPrefix(event, "user_authorization_") || event == "user_info_modified"
}

func (ev *Event) placeMessage(rest []leaf) {
	m := &Message{}
	for i := range rest {
		l := &rest[i]
		if l.in != "" {
			continue
		}
		switch l.key {
		case "Content":
			first(&m.Content, l.value)
		case "PicUrl":
			first(&m.PicURL, l.value)
		case "MediaId":
			first(&m.MediaID, l.value)
		case "ThumbMediaId":
			first(&m.ThumbMediaID, l.value)
		case "ThumbUrl":
			first(&m.ThumbURL, l.value)
		case "Title":
			first(&m.Title, l.value)
		case "AppId":
			first(&m.AppID, l.value)
		case "PagePath":
			first(&m.PagePath, l.value)
		case "Format":
			first(&m.VoiceFormat, l.value)
		case "Recognition":
			first(&m.Recognition, l.value)
		case "Location_X":
			first(&m.LocationX, l.value)
		case "Location_Y":
			first(&m.LocationY, l.value)
		case "Scale":
			first(&m.Scale, l.value)
		case "Label":
			first(&m.Label, l.value)
		case "Description":
			first(&m.Description, l.value)
		case "Url":
			first(&m.URL, l.value)
		}
	}
	ev.Message = m
}

func (ev *Event) placeAuthorization(rest []leaf) {
	a := &Authorization{}
	for i := range rest {
		l := &rest[i]
		switch {
		case l.in != "":
		case isOpenID(l.key):
			first(&a.OpenID, l.value)
		case l.key == "RevokeInfo":
			first(&a.RevokeInfo, l.value)
		}
	}
	if ev.Authorization = a; a.OpenID != "" {
		ev.OpenID = a.OpenID
	}
}

func isPayment(event string) bool {
	return strings.HasPrefix(event, "xpay_") || strings.HasPrefix(event, "minigame_")
}

func (ev *Event) placePayment(rest []leaf) {
	p := &Payment{}
	p.set(rest)
	if strings.HasPrefix(p.Payload, "{") {
		r := newReader(&Event{})
		if readJSON(p.Payload, r) == nil {
			p.set(r.rest)
		}
		r.free()
	}
	if p.OpenID != "" {
		ev.OpenID = p.OpenID
	}
	ev.Payment = p
}

func (p *Payment) set(rest []leaf) {
	for i := range rest {
		switch l := &rest[i]; {
		case isOpenID(l.key):
			first(&p.OpenID, l.value)
		case l.key == "Payload":
			first(&p.Payload, l.value)
		case l.key == "PayEventSig":
			first(&p.PayEventSig, l.value)
		}
	}
}

// placeInfoType says which notice a doubtful one is.
func (ev *Event) placeInfoType(rest []leaf) {
	for i := range rest {
		if l := &rest[i]; l.in == "" && l.key == "InfoType" && l.value != "" {
			ev.Component = &Component{InfoType: l.value}
			return
		}
	}
}

func (ev *Event) placeComponent(rest []leaf) {
	c := &Component{}
	for i := range rest {
		l := &rest[i]
		if l.in != "" {
			continue
		}
		switch l.key {
		case "InfoType":
			first(&c.InfoType, l.value)
		case "AppId":
			first(&c.AppID, l.value)
		case "ComponentVerifyTicket":
			first(&c.ComponentVerifyTicket, l.value)
		case "AuthorizerAppid":
			first(&c.AuthorizerAppID, l.value)
		case "AuthorizationCode":
			first(&c.AuthorizationCode, l.value)
		case "AuthorizationCodeExpiredTime":
			firstWhole(&c.AuthorizationCodeExpiredTime, l.value)
		case "PreAuthCode":
			first(&c.PreAuthCode, l.value)
		}
	}
	if c.InfoType != "" {
		ev.Component = c
	}
}

// paid checks PayEventSig = hex(HMAC-SHA256(AppKey, Event & "&" & Payload)) when the app has the key. The flat form
// of xpay_* carries no signature of its own: it is accepted when it came encrypted (DECISIONS.md 6).
// https://developers.weixin.qq.com/minigame/dev/guide/open-ability/virtual-payment/event.html
func (e *Verifier) paid(ev *Event, encrypted bool) bool {
	if e.app.PayAppKey == "" || ev.Payment == nil && !isPayment(ev.Event) {
		return true
	}
	if p := ev.Payment; p != nil && (p.Payload != "" || p.PayEventSig != "") {
		mac := hmac.New(sha256.New, []byte(e.app.PayAppKey))
		mac.Write([]byte(ev.Event))
		mac.Write([]byte{'&'})
		mac.Write([]byte(p.Payload))
		claimed, err := hex.DecodeString(p.PayEventSig)
		return err == nil && hmac.Equal(claimed, mac.Sum(nil))
	}
	return encrypted
}
