package callback

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strconv"
	"time"

	"github.com/silenceper/wechat/v2/util"
)

// EncryptReply makes the body of a passive reply: encrypted with the key that decrypted the push and in the format of
// its envelope, or as it is when the push came plain. now is the reply's TimeStamp. "success" and an empty body are
// never encrypted.
// https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html
func (p *Push) EncryptReply(reply []byte, now time.Time) ([]byte, error) {
	if !p.Encrypted {
		return reply, nil
	}
	if p.cipherKey == nil {
		return nil, errors.New("callback: this push does not come from a Verifier")
	}
	var random [16]byte
	rand.Read(random[:])
	return encryptReply(p.cipherKey, p.AppID, p.outer, random, now.Unix(), p.nonce, reply), nil
}

// encrypt is the counterpart of decrypt, in base64.
func (l *cipherKey) encrypt(appID string, random [16]byte, msg []byte) string {
	return base64.StdEncoding.EncodeToString(util.AESEncryptMsg(random[:], msg, appID, l.key[:]))
}

func encryptReply(l *cipherKey, appID string, format Format, random [16]byte, at int64, nonce string, reply []byte) []byte {
	encrypt := l.encrypt(appID, random, reply)
	timestamp := strconv.FormatInt(at, 10)
	sum := util.Signature(string(l.token), timestamp, nonce, encrypt)
	var b []byte
	if format == XML {
		b = appendElement(append(b, "<xml>"...), "Encrypt", encrypt)
		b = appendElement(b, "MsgSignature", sum)
		b = append(append(append(b, "<TimeStamp>"...), timestamp...), "</TimeStamp>"...)
		b = appendElement(b, "Nonce", nonce)
		return append(b, "</xml>"...)
	}
	b = append(append(append(b, `{"Encrypt":"`...), encrypt...), `","MsgSignature":"`...)
	b = append(append(append(b, sum...), `","TimeStamp":`...), timestamp...)
	b = appendQuoted(append(b, `,"Nonce":`...), nonce)
	return append(b, '}')
}

// TransferCustomerService is the reply that passes a user's message on to the customer service tool. It is nil when
// the push is not a message: WeChat accepts it for messages only.
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/customer-message/trans.html
func TransferCustomerService(p *Push) []byte {
	ev := &p.Event
	if ev.MsgType == "" || ev.MsgType == "event" || ev.FromUserName == "" {
		return nil
	}
	out := Event{ToUserName: ev.FromUserName, FromUserName: ev.ToUserName, CreateTime: time.Now().Unix(), MsgType: "transfer_customer_service"}
	b, err := Compose(p.outer.or(p.Format), out)
	if err != nil {
		return nil
	}
	return b
}

func (f Format) or(other Format) Format {
	if f == "" {
		return other
	}
	return f
}
