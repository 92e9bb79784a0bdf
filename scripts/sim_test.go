package house

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// simulated is one simulated world (seed 1, calm) for all tests of what users paste, run or include: where its parts answer,
// by the names it prints. The context gives a test three minutes.
func simulated(t *testing.T) (context.Context, map[string]string) {
	t.Helper()
	ports, err := world.start()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx, ports
}

// world is started by the first who asks, and stopped by TestMain.
var world = &simulation{}

type simulation struct {
	once  sync.Once
	dir   string
	sim   *exec.Cmd
	ports map[string]string
	err   error
}

func TestMain(m *testing.M) {
	code := m.Run()
	world.stop()
	os.Exit(code)
}

func (s *simulation) start() (map[string]string, error) {
	s.once.Do(func() { s.err = s.run() })
	return s.ports, s.err
}

func (s *simulation) stop() {
	if s.sim != nil {
		_ = s.sim.Process.Signal(os.Interrupt)
		_ = s.sim.Wait()
	}
	_ = os.RemoveAll(s.dir)
}

func (s *simulation) run() (err error) {
	if s.dir, err = os.MkdirTemp("", "wxsim"); err != nil {
		return err
	}
	bin := filepath.Join(s.dir, "wxsim")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", bin, "../cmd/wxsim").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	sim := exec.Command(bin, "-seed", "1", "-calm", "-addr", "127.0.0.1:0")
	said, err := sim.StdoutPipe()
	if err != nil {
		return err
	}
	if err := sim.Start(); err != nil {
		return err
	}
	s.sim, s.ports = sim, map[string]string{}
	late := time.AfterFunc(time.Minute, func() { _ = sim.Process.Kill() })
	defer late.Stop()
	address := regexp.MustCompile(`^  (gateway, public door|gateway, operators|WeChat, the control|partner) +(http://\S+)`)
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if m := address.FindStringSubmatch(lines.Text()); m != nil {
			s.ports[m[1]] = m[2]
		}
		if strings.HasPrefix(lines.Text(), "# how the gateway feels") && len(s.ports) == 4 { // the last of what it says
			go func() { _, _ = io.Copy(io.Discard, said) }() // a full pipe would hold it up
			return nil
		}
	}
	return errors.New("wxsim did not come up")
}
