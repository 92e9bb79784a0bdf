package wechat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Channel is a way to reach a user.
type Channel string

// The channels of the contract. template and uniform are withdrawn by WeChat (45103, 45109).
const (
	ChannelSubscribe       Channel = "subscribe"
	ChannelCustomerService Channel = "customer_service"
	ChannelOATemplate      Channel = "oa_template"
	ChannelTemplate        Channel = "template"
	ChannelUniform         Channel = "uniform"
)

var sendPaths = map[Channel]string{
	ChannelSubscribe:       "/cgi-bin/message/subscribe/send",
	ChannelCustomerService: "/cgi-bin/message/custom/send",
	ChannelOATemplate:      "/cgi-bin/message/template/send",
	ChannelTemplate:        "/cgi-bin/message/wxopen/template/send",
	ChannelUniform:         "/cgi-bin/message/wxopen/template/uniform_send",
}

// ChannelOf is the channel that a path sends by; ok is false for a path that writes to nobody.
func ChannelOf(path string) (ch Channel, ok bool) {
	for ch, p := range sendPaths {
		if p == path {
			return ch, true
		}
	}
	return "", false
}

// Receipt is WeChat's acceptance. MsgID is exact, above 2^53 too; "" where WeChat gives none (customer_service).
type Receipt struct{ MsgID string }

// Send posts one message. body is the JSON that WeChat is given, without HTML escaping. A token refusal is healed and repeated once (WeChat rejected the call, so it is safe);
// nothing else is ever repeated here. Errors: *APIError (a -1 leaves the outcome unknown), ErrNoAnswer (outcome
// unknown), ErrNotLeft (nothing was sent; *TokenError is one), ErrBody, ErrUnknownApp. Ask for ErrNotLeft first.
func (c *Client) Send(ctx context.Context, app string, ch Channel, body json.RawMessage) (r Receipt, err error) {
	k, err := c.keeper(app)
	if err != nil {
		return Receipt{}, err
	}
	path, ok := sendPaths[ch]
	if !ok {
		return Receipt{}, fmt.Errorf("%w: no channel %q", ErrBody, ch)
	}
	if !json.Valid(body) {
		return Receipt{}, fmt.Errorf("%w: it is not JSON", ErrBody)
	}
	err = k.withToken(ctx, func(ctx context.Context, token string) error {
		x := k.exchange(path, token)
		x.partial = true
		return x.do(ctx, k.c.o.Timeout, func(ctx context.Context) error {
			if err := post(ctx, sdkHost+path+tokenQuery(token), body); err != nil {
				return err
			}
			r, err = readReceipt(&x.got)
			return err
		})
	})
	return r, err
}

// post is one POST of JSON, past what the SDK's client and its options put around it: that is a fifth of what a send costs
// here.
func post(ctx context.Context, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header["Content-Type"] = jsonType
	_, err = roundTripper{}.RoundTrip(req)
	return err
}

var jsonType = []string{"application/json; charset=utf-8"}

// encode is JSON as WeChat wants it: \u0026 in the place of & is 40033 there.
func encode(body any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBody, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

var errNoVerdict = errors.New("neither errcode nor msgid in it")

// readReceipt keeps msgid as the digits that came. WeChat answers a send with errcode always; an object without
// errcode and msgid is somebody else's, and whether the send happened stays unknown.
func readReceipt(got *answer) (Receipt, error) {
	if !got.coded && got.msgID == "" {
		return Receipt{}, errNoVerdict
	}
	return Receipt{MsgID: got.msgID}, nil
}
