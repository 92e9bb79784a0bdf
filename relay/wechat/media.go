package wechat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"time"
)

const pathUpload = "/cgi-bin/media/upload"

// Media is a file that WeChat keeps for three days, under an id that customer service messages name.
type Media struct {
	ID        string
	Type      string
	CreatedAt int64 // Unix seconds, WeChat's clock
}

var errNoMedia = errors.New("no media_id in it")

// Upload gives WeChat an image, as the multipart field `media`. An upload that got no answer may have been kept, which harms
// nobody; only a token refusal is repeated. Errors: *APIError (40005 not an image, 40006 or 45001 too large), ErrNoAnswer,
// ErrNotLeft, ErrBody, ErrUnknownApp.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/kf-mgnt/kf-message/api_uploadtempmedia
func (c *Client) Upload(ctx context.Context, app, filename, contentType string, content []byte) (m Media, err error) {
	k, err := c.keeper(app)
	if err != nil {
		return Media{}, err
	}
	if int64(len(content)) > c.o.BodyLimit {
		return Media{}, fmt.Errorf("%w: the file has %d bytes, at most %d", ErrBody, len(content), c.o.BodyLimit)
	}
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {fmt.Sprintf(`form-data; name="media"; filename=%q`, filename)}, "Content-Type": {contentType}})
	if err == nil {
		_, err = part.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return Media{}, fmt.Errorf("%w: %w", ErrBody, err)
	}
	err = k.withToken(ctx, func(ctx context.Context, token string) error {
		x := k.exchange(pathUpload, token)
		return x.do(ctx, max(c.o.Timeout, 30*time.Second), func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, sdkHost+pathUpload+tokenQuery(token)+"&type=image", bytes.NewReader(form.Bytes()))
			if err != nil {
				return err
			}
			req.Header.Set("Content-Type", w.FormDataContentType())
			if _, err := (roundTripper{}).RoundTrip(req); err != nil {
				return err
			}
			m, err = readMedia(&x.got)
			return err
		})
	})
	return m, err
}

func readMedia(got *answer) (Media, error) {
	var a struct {
		ID      looseText `json:"media_id"`
		Type    looseText `json:"type"`
		Created looseInt  `json:"created_at"` // a number; a string in older texts
	}
	if err := got.into(&a); err != nil {
		return Media{}, err
	}
	if a.ID == "" {
		return Media{}, errNoMedia
	}
	return Media{ID: string(a.ID), Type: string(a.Type), CreatedAt: int64(a.Created)}, nil
}
