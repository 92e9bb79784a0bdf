package wechat

import (
	"context"
	"net/http"
	"net/url"
)

// Login is who a wx.login code belongs to. SessionKey never leaves the gateway.
type Login struct {
	OpenID     string
	UnionID    string // "" unless the app is bound to an Open Platform account
	SessionKey string `json:"-"`
}

// Login exchanges a wx.login code. A -1 is repeated once; the code may be consumed by then (40163).
// Errors: *APIError (40029 also for a code that cannot be one, without asking WeChat), ErrNoAnswer, ErrNotLeft,
// ErrUnknownApp.
func (c *Client) Login(ctx context.Context, app, code string) (Login, error) {
	return Login{}, ErrUnknownApp
}

// Template is one message template of the account. Keywords are the keys its content names ("thing1"), in order;
// Enums holds the allowed values of those that have a list. Type: 2 one-time, 3 long-term, 0 official account.
type Template struct {
	ID, Title, Content, Example string
	Type                        int
	Enums                       map[string][]string
	Keywords                    []string
}

// Templates lists the account's templates: gettemplate, or get_all_private_template for an official account.
func (c *Client) Templates(ctx context.Context, app string) ([]Template, error) {
	return nil, ErrUnknownApp
}

// PhoneNumber is what a getPhoneNumber code stands for. CountryCode as WeChat gives it ("86").
type PhoneNumber struct {
	PhoneNumber, PurePhoneNumber, CountryCode string
}

// Phone exchanges the code of a getPhoneNumber button. Billed per success, so nothing but a token refusal is repeated.
func (c *Client) Phone(ctx context.Context, app, code string) (PhoneNumber, error) {
	return PhoneNumber{}, ErrUnknownApp
}

// Call passes one request to WeChat with the app's token put in, and WeChat's answer back, whatever its status.
// path is below the base URL and may carry a raw query, which goes on byte for byte but for its access_token; query
// is added to it. Body and answer are not touched. A token refusal is healed and repeated once. Header: hop-by-hop
// fields and credentials meant for us are dropped. Errors: ErrNoAnswer, ErrNotLeft, ErrBody, ErrUnknownApp.
func (c *Client) Call(ctx context.Context, app, method, path string, query url.Values, header http.Header, body []byte) (status int, answerHeader http.Header, answer []byte, err error) {
	return 0, nil, nil, ErrUnknownApp
}
