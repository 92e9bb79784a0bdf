package relay

import "context"

// Media is an image at WeChat, as customer service messages name it.
type Media struct {
	MediaID   string `json:"media_id"` // good for three days
	Type      string `json:"type"`
	CreatedAt int64  `json:"created_at"` // Unix seconds, as WeChat has it
}

// UploadMedia hands an image to WeChat for the app's customer service messages.
func (r *Relay) UploadMedia(ctx context.Context, partner, app, filename, contentType string, content []byte) (Media, error) {
	if _, err := r.appOf(partner, app); err != nil {
		return Media{}, err
	}
	m, err := r.wechat.Upload(ctx, app, filename, contentType, content)
	return Media{MediaID: m.ID, Type: m.Type, CreatedAt: m.CreatedAt}, err
}
