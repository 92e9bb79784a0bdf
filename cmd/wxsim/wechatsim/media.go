package wechatsim

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"sync"
	"time"
)

// https://developers.weixin.qq.com/miniprogram/dev/server/API/kf-mgnt/kf-message/api_uploadtempmedia

func mediaRoutes() []route {
	return []route{
		{path: "/cgi-bin/media/upload", method: http.MethodPost, token: true, media: true, serve: (*call).uploadMedia},
		{path: "/cgi-bin/media/get", method: http.MethodGet, token: true, media: true, serve: (*call).getMedia},
	}
}

const (
	mediaLife    = 3 * 24 * time.Hour
	maxThumb     = 64 << 10
	maxImage     = 10 << 20
	mediaPartKey = "media"
)

type medium struct {
	content []byte
	ctype   string
	expires time.Time
}

// mediaShelf keeps what an app uploaded, three days.
type mediaShelf struct {
	mu   sync.Mutex
	kept map[string]medium
}

func (m *mediaShelf) has(id string, now time.Time) bool {
	_, ok := m.get(id, now)
	return ok
}

func (m *mediaShelf) get(id string, now time.Time) (medium, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	got, ok := m.kept[id]
	return got, ok && now.Before(got.expires)
}

func (m *mediaShelf) put(id string, what medium) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept == nil {
		m.kept = map[string]medium{}
	}
	m.kept[id] = what
}

func (c *call) uploadMedia() answer {
	kind := c.q.Get("type")
	limit := map[string]int{"image": maxImage, "voice": 2 << 20, "video": 10 << 20, "thumb": maxThumb}[kind]
	if limit == 0 {
		return fail(40004, "invalid media type")
	}
	content, ctype, err := c.part()
	switch {
	case err != nil:
		return fail(41005, "media data missing")
	case len(content) == 0:
		return fail(44001, "empty media data")
	case len(content) > limit:
		return fail(40006, "invalid media size")
	}
	id := c.dice.text(64)
	c.app.media.put(id, medium{content, ctype, c.memory().Add(mediaLife)})
	return answer{body: struct {
		Type    string `json:"type"`
		MediaID string `json:"media_id"`
		Created int64  `json:"created_at"`
	}{kind, id, c.at.Unix()}}
}

// part is the multipart field called media.
func (c *call) part() (content []byte, ctype string, err error) {
	c.r.Body = io.NopCloser(bytes.NewReader(c.body))
	form, err := c.r.MultipartReader()
	if err != nil {
		return nil, "", err
	}
	for {
		var p *multipart.Part
		if p, err = form.NextPart(); err != nil {
			return nil, "", err
		}
		if p.FormName() != mediaPartKey || p.FileName() == "" {
			continue
		}
		content, err = io.ReadAll(p)
		return content, p.Header.Get("Content-Type"), err
	}
}

// Media is the content of what an app uploaded, while the platform keeps it.
func (s *Sim) Media(app, id string) (content []byte, ok bool) {
	got, ok := s.mustApp(app).media.get(id, s.memory())
	return got.content, ok
}

func (c *call) getMedia() answer {
	got, ok := c.app.media.get(c.q.Get("media_id"), c.memory())
	if !ok {
		return fail(40007, "invalid media_id")
	}
	if got.ctype == "" {
		got.ctype = "application/octet-stream"
	}
	return answer{raw: got.content, ctype: got.ctype}
}
