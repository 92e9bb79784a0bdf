package wechat

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
)

// The examples of WeChat's documents.
const (
	docAppID   = "wx4f4bc4dec97d474b"
	docKey     = "tiihtNczf5v6AKRyjwEUhQ=="
	docIV      = "r7BXXKkLb8qrSNn05n0qiA=="
	docData    = "CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVbJSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew=="
	docRawKey  = "HyVFkGl5F5OQWJZZaNzBBg=="
	docRawSum  = "75e81ceda165f4ffa64f4068af58c64b8f54b88c"
	docRawData = `{"nickName":"Band","gender":1,"language":"zh_CN","city":"Guangzhou","province":"Guangdong","country":"CN","avatarUrl":"http://wx.qlogo.cn/mmopen/vi_32/1vZvI39NWFQ9XM4LtQpFrQJ1xlgZxx3w7bQxKARol6503Iuswjjn6nIGBiaycAjAtpujxyzYsrztuuICqIM5ibXQ/0"}`
)

var docTime = time.Unix(1477314187, 0)

func TestUserDataOfTheDocuments(t *testing.T) {
	plain, err := OpenUserData(docKey, docData, docIV, docAppID, docTime.Add(time.Hour))
	var got struct {
		OpenID string `json:"openId"`
	}
	if err != nil || json.Unmarshal(plain, &got) != nil || got.OpenID != "oGZUI0egBJY1zhBYw2KhdUfwVJJE" {
		t.Errorf("%v %s", err, plain)
	}
	if !SignedUserData(docRawKey, docRawData, docRawSum) || SignedUserData(docKey, docRawData, docRawSum) || SignedUserData(docRawKey, docRawData+" ", docRawSum) {
		t.Error("the signature of the documents")
	}
}

func TestUserDataThatIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		key, data, iv, appid string
		now                  time.Time
		want                 error
	}{
		"another key":        {docRawKey, docData, docIV, docAppID, docTime, ErrSessionKey},
		"no key":             {"", docData, docIV, docAppID, docTime, ErrSessionKey},
		"another app":        {docKey, docData, docIV, "wx0000000000000000", docTime, ErrWatermark},
		"old":                {docKey, docData, docIV, docAppID, docTime.Add(25 * time.Hour), ErrWatermark},
		"of the future":      {docKey, docData, docIV, docAppID, docTime.Add(-6 * time.Minute), ErrWatermark},
		"half a block":       {docKey, docData[:20], docIV, docAppID, docTime, ErrUserData},
		"nothing":            {docKey, "", docIV, docAppID, docTime, ErrUserData},
		"a short iv":         {docKey, docData, "AAAA", docAppID, docTime, ErrUserData},
		"cut at a block":     {docKey, docData[:64], docIV, docAppID, docTime, ErrSessionKey},
		"no base64":          {docKey, "?", docIV, docAppID, docTime, ErrUserData},
		"an iv of elsewhere": {docKey, docData, docKey, docAppID, docTime, ErrSessionKey},
	} {
		if plain, err := OpenUserData(c.key, c.data, c.iv, c.appid, c.now); !errors.Is(err, c.want) || plain != nil {
			t.Errorf("%s: %v %s, want %v", name, err, plain, c.want)
		}
	}
}
