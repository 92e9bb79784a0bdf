package partnersim

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client is the partner calling the gateway: every request a signed Standard Webhook.
type Client struct {
	Base    string       // the gateway's public door, http://host:port
	Partner string       // the partner's id there
	Secret  string       // whsec_...
	HTTP    *http.Client // nil = http.DefaultClient
	Clock   func() time.Time
}

// Answer of the gateway.
type Answer struct {
	ID     string // the webhook-id it was asked with
	Status int
	Header http.Header
	Body   []byte
}

// Into decodes the body.
func (a *Answer) Into(v any) error {
	if err := json.Unmarshal(a.Body, v); err != nil {
		return fmt.Errorf("HTTP %d %.200q: %w", a.Status, a.Body, err)
	}
	return nil
}

// Code of a problem answer; "" for any other.
func (a *Answer) Code() string {
	var problem struct{ Code string }
	if !strings.HasPrefix(a.Header.Get("Content-Type"), "application/problem+json") || json.Unmarshal(a.Body, &problem) != nil {
		return ""
	}
	return problem.Code
}

// Message of an answer that carries one; the zero message when there is none.
func (a *Answer) Message() Message {
	var m Message
	if json.Unmarshal(a.Body, &m) != nil {
		return Message{}
	}
	return m
}

// Message is the gateway's word about one message.
type Message struct {
	ID       string          `json:"id"`
	App      string          `json:"app"`
	OpenID   string          `json:"openid"`
	User     *string         `json:"user"`
	Channel  string          `json:"channel"`
	Template *string         `json:"template_id"`
	State    string          `json:"state"`
	MsgID    *string         `json:"msgid"`
	Errcode  *int            `json:"errcode"`
	Errmsg   *string         `json:"errmsg"`
	RID      *string         `json:"rid"`
	Attempts int             `json:"attempts"`
	Metadata json.RawMessage `json:"metadata"`
	Timeline []struct {
		At      time.Time `json:"at"`
		State   string    `json:"state"`
		Cause   string    `json:"cause"`
		Errcode *int      `json:"errcode"`
	} `json:"timeline"`
}

// NewID is a fresh webhook-id.
func NewID() string { return "req_" + rand.Text() }

// Send posts one message under a webhook-id ("" = a fresh one). The payload signed is the raw body.
func (c *Client) Send(ctx context.Context, id string, message any) (*Answer, error) {
	return c.post(ctx, id, "messages", message)
}

// SendBatch posts {"messages":[...]}.
func (c *Client) SendBatch(ctx context.Context, id string, messages []any) (*Answer, error) {
	return c.post(ctx, id, "messages/batch", map[string]any{"messages": messages})
}

func (c *Client) post(ctx context.Context, id, path string, v any) (*Answer, error) {
	body, err := encode(v)
	if err != nil {
		return nil, err
	}
	return c.Raw(ctx, id, http.MethodPost, c.target(path), body, body)
}

// Get asks for a path below /v1/partners/{partner}/, such as "messages/msg_1" or "subscriptions".
func (c *Client) Get(ctx context.Context, path string, query url.Values) (*Answer, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.Do(ctx, http.MethodGet, path, nil)
}

// Do makes any other call: the payload signed is METHOD SP target LF body. v is encoded as JSON, nil sends no body.
func (c *Client) Do(ctx context.Context, method, path string, v any) (*Answer, error) {
	var body []byte
	if v != nil {
		var err error
		if body, err = encode(v); err != nil {
			return nil, err
		}
	}
	target := c.target(path)
	return c.Raw(ctx, "", method, target, body, append([]byte(method+" "+target+"\n"), body...))
}

// Upload posts a file as it is, under its Content-Type; signed as Do signs.
func (c *Client) Upload(ctx context.Context, path, contentType string, file []byte) (*Answer, error) {
	target := c.target(path)
	req, id, err := c.Request(ctx, "", http.MethodPost, target, file, append([]byte(http.MethodPost+" "+target+"\n"), file...))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	return c.exchange(req, id)
}

func (c *Client) target(path string) string { return "/v1/partners/" + c.Partner + "/" + path }

// Raw sends a request whose signature is over payload, whatever that is. id "" = a fresh one.
func (c *Client) Raw(ctx context.Context, id, method, target string, body, payload []byte) (*Answer, error) {
	req, id, err := c.Request(ctx, id, method, target, body, payload)
	if err != nil {
		return nil, err
	}
	return c.exchange(req, id)
}

func (c *Client) exchange(req *http.Request, id string) (*Answer, error) {
	hc := c.HTTP
	if hc == nil {
		hc = http.DefaultClient
	}
	res, err := hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	return &Answer{ID: id, Status: res.StatusCode, Header: res.Header, Body: got}, nil
}

// Request is a signed request, ready to be sent or to be spoilt first.
func (c *Client) Request(ctx context.Context, id, method, target string, body, payload []byte) (*http.Request, string, error) {
	key, err := parseSecret(c.Secret)
	if err != nil {
		return nil, "", err
	}
	if id == "" {
		id = NewID()
	}
	now := time.Now
	if c.Clock != nil {
		now = c.Clock
	}
	stamp := strconv.FormatInt(now().Unix(), 10)
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.Base, "/")+target, bytes.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", stamp)
	req.Header.Set("webhook-signature", sign(key, id, stamp, payload))
	return req, id, nil
}

func encode(v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok {
		return raw, nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
