package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stage is a config in a folder of its own, watched in a bubble of made-up time.
type stage struct {
	t    *testing.T
	dir  string
	kick chan struct{}

	mu      sync.Mutex // made-up time orders the goroutines, but the race detector does not know
	applied []*Config
	refused []string
}

func (s *stage) write(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// within moves the clock and lets the watcher finish what it does by then.
func (s *stage) within(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// want counts what was told so far, and returns the latest of each.
func (s *stage) want(applied, refused int) (latest *Config, why string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.applied) != applied || len(s.refused) != refused {
		s.t.Fatalf("applied %d, want %d; refused %d, want %d: %v", len(s.applied), applied, len(s.refused), refused, s.refused)
	}
	if applied > 0 {
		latest = s.applied[applied-1]
	}
	if refused > 0 {
		why = s.refused[refused-1]
	}
	return latest, why
}

func (s *stage) apply(c *Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied = append(s.applied, c)
}

func (s *stage) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, err.Error())
}

func watched(t *testing.T, play func(s *stage)) {
	s := &stage{t: t, dir: t.TempDir(), kick: make(chan struct{})}
	synctest.Test(t, func(t *testing.T) {
		s.t = t
		raw, err := os.ReadFile("testdata/good_minimal.yml")
		if err != nil {
			t.Fatal(err)
		}
		s.write("secret", "first\n")
		s.write("wxrelay.yml", strings.Replace(string(raw), "secret: 0123456789abcdef0123456789abcdef", "secret_file: secret", 1))
		c, err := Load(filepath.Join(s.dir, "wxrelay.yml"), nil)
		if err != nil {
			t.Fatal(err)
		}
		s.kick = make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			Watch(ctx, c, WatchOptions{Kick: s.kick, Refused: s.refuse}, s.apply)
		}()
		play(s)
		stop()
		<-done
	})
}

func (s *stage) content() string {
	raw, err := os.ReadFile(filepath.Join(s.dir, "wxrelay.yml"))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(raw)
}

func TestWatchTakesAChangeWithinFiveSeconds(t *testing.T) {
	watched(t, func(s *stage) {
		s.within(time.Minute)
		s.want(0, 0)
		s.write("wxrelay.yml", s.content()+"log: {level: debug}\n")
		s.within(5 * time.Second)
		if c, _ := s.want(1, 0); c.Log.Level != "debug" {
			t.Errorf("level %s", c.Log.Level)
		}
		s.within(time.Minute)
		s.want(1, 0)
	})
}

func TestWatchTakesAChangedSecretFile(t *testing.T) {
	watched(t, func(s *stage) {
		s.write("secret", "second\n")
		s.within(5 * time.Second)
		c, _ := s.want(1, 0)
		if got := c.Apps[0].Secret.Reveal(); got != "second" {
			t.Errorf("secret %q", got)
		}
	})
}

// TestWatchFollowsSymlinkSwaps replays how Kubernetes replaces a mounted secret: ..data is a link that is renamed over.
func TestWatchFollowsSymlinkSwaps(t *testing.T) {
	watched(t, func(s *stage) {
		do := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		at := func(name string) string { return filepath.Join(s.dir, name) }
		do(os.Mkdir(at("..one"), 0o700))
		do(os.Mkdir(at("..two"), 0o700))
		s.write("..one/secret", "first\n")
		s.write("..two/secret", "second\n")
		do(os.Symlink("..one", at("..data")))
		do(os.Remove(at("secret")))
		do(os.Symlink(filepath.Join("..data", "secret"), at("secret")))
		s.within(5 * time.Second)
		s.want(0, 0) // the same content by another way
		do(os.Symlink("..two", at("..new")))
		do(os.Rename(at("..new"), at("..data")))
		s.within(5 * time.Second)
		s.want(1, 0)
	})
}

func TestWatchRefusesABadConfigAndKeepsLooking(t *testing.T) {
	watched(t, func(s *stage) {
		good := s.content()
		s.write("wxrelay.yml", good+"lisen: x\n")
		s.within(5 * time.Second)
		if _, why := s.want(0, 1); why != `lisen: unknown key, did you mean "listen"?` {
			t.Error(why)
		}
		s.within(time.Minute)
		s.want(0, 1) // told once
		s.write("wxrelay.yml", good+"listen: ':1'\n")
		s.within(5 * time.Second)
		if c, _ := s.want(1, 1); c.Listen != ":1" {
			t.Error(c.Listen)
		}
	})
}

// TestWatchSeesTheCure: the missing file of a refused config is looked at too.
func TestWatchSeesTheCure(t *testing.T) {
	watched(t, func(s *stage) {
		s.write("wxrelay.yml", strings.Replace(s.content(), "secret_file: secret", "secret_file: later", 1))
		s.within(5 * time.Second)
		s.want(0, 1)
		s.write("later", "third\n")
		s.within(5 * time.Second)
		s.want(1, 1)
	})
}

func TestWatchLetsHalfWrittenFilesPass(t *testing.T) {
	watched(t, func(s *stage) {
		good := s.content()
		s.within(900 * time.Millisecond)
		s.write("wxrelay.yml", good[:len(good)/2])
		s.within(200 * time.Millisecond) // one look sees the half
		s.write("wxrelay.yml", good+"log: {level: warn}\n")
		s.within(5 * time.Second)
		s.want(1, 0)
	})
}

func TestWatchKick(t *testing.T) {
	watched(t, func(s *stage) {
		s.kick <- struct{}{}
		synctest.Wait()
		s.want(1, 0)
		s.write("wxrelay.yml", "")
		s.kick <- struct{}{}
		synctest.Wait()
		s.want(1, 1)
		s.within(time.Minute)
		s.want(1, 1)
	})
}
