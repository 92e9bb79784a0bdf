package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The binary itself, as an operator runs it: signals, exit codes, files that change.

var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "wxrelay")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "wxrelay")
	out, err := exec.Command("go", "build", "-trimpath", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", &buildError{string(out)}
	}
	return path, nil
})

type buildError struct{ output string }

func (e *buildError) Error() string { return e.output }

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// process is a running wxrelay.
type process struct {
	cmd    *exec.Cmd
	log    *log
	exited chan struct{}
}

func launch(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(path, args...), log: newLog(), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Env = append(os.Environ(), env...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the code is read from ProcessState
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			said := p.log.String()
			t.Logf("%s said at last:\n%s", strings.Join(args, " "), said[max(0, len(said)-2<<10):])
		}
	})
	return p
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// code waits for the end.
func (p *process) code(t *testing.T) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-p.log.deadline(t):
		t.Fatal("it does not end")
		return -1
	}
}

func TestProcessStopsOnSignals(t *testing.T) {
	for _, s := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(s.String(), func(t *testing.T) {
			p := launch(t, nil, "serve", "-c", file(t, "c.yml", gatewayYAML("embedded://", "http://127.0.0.1:1", "http://127.0.0.1:1/x")))
			admin := p.log.wait(t, `"msg":"serving"`)["admin"].(string)
			if status := statusOf(t, "http://"+admin+"/readyz"); status != http.StatusOK {
				t.Errorf("/readyz: %d", status)
			}
			p.signal(t, s)
			if code := p.code(t); code != 0 {
				t.Errorf("exit %d", code)
			}
			p.log.wait(t, `"msg":"stopped"`)
		})
	}
}

func TestProcessReloads(t *testing.T) {
	yaml := gatewayYAML("embedded://", "http://127.0.0.1:1", "http://127.0.0.1:1/x")
	path := file(t, "c.yml", yaml)
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := launch(t, nil, "serve", "-c", path)
	addr := p.log.wait(t, `"msg":"serving"`)["public"].(string)
	push := func(app string) int {
		got := wxrelay(t, nil, "push", "-c", path, "--app", app, "--to", "http://"+addr+"/callback/"+app)
		return got.code
	}
	p.signal(t, syscall.SIGHUP) // nothing has changed, and still it is read
	p.log.wait(t, `"msg":"config reloaded"`)

	write(yaml + "lisen: x\n")
	p.signal(t, syscall.SIGHUP)
	p.log.wait(t, `"faults":["lisen: unknown key, did you mean \"listen\"?"]`)
	write(yaml)
	if code := push("shop"); code != 0 {
		t.Errorf("after a refused config: exit %d", code)
	}

	// Without a signal, within 5 s.
	write(strings.Replace(yaml, "partners:", "  - {id: more, appid: wx0123456789abcde1, secret: s, push: {token: BBBBB, mode: plain}}\npartners:", 1))
	if line := p.log.wait(t, `"msg":"config reloaded","apps":2`); line["partners"] != 1.0 {
		t.Errorf("%v", line)
	}
	if code := push("more"); code != 0 {
		t.Errorf("the new app: exit %d", code)
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.code(t); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestProcessWaitsForRedis(t *testing.T) {
	p := launch(t, []string{"WXRELAY_REDIS_URL=unix:///nonexistent/r.sock"}, "serve", "-c", file(t, "c.yml", gatewayYAML("embedded://", "http://127.0.0.1:1", "http://127.0.0.1:1/x")))
	admin := p.log.wait(t, `"msg":"listening"`)["admin"].(string)
	p.log.wait(t, "Redis is not there yet")
	if status := statusOf(t, "http://"+admin+"/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d", status)
	}
	if status := statusOf(t, "http://"+admin+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: %d", status)
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.code(t); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestProcessExitCodes(t *testing.T) {
	good := gatewayYAML("embedded://", "http://127.0.0.1:1", "http://127.0.0.1:1/x")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"wrong config": {[]string{"serve", "-c", file(t, "c.yml", good+"lisen: x\n")}, 2, `lisen: unknown key, did you mean "listen"?`},
		"no config":    {[]string{"serve", "-c", "/nonexistent.yml"}, 2, "/nonexistent.yml: "},
		"wrong usage":  {[]string{"serve", "--what"}, 2, "-what"},
		"taken port":   {[]string{"serve", "-c", file(t, "c.yml", strings.Replace(good, `admin: {listen: "127.0.0.1:0"}`, `admin: {listen: "`+taken.Addr().String()+`"}`, 1))}, 1, "admin.listen"},
		"version":      {[]string{"version"}, 0, "wxrelay "},
	} {
		t.Run(name, func(t *testing.T) {
			p := launch(t, nil, c.args...)
			if code := p.code(t); code != c.code || !strings.Contains(p.log.String(), c.want) {
				t.Errorf("exit %d, want %d", code, c.code)
			}
		})
	}
}

func statusOf(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// log is output that is waited for.
type log struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // closed and replaced at each write
}

func newLog() *log { return &log{more: make(chan struct{})} }

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// deadline is when a test gives up waiting.
func (l *log) deadline(t *testing.T) <-chan time.Time {
	t.Helper()
	return time.After(time.Minute)
}

// wait gives the first line with part in it, as its JSON when it is some.
func (l *log) wait(t *testing.T, part string) map[string]any {
	t.Helper()
	late := l.deadline(t)
	for {
		l.mu.Lock()
		text, more := l.b.String(), l.more
		l.mu.Unlock()
		for line := range strings.Lines(text) {
			if strings.Contains(line, part) && strings.HasSuffix(line, "\n") {
				fields := map[string]any{}
				_ = json.Unmarshal([]byte(line), &fields) // not every line is JSON
				return fields
			}
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("%q was never said; this was:\n%s", part, text)
		}
	}
}
