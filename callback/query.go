package callback

import (
	"net/url"
	"strings"
)

// Query is what the URL of a push carries. It is read from the URL alone, never from a form in the body. WeChat also
// sends openid and encrypt_type; neither is covered by a signature and neither is used here.
type Query struct {
	Signature    string
	MsgSignature string
	Timestamp    string // Unix seconds
	Nonce        string
	EchoStr      string // GET only
}

// signed says whether the request claims any signature.
func (q *Query) signed() bool { return q.Signature != "" || q.MsgSignature != "" }

// ParseQuery reads a raw query (without its ?). The first of several equal names counts, as with url.Values.Get.
func ParseQuery(raw string) Query {
	var q Query
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		name, value, _ := strings.Cut(pair, "=")
		var to *string
		switch name {
		case "signature":
			to = &q.Signature
		case "msg_signature":
			to = &q.MsgSignature
		case "timestamp":
			to = &q.Timestamp
		case "nonce":
			to = &q.Nonce
		case "echostr":
			to = &q.EchoStr
		default:
			continue
		}
		if *to == "" {
			*to = plainValue(value)
		}
	}
	return q
}

// plainValue undoes percent-encoding; a value that is not proper is none.
func plainValue(v string) string {
	if !strings.ContainsAny(v, "%+") {
		return v
	}
	out, err := url.QueryUnescape(v)
	if err != nil {
		return ""
	}
	return out
}
