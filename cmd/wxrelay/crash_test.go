package main

import (
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/wxrelay/wxrelay/scripts/slow"
)

// What may never break, shown on processes that die: every message that was accepted ends, nobody gets two,
// what is unknown was in hand when somebody died.

// TestKill9EverySecond kills the gateway once a second while a partner sends. WXRELAY_CRASH=20000 is the full run, in
// which requests that were in hand at a kill wait out their 60 s too.
func TestKill9EverySecond(t *testing.T) {
	n, perSecond, limit, deadline := 1500, 300, 4*time.Minute, 15*time.Second
	full := os.Getenv("WXRELAY_CRASH")
	if full != "" {
		var err error
		if n, err = strconv.Atoi(full); err != nil || n < 1000 {
			t.Fatalf("WXRELAY_CRASH=%q: wants a number of messages, at least 1000", full)
		}
		perSecond, limit, deadline = 1000, 9*time.Minute, time.Minute
	} else {
		t.Parallel()
	}
	o := around(t, 1, limit, 6*time.Second, deadline)
	o.full = full != ""
	g := o.start()
	openids := o.users(n)
	began := time.Now()
	l := o.send(openids, perSecond)
	second := time.NewTimer(time.Second)
	defer second.Stop()
	asked := func() int64 { return o.sim.Count("call:" + sendPath) }
	kills := 0
	for ; kills < 200 && asked() < int64(n)*95/100; kills++ {
		before := asked()
		select {
		case <-second.C:
		case <-o.ctx.Done():
			t.Fatal("too slow")
		}
		// On a machine so busy that a second is hardly a life, it lives until it has done something: nobody to kill otherwise.
		until(t, "a life in which something is sent", func() bool { return asked() >= before+50 || asked() >= int64(n)*95/100 })
		o.kill9(g)
		g = o.start()
		second.Reset(time.Second)
	}
	sending := time.Since(began)
	r := l.reckon()
	if kills < 4 {
		t.Errorf("only %d kills: nothing is shown", kills)
	}
	l.same()
	t.Logf("%d messages in %.0f s (%.0f s in all), %d kills: %d lost, %d doubled; in flight at the kills %d (%d of them at WeChat), unknown %d, never settled %d",
		n, sending.Seconds(), time.Since(began).Seconds(), kills, r.Lost, r.Doubled, r.InHand, r.Cut, r.Unknown, r.Unsettled)
}

// TestTwoReplicas: one of two is asked to stop under load, another is killed; the rest goes on.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	o := around(t, 2, 3*time.Minute, 10*time.Second, 15*time.Second) // a busy machine may take a while to note what the dead one had in hand
	a, b := o.start(), o.start()
	l := o.send(o.users(900), 300)
	sent := func(n int64) {
		t.Helper()
		until(t, strconv.FormatInt(n, 10)+" sends", func() bool { return o.sim.Count("call:"+sendPath) >= n })
	}
	sent(150)
	o.leave(a) // as a load balancer would
	a.signal(t, syscall.SIGTERM)
	stopped := time.Now()
	if code := a.code(t); code != 0 {
		t.Errorf("SIGTERM under load: exit %d", code)
	}
	slow.Within(t, stopped, 20*time.Second) // shutdown_grace
	if line := a.log.wait(t, `"msg":"stopped"`); line["in_time"] != true {
		t.Errorf("%v", line)
	}
	if cut := o.wx.cut.Load(); cut != 0 {
		t.Errorf("SIGTERM cut %d calls that were in flight", cut)
	}
	c := o.start()
	sent(400)
	o.kill9(b)
	l.reckon()
	l.same()
	c.signal(t, syscall.SIGTERM)
	if code := c.code(t); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// TestRedisDies: redis-server is killed under load and started again; the gateway goes on by itself.
func TestRedisDies(t *testing.T) {
	t.Parallel()
	o := around(t, 3, 3*time.Minute, 20*time.Second, 15*time.Second) // the lease outlives the outage, so nothing may become unknown
	g := o.start()
	l := o.send(o.users(900), 300)
	for _, n := range []int64{150, 400} {
		until(t, "sends", func() bool { return o.sim.Count("call:"+sendPath) >= n })
		o.redis.kill9()
		until(t, "/readyz is red", func() bool { return statusOf(t, g.admin+"/readyz") == http.StatusServiceUnavailable })
		if status := statusOf(t, g.admin+"/healthz"); status != http.StatusOK {
			t.Errorf("/healthz: %d", status)
		}
		o.redis.start()
		until(t, "/readyz is green", func() bool { return statusOf(t, g.admin+"/readyz") == http.StatusOK })
	}
	r := l.reckon()
	if r.Unknown != 0 {
		t.Errorf("%d were unknown, and nobody who sends died", r.Unknown)
	}
	l.same()
	select {
	case <-g.exited:
		t.Error("the gateway did not survive")
	default:
	}
}

// TestScriptFlush: the scripts are dropped again and again; nobody notices.
func TestScriptFlush(t *testing.T) {
	t.Parallel()
	o := around(t, 4, 60*time.Second, 15*time.Second, 15*time.Second)
	g := o.start()
	l := o.send(o.users(300), 60)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	flushes := 0
	for sending := true; sending; {
		select {
		case <-l.done:
			sending = false
		case <-tick.C:
			if err := o.eye.ScriptFlush(o.ctx).Err(); err != nil {
				t.Fatal(err)
			}
			flushes++
		}
	}
	r := l.reckon()
	if n := strings.Count(g.log.String(), "NOSCRIPT"); n != 0 {
		t.Errorf("%d times a missing script was somebody's fault", n)
	}
	if r.Again != 0 || r.Unknown != 0 || flushes < 10 {
		t.Errorf("%d flushes: %d requests had to be repeated (%s), %d were unknown", flushes, r.Again, l.why, r.Unknown)
	}
}

// TestKillBetweenAnswerAndNote is R-2: WeChat has the message, and the gateway dies before it can write that down. It is
// not sent again, and WeChat's report settles it.
func TestKillBetweenAnswerAndNote(t *testing.T) {
	for seed, name := range []string{"the answer is not read", "the note is on its way to Redis"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := around(t, uint64(10+seed), 60*time.Second, 3*time.Second, 15*time.Second)
			g := o.start()
			openids := o.users(1)
			killed := make(chan struct{})
			die := func() {
				defer close(killed)
				_ = g.cmd.Process.Kill()
				<-g.exited
			}
			mood := &answerMood{before: die}
			if seed == 1 {
				mood = &answerMood{before: func() {
					o.eye.Do(o.ctx, "client", "pause", 20_000, "write")
				}, after: func() {
					await(o, func() bool { return o.postponed() > 0 }) // the turn that carries it
					die()
				}}
			}
			until(t, "the taps' jobs are done", func() bool { return o.work() == 0 })
			o.wx.mood.Store(mood)
			l := o.send(openids, 100)
			select {
			case <-killed:
			case <-o.ctx.Done():
				t.Fatal("WeChat was never asked")
			}
			if seed == 1 {
				until(t, "Redis noticed", func() bool { return o.gone(g) })
				if err := o.eye.Do(o.ctx, "client", "unpause").Err(); err != nil {
					t.Fatal(err)
				}
			}
			o.leave(g)
			o.noteInHand()
			if n := len(o.sim.Inbox(openids[0])); n != 1 {
				t.Fatalf("the user has %d before the restart", n)
			}
			o.start()
			if r := l.reckon(); r.Unknown != 1 || r.Unsettled != 0 {
				t.Errorf("%+v", r)
			}
			client := o.client
			client.Base = o.anywhere()
			got, err := client.Get(o.ctx, "messages/"+l.ids[0], nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"queued", "unknown", "delivered"}, states(got.Message())); diff != "" {
				t.Errorf("%s\n%s", diff, got.Body)
			}
			if diff := cmp.Diff([]string{"delivered", "unknown"}, sortedKeys(l.told()[l.ids[0]])); diff != "" {
				t.Errorf("told: %s", diff)
			}
			if calls := o.sim.Count("call:" + sendPath); calls != 1 {
				t.Errorf("WeChat was asked %d times", calls)
			}
		})
	}
}

var postponed = regexp.MustCompile(`(?m) flags=\w*b\w* `)

// postponed counts the clients whose writes wait at a paused Redis.
func (o *outside) postponed() int {
	list, err := o.eye.ClientList(o.ctx).Result()
	if err != nil {
		return 0
	}
	return len(postponed.FindAllString(list, -1))
}

// await is until for other goroutines than the test's own: it gives up with the test.
func await(o *outside, holds func() bool) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-o.ctx.Done():
			return
		case <-tick.C:
		}
	}
}
