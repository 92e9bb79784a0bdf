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
		ev.placeCard(rest)
	case ev.Event == "wxa_punish_event":
		ev.placePunish(rest)
	case ev.Event == "wxa_media_check":
		ev.placeMediaCheck(rest)
	case strings.HasPrefix(ev.Event, "trade_manage_"):
		ev.placeTrade(rest)
	case isPayment(ev.Event):
		ev.placePayment(rest)
	}
}

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
		if l.in != "" {
			continue
		}
		switch l.key {
		case "OpenID", "OpenId", "openid":
			first(&a.OpenID, l.value)
		case "AppID", "AppId", "appid":
			first(&a.AppID, l.value)
		case "RevokeInfo":
			first(&a.RevokeInfo, l.value)
		case "PluginID":
			first(&a.PluginID, l.value)
		case "OpenPID":
			first(&a.OpenPID, l.value)
		}
	}
	if ev.Authorization = a; a.OpenID != "" {
		ev.OpenID = a.OpenID
	}
}

func (ev *Event) placeCard(rest []leaf) {
	c := &Card{}
	for i := range rest {
		l := &rest[i]
		if l.in != "" {
			continue
		}
		switch l.key {
		case "openid", "OpenID", "OpenId":
			first(&c.OpenID, l.value)
		case "notify_code":
			first(&c.NotifyCode, l.value)
		case "notify_type":
			first(&c.NotifyType, l.value)
		case "card_status":
			first(&c.CardStatus, l.value)
		case "fail_ret":
			first(&c.FailRet, l.value)
		case "fail_msg":
			first(&c.FailMsg, l.value)
		}
	}
	if ev.Card = c; c.OpenID != "" {
		ev.OpenID = c.OpenID
	}
}

func (ev *Event) placePunish(rest []leaf) {
	p := &Punish{}
	for i := range rest {
		switch l := &rest[i]; l.key {
		case "event_type":
			first(&p.EventType, l.value)
		case "punish_id":
			first(&p.PunishID, l.value)
		case "appid":
			first(&p.AppID, l.value)
		case "punish_time":
			firstWhole(&p.PunishTime, l.value)
		case "illegal_reason":
			first(&p.IllegalReason, l.value)
		case "illegal_content":
			if l.value != "" {
				p.IllegalContent = append(p.IllegalContent, l.value)
			}
		case "detail":
			first(&p.Detail, l.value)
		case "rule_url":
			first(&p.RuleURL, l.value)
		case "rule_name":
			first(&p.RuleName, l.value)
		case "adjust_guide_url":
			first(&p.AdjustGuideURL, l.value)
		}
	}
	ev.Punish = p
}

func (ev *Event) placeMediaCheck(rest []leaf) {
	m := &MediaCheck{}
	var none MediaGrade
	grade := &none
	for i := range rest {
		l := &rest[i]
		switch {
		case l.in == "detail" && l.key == "":
			m.Detail = append(m.Detail, MediaGrade{})
			grade = &m.Detail[len(m.Detail)-1]
		case l.in == "detail":
			grade.set(l.key, l.value)
		case l.in == "result" && l.key == "suggest":
			first(&m.Suggest, l.value)
		case l.in == "result" && l.key == "label":
			first(&m.Label, l.value)
		case l.in != "":
		case l.key == "appid":
			first(&m.AppID, l.value)
		case l.key == "trace_id":
			first(&m.TraceID, l.value)
		case l.key == "version":
			first(&m.Version, l.value)
		case l.key == "errcode":
			first(&m.Errcode, l.value)
		case l.key == "errmsg":
			first(&m.Errmsg, l.value)
		}
	}
	ev.MediaCheck = m
}

func (g *MediaGrade) set(key, value string) {
	switch key {
	case "strategy":
		first(&g.Strategy, value)
	case "errcode":
		first(&g.Errcode, value)
	case "suggest":
		first(&g.Suggest, value)
	case "label":
		first(&g.Label, value)
	case "prob":
		first(&g.Prob, value)
	}
}

func (ev *Event) placeTrade(rest []leaf) {
	t := &Trade{}
	for i := range rest {
		switch l := &rest[i]; l.key {
		case "transaction_id":
			first(&t.TransactionID, l.value)
		case "merchant_id":
			first(&t.MerchantID, l.value)
		case "sub_merchant_id":
			first(&t.SubMerchantID, l.value)
		case "merchant_trade_no":
			first(&t.MerchantTradeNo, l.value)
		case "pay_time":
			firstWhole(&t.PayTime, l.value)
		case "shipped_time":
			firstWhole(&t.ShippedTime, l.value)
		case "estimated_settlement_time":
			firstWhole(&t.EstimatedSettlementTime, l.value)
		case "confirm_receive_method":
			first(&t.ConfirmReceiveMethod, l.value)
		case "confirm_receive_time":
			firstWhole(&t.ConfirmReceiveTime, l.value)
		case "settlement_time":
			firstWhole(&t.SettlementTime, l.value)
		case "msg":
			first(&t.Msg, l.value)
		}
	}
	ev.Trade = t
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
		switch l := &rest[i]; l.key {
		case "OpenId", "OpenID", "openid":
			first(&p.OpenID, l.value)
		case "OutTradeNo":
			first(&p.OutTradeNo, l.value)
		case "Env":
			first(&p.Env, l.value)
		case "ProductId":
			first(&p.ProductID, l.value)
		case "ZoneId":
			first(&p.ZoneID, l.value)
		case "Quantity":
			firstWhole(&p.Quantity, l.value)
		case "OrigPrice":
			firstWhole(&p.OrigPrice, l.value)
		case "ActualPrice":
			firstWhole(&p.ActualPrice, l.value)
		case "Attach":
			first(&p.Attach, l.value)
		case "OrderSource":
			first(&p.OrderSource, l.value)
		case "MchOrderNo":
			first(&p.MchOrderNo, l.value)
		case "TransactionId":
			first(&p.TransactionID, l.value)
		case "PaidTime":
			firstWhole(&p.PaidTime, l.value)
		case "IsMock":
			p.IsMock = l.value == "true" || l.value == "True" || l.value == "1"
		case "Payload":
			first(&p.Payload, l.value)
		case "PayEventSig":
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
