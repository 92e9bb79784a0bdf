package wechatsim

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// encryptedReply is the envelope of a passive reply in both formats.
// https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html
type encryptedReply struct {
	Encrypt      string      `json:"Encrypt" xml:"Encrypt"`
	MsgSignature string      `json:"MsgSignature" xml:"MsgSignature"`
	TimeStamp    json.Number `json:"TimeStamp" xml:"TimeStamp"`
	Nonce        string      `json:"Nonce" xml:"Nonce"`
}

func envelopeOf(answer []byte) (encrypted string, complete bool, sig, ts, nonce string) {
	var r encryptedReply
	var err error
	if answer[0] == '<' {
		err = xml.Unmarshal(answer, &r)
	} else {
		err = json.Unmarshal(answer, &r)
	}
	if err != nil {
		return "", false, "", "", ""
	}
	_, err = strconv.ParseInt(string(r.TimeStamp), 10, 64)
	return r.Encrypt, err == nil && r.MsgSignature != "" && r.Nonce != "", r.MsgSignature, string(r.TimeStamp), r.Nonce
}

// reply is what a passive reply says.
type reply struct {
	ToUserName   string `json:"ToUserName" xml:"ToUserName"`
	FromUserName string `json:"FromUserName" xml:"FromUserName"`
	MsgType      string `json:"MsgType" xml:"MsgType"`
	Content      string `json:"Content" xml:"Content"`
}

const agentFor = 30 * time.Minute

// heed does what a passive reply asks: hand a message to the web customer service tool, or, for official accounts only,
// show a text to the user. https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/customer-message/trans.html
func (s *Sim) heed(a *app, acc *account, h happening, text string) {
	if text == "" {
		return
	}
	var r reply
	var err error
	if text[0] == '<' {
		err = xml.Unmarshal([]byte(text), &r)
	} else {
		err = json.Unmarshal([]byte(text), &r)
	}
	if err != nil || r.ToUserName != acc.openid {
		return
	}
	switch {
	case r.MsgType == "transfer_customer_service" && h.msgType != "event":
		acc.mu.Lock()
		acc.agentUntil = s.memory().Add(agentFor)
		acc.mu.Unlock()
	case r.MsgType == "text" && a.conf().Kind == OfficialAccount:
		s.receive(acc, Message{Channel: "passive", Values: map[string]string{"text": r.Content}})
	}
}

// VerifyCallback is what saving the settings page does: a signed GET whose echostr must come back and nothing else.
func (s *Sim) VerifyCallback(ctx context.Context, app string) error {
	conf := s.mustApp(app).conf()
	ts, nonce, echo := strconv.FormatInt(s.now().Unix(), 10), s.dice.digits(10), s.dice.digits(19)
	q := url.Values{"signature": {signature(conf.Token, ts, nonce)}, "timestamp": {ts}, "nonce": {nonce}, "echostr": {echo}}
	sep := "?"
	if strings.Contains(conf.CallbackURL, "?") {
		sep = "&"
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.PushTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, conf.CallbackURL+sep+q.Encode(), nil)
	if err != nil {
		return err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1024))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || string(body) != echo {
		return fmt.Errorf("callback check of %s: HTTP %d, %.80q instead of %s", conf.Name, res.StatusCode, body, echo)
	}
	return nil
}

// ProbeContainer is the check that cloud hosting makes of a path: an unsigned action, answered with HTTP 200 and
// success or nothing.
func (s *Sim) ProbeContainer(ctx context.Context, app string) error {
	conf := s.mustApp(app).conf()
	body := `{"action":"CheckContainerPath"}`
	if conf.Format == XML {
		body = `<xml><action>CheckContainerPath</action></xml>`
	}
	ctx, cancel := context.WithTimeout(ctx, s.o.PushTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, conf.CallbackURL, strings.NewReader(body))
	if err != nil {
		return err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1024))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || (len(answer) > 0 && string(answer) != "success") {
		return fmt.Errorf("container check of %s: HTTP %d, %.80q", conf.Name, res.StatusCode, answer)
	}
	return nil
}
