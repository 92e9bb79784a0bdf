package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/cmd/app"
	"github.com/wxrelay/wxrelay/config"
)

var benchCommand = command{
	name: "bench", args: "[-duration 5s] [-n N] [-conns 64] [-redis URL] | -c FILE --app APP [--to URL]",
	summary: "the load test, against a bare net/http handler in the same run",
	help: `
Without -c a gateway of its own is started in this process on loopback, with an embedded Redis (or -redis, an empty
database or one that bench has filled before) and a stand-in for WeChat's API; measured are pushes taken in and messages accepted from a partner.
With -c pushes go to a gateway that is already running, on this machine only: they move its ledger and are told to
partners, for invented users.
The ratio compares with a handler that reads the same requests and does nothing; load, handler and gateway share the
machine's cores.`,
	run: bench,
}

// benchResult is the table.
type benchResult struct {
	Go    string     `json:"go"`
	CPUs  int        `json:"cpus"`
	Conns int        `json:"conns"`
	Redis string     `json:"redis"`
	Steps []measured `json:"steps"`
}

func bench(p *program, fs *flag.FlagSet, args []string) error {
	path := fs.String("c", "", "measure the running gateway of this config `file`")
	name := fs.String("app", "", "with -c: the app's `id`")
	to := fs.String("to", "", "with -c: the callback `URL` (default: this machine, at the config's listen)")
	store := fs.String("redis", "embedded://", "without -c: the store of the gateway to start")
	duration := fs.Duration("duration", 5*time.Second, "of each step")
	most := fs.Int("n", 0, "requests of each step at most (0 = as many as fit)")
	conns := fs.Int("conns", 64, "connections")
	asJSON := fs.Bool("json", false, "print the result as JSON")
	if _, err := parse(fs, args); err != nil {
		return err
	}
	if *duration <= 0 || *most < 0 || *conns < 1 {
		return usagef("-duration, -n and -conns want positive numbers")
	}
	out := benchResult{Go: runtime.Version(), CPUs: runtime.GOMAXPROCS(0), Conns: *conns}
	each := load{conns: *conns, duration: *duration, most: *most}
	if !*asJSON && isTerminal(p.stderr) {
		each.progress = p.bar
	}
	var err error
	if *path != "" {
		err = p.benchRunning(each, &out, *path, *name, *to)
	} else {
		err = p.benchOwn(each, &out, *store)
	}
	if err != nil {
		return err
	}
	if *asJSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(out)
	}
	p.table(out)
	if strings.HasPrefix(out.Redis, "embedded://") {
		fmt.Fprintln(p.stdout, "\nThe embedded Redis is for trying things out and slow; -redis unix:///path or redis://host measures what you will run.")
	}
	return nil
}

// benchRunning measures the pushes of a gateway that is already there.
func (p *program) benchRunning(each load, out *benchResult, path, name, to string) error {
	c, err := p.load(path)
	if err != nil {
		return err
	}
	a, err := appNamed(c, name)
	if err != nil {
		return err
	}
	target := "http://" + reachable(c.Listen) + "/callback/" + a.ID
	if to != "" {
		target = to
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" || !config.Loopback(hostPort(target)) {
		return usagef("-to: http://127.0.0.1:PORT/callback/APP; another machine is not put under load")
	}
	out.Redis = c.Redis.URL.String()
	return p.against(out, each, "pushes", hostPort(target), http.StatusOK, pushRequests(app.CallbackApp(*a), u.Path))
}

// benchOwn measures a gateway of its own.
func (p *program) benchOwn(each load, out *benchResult, store string) error {
	platform, err := listenAndServe(standIn())
	if err != nil {
		return err
	}
	defer platform.Close()
	c, err := benchConfig(store, "http://"+platform.addr)
	if err != nil {
		return err
	}
	out.Redis = c.Redis.URL.String()
	if err := ownDatabase(p.ctx, c); err != nil {
		return err
	}
	a, err := app.Start(p.ctx, c, app.Options{Stderr: io.Discard, Version: versionOf().Version})
	if err != nil {
		return err
	}
	defer func() { _ = a.Close(context.Background()) }()
	select {
	case <-a.Ready():
	case err := <-a.Failed():
		return err
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-time.After(10 * time.Second):
		return fmt.Errorf("no Redis at %s", c.Redis.URL)
	}
	if err := p.against(out, each, "pushes", a.PublicAddr(), http.StatusOK, pushRequests(app.CallbackApp(c.Apps[0]), "/callback/"+c.Apps[0].ID)); err != nil {
		return err
	}
	send, err := sendRequests(c)
	if err != nil {
		return err
	}
	return p.against(out, each, "sends", a.PublicAddr(), http.StatusAccepted, send)
}

// benchMark stands in a database that bench may fill.
const benchMark = "wx:bench"

// ownDatabase refuses a database with somebody else's keys: what a load test leaves in the queue would be worked on by
// the gateway that lives there.
func ownDatabase(ctx context.Context, c *config.Config) error {
	if app.Embedded(c.Redis.URL) {
		return nil
	}
	rdb, closing, err := app.OpenRedis(c.Redis.URL)
	if err != nil {
		return err
	}
	defer func() { _ = closing() }()
	keys, err := rdb.DBSize(ctx).Result()
	if err != nil {
		return fmt.Errorf("-redis: %w", err)
	}
	if keys > 0 && rdb.Exists(ctx, benchMark).Val() == 0 {
		return fmt.Errorf("-redis %s has %d keys that are not a load test's; give it an empty database, such as redis://host/15", c.Redis.URL, keys)
	}
	return rdb.Set(ctx, benchMark, 1, 24*time.Hour).Err()
}

// against runs the same requests at a handler that only reads them, then at the gateway.
func (p *program) against(out *benchResult, each load, name, addr string, want int, request func(int) ([]byte, error)) error {
	bare, err := listenAndServe(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(want)
		_, _ = io.WriteString(w, "success")
	}))
	if err != nil {
		return err
	}
	defer bare.Close()
	each.want, each.request = want, request
	each.name, each.addr = name+", bare handler", bare.addr
	base, err := each.run(p.ctx)
	if err != nil {
		return err
	}
	each.name, each.addr = name+", wxrelay", addr
	ours, err := each.run(p.ctx)
	if err != nil {
		return err
	}
	base.Ratio, ours.Ratio = 1, ours.PerSecond/base.PerSecond
	out.Steps = append(out.Steps, base, ours)
	return nil
}

func (p *program) table(r benchResult) {
	fmt.Fprintf(p.stdout, "%s, %d CPUs, %d connections, %s\n\n%-24s %10s %8s %10s %10s %10s %8s\n", r.Go, r.CPUs, r.Conns, r.Redis,
		"", "requests", "refused", "/s", "p50", "p99", "ratio")
	for _, s := range r.Steps {
		fmt.Fprintf(p.stdout, "%-24s %10d %8d %10.0f %10s %10s %8.2f\n", s.Name, s.Requests, s.Refused, s.PerSecond,
			s.P50.Round(10*time.Microsecond), s.P99.Round(10*time.Microsecond), s.Ratio)
	}
}

func (p *program) bar(name string, share float64) {
	const width = 30
	full := int(share * width)
	fmt.Fprintf(p.stderr, "\r%-24s [%s%s] %3.0f%%", name, strings.Repeat("#", full), strings.Repeat(".", width-full), share*100)
	if share >= 1 {
		fmt.Fprintln(p.stderr)
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	s, err := f.Stat()
	return err == nil && s.Mode()&os.ModeCharDevice != 0
}

// server is a handler on a loopback port.
type server struct {
	*http.Server
	addr string
}

func listenAndServe(h http.Handler) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{Server: &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}, addr: l.Addr().String()}
	go func() { _ = s.Serve(l) }()
	return s, nil
}
