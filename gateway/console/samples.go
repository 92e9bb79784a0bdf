package console

import (
	"encoding/json"
	"time"

	"github.com/wxrelay/wxrelay/relay"
)

// sampleTime is when the sample pages were read.
var sampleTime = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)

// samples is every page filled to the last field: what New checks the templates with, and what the tests look at.
func samples() []page {
	ago := func(d time.Duration) time.Time { return sampleTime.Add(-d) }
	fetched, expires := ago(20*time.Minute), sampleTime.Add(100*time.Minute)
	refused, msgid, rid, words, user, template := 43101, "1988810812324364291", "65f1-0a2b", "user refuse to accept the msg", "u-42", "tmpl-shipped"
	status, failed, why, next, cursor := 500, "answered 500", "exhausted", sampleTime.Add(2*time.Minute), "c2"
	steps := []relay.Step{{At: ago(3 * time.Minute), State: "queued", Cause: "accepted"}, {At: ago(2 * time.Minute), State: "refused", Cause: "wechat", Errcode: &refused}}
	bad := relay.Message{ID: "msg_07sample1", App: "shop", OpenID: "oAnn0000000000000000000000", User: &user, Channel: "subscribe", TemplateID: &template,
		State: "refused", MsgID: &msgid, Errcode: &refused, Errmsg: &words, RID: &rid, Attempts: 1, CreatedAt: ago(3 * time.Minute), UpdatedAt: ago(2 * time.Minute),
		Metadata: json.RawMessage(`{"order":"A-1001"}`), Timeline: steps}
	good := bad
	good.ID, good.State, good.Errcode, good.Errmsg = "msg_07sample2", "delivered", nil, nil
	messages := []relay.Message{good, bad}
	line := relay.Subscription{App: "shop", OpenID: bad.OpenID, User: &user, TemplateID: template, Kind: "one_time", Credits: 2, Unproven: 1, Reserved: 1, Status: "accepted", UpdatedAt: &fetched,
		History: []relay.Movement{{At: ago(time.Hour), Cause: "popup_accept", Delta: 1, Balance: 1}, {At: ago(20 * time.Minute), Cause: "popup_accept", Delta: 1, Balance: 2}}}
	delivery := relay.Delivery{ID: "dlv_07sample", WebhookID: "evt_07sample", Endpoint: "main", Type: "message.refused", State: "buried", Reason: &why, CreatedAt: ago(50 * time.Hour),
		NextAt: &next, Attempts: []relay.DeliveryAttempt{{At: ago(49 * time.Hour), Status: &status, TookMS: 120, Error: &failed}}}
	return []page{
		&Overview{Ready: false, Live: true, Checks: []Check{{Name: "redis", OK: true, Detail: "1 ms"}, {Name: "queue", OK: false, Detail: "has not turned for 40 s"}},
			Apps:  []AppRow{{Name: "shop", AppID: "wx0123456789abcdef", Kind: "miniprogram", Partners: []string{"orders", "crm"}, Fetched: &fetched, Expires: &expires}, {Name: "news", AppID: "wxfedcba9876543210", Kind: "official_account"}},
			Lanes: []Lane{{Name: "send:shop:subscribe", Ready: 120, InHand: 12, Later: 3, Oldest: 400 * time.Millisecond}, {Name: "deliver:orders/main", Ready: 4, Buried: 2, Oldest: 3 * time.Second}}, Recent: messages},
		&User{Apps: []string{"shop", "news"}, App: "shop", OpenID: bad.OpenID, Asked: true, Lines: []relay.Subscription{line}, Messages: messages},
		&Messages{Apps: []string{"shop", "news"}, App: "shop", State: "refused", All: messageStates, Items: messages},
		&Message{Message: bad, Known: &Errcode{Code: 43101, Meaning: "the user has not subscribed", MeaningZH: "用户未订阅", Reaction: "ledger", Cure: "ask the user again", CureZH: "请再次征得用户同意"}},
		&Deliveries{Endpoints: []string{"orders/main"}, Endpoint: "orders/main", State: "buried", Items: []relay.Delivery{delivery}, Next: &cursor, Replayed: true},
		&Endpoints{Items: []EndpointRow{{Partner: "orders", ID: "main", URL: "https://orders.example.com/hook", Events: []string{"message.*", "subscription.*"},
			Condition: conditionOf(relay.Condition{State: "benched", Since: ago(time.Minute), Until: sampleTime.Add(30 * time.Second), Failures: 11})}}},
		&Errcodes{Items: []Errcode{{Code: 43101, Meaning: "the user has not subscribed", MeaningZH: "用户未订阅", Reaction: "ledger", Cure: "ask again", CureZH: "再次询问", Doc: "https://developers.weixin.qq.com/"}}},
		&Trouble{Reason: "it is already on its way or at its end"},
	}
}
