package gateway

import (
	"sync"
	"time"
)

// How often an address may give a wrong password, and how many addresses are remembered.
const (
	guessesAllowed = 10
	guessesWindow  = time.Minute
	guessesLogged  = 10 // the first is told, and every tenth
	maxGuessers    = 4096
)

// Guesses counts wrong passwords by address. The zero value is ready. Its memory is bounded (maxGuessers).
type Guesses struct {
	mu   sync.Mutex
	from map[string]*guesser
}

type guesser struct {
	began time.Time // of the window
	wrong int       // in it
	total int       // since the address is remembered
}

// try looks at a password by right, unless the address has to wait first; wrong is how many were wrong so far, 0 when
// this one was not. One address is tried one password at a time: many at once do not pass before the first is counted.
func (g *Guesses) try(address string, now time.Time, right func() bool) (wait time.Duration, wrong int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	have := g.from[address]
	if have != nil && now.Sub(have.began) >= guessesWindow {
		have.began, have.wrong = now, 0
	}
	if have != nil && have.wrong >= guessesAllowed {
		return have.began.Add(guessesWindow).Sub(now), 0
	}
	if right() {
		return 0, 0
	}
	if have == nil {
		have = g.remember(address, now)
	}
	have.wrong++
	have.total++
	return 0, have.total
}

// remember begins an address's window.
func (g *Guesses) remember(address string, now time.Time) *guesser {
	if g.from == nil {
		g.from = map[string]*guesser{}
	}
	if len(g.from) >= maxGuessers {
		g.forget(now)
	}
	g.from[address] = &guesser{began: now}
	return g.from[address]
}

// forget drops the addresses whose window is over; in a flood of addresses then any, down to three quarters, so that
// each newcomer costs little time.
func (g *Guesses) forget(now time.Time) {
	for address, have := range g.from {
		if now.Sub(have.began) >= guessesWindow {
			delete(g.from, address)
		}
	}
	for address := range g.from {
		if len(g.from) <= maxGuessers*3/4 {
			return
		}
		delete(g.from, address)
	}
}
