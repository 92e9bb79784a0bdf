package queue

import "time"

// Record is a job as it stands.
type Record struct {
	ID, Lane            string
	State               string // ready later parked leased ended buried
	Body, Note          []byte
	Version             int64
	Attempts, Reclaims  int
	Created, Due, Ended time.Time // zero where it does not apply
	Reason              string    // of the last retry or burying
	Park                string    // while parked: the name
}

// Depth counts the jobs of a lane that are in one state.
type Depth struct {
	Lane, State string
	Count       int64
	OldestAge   time.Duration // ready: since it was due; leased: 0
}
