package main

import (
	"context"
	"flag"
	"os"
	"runtime/debug"
	"sync"

	"github.com/wxrelay/wxrelay/cmd/app"
	"github.com/wxrelay/wxrelay/config"
)

var serveCommand = command{
	name: "serve", args: "-c FILE", summary: "the gateway",
	help: `
Runs until SIGTERM or SIGINT: then nothing new is taken, what is in hand is finished or given back within
shutdown_grace, and it exits 0. A second signal ends it at once.
A changed config file, or SIGHUP, is taken over while running; one with faults is refused and the old one stays.
A Redis that is away is waited for: /readyz on the admin door is red meanwhile.`,
	run: serve,
}

func serve(p *program, fs *flag.FlagSet, args []string) error {
	path := configFlag(fs)
	if _, err := parse(fs, args); err != nil {
		return err
	}
	c, err := p.load(*path, config.NotTheExample)
	if err != nil {
		return err
	}
	var hup <-chan os.Signal
	if p.hup != nil {
		hup = p.hup()
	}
	if os.Getenv("GOGC") == "" {
		// What lives is small and what passes is much: collecting at three times the live heap instead of twice takes a few
		// percent off the CPU time of a push, for some MiB.
		debug.SetGCPercent(200)
	}
	ctx, stop := context.WithCancel(p.ctx)
	defer stop()
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	return app.Run(ctx, c, app.Options{Stderr: p.stderr, Version: versionOf().Version}, func(a *app.App) {
		watching.Go(func() { watch(ctx, hup, c, a) })
	})
}

// watch reloads the config of a running gateway until ctx ends.
func watch(ctx context.Context, hup <-chan os.Signal, c *config.Config, a *app.App) {
	kick := make(chan struct{})
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				select {
				case kick <- struct{}{}:
				case <-ctx.Done():
				}
			}
		}
	}()
	config.Watch(ctx, c, config.WatchOptions{Kick: kick, Refused: a.Refuse}, func(next *config.Config) {
		if err := a.Reload(next); err != nil {
			a.Refuse(err)
		}
	})
}
