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
	Reclaims     int       // leases that lapsed, over the job's whole life: somebody died with it in hand. Never reset
	Expired      bool      // Job.Expires has passed
	Created, Now time.Time // Redis' clock; Now is when it was claimed
	State        string    // "leased"
}

// Handler works on one job. Its context ends when the process must go or the lease was lost (context.Cause is
// ErrLeaseLost). A handler that panics leaves its job as a lapsed lease would.
type Handler func(ctx context.Context, c *Claimed) Verdict

// Group says how a group of lanes is worked on by this process.
type Group struct {
	Concurrency int // jobs in hand at once, default 16
	PerLane     int // of one lane, default Concurrency; see Queue.Slots
	// Ahead is how many jobs of a lane are taken in hand before there is a slot for them. Their verdicts are committed later,
	// when their slot is in use again. A crash gives back what was done too, so it is for work that may be repeated; 0 = none.
	Ahead int
	Lease time.Duration // default Options.Lease
}

// verdictKind is what Lua is told.
type verdictKind string

const (
	giveBack  verdictKind = "g"
	done      verdictKind = "d"
	retry     verdictKind = "r"
	snooze    verdictKind = "s"
	bury      verdictKind = "b"
	parkAgain verdictKind = "p"
	lapse     verdictKind = "l" // the handler panicked
)

// Verdict is what becomes of a claimed job. The zero Verdict gives it back. A nil note keeps the note.
type Verdict struct {
	kind    verdictKind
	note    []byte
	after   time.Duration
	reason  string
	expires time.Time
	most    int
	with    *Change
	again   bool // a try of it failed, and may have put some of its jobs
}

// Done ends the job: kept for Job.Keep, or forgotten.
func Done(note []byte) Verdict { return Verdict{kind: done, note: note} }

// Retry has it again after a while; an attempt is counted.
func Retry(after time.Duration, note []byte, reason string) Verdict {
	return Verdict{kind: retry, after: after, note: note, reason: reason}
}

// Snooze has it again after a while; no attempt is counted.
func Snooze(after time.Duration, note []byte) Verdict {
	return Verdict{kind: snooze, after: after, note: note}
}

// Bury sets it aside for a human, kept for Options.BuriedKeep; an Edit to Ready replays it.
func Bury(reason string, note []byte) Verdict {
	return Verdict{kind: bury, reason: reason, note: note}
}

// ParkAgain parks it under a name; expires replaces Job.Expires unless it is zero.
func ParkAgain(name string, expires time.Time, note []byte) Verdict {
	return Verdict{kind: parkAgain, reason: name, expires: expires, note: note}
}

// AtMost bounds how many are parked under the name of ParkAgain: the one that was parked first comes to its handler as
// [Claimed.Expired].
func (v Verdict) AtMost(n int) Verdict {
	v.most = n
	return v
}

// GiveBack returns a job nothing was done about: it stands where it stood.
func GiveBack() Verdict { return Verdict{kind: giveBack} }

// With adds consequences that happen in the same script as the verdict, on the job's own shard:
//   - Once taken: they happened before, and are left out;
//   - an operation that refuses: Refused jobs are put instead of Jobs, as in Commit;
//   - a job that exists: it is left as it is;
//   - one that cannot be done (an extension fails, a key of Redis is not what it must be): the verdict is tried again, so
//     extensions name the causes of what they do and know them again. After
//     some tries it stands without them, and they are put as jobs of their own, in the same script, which try them until they
//     are done. Options.OnError is told of each try (DECISIONS.md 8);
//   - an Edit that cannot be done (ErrStale, ErrInHand, ErrNotFound): here alone the verdict does not stand. Nothing
//     happens, and the job comes again after a second, to look again and decide again. So such a verdict is only for
//     handlers that may be repeated.
func (v Verdict) With(c Change) Verdict {
	v.with = &c
	return v
}
