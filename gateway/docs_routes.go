package gateway

import (
	_ "embed"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/wxrelay/wxrelay/gateway/docs"
	"github.com/wxrelay/wxrelay/relay/wechat"
)

// openAPI describes the public face: the one place where routes, fields, states, codes and event types are written down
// for the outside.
//
//go:embed openapi.yaml
var openAPI []byte

// reactionTexts say what the gateway does about an errcode.
var reactionTexts = map[wechat.Reaction][2]string{
	wechat.ReactionNone:        {"nothing: it has no consequence", "不处理，无影响"},
	wechat.ReactionRetry:       {"waits and tries again, a few times", "稍候重试，次数有限"},
	wechat.ReactionToken:       {"gets a new access_token and repeats the call once", "刷新 access_token 并重试一次"},
	wechat.ReactionPermanent:   {"the message is failed; it is not repeated", "消息失败，不重试"},
	wechat.ReactionLedger:      {"corrects the account of consent", "校正订阅账本"},
	wechat.ReactionBanned:      {"voids the credits and alerts the operator", "次数作废并告警"},
	wechat.ReactionConfig:      {"pauses the app and alerts the operator", "暂停该应用并告警"},
	wechat.ReactionQuotaDay:    {"waits for the next day (Beijing) and alerts the operator", "等到次日（北京时间）并告警"},
	wechat.ReactionQuotaMinute: {"waits for the next minute", "等到下一分钟"},
	wechat.ReactionSerial:      {"tries again shortly: another send to this user is under way", "稍后重试：该用户另有消息在发送"},
	wechat.ReactionFormID:      {"takes the next form_id", "换用下一个 form_id"},
	wechat.ReactionRetired:     {"answers channel_retired", "返回 channel_retired"},
	wechat.ReactionWait:        {"waits and tries again: nothing was done", "等待后重试，微信未执行"},
	wechat.ReactionUnknown:     {"the message is failed, and the operator is alerted", "消息失败并告警"},
}

func newDocs(version string) *docs.Docs {
	rows := wechat.Errcodes()
	book := make([]docs.Errcode, len(rows))
	for i, e := range rows {
		text := reactionTexts[e.Reaction]
		book[i] = docs.Errcode{Code: e.Code, Name: e.Name, Meaning: e.Meaning, MeaningZH: e.MeaningZH, Cure: e.Cure, CureZH: e.CureZH,
			Reaction: string(e.Reaction), ReactionText: text[0], ReactionTextZH: text[1], Doc: e.Doc}
	}
	return docs.New(docs.Options{OpenAPI: openAPI, Errcodes: book, Version: version})
}

// docsPage serves a document; what is not there is a problem as everywhere here.
func (g *Handler) docsPage(c *gin.Context) {
	w := &missed{ResponseWriter: c.Writer}
	g.docs.ServeHTTP(w, c.Request)
	if w.status == http.StatusNotFound {
		g.refuse(c, errNoRoute)
	}
}

// missed keeps a 404 back.
type missed struct {
	http.ResponseWriter
	status int
}

func (m *missed) WriteHeader(status int) {
	if m.status = status; status != http.StatusNotFound {
		m.ResponseWriter.WriteHeader(status)
	}
}

func (m *missed) Write(p []byte) (int, error) {
	if m.status == http.StatusNotFound {
		for name := range m.Header() {
			if !strings.EqualFold(name, requestIDHeader) {
				m.Header().Del(name)
			}
		}
		return len(p), nil
	}
	return m.ResponseWriter.Write(p)
}
