package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by release builds: -ldflags "-X main.version=v1.2.3".
var version string

// build is what is known about this binary.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

func versionOf() build {
	b := build{Version: version, Commit: "unknown", Go: runtime.Version()}
	read, ok := debug.ReadBuildInfo()
	if ok {
		if b.Version == "" {
			b.Version = read.Main.Version
		}
		modified := false
		for _, s := range read.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.modified":
				modified = s.Value == "true"
			}
		}
		if modified {
			b.Commit += " (modified)"
		}
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "dev"
	}
	return b
}

var versionCommand = command{
	name: "version", args: "[-json]", summary: "version, commit, Go version",
	run: func(p *program, fs *flag.FlagSet, args []string) error {
		asJSON := fs.Bool("json", false, "as JSON")
		if _, err := parse(fs, args); err != nil {
			return err
		}
		b := versionOf()
		if *asJSON {
			return json.NewEncoder(p.stdout).Encode(b)
		}
		fmt.Fprintf(p.stdout, "wxrelay %s\ncommit %s\n%s\n", b.Version, b.Commit, b.Go)
		return nil
	},
}
