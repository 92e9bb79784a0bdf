package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wxrelay/wxrelay/cmd/app"
	"github.com/wxrelay/wxrelay/relay"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

var endpointsCommand = command{
	name: "endpoints", args: "-c FILE [enable|disable|probe|test PARTNER/ID]", summary: "how the endpoints do; bring one back",
	help: `
Lists every endpoint, of the config and of the API, with its state and what waits for it.
  enable   ends that it is disabled or benched; -deliveries says what becomes of what was held: all, since (with -since), drop
  disable  has its deliveries wait
  probe    ends a bench at once: a test event is the probe
  test     sends a test event and says what became of it
It speaks to the gateway's Redis; the running gateways do the work. Exit 1: an endpoint is not healthy, or the test failed.`,
	run: endpoints,
}

func endpoints(p *program, fs *flag.FlagSet, args []string) error {
	path := configFlag(fs)
	plan := fs.String("deliveries", "all", "with enable: what becomes of what was held: all, since or drop")
	since := fs.String("since", "", "with enable -deliveries since: RFC 3339, of the events that are sent")
	patience := fs.Duration("timeout", time.Minute, "how long to follow a test")
	rest, err := parseWords(fs, args)
	if err != nil {
		return err
	}
	c, err := p.load(*path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, *patience)
	defer cancel()
	r, end, err := app.Offline(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = end() }()
	if len(rest) == 0 {
		return p.listEndpoints(ctx, r)
	}
	if len(rest) != 2 {
		return usagef("wants an action and PARTNER/ID, or neither")
	}
	partner, id, ok := strings.Cut(rest[1], "/")
	if !ok {
		return usagef("%q: wants PARTNER/ID, such as orders/main", rest[1])
	}
	switch rest[0] {
	case "enable":
		var from *time.Time
		if *since != "" {
			t, err := time.Parse(time.RFC3339, *since)
			if err != nil {
				return usagef("-since %q: wants a time of RFC 3339", *since)
			}
			from = &t
		}
		e, err := r.EnableEndpoint(ctx, partner, id, *plan, from)
		return p.endpointDone(rest[1], e, err)
	case "disable":
		e, err := r.DisableEndpoint(ctx, partner, id)
		return p.endpointDone(rest[1], e, err)
	case "probe":
		d, err := r.ProbeEndpoint(ctx, partner, id)
		return p.followDelivery(ctx, r, rest[1], d, err)
	case "test":
		d, err := r.TestEndpoint(ctx, partner, id)
		return p.followDelivery(ctx, r, rest[1], d, err)
	}
	return usagef("%q: one of enable, disable, probe, test", rest[0])
}

func (p *program) listEndpoints(ctx context.Context, r *relay.Relay) error {
	list, err := r.EndpointHealths(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b relay.EndpointHealth) int {
		return strings.Compare(a.Partner+"/"+a.Endpoint, b.Partner+"/"+b.Endpoint)
	})
	w := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ENDPOINT\tSTATE\tPENDING\tHELD\tOLDEST")
	healthy := true
	for _, e := range list {
		oldest := "-"
		if e.Oldest > 0 {
			oldest = e.Oldest.Round(time.Second).String()
		}
		fmt.Fprintf(w, "%s/%s\t%s\t%d\t%d\t%s\n", e.Partner, e.Endpoint, e.State, e.Pending, e.Held, oldest)
		healthy = healthy && e.State == webhook.Healthy
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !healthy {
		return errSilent
	}
	return nil
}

func (p *program) endpointDone(name string, e relay.Endpoint, err error) error {
	if errors.Is(err, relay.ErrNotFound) {
		return fmt.Errorf("no endpoint %s", name)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%s is %s; %d pending, %d held\n", name, e.State, e.Pending, e.Held)
	return nil
}

// followDelivery waits for the outcome of a test event.
func (p *program) followDelivery(ctx context.Context, r *relay.Relay, name string, d relay.Delivery, err error) error {
	if errors.Is(err, relay.ErrNotFound) {
		return fmt.Errorf("no endpoint %s", name)
	}
	if err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for d.State == relay.DeliveryPending {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the test event %s is still on its way: does a gateway run?", d.ID)
		case <-tick.C:
		}
		if d, err = r.Delivery(ctx, d.Partner, d.ID); err != nil {
			return err
		}
	}
	if len(d.Attempts) > 0 {
		a := d.Attempts[len(d.Attempts)-1]
		if a.Status != nil {
			fmt.Fprintf(p.stdout, "%s: status %d after %d ms\n", name, *a.Status, a.TookMS)
		} else {
			fmt.Fprintf(p.stdout, "%s: %s after %d ms\n", name, deref(a.Error), a.TookMS)
		}
	}
	if d.State != relay.DeliveryDelivered {
		fmt.Fprintf(p.stdout, "%s: %s %s\n", name, d.State, deref(d.Reason))
		return errSilent
	}
	return nil
}
