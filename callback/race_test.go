//go:build race

package callback

// raceEnabled: the race detector is slow, and makes sync.Pool forget on purpose: allocations are counted without it.
const raceEnabled = true
