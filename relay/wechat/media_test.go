package wechat

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// A file goes as the multipart field WeChat wants, with the app's token, healed once; what comes back is read exactly.
func TestUpload(t *testing.T) {
	eachRedis(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFake()
		content := "\x89PNG\r\n--boundary\r\n" + strings.Repeat("\x00", 1000)
		type sent struct{ kind, field, name, ctype, content string }
		var got []sent
		f.answer[pathUpload] = func(w http.ResponseWriter, r *http.Request) {
			form, err := r.MultipartReader()
			if err != nil {
				t.Error(err)
				return
			}
			p, err := form.NextPart()
			if err != nil {
				t.Error(err)
				return
			}
			body, err := io.ReadAll(p)
			if err != nil {
				t.Error(err)
			}
			got = append(got, sent{r.URL.Query().Get("type"), p.FormName(), p.FileName(), p.Header.Get("Content-Type"), string(body)})
			reply(w, `{"type":"image","media_id":"M-1","created_at":1709294400}`)
		}
		c := newTestClient(t, rdb, serveFake(t, f))
		f.kill(mustToken(t, c).Value, true)
		m, err := c.Upload(t.Context(), "shop", "image.png", "image/png", []byte(content))
		if err != nil || m != (Media{"M-1", "image", 1709294400}) {
			t.Fatalf("%+v %v", m, err)
		}
		if diff := cmp.Diff([]sent{{"image", "media", "image.png", "image/png", content}}, got, cmp.AllowUnexported(sent{})); diff != "" {
			t.Error(diff)
		}
		for answer, want := range map[string]error{
			`{"errcode":40006,"errmsg":"invalid media size"}`: nil,
			`{"errcode":0,"errmsg":"ok"}`:                     ErrNoAnswer,
			`<html>`:                                          ErrNoAnswer,
		} {
			f.with(func(f *fake) {
				f.answer[pathUpload] = func(w http.ResponseWriter, _ *http.Request) { reply(w, answer) }
			})
			_, err := c.Upload(t.Context(), "shop", "image.png", "image/png", []byte(content))
			var api *APIError
			if want == nil && (!errors.As(err, &api) || api.Code != 40006) || want != nil && !errors.Is(err, want) {
				t.Errorf("%s: %v", answer, err)
			}
		}
		if _, err := c.Upload(t.Context(), "shop", "image.png", "image/png", make([]byte, 13<<20)); !errors.Is(err, ErrBody) {
			t.Errorf("too large: %v", err)
		}
	})
}
