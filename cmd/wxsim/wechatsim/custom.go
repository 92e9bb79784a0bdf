package wechatsim

import (
	"net/http"
	"time"
)

// https://developers.weixin.qq.com/miniprogram/dev/server/API/kf-mgnt/kf-message/api_sendcustommessage

func customRoutes() []route {
	return []route{
		{path: "/cgi-bin/message/custom/send", method: http.MethodPost, token: true, writes: true, serve: (*call).customSend},
		{path: "/cgi-bin/message/custom/business/typing", method: http.MethodPost, token: true, kind: MiniProgram, serve: (*call).customTyping},
		{path: "/cgi-bin/message/custom/typing", method: http.MethodPost, token: true, kind: OfficialAccount, serve: (*call).customTyping},
	}
}

type customRequest struct {
	ToUser  string `json:"touser"`
	MsgType string `json:"msgtype"`
	Text    struct {
		Content string `json:"content"`
	} `json:"text"`
	Image struct {
		MediaID string `json:"media_id"`
	} `json:"image"`
	Link struct {
		Title       string `json:"title"`
		Description string `json:"description"`
		URL         string `json:"url"`
		ThumbURL    string `json:"thumb_url"`
	} `json:"link"`
	Page struct {
		Title    string `json:"title"`
		PagePath string `json:"pagepath"`
		MediaID  string `json:"thumb_media_id"`
	} `json:"miniprogrampage"`
}

const maxText = 2048 // bytes of a text

// valid judges the part that msgtype names, and gives what the user will read.
func (q *customRequest) valid(c *call) (string, answer) {
	switch q.MsgType {
	case "text":
		switch {
		case q.Text.Content == "":
			return "", fail(44004, "empty content")
		case len(q.Text.Content) > maxText:
			return "", fail(45002, "content size out of limit")
		}
		return q.Text.Content, answer{}
	case "image":
		if !c.app.media.has(q.Image.MediaID, c.memory()) {
			return "", fail(40007, "invalid media_id")
		}
		return q.Image.MediaID, answer{}
	case "link":
		if q.Link.Title == "" || q.Link.URL == "" {
			return "", fail(47003, "argument invalid! link invalid")
		}
		return q.Link.URL, answer{}
	case "miniprogrampage":
		switch {
		case !c.app.media.has(q.Page.MediaID, c.memory()):
			return "", fail(40007, "invalid media_id")
		case q.Page.Title == "" || q.Page.PagePath == "":
			return "", fail(40165, "invalid weapp pagepath")
		}
		return q.Page.PagePath, answer{}
	}
	return "", fail(40008, "invalid message type")
}

func (c *call) customSend() answer {
	var q customRequest
	if bad := c.read(&q); bad.errcode != 0 {
		return bad
	}
	c.tell = &Send{OpenID: q.ToUser}
	acc, bad := c.recipient(q.ToUser)
	if bad.errcode != 0 {
		return bad
	}
	text, bad := q.valid(c)
	if bad.errcode != 0 {
		return bad
	}
	if bad := acc.answerOnce(c.memory()); bad.errcode != 0 {
		return bad
	}
	c.receive(acc, Message{Channel: "customer_service", Values: map[string]string{"text": text}, Body: c.fields()})
	return fine
}

// answerOnce takes one of the messages that the user's last trigger allows.
func (acc *account) answerOnce(now time.Time) answer {
	acc.mu.Lock()
	defer acc.mu.Unlock()
	switch {
	case acc.blocked:
		return fail(48002, "api forbidden for user block")
	case !now.Before(acc.until):
		return fail(45015, "response out of time limit or subscription is canceled")
	case acc.remaining < 1:
		return fail(45047, "out of response count limit")
	}
	acc.remaining--
	acc.typing = time.Time{}
	return answer{}
}

const (
	typingLasts    = 15 * time.Second
	typingAfterUse = 30 * time.Second
)

func (c *call) customTyping() answer {
	var q struct {
		ToUser  string `json:"touser"`
		Command string `json:"command"`
	}
	if bad := c.read(&q); bad.errcode != 0 {
		return bad
	}
	acc, bad := c.recipient(q.ToUser)
	if bad.errcode != 0 {
		return bad
	}
	now := c.memory()
	acc.mu.Lock()
	defer acc.mu.Unlock()
	switch {
	case q.Command != "Typing" && q.Command != "CancelTyping":
		return fail(45072, "command field must be Typing or CancelTyping")
	case now.Sub(acc.lastSeen) > typingAfterUse:
		return fail(45080, "no interaction with the user in the last 30 seconds")
	case q.Command == "CancelTyping":
		acc.typing = time.Time{}
	case now.Before(acc.typing):
		return fail(45081, "the typing state is already set")
	default:
		acc.typing = now.Add(typingLasts)
	}
	return fine
}

// Allowance is how many customer service messages a user still may be written, and until when by the platform's memory.
func (s *Sim) Allowance(openid string) (remaining int, until time.Time) {
	acc := s.mustAccount(openid)
	acc.mu.Lock()
	defer acc.mu.Unlock()
	if !s.memory().Before(acc.until) {
		return 0, acc.until
	}
	return acc.remaining, acc.until
}
