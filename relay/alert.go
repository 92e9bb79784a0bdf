package relay

import (
	"sync"
	"time"
)

// alerts remembers what an app's operator was told, so that a fault that every message meets is told once.
type alerts struct {
	mu   sync.Mutex
	told map[alertKey]time.Time
}

type alertKey struct {
	app  string
	code int
}

// first tells whether this fault of this app was not told within alertSilence.
func (a *alerts) first(app string, code int, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := alertKey{app, code}
	if at, ok := a.told[k]; ok && now.Sub(at) < alertSilence {
		return false
	}
	if a.told == nil {
		a.told = map[alertKey]time.Time{}
	}
	a.told[k] = now
	return true
}
