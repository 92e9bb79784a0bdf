package main

import (
	"context"
	"fmt"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

// knockLimit is how long somebody's own gateway may take to be up, and then to answer.
const knockLimit = 60 * time.Second

// knock tries somebody's own gateway as WeChat would: its callback URL is verified until it is up, and one popup event
// is pushed until it is taken.
func knock(ctx context.Context, b *box, v *voice) error {
	ctx, cancel := context.WithTimeout(ctx, knockLimit)
	defer cancel()
	v.say("\nYour gateway\n\n 1. WeChat verifies the callback URL (GET with echostr).")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		err := b.sim.VerifyCallback(ctx, appName)
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the callback URL was not verified: %w", err)
		case <-tick.C:
		}
	}
	v.say("      it is verified\n 2. Ann taps \"allow\", and WeChat pushes the popup event.")
	ann := b.sim.User(appName, person)
	b.sim.Accept(ann, b.mini.Templates[0].ID)
	ended := func() bool {
		for _, p := range b.sim.Pushes() {
			if p.OpenID == ann && p.Result != "" && p.Result != wechatsim.Pending {
				return true
			}
		}
		return false
	}
	if err := b.sim.Await(ctx, ended); err != nil {
		return fmt.Errorf("the push did not end: %w", err)
	}
	for _, p := range b.sim.Pushes() {
		if p.OpenID == ann && p.Result != wechatsim.Taken {
			return fmt.Errorf("the push was %s: %+v", p.Result, p.Deliveries)
		}
	}
	v.say("      it was taken")
	return nil
}
