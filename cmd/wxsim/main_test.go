package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
	"github.com/wxrelay/wxrelay/config"
)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestTheTourHoldsInACalmWorld(t *testing.T) {
	var out, faults bytes.Buffer
	if code := run(within(t), []string{"-once", "-calm", "-seed", "7"}, &out, &faults); code != 0 {
		t.Fatalf("exit %d\n%s\n%s", code, out.String(), faults.String())
	}
	for _, want := range []string{"Seed 7", "WeChat is calm", " 8. Ann taps \"reject\".", "All 8 steps hold", "409 no_credit"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the tour does not say %q", want)
		}
	}
}

func TestQuietSaysNothingWhenAllIsWell(t *testing.T) {
	var out, faults bytes.Buffer
	if code := run(within(t), []string{"-once", "-calm", "-quiet"}, &out, &faults); code != 0 || out.Len()+faults.Len() != 0 {
		t.Fatalf("exit %d, %q %q", code, out.String(), faults.String())
	}
}

func TestWrongUsageIsExit2(t *testing.T) {
	for _, args := range [][]string{{"-seed", "x"}, {"-dance"}, {"now"}} {
		var out, faults bytes.Buffer
		if code := run(within(t), args, &out, &faults); code != 2 || faults.Len() == 0 {
			t.Errorf("%v: exit %d, %q", args, code, faults.String())
		}
	}
	var out, faults bytes.Buffer
	if code := run(within(t), []string{"-h"}, &out, &faults); code != 0 || !strings.Contains(faults.String(), "-once") {
		t.Errorf("-h: exit %d, %q", code, faults.String())
	}
}

// TestStaysUpUntilTold: without -once the world stands until the signal, and what it printed is true.
func TestStaysUpUntilTold(t *testing.T) {
	ctx, stop := context.WithCancel(within(t))
	out := &watched{seen: make(chan struct{}), want: "how the gateway feels"} // the last it says
	var faults bytes.Buffer
	ended := make(chan int)
	go func() { ended <- run(ctx, []string{"-calm", "-quiet", "-addr", "127.0.0.1:0"}, out, &faults) }()
	select {
	case <-out.seen:
	case code := <-ended:
		t.Fatalf("ended with %d: %s", code, faults.String())
	}
	text := out.String()
	for _, door := range []string{"gateway, operators", "WeChat, the control", "partner"} {
		url := addressOf(text, door)
		if door == "gateway, operators" {
			url += "/readyz"
		}
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode >= 500 {
			t.Errorf("%s %s: %d", door, url, res.StatusCode)
		}
	}
	file := addressOf(text, "config")
	c, err := config.Load(file, nil)
	if err != nil {
		t.Errorf("the config it printed: %v", err)
	} else if got := "http://" + c.Listen; got != addressOf(text, "gateway, public door") {
		t.Errorf("the config listens at %s", got)
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("exit %d after the signal: %s", code, faults.String())
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("%s is left behind: %v", file, err)
	}
}

func addressOf(text, name string) string {
	for _, line := range strings.Split(text, "\n") {
		if tail, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return strings.Fields(tail)[0]
		}
	}
	return ""
}

// watched tells when something was written.
type watched struct {
	mu   sync.Mutex
	all  strings.Builder
	want string
	seen chan struct{}
	told bool
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.all.Write(b)
	if !w.told && strings.Contains(w.all.String(), w.want) {
		w.told = true
		close(w.seen)
	}
	return n, err
}

func TestATakenPortIsSaid(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var out, faults bytes.Buffer
	if code := run(within(t), []string{"-once", "-calm", "-quiet", "-addr", l.Addr().String()}, &out, &faults); code != 1 ||
		!strings.Contains(faults.String(), "a port is taken") {
		t.Errorf("exit %d, %q", code, faults.String())
	}
}

// TestTheTourCanFail: a tour that always succeeds proves nothing. Each of these worlds is broken at one place.
func TestTheTourCanFail(t *testing.T) {
	for _, c := range []struct {
		name, step string
		spoil      func(*box)
	}{
		{"the gateway refuses every push", "step 2", func(b *box) {
			b.sim.SetApp(appName, func(a *wechatsim.App) { a.Token = "anothertoken" })
		}},
		{"WeChat never knows the code", "step 1", func(b *box) {
			b.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "jscode2session", Errcode: 40029, Errmsg: "invalid code", Times: -1})
		}},
		{"the partner takes nothing", "step 2", func(b *box) { b.partner.Misbehave(partnersim.Behaviour{Status: 401, Times: -1}) }},
		{"WeChat refuses the message", "step 5", func(b *box) {
			b.sim.Force(wechatsim.Forced{Mood: wechatsim.Refuse, Path: "subscribe/send", Errcode: 47003, Errmsg: "argument invalid!", Times: -1})
		}},
		{"the message reports failure", "step 5", func(b *box) {
			b.sim.Force(wechatsim.Forced{Mood: wechatsim.SentFails, Times: -1})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			b, err := open(ctx, options{calm: true, seed: 7, addr: "127.0.0.1:0"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := b.close(); err != nil {
					t.Error(err)
				}
			}()
			c.spoil(b)
			err = play(ctx, b, &voice{quiet: true})
			if err == nil || !strings.HasPrefix(err.Error(), c.step) {
				t.Errorf("got %v, want a fault in %s", err, c.step)
			}
		})
	}
}

// TestTheTourHoldsInBadWeather plays it with moods that certainly come, one after another.
func TestTheTourHoldsInBadWeather(t *testing.T) {
	for _, forced := range [][]wechatsim.Forced{
		{{Mood: wechatsim.Busy, Path: "jscode2session", Times: 2}},
		{{Mood: wechatsim.Busy, Path: "stable_token"}, {Mood: wechatsim.TokenDies, Path: "subscribe/send"}}, // asked again, if it was there before
		{{Mood: wechatsim.Timeout, Path: "subscribe/send"}},
		{{Mood: wechatsim.Cut, Path: "subscribe/send"}},
		{{Mood: wechatsim.BadGateway, Path: "subscribe/send"}},
		{{Mood: wechatsim.TokenDies, Path: "subscribe/send"}},
		{{Mood: wechatsim.Concurrent, Path: "subscribe/send"}},
		{{Mood: wechatsim.Duplicate, Times: -1}, {Mood: wechatsim.SameSecond, Times: -1}},
		{{Mood: wechatsim.SentFirst}},
		{{Mood: wechatsim.Reorder, Delay: 200 * time.Millisecond, Times: -1}},
		{{Mood: wechatsim.BusyAccepted, Path: "subscribe/send"}},
		{{Mood: wechatsim.Busy, Path: "subscribe/send"}, {Mood: wechatsim.SentFirst, Delay: 500 * time.Millisecond}},
	} {
		t.Run(string(forced[0].Mood), func(t *testing.T) {
			b, err := open(within(t), options{calm: true, seed: 7, addr: "127.0.0.1:0"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := b.close(); err != nil {
					t.Error(err)
				}
			}()
			for _, f := range forced {
				b.sim.Force(f)
			}
			var out bytes.Buffer
			if err := play(within(t), b, &voice{out: &out}); err != nil {
				t.Errorf("%v\n%s", err, out.String())
			}
			if left := b.sim.Forced(); forced[0].Times == 0 && len(left) > 0 {
				t.Errorf("%s never came", left[0].Mood)
			}
		})
	}
}
