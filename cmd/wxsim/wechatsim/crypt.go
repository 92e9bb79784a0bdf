package wechatsim

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
)

// WXBizMsgCrypt, written from the documents: AES-256-CBC with IV = key[:16], PKCS#7 over 32 bytes, plain text =
// 16 random bytes, length as big-endian uint32, message, appid.
// https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html

const cryptBlock = 32

// aesKey decodes the 43 characters of the settings page. The last one may carry bits beyond 256; they are ignored.
func aesKey(text string) ([]byte, error) {
	if len(text) != 43 {
		return nil, fmt.Errorf("EncodingAESKey has %d characters, 43 are needed", len(text))
	}
	key, err := base64.StdEncoding.DecodeString(text + "=")
	if err != nil {
		return nil, fmt.Errorf("EncodingAESKey: %w", err)
	}
	return key, nil
}

// encrypt makes the ciphertext of a message for an app. random must be 16 bytes.
func encrypt(key, random, msg []byte, appid string) string {
	plain := make([]byte, 0, 20+len(msg)+len(appid)+cryptBlock)
	plain = append(plain, random...)
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(msg)))
	plain = append(plain, msg...)
	plain = append(plain, appid...)
	pad := cryptBlock - len(plain)%cryptBlock
	plain = append(plain, bytes.Repeat([]byte{byte(pad)}, pad)...)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // the key was 32 bytes when the app was made
	}
	cipher.NewCBCEncrypter(block, key[:aes.BlockSize]).CryptBlocks(plain, plain)
	return base64.StdEncoding.EncodeToString(plain)
}

var errCiphertext = errors.New("the ciphertext does not open")

// decrypt opens what encrypt made and says for which appid it was.
func decrypt(key []byte, encrypted string) (msg []byte, appid string, err error) {
	text, err := base64.StdEncoding.DecodeString(encrypted)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errCiphertext, err)
	}
	if len(text) < cryptBlock || len(text)%cryptBlock != 0 {
		return nil, "", fmt.Errorf("%w: %d bytes", errCiphertext, len(text))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, "", err
	}
	cipher.NewCBCDecrypter(block, key[:aes.BlockSize]).CryptBlocks(text, text)
	pad := int(text[len(text)-1])
	if pad < 1 || pad > cryptBlock || !bytes.Equal(text[len(text)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, "", fmt.Errorf("%w: padding", errCiphertext)
	}
	text = text[:len(text)-pad]
	if len(text) < 20 {
		return nil, "", fmt.Errorf("%w: too short", errCiphertext)
	}
	n := int64(binary.BigEndian.Uint32(text[16:20]))
	if n > int64(len(text)-20) {
		return nil, "", fmt.Errorf("%w: length", errCiphertext)
	}
	return text[20 : 20+n], string(text[20+n:]), nil
}

// signature is the hex SHA-1 of its parts sorted bytewise and joined: (token, timestamp, nonce) or those and Encrypt.
func signature(parts ...string) string {
	sorted := append([]string(nil), parts...)
	sort.Strings(sorted)
	h := sha1.New()
	for _, p := range sorted {
		h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sameText(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
