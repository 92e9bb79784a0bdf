package wechat

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/silenceper/wechat/v2/util"
)

const pathCheckSession = "/wxa/checksession"

// What may be wrong with a user's data.
var (
	ErrUserData   = errors.New("wechat: not encrypted data of a user: base64 of whole blocks, and an iv of 16 bytes")
	ErrSessionKey = errors.New("wechat: this session_key does not open the data")
	ErrWatermark  = errors.New("wechat: the data is another app's, or too old")
)

const (
	userDataAge   = 24 * time.Hour  // how old encrypted data may be, by its watermark
	userDataAhead = 5 * time.Minute // how far its clock may be ahead
)

// OpenUserData decrypts what wx.getUserProfile and its like give (AES-128-CBC, PKCS#7), and checks the watermark: of the appid,
// and at most a day old. ErrUserData, ErrSessionKey, ErrWatermark.
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html
func OpenUserData(sessionKey, encrypted, iv, appid string, now time.Time) (json.RawMessage, error) {
	key, err := base64.StdEncoding.DecodeString(sessionKey)
	if err != nil || len(key) != aes.BlockSize {
		return nil, ErrSessionKey
	}
	sealed, err := base64.StdEncoding.DecodeString(encrypted)
	start, err2 := base64.StdEncoding.DecodeString(iv)
	if err != nil || err2 != nil || len(start) != aes.BlockSize || len(sealed) == 0 || len(sealed)%aes.BlockSize != 0 {
		return nil, ErrUserData
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, ErrSessionKey
	}
	plain := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(block, start).CryptBlocks(plain, sealed)
	// A wrong key shows as wrong padding or as no JSON; the padding is not told from the rest, so that nobody can probe it.
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, ErrSessionKey
	}
	plain = plain[:len(plain)-pad]
	var data struct {
		Watermark *struct {
			AppID     string `json:"appid"`
			Timestamp int64  `json:"timestamp"`
		} `json:"watermark"`
	}
	if json.Unmarshal(plain, &data) != nil {
		return nil, ErrSessionKey
	}
	if data.Watermark == nil || data.Watermark.AppID != appid {
		return nil, ErrWatermark
	}
	if age := now.Sub(time.Unix(data.Watermark.Timestamp, 0)); age > userDataAge || age < -userDataAhead {
		return nil, ErrWatermark
	}
	return plain, nil
}

// SignedUserData tells whether a signature is that of rawData: sha1(rawData + session_key) in hex.
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html
func SignedUserData(sessionKey, rawData, signature string) bool {
	sum := sha1.Sum([]byte(rawData + sessionKey)) // WeChat's choice
	return subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(strings.ToLower(signature))) == 1
}

// CheckSession asks WeChat whether a session_key still holds. Errors: as Send.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/user-login/api_checksessionkey
func (c *Client) CheckSession(ctx context.Context, app, openid, sessionKey string) (bool, error) {
	k, err := c.keeper(app)
	if err != nil {
		return false, err
	}
	mac := hmac.New(sha256.New, []byte(sessionKey)) // of nothing, under the key as it is written
	signature := hex.EncodeToString(mac.Sum(nil))
	err = k.withToken(ctx, func(ctx context.Context, token string) error {
		x := k.exchange(pathCheckSession, token, signature)
		return x.do(ctx, k.c.o.Timeout, func(ctx context.Context) error {
			_, err := util.HTTPGetContext(ctx, sdkHost+pathCheckSession+tokenQuery(token)+"&openid="+url.QueryEscape(openid)+
				"&signature="+signature+"&sig_method=hmac_sha256")
			return x.into(&struct{}{}, err)
		})
	})
	if api, ok := errors.AsType[*APIError](err); ok && api.Code == 87009 {
		return false, nil
	}
	return err == nil, err
}
