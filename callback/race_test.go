//go:build race

package callback

// raceEnabled: the race detector makes sync.Pool forget on purpose, so allocations are counted without it.
const raceEnabled = true
