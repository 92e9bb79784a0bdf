package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

var healthCommand = command{
	name: "health", args: "-c FILE [-ready]", summary: "whether the gateway on this machine is alive, or ready",
	help: `
Asks /healthz at the config's admin.listen, or /readyz with -ready: for containers without a shell.
Exit 0: it is. 1: it is not, or does not answer; what it said is printed. 2: the config is wrong.`,
	run: health,
}

func health(p *program, fs *flag.FlagSet, args []string) error {
	path := configFlag(fs)
	ready := fs.Bool("ready", false, "ready for requests: Redis is there and the queue turns")
	patience := fs.Duration("timeout", 3*time.Second, "how long to wait for an answer")
	if _, err := parse(fs, args); err != nil {
		return err
	}
	c, err := p.load(*path)
	if err != nil {
		return err
	}
	target := "http://" + reachable(c.Admin.Listen) + "/healthz"
	if *ready {
		target = strings.TrimSuffix(target, "/healthz") + "/readyz"
	}
	req, err := http.NewRequestWithContext(p.ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	resp, err := client(*patience).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, strings.TrimSpace(string(answer)))
	if resp.StatusCode != http.StatusOK {
		return errSilent
	}
	return nil
}
