// Command wxrelay is the product: the gateway (serve), its doctor (check), and small tools around a config.
//
// This package owns the command line: names, flags, help, exit codes. 0 = fine, 1 = it failed, 2 = wrong usage or config.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/wxrelay/wxrelay/cmd/app"
	"github.com/wxrelay/wxrelay/config"
)

// Exit codes.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends us at once
	}()
	p := &program{ctx: ctx, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Environ(), hup: hangups}
	os.Exit(p.run(os.Args[1:]))
}

// program is one invocation and the world it sees.
type program struct {
	ctx            context.Context
	stdout, stderr io.Writer
	stdin          io.Reader               // nil = none
	env            []string                // os.Environ form
	hup            func() <-chan os.Signal // asked by serve: elsewhere SIGHUP ends the program as usual; nil = there is none
}

// input is standard input; an empty one where there is none.
func (p *program) input() io.Reader {
	if p.stdin == nil {
		return strings.NewReader("")
	}
	return p.stdin
}

// hangups gives SIGHUPs from now on.
func hangups() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c
}

// command is one subcommand. Its run returns nil, a usageError, config.Faults, errSilent or any other error.
type command struct {
	name, args, summary string
	help                string // what the flags do not say
	run                 func(p *program, fs *flag.FlagSet, args []string) error
}

func commands() []command {
	return []command{serveCommand, checkCommand, configCommand, keygenCommand, pushCommand, sendCommand, explainCommand,
		signCommand, verifyCommand, healthCommand, endpointsCommand, replayCommand, benchCommand, versionCommand}
}

// usageError is a command line that cannot be meant.
type usageError struct{ reason string }

func (e usageError) Error() string { return e.reason }

func usagef(format string, a ...any) error { return usageError{fmt.Sprintf(format, a...)} }

// errSilent fails without another word: everything has been said.
var errSilent = errors.New("failed")

// run carries out one command line and gives its exit code.
func (p *program) run(args []string) int {
	args = commandFirst(args)
	if len(args) == 0 {
		p.usage(p.stderr)
		return exitUsage
	}
	switch args[0] {
	case "-h", "-help", "--help", "help":
		if len(args) > 1 && args[0] == "help" {
			return p.run([]string{args[1], "-h"})
		}
		p.usage(p.stdout)
		return exitFine
	case "-version", "--version":
		args = append([]string{"version"}, args[1:]...)
	}
	for _, c := range commands() {
		if c.name == args[0] {
			fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
			fs.SetOutput(io.Discard) // parse says what is wrong
			fs.Usage = func() {}     // help says it when it is asked for
			err := c.run(p, fs, args[1:])
			if errors.Is(err, flag.ErrHelp) {
				p.help(c, fs)
			}
			return p.outcome(c, err)
		}
	}
	fmt.Fprintf(p.stderr, "wxrelay: unknown command %q; wxrelay help lists them\n", args[0])
	return exitUsage
}

// commandFirst lets flags stand before the command: "-c file serve" is "serve -c file".
func commandFirst(args []string) []string {
	if len(args) == 0 || !strings.HasPrefix(args[0], "-") {
		return args
	}
	for i, a := range args {
		for _, c := range commands() {
			if a == c.name {
				return append(append([]string{a}, args[:i]...), args[i+1:]...)
			}
		}
	}
	return args
}

// outcome says what went wrong, once, and gives the exit code.
func (p *program) outcome(c command, err error) int {
	var usage usageError
	var faults config.Faults
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitFine
	case errors.Is(err, errSilent):
		return exitFailed
	case errors.As(err, &usage):
		fmt.Fprintf(p.stderr, "wxrelay %s: %s\nwxrelay help %s says how it is used.\n", c.name, usage.reason, c.name)
		return exitUsage
	case errors.As(err, &faults):
		fmt.Fprintln(p.stderr, faults.Error())
		return exitUsage
	}
	fmt.Fprintf(p.stderr, "wxrelay %s: %v\n", c.name, err)
	return exitFailed
}

func (p *program) usage(w io.Writer) {
	fmt.Fprint(w, "wxrelay relays signed messages between WeChat, mini-programs and your systems.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  wxrelay %-10s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\nwxrelay help COMMAND says more. Start with: wxrelay config example > wxrelay.yml\n"+
		"Exit codes: 0 fine, 1 it failed, 2 wrong usage or config.\n")
}

// help prints one command's manual; its flags are known once its run has asked for them.
func (p *program) help(c command, fs *flag.FlagSet) {
	fmt.Fprintf(p.stdout, "usage: wxrelay %s %s\n\n%s.\n", c.name, c.args, c.summary)
	if c.help != "" {
		fmt.Fprintf(p.stdout, "\n%s\n", strings.TrimSpace(c.help))
	}
	any := false
	fs.VisitAll(func(*flag.Flag) { any = true })
	if any {
		fmt.Fprintln(p.stdout)
		fs.SetOutput(p.stdout)
		fs.PrintDefaults()
	}
}

// parse reads flags wherever they stand, -x and --x alike, and gives what is left, which must be as many words as names.
func parse(fs *flag.FlagSet, args []string, names ...string) ([]string, error) {
	words, err := parseWords(fs, args)
	if err != nil {
		return nil, err
	}
	switch {
	case len(words) > len(names):
		return nil, usagef("unexpected %q", words[len(names)])
	case len(words) < len(names):
		return nil, usagef("%s is missing", names[len(words)])
	}
	return words, nil
}

// configFlag adds -c.
func configFlag(fs *flag.FlagSet) *string {
	return fs.String("c", "wxrelay.yml", "the config `file`")
}

// load reads the config; its error is config.Faults.
func (p *program) load(path string, rules ...config.Rule) (*config.Config, error) {
	return app.Load(path, p.env, rules...)
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ", ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// parseWords reads flags and the words between and behind them.
func parseWords(fs *flag.FlagSet, args []string) ([]string, error) {
	var words []string
	for len(args) > 0 {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, usageError{err.Error()}
		}
		if rest := fs.Args(); len(rest) < len(args) && args[len(args)-len(rest)-1] == "--" { // only words from here on
			words = append(words, rest...)
			break
		}
		if args = fs.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	return words, nil
}
