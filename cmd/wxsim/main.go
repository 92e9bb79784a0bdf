// Command wxsim owns the world in a box: a simulated WeChat, one partner, an in-process Redis and the real gateway, in
// one process on loopback. It plays a guided tour through all of it, says every step in words and checks each against
// what the simulators really saw, and then stays up to be played with.
//
// Exit codes: 0 fine, 1 a step of the tour failed, 2 wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// options is what the command line asks for.
type options struct {
	once  bool
	quiet bool
	calm  bool
	seed  uint64
	addr  string

	callback string // of somebody's own gateway, in the place of ours
	hook     string // somebody's own receiver, told beside the simulated partner
	secret   string // what the hook is signed with
}

const usage = `wxsim: the world in a box. A simulated WeChat, one partner, an in-process Redis and the real gateway, on loopback.

  go run ./cmd/wxsim            plays the tour and stays up
  go run ./cmd/wxsim -once      plays the tour and ends: exit 0, or 1 when a step failed

`

const defaultAddr = "127.0.0.1:8080"

func parse(args []string, stderr io.Writer) (options, error) {
	var w options
	fs := flag.NewFlagSet("wxsim", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprint(stderr, usage)
		fs.PrintDefaults()
	}
	fs.BoolVar(&w.once, "once", false, "end after the tour")
	fs.BoolVar(&w.quiet, "quiet", false, "say only what went wrong, and the addresses when staying up")
	fs.BoolVar(&w.calm, "calm", false, "a WeChat without moods")
	fs.Uint64Var(&w.seed, "seed", 0, "of everything random, to have the same day again (default: a new one)")
	fs.StringVar(&w.addr, "addr", "", "the gateway's public `host:port`; the other doors take the ports after it, port 0 takes free ones\n"+
		"(default "+defaultAddr+", free ports with -once); one that is taken is an error")
	fs.StringVar(&w.callback, "callback", "", "the callback `URL` of your own gateway: WeChat pushes there, and ours is not started")
	fs.StringVar(&w.hook, "hook", "", "the `URL` of your own receiver of webhooks: it is told what the simulated partner is told")
	fs.StringVar(&w.secret, "secret", "", "the `whsec_...` that -hook is signed with")
	if err := fs.Parse(args); err != nil {
		return w, err
	}
	if fs.NArg() > 0 {
		return w, fmt.Errorf("wxsim takes no arguments, not %q", fs.Args())
	}
	if err := w.own(); err != nil {
		return w, err
	}
	if w.seed == 0 {
		w.seed = 1 + rand.Uint64N(1_000_000)
	}
	if w.addr == "" {
		w.addr = defaultAddr
		if w.once {
			w.addr = "127.0.0.1:0"
		}
	}
	return w, nil
}

// own checks what is said of somebody's own gateway and receiver.
func (w options) own() error {
	for name, raw := range map[string]string{"callback": w.callback, "hook": w.hook} {
		if u, err := url.Parse(raw); raw != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "") {
			return fmt.Errorf("-%s: not a URL such as http://127.0.0.1:3000/%s", name, name)
		}
	}
	switch {
	case w.callback != "" && w.hook != "":
		return errors.New("-callback is for your own gateway, -hook for ours: not both")
	case (w.hook == "") != (w.secret == ""):
		return errors.New("-hook and -secret come together")
	}
	if w.secret != "" {
		if _, err := partnersim.New(partnersim.Options{Secrets: []string{w.secret}}); err != nil {
			return errors.New("-secret: wants whsec_ and base64 behind it")
		}
	}
	return nil
}

// tourLimit is how long a whole tour may take: an app that had to rest half a minute because of WeChat's mood still ends well.
const tourLimit = 3 * time.Minute

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	w, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, err)
		return 2
	}
	b, err := open(ctx, w)
	if err != nil {
		fmt.Fprintln(stderr, "wxsim:", err)
		return 1
	}
	code := 0
	v := &voice{out: stdout, quiet: w.quiet}
	b.introduce(v)
	begin := play
	if w.callback != "" {
		begin = knock
	}
	if err := begin(ctx, b, v); err != nil {
		code = 1
		if ctx.Err() == nil {
			fmt.Fprintf(stderr, "\nwxsim: it failed with seed %d: %v\n", w.seed, err)
			b.explain(stderr)
		}
	}
	if !w.once && ctx.Err() == nil {
		b.invite(&voice{out: stdout})
		select {
		case <-ctx.Done():
		case err := <-b.failed():
			fmt.Fprintln(stderr, "wxsim: the gateway ended:", err)
			code = 1
		}
		v.say("\nGood bye.")
	}
	if err := b.close(); err != nil {
		fmt.Fprintln(stderr, "wxsim: closing:", err)
		code = 1
	}
	return code
}

// voice says the tour in words.
type voice struct {
	out   io.Writer
	quiet bool
}

func (v *voice) say(format string, a ...any) {
	if !v.quiet {
		fmt.Fprintf(v.out, format+"\n", a...)
	}
}
