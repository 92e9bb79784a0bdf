package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/cmd/app"
	"github.com/wxrelay/wxrelay/relay"
)

var replayCommand = command{
	name: "replay", args: "-c FILE --partner P --endpoint E --since T [--until T] [--state buried] [--type T] [--dry-run]", summary: "sends many deliveries again",
	help: `
Sends deliveries again, under their webhook-ids: fifty a second, in the background of the running gateways, the oldest first.
Ctrl-C stops it; the same line goes on where it was.`,
	run: replay,
}

func replay(p *program, fs *flag.FlagSet, args []string) error {
	path := configFlag(fs)
	partner := fs.String("partner", "", "whose deliveries; may be left out when there is one partner")
	q := relay.ReplayRequest{}
	fs.StringVar(&q.Endpoint, "endpoint", "", "of this endpoint; empty = of all")
	fs.StringVar(&q.State, "state", "", "in this state: delivered, buried, cancelled or held; empty = all but those on their way")
	fs.StringVar(&q.Type, "type", "", "of this event type, or a prefix ending in .*")
	since, until := fs.String("since", "", "put at this time or later, RFC 3339 or a duration ago such as 2h"), fs.String("until", "", "and not later than this")
	fs.BoolVar(&q.DryRun, "dry-run", false, "only count")
	if _, err := parse(fs, args); err != nil {
		return err
	}
	for name, at := range map[string]struct {
		text string
		into **time.Time
	}{"since": {*since, &q.Since}, "until": {*until, &q.Until}} {
		if at.text == "" {
			continue
		}
		t, err := timeOrAgo(at.text)
		if err != nil {
			return usagef("-%s %q: wants a time of RFC 3339, or a duration ago such as 2h", name, at.text)
		}
		*at.into = &t
	}
	c, err := p.load(*path)
	if err != nil {
		return err
	}
	if *partner == "" && len(c.Partners) == 1 {
		*partner = c.Partners[0].ID
	}
	if *partner == "" {
		return usagef("-partner is missing")
	}
	r, end, err := app.Offline(p.ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = end() }()
	key := strings.Join([]string{q.Endpoint, q.State, q.Type, *since, *until, fmt.Sprint(q.DryRun)}, "\n")
	job, err := r.StartReplay(p.ctx, *partner, key, q)
	if errors.Is(err, relay.ErrNotFound) {
		return fmt.Errorf("no endpoint %s/%s", *partner, q.Endpoint)
	}
	if err != nil {
		return err
	}
	return p.followReplay(r, *partner, job)
}

// followReplay shows how far a replay is until it is over, or stops it when the program is interrupted.
func (p *program) followReplay(r *relay.Relay, partner string, job relay.Replay) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for job.State == "running" {
		fmt.Fprintf(p.stderr, "\r%s", bar(job.Replayed, job.Matched))
		select {
		case <-p.ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), 5*time.Second)
			defer cancel()
			stopped, err := r.StopReplay(ctx, partner, job.ID)
			if err != nil {
				return err
			}
			fmt.Fprintf(p.stderr, "\nstopped at %d of %d; the same line goes on\n", stopped.Replayed, stopped.Matched)
			return errSilent
		case <-tick.C:
		}
		var err error
		if job, err = r.Replay(p.ctx, partner, job.ID); err != nil && p.ctx.Err() == nil {
			return err
		}
		if p.ctx.Err() != nil {
			job.State = "running"
		}
	}
	fmt.Fprintf(p.stderr, "\r%s\n", bar(job.Replayed, job.Matched))
	fmt.Fprintf(p.stdout, "%s %s: %d matched, %d replayed\n", job.ID, job.State, job.Matched, job.Replayed)
	return nil
}

// bar is a progress bar of 30 characters.
func bar(done, all int) string {
	const width = 30
	filled := width
	if all > 0 {
		filled = min(width, done*width/all)
	}
	return fmt.Sprintf("[%s%s] %d/%d", strings.Repeat("#", filled), strings.Repeat(".", width-filled), done, all)
}

// timeOrAgo reads a time, or a duration before now.
func timeOrAgo(s string) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	return time.Parse(time.RFC3339, s)
}
