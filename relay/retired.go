package relay

import (
	"slices"
	"sync"
	"time"
)

// retired remembers which channels WeChat said are withdrawn (45103, 45109), so that a message that has no other is refused
// at once. Each process learns it by one message; now and then another one asks again.
type retired struct {
	mu    sync.Mutex
	until map[[2]string]time.Time // app, channel
}

const retiredFor = time.Hour

func (t *retired) note(app, channel string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until == nil {
		t.until = map[[2]string]time.Time{}
	}
	t.until[[2]string{app, channel}] = now.Add(retiredFor)
}

// all tells whether an app has none of these channels.
func (t *retired) all(app string, channels []string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !slices.ContainsFunc(channels, func(ch string) bool { return !now.Before(t.until[[2]string{app, ch}]) })
}
