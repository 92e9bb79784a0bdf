package config

import (
	"context"
	"time"
)

// WatchOptions steers Watch.
type WatchOptions struct {
	Every   time.Duration   // between two looks; 0 = 1 s
	Kick    <-chan struct{} // load now, changed or not (SIGHUP)
	Refused func(error)     // told of a config that is not taken over, a Faults; nil = nobody
}

// Watch loads the config again whenever its file or one of its secret files has other contents, and hands it to
// apply; it returns when ctx ends. A config with faults is refused: the old one stays, until the files change again.
//
// It looks at contents, not at times or inodes, so that edits, renames and the symlink swaps of mounted Kubernetes
// secrets all count; a change is taken over once two looks in a row have seen the same, half-written files pass by.
func Watch(ctx context.Context, current *Config, o WatchOptions, apply func(*Config)) {
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Refused == nil {
		o.Refused = func(error) {}
	}
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	from := current.from
	last := from.print // what the last look saw; from.print is what was taken over or refused
	reload := func() {
		c, read, err := load(from.path, from.env, from.rules)
		if from, last = read, read.print; err != nil {
			o.Refused(err)
			return
		}
		c.from = read
		apply(c)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.Kick:
			reload()
		case <-tick.C:
			seen := fingerprint(from.files, contentNow)
			if seen != from.print && seen == last {
				reload()
			} else {
				last = seen
			}
		}
	}
}
