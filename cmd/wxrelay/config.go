package main

import (
	"flag"

	"github.com/wxrelay/wxrelay/config"
)

var configCommand = command{
	name: "config", args: "example | show -c FILE", summary: "the commented example, or the effective config",
	help: `
example prints every key there is, with its default and what it does; it loads as it is.
show prints what a config amounts to, with defaults, secret files and the environment taken in; secrets are ***.`,
	run: func(p *program, fs *flag.FlagSet, args []string) error {
		path := configFlag(fs)
		words, err := parse(fs, args, "example or show")
		if err != nil {
			return err
		}
		switch words[0] {
		case "example":
			_, err = p.stdout.Write(config.Example())
			return err
		case "show":
			c, err := p.load(*path)
			if err != nil {
				return err
			}
			_, err = p.stdout.Write(c.Show())
			return err
		}
		return usagef("%q: example or show", words[0])
	},
}
