package callback

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// place puts the fields that only mean something in their family where they belong.
func (ev *Event) place(rest []leaf) {
	if ev.MsgType == "" && ev.Event == "" {
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
			case "OpenID", "OpenId", "openid":
				if l.value != "" {
					ev.OpenID = l.value
				}
			case "SessionFrom":
				ev.SessionFrom = l.value
			case "EventKey":
				ev.EventKey = l.value
			case "Ticket":
				ev.Ticket = l.value
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
			m.Content = l.value
		case "PicUrl":
			m.PicURL = l.value
		case "MediaId":
			m.MediaID = l.value
		case "ThumbMediaId":
			m.ThumbMediaID = l.value
		case "ThumbUrl":
			m.ThumbURL = l.value
		case "Title":
			m.Title = l.value
		case "AppId":
			m.AppID = l.value
		case "PagePath":
			m.PagePath = l.value
		case "Format":
			m.VoiceFormat = l.value
		case "Recognition":
			m.Recognition = l.value
		case "Location_X":
			m.LocationX = l.value
		case "Location_Y":
			m.LocationY = l.value
		case "Scale":
			m.Scale = l.value
		case "Label":
			m.Label = l.value
		case "Description":
			m.Description = l.value
		case "Url":
			m.URL = l.value
		}
	}
	ev.Message = m
}

func (ev *Event) placeAuthorization(rest []leaf) {
	a := &Authorization{}
	for i := range rest {
		switch l := &rest[i]; l.key {
		case "OpenID", "OpenId", "openid":
			a.OpenID = l.value
		case "AppID", "AppId", "appid":
			a.AppID = l.value
		case "RevokeInfo":
			a.RevokeInfo = l.value
		case "PluginID":
			a.PluginID = l.value
		case "OpenPID":
			a.OpenPID = l.value
		}
	}
	ev.Authorization = a
}

func (ev *Event) placeCard(rest []leaf) {
	c := &Card{}
	for i := range rest {
		switch l := &rest[i]; l.key {
		case "openid", "OpenID", "OpenId":
			c.OpenID = l.value
		case "notify_code":
			c.NotifyCode = l.value
		case "notify_type":
			c.NotifyType = l.value
		case "card_status":
			c.CardStatus = l.value
		case "fail_ret":
			c.FailRet = l.value
		case "fail_msg":
			c.FailMsg = l.value
		}
	}
	ev.Card = c
}

func (ev *Event) placePunish(rest []leaf) {
	p := &Punish{}
	for i := range rest {
		switch l := &rest[i]; l.key {
		case "event_type":
			p.EventType = l.value
		case "punish_id":
			p.PunishID = l.value
		case "appid":
			p.AppID = l.value
		case "punish_time":
			p.PunishTime = whole(l.value)
		case "illegal_reason":
			p.IllegalReason = l.value
		case "illegal_content":
			if l.value != "" {
				p.IllegalContent = append(p.IllegalContent, l.value)
			}
		case "detail":
			p.Detail = l.value
		case "rule_url":
			p.RuleURL = l.value
		case "rule_name":
			p.RuleName = l.value
		case "adjust_guide_url":
			p.AdjustGuideURL = l.value
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
			m.Suggest = l.value
		case l.in == "result" && l.key == "label":
			m.Label = l.value
		case l.in != "":
		case l.key == "appid":
			m.AppID = l.value
		case l.key == "trace_id":
			m.TraceID = l.value
		case l.key == "version":
			m.Version = l.value
		case l.key == "errcode":
			m.Errcode = l.value
		case l.key == "errmsg":
			m.Errmsg = l.value
		}
	}
	ev.MediaCheck = m
}

func (g *MediaGrade) set(key, value string) {
	switch key {
	case "strategy":
		g.Strategy = value
	case "errcode":
		g.Errcode = value
	case "suggest":
		g.Suggest = value
	case "label":
		g.Label = value
	case "prob":
		g.Prob = value
	}
}

func (ev *Event) placeTrade(rest []leaf) {
	t := &Trade{}
	for i := range rest {
		switch l := &rest[i]; l.key {
		case "transaction_id":
			t.TransactionID = l.value
		case "merchant_id":
			t.MerchantID = l.value
		case "sub_merchant_id":
			t.SubMerchantID = l.value
		case "merchant_trade_no":
			t.MerchantTradeNo = l.value
		case "pay_time":
			t.PayTime = whole(l.value)
		case "shipped_time":
			t.ShippedTime = whole(l.value)
		case "estimated_settlement_time":
			t.EstimatedSettlementTime = whole(l.value)
		case "confirm_receive_method":
			t.ConfirmReceiveMethod = l.value
		case "confirm_receive_time":
			t.ConfirmReceiveTime = whole(l.value)
		case "settlement_time":
			t.SettlementTime = whole(l.value)
		case "msg":
			t.Msg = l.value
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
			p.OpenID = l.value
		case "OutTradeNo":
			p.OutTradeNo = l.value
		case "Env":
			p.Env = l.value
		case "ProductId":
			p.ProductID = l.value
		case "ZoneId":
			p.ZoneID = l.value
		case "Quantity":
			p.Quantity = whole(l.value)
		case "OrigPrice":
			p.OrigPrice = whole(l.value)
		case "ActualPrice":
			p.ActualPrice = whole(l.value)
		case "Attach":
			p.Attach = l.value
		case "OrderSource":
			p.OrderSource = l.value
		case "MchOrderNo":
			p.MchOrderNo = l.value
		case "TransactionId":
			p.TransactionID = l.value
		case "PaidTime":
			p.PaidTime = whole(l.value)
		case "IsMock":
			p.IsMock = l.value == "true" || l.value == "True" || l.value == "1"
		case "Payload":
			p.Payload = l.value
		case "PayEventSig":
			p.PayEventSig = l.value
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
			c.InfoType = l.value
		case "AppId":
			c.AppID = l.value
		case "ComponentVerifyTicket":
			c.ComponentVerifyTicket = l.value
		case "AuthorizerAppid":
			c.AuthorizerAppID = l.value
		case "AuthorizationCode":
			c.AuthorizationCode = l.value
		case "AuthorizationCodeExpiredTime":
			c.AuthorizationCodeExpiredTime = whole(l.value)
		case "PreAuthCode":
			c.PreAuthCode = l.value
		}
	}
	if c.InfoType != "" {
		ev.Component = c
	}
}

// paid checks PayEventSig = hex(HMAC-SHA256(AppKey, Event & "&" & Payload)) when the app has the key. The flat form of xpay_*
// carries no signature of its own: it is taken when it came sealed (DECISIONS.md 6).
// https://developers.weixin.qq.com/minigame/dev/guide/open-ability/virtual-payment/event.html
func (e *Ear) paid(ev *Event, sealed bool) bool {
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
	return sealed
}
