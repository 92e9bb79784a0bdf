package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

const drainInFlight = 128 // what the relay has in hand of one lane

// drain measures how fast accepted messages leave for WeChat: accepted first by a gateway that does not work, then sent by
// one that does, against a plain tuned net/http client with as many requests in flight and a simulated WeChat that takes
// 30 ms to answer.
func drain(o options, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	sim, wx := simulated(30 * time.Millisecond)
	defer wx.Close()
	fmt.Printf("\nrelay drain: %d messages, WeChat answers after 30 ms, %d in flight\n", o.drain, drainInFlight)
	people := make([]string, o.drain)
	for i := range people {
		people[i] = sim.User(benchApp, fmt.Sprintf("p%d", i))
		sim.Grant(people[i], benchTemplate, 2*o.runs)
	}
	bodies := filepath.Join(dir, "bodies")
	if err := writeBodies(bodies, people); err != nil {
		return err
	}
	var ratios, cpus, ofRedis []float64
	for run := range o.runs {
		plain, plainCPU, err := plainClient(sim, wx.URL, bodies, o.drain)
		if err != nil {
			return err
		}
		ours, gateway, redis, err := relayDrain(o, dir, sim, wx.URL, people)
		if err != nil {
			return err
		}
		ratios, cpus, ofRedis = append(ratios, ours/plain), append(cpus, (gateway+redis)/plainCPU), append(ofRedis, redis/plainCPU)
		fmt.Printf("run %d: plain client %.0f/s %.2f CPU-s/100k; relay %.0f/s, gateway %.2f, Redis %.2f CPU-s/100k\n", run+1, plain, plainCPU, ours, gateway, redis)
	}
	fmt.Printf("relay drain: %.2f of the plain client, %.2f times its CPU-seconds (gateway and Redis, which alone has %.2f); medians\n",
		middle(ratios), middle(cpus), middle(ofRedis))
	return nil
}

func relayDrain(o options, dir string, sim *wechatsim.Sim, wechatURL string, people []string) (perSecond, gateway, redis float64, err error) {
	rds, err := startRedis(dir, o.fsync)
	if err != nil {
		return 0, 0, 0, err
	}
	defer rds.stop()
	url := "redis://" + rds.addr + "/0"
	taker, err := startSelf("taker", "-redis", url, "-wechat", wechatURL)
	if err != nil {
		return 0, 0, 0, err
	}
	reqs := sendRequests(people, taker.addr)
	if _, err := (load{addr: taker.addr, conns: o.conns, want: 202, limit: time.Minute, next: spread(reqs, o.conns)}).run(); err != nil {
		taker.stop()
		return 0, 0, 0, err
	}
	taker.stop()
	before := sends(sim)
	r0, _ := rds.cpu()
	worker, err := startSelf("gateway", "-redis", url, "-wechat", wechatURL)
	if err != nil {
		return 0, 0, 0, err
	}
	defer worker.stop()
	start := time.Now()
	profiled := profile(o, worker, "relay drain", time.Duration(o.drain/4)*time.Millisecond) // less than it takes
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for sends(sim)-before < int64(o.drain) {
		if ctx.Err() != nil {
			return 0, 0, 0, fmt.Errorf("drain: %d of %d sent in two minutes", sends(sim)-before, o.drain)
		}
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(start)
	g, _ := worker.cpu()
	r1, _ := rds.cpu()
	per := 100000 / float64(o.drain)
	if err := <-profiled; err != nil {
		return 0, 0, 0, err
	}
	return float64(o.drain) / took.Seconds(), g.Seconds() * per, (r1 - r0).Seconds() * per, nil
}

// plainClient posts the same bodies with nothing durable around them.
func plainClient(sim *wechatsim.Sim, base, bodies string, n int) (perSecond, cpu float64, err error) {
	p, err := startSelf("plain", "-wechat", base, "-bodies", bodies)
	if err != nil {
		return 0, 0, err
	}
	defer p.stop()
	before := sends(sim)
	start := time.Now()
	for sends(sim)-before < int64(n) {
		if time.Since(start) > 2*time.Minute {
			return 0, 0, fmt.Errorf("plain client: %d of %d in two minutes", sends(sim)-before, n)
		}
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(start)
	g, _ := p.cpu()
	return float64(n) / took.Seconds(), g.Seconds() * 100000 / float64(n), nil
}

// sends is how many messages the simulated WeChat has handed to its users.
func sends(sim *wechatsim.Sim) int64 { return sim.Count("received") }

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// writeBodies writes what the plain client posts, one a line: what the relay will have posted.
func writeBodies(file string, people []string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, openid := range people {
		if err := e.Encode(map[string]any{"touser": openid, "template_id": benchTemplate, "page": "pages/order?id=1", "lang": "zh_CN", "miniprogram_state": "formal",
			"data": map[string]any{"thing1": map[string]string{"value": "一杯咖啡"}, "amount2": map[string]string{"value": "¥18"}}}); err != nil {
			return err
		}
	}
	return os.WriteFile(file, b.Bytes(), 0o600)
}

// runPlain is that client, in a process of its own.
func runPlain(base, file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	bodies := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConns: drainInFlight, MaxIdleConnsPerHost: drainInFlight}}
	token, err := fetchToken(client, base)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var next atomic.Int64
	var wg sync.WaitGroup
	for range drainInFlight {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := int(next.Add(1)); i <= len(bodies); i = int(next.Add(1)) {
				res, err := client.Post(base+"/cgi-bin/message/subscribe/send?access_token="+token, "application/json", bytes.NewReader(bodies[i-1]))
				if err != nil {
					fmt.Fprintln(os.Stderr, "plain client:", err)
					continue
				}
				var answer struct {
					Errcode int    `json:"errcode"`
					Errmsg  string `json:"errmsg"`
				}
				if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.Errcode != 0 {
					fmt.Fprintln(os.Stderr, "plain client:", err, answer)
				}
				res.Body.Close()
			}
		}()
	}
	wg.Wait()
	_, err = io.Copy(io.Discard, os.Stdin) // until it is stopped, so that its CPU time can be read
	return err
}

func fetchToken(client *http.Client, base string) (string, error) {
	body, err := json.Marshal(map[string]any{"grant_type": "client_credential", "appid": benchAppID, "secret": benchSecret})
	if err != nil {
		return "", err
	}
	res, err := client.Post(base+"/cgi-bin/stable_token", "application/json", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return "", err
	}
	return answer.AccessToken, nil
}
