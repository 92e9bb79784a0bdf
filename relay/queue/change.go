package queue

import "time"

// Change is what Commit does, wholly or not at all, on one shard.
type Change struct {
	Shard      int
	Once       string        // name taken already: nothing happens, ErrTaken
	OnceFor    time.Duration // how long the name stays taken, default 24 h
	Key        *Key          // taken with the change; it holds something else: nothing happens, ErrTaken. Not for verdicts
	Behind     string        // while a job is parked under this name the operations are not asked and count as refused; the reply is Behind
	Operations []Operation   // extensions, in order; the first refusal stops the change
	Jobs       []Job         // put
	Refused    []Job         // put instead of Jobs when an operation refused
	Names      []Name
	Edit       *Edit      // steers one job that is not in hand
	ParkLimit  *ParkLimit // of the one job that Refused parks; not with a verdict
}

// Behind is the reply of a change that was refused because others wait before it.
const Behind = "behind"

// ParkLimit bounds who waits. It is looked at when Refused jobs are put, before anything is.
type ParkLimit struct {
	Set  string // the job is counted under this name, over all park names
	Most int    // so many of the crowd may be parked; with the job more: nothing happens, ErrFull
	// Key: jobs parked under the same name with the same key give way. They are due at once, with the note they were parked
	// with, and named in Result.Replaced. "" = none.
	Key string
}

// Operation asks an extension.
type Operation struct {
	Extension string
	Args      []string
}

// Key is a key of another package's, wherever it lives, that a change takes for itself: it holds Value then, for a time. One that
// holds Value already does not stand in the way: an earlier try of the same change took it, and the ids of its jobs say
// whether it happened. On a cluster, where the key may live on another node, it is taken just before the change, and a crash
// in between leaves it taken with nothing done. So whoever finds it held looks whether what it stands for is there, and if
// not names in Over what it holds: such a key is taken over.
type Key struct {
	Name, Value, Over string
	For               time.Duration
}

// Name is a small look-up kept for a time.
type Name struct {
	Name, Value string
	For         time.Duration
}

// Job is one piece of work.
type Job struct {
	ID      string        // by NewID or IDFor, of the change's shard; one that exists is ErrExists
	Lane    string        // "send:shop:high"; its group is the text before the first ':'
	Serial  string        // at most one job of this serial in hand per shard, the others wait in order; "" = none
	Due     time.Time     // zero = at once
	After   time.Duration // relative to Redis' clock; added to Due's default when Due is zero
	Holds   bool          // with Serial: it is held through Retry and Snooze too, and given up when the job ends, is buried, parked or given back
	Park    string        // not "": parked under this name until an Edit releases it
	Expires time.Time     // still waiting or parked then: handed to the handler with Claimed.Expired
	Body    []byte        // never changes, at most MaxBody; must not be modified after Commit
	Shared  *Shared       // follows Body; several jobs of a change may have the same
	Note    []byte        // the handler's own memory, at most MaxBody
	Replies bool          // the Note is the operations' replies, joined by "\n"
	Tags    []string      // listed under these, newest first
	Keep    time.Duration // readable that long after its end; 0 = forgotten at its end
	Idle    time.Duration // how long it waits for a worker once it is due, then it is forgotten; default 60 days
	Parked  []string      // put only when a job is parked under one of these names
	Drop    bool          // in a lane with Options.MaxWaiting jobs the first one gives way; else the change is ErrFull
}

// Shared is a part of a body that is kept once for all jobs that name it. A handler, Get and List see it behind the job's own.
type Shared struct {
	Name string // of the change's shard, such as a webhook-id; names what Data is, for ever
	Data []byte // at most MaxBody; must not be modified after Commit
}

// Edit steers one job that is not in hand.
type Edit struct {
	ID      string
	Version int64  // must match, -1 = any
	Note    []byte // nil = keep
	To      To
	After   time.Duration // for Later
	Lasting bool          // Job.Expires no longer holds: it was how long to wait, and the wait is over
}

// To is where an Edit takes a job.
type To int

// Where an Edit takes a job.
const (
	Stay   To = iota // only the note changes; works on ended jobs too while they are kept
	Ready            // release or replay: due now, attempts counted from 0 again
	End              // ended, as Done does
	Later            // due After from now
	Forget           // gone at once, whatever Job.Keep says
)

// Result is what a Change answered.
type Result struct {
	Err      error
	Refused  bool     // an operation refused; Refused jobs were put, nothing else
	Replies  []string // one per operation asked; on refusal the refusing one's is the last
	Replaced []string // ids of the jobs that gave way, see ParkLimit.Key
	Held     string   // with ErrTaken: what the Key holds
}
