package queue

import (
	"context"
	"time"
)

// Claimed is a job in a handler's hand.
type Claimed struct {
	ID, Lane     string
	Body, Note   []byte
	Version      int64
	Attempts     int       // Retry verdicts so far
	Reclaims     int       // leases that lapsed, over the job's whole life: a worker died with it in hand
	Expired      bool      // Job.Expires has passed
	Created, Now time.Time // Redis' clock
	State        string
}

// Handler works on one job. Its context ends when the process must go.
type Handler func(ctx context.Context, c *Claimed) Verdict

// Group says how a group of lanes is worked on by this process.
type Group struct {
	Concurrency int           // jobs in hand at once, default 16
	PerLane     int           // of one lane, default Concurrency
	Lease       time.Duration // default Options.Lease
}

type verdictKind int

const (
	giveBack verdictKind = iota
	done
	retry
	snooze
	bury
	parkAgain
)

// Verdict is what becomes of a claimed job.
type Verdict struct {
	kind    verdictKind
	note    []byte
	after   time.Duration
	reason  string
	expires time.Time
	with    *Change
}

// Done ends the job.
func Done(note []byte) Verdict { return Verdict{kind: done, note: note} }

// Retry has it again after a while; an attempt is counted.
func Retry(after time.Duration, note []byte, reason string) Verdict {
	return Verdict{kind: retry, after: after, note: note, reason: reason}
}

// Snooze has it again after a while; no attempt is counted.
func Snooze(after time.Duration, note []byte) Verdict {
	return Verdict{kind: snooze, after: after, note: note}
}

// Bury sets it aside for a human; an Edit to Ready replays it.
func Bury(reason string, note []byte) Verdict {
	return Verdict{kind: bury, reason: reason, note: note}
}

// ParkAgain parks it under a name; zero expires = never.
func ParkAgain(name string, expires time.Time, note []byte) Verdict {
	return Verdict{kind: parkAgain, reason: name, expires: expires, note: note}
}

// GiveBack returns a job nothing was done about: it stands where it stood.
func GiveBack() Verdict { return Verdict{kind: giveBack} }

// With adds consequences that happen together with the verdict, on the job's own shard.
func (v Verdict) With(c Change) Verdict { v.with = &c; return v }
