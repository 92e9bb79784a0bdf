package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/callback"
	"github.com/wxrelay/wxrelay/cmd/wxsim/wechatsim"
)

const (
	bareCase      = "bare Gin handler"
	duplicateCase = "ingest, the same again"
)

// The one app and partner of the measurement.
const (
	benchApp      = "shop"
	benchAppID    = "wx0123456789abcdef"
	benchSecret   = "0123456789abcdef0123456789abcdef"
	benchToken    = "benchtoken"
	benchKey      = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	benchTemplate = "4ondTemplateOfTheMeasurement_0000000000000A"
	benchWhsec    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
)

func simulated(latency time.Duration) (*wechatsim.Sim, *httptest.Server) {
	sim := wechatsim.New(wechatsim.Options{Seed: 1, Calm: true, Latency: latency, Keep: -1, Apps: []wechatsim.App{{Name: benchApp, AppID: benchAppID, Secret: benchSecret,
		Token: benchToken, EncodingAESKey: benchKey, NoSentEvents: true,
		Templates: []wechatsim.Template{{ID: benchTemplate, Title: "order", Content: "item:{{thing1.DATA}}\nprice:{{amount2.DATA}}\n", Type: 2}}}}})
	return sim, httptest.NewServer(sim)
}

// paths measures what stands between a request and its answer: pushes taken, sends accepted. The gateway under test takes
// and does not follow, as a replica would whose sibling does the work; the drain measures the following.
func paths(o options, dir string, rep *report) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	_, wx := simulated(0)
	defer wx.Close()
	bare, err := startSelf("bare")
	if err != nil {
		return err
	}
	defer bare.stop()
	for run := range o.runs {
		fmt.Fprintf(os.Stderr, "run %d of %d\n", run+1, o.runs)
		if err := onePass(o, dir, bare, wx.URL, run, rep); err != nil {
			return err
		}
	}
	return nil
}

func onePass(o options, dir string, bare *process, wechatURL string, run int, rep *report) error {
	redis, err := startRedis(dir, o.fsync)
	if err != nil {
		return err
	}
	defer redis.stop()
	gw, err := startSelf("taker", "-redis", "redis://"+redis.addr+"/0", "-wechat", wechatURL)
	if err != nil {
		return err
	}
	defer gw.stop()
	n := int(o.seconds * 60000) // more than any of them answers
	if o.only != "sends" {
		xml := pushes(n/2, callback.XML, run)
		if err := one(o, rep, bareCase, bare, nil, aim(xml, "/bare"), 200); err != nil {
			return err
		}
		if err := one(o, rep, "ingest, sealed XML", gw, redis, xml, 200); err != nil {
			return err
		}
		if err := one(o, rep, duplicateCase, gw, redis, repeat(xml[:64], n), 200); err != nil {
			return err
		}
		if err := one(o, rep, "ingest, sealed JSON", gw, redis, pushes(n/2, callback.JSON, run+1000), 200); err != nil {
			return err
		}
	}
	if o.only != "ingest" {
		people := make([]string, n/3)
		for i := range people {
			people[i] = fmt.Sprintf("oSends%022d", i)
		}
		sends := sendRequests(people, gw.addr)
		if o.only == "sends" {
			if err := one(o, rep, bareCase, bare, nil, aim(sends, "/bare"), 200); err != nil {
				return err
			}
		}
		if err := one(o, rep, "sends accepted", gw, redis, sends, 202); err != nil {
			return err
		}
	}
	return nil
}

// one runs one case: half of the requests as fast as they are answered, the rest at a fixed rate.
func one(o options, rep *report, name string, target, redis *process, reqs []request, want int) error {
	limit := time.Duration(o.seconds * float64(time.Second))
	cut := len(reqs) - int(o.seconds*float64(o.rate)) - o.conns
	if cut < o.conns {
		return fmt.Errorf("%s: too few requests", name)
	}
	g0, gok := target.cpu()
	r0, rok := time.Duration(0), false
	if redis != nil {
		r0, rok = redis.cpu()
	}
	profiled := profile(o, target, name, limit)
	closed, err := load{addr: target.addr, conns: o.conns, want: want, limit: limit, next: spread(reqs[:cut], o.conns)}.run()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := <-profiled; err != nil {
		return err
	}
	f := figure{PerSecond: closed.perSecond(), P50: closed.P50, P99: closed.P99, Refused: closed.Refused}
	per := 100000 / float64(closed.Done)
	if g1, ok := target.cpu(); ok && gok {
		f.Gateway = (g1 - g0).Seconds() * per
	}
	if redis != nil && rok {
		if r1, ok := redis.cpu(); ok {
			f.Redis = (r1 - r0).Seconds() * per
		}
	}
	open, err := load{addr: target.addr, conns: o.conns, rate: o.rate, want: want, limit: limit, next: spread(reqs[cut:], o.conns)}.run()
	if err != nil {
		return fmt.Errorf("%s, open loop: %w", name, err)
	}
	f.OpenP99 = open.P99
	rep.add(name, f)
	return nil
}

// spread gives connection c the requests c, c+conns, ...
func spread(reqs []request, conns int) func(c, i int) (request, error) {
	return func(c, i int) (request, error) {
		if k := i*conns + c; k < len(reqs) {
			return reqs[k], nil
		}
		return nil, nil
	}
}

// aim sends the same bodies somewhere else.
func aim(reqs []request, target string) []request {
	out := make([]request, len(reqs))
	for i, r := range reqs {
		line, rest, _ := strings.Cut(string(r), "\r\n")
		_ = line
		out[i] = request("POST " + target + " HTTP/1.1\r\n" + rest)
	}
	return out
}

func repeat(reqs []request, n int) []request {
	out := make([]request, n)
	for i := range out {
		out[i] = reqs[i%len(reqs)]
	}
	return out
}

// pushes are sealed popup events of about 1 KB on the wire, each of another user, as WeChat would post them.
func pushes(n int, format callback.Format, run int) []request {
	app := callback.App{Name: benchApp, AppID: benchAppID, Mode: "secure", Key: callback.Key{Token: benchToken, EncodingAESKey: benchKey}}
	out := make([]request, n)
	now := time.Now()
	for i := range out {
		openid := fmt.Sprintf("oBench%022d", run*10_000_000+i)
		raw := popup(format, openid, now.Unix())
		query, body, err := callback.ComposeRequest(app, format, raw, strconv.Itoa(100000000+i), now)
		if err != nil {
			panic(err) // our own fixed app cannot be refused
		}
		kind := "text/xml"
		if format == callback.JSON {
			kind = "application/json"
		}
		out[i] = post("bench.example.com", "/callback/"+benchApp+"?"+query, map[string]string{"Content-Type": kind, "User-Agent": "Mozilla/4.0",
			"Accept": "*/*", "Pragma": "no-cache", "Connection": "Keep-Alive"}, body)
	}
	return out
}

// popup is an accepted popup of one template, in the captured shapes.
func popup(format callback.Format, openid string, at int64) []byte {
	if format == callback.JSON {
		return fmt.Appendf(nil, `{"ToUserName":"gh_0123456789ab","FromUserName":"%s","CreateTime":%d,"MsgType":"event","Event":"subscribe_msg_popup_event","List":{"PopupScene":"0","SubscribeStatusString":"accept","TemplateId":"%s"},"padding":"%s"}`,
			openid, at, benchTemplate, padding[:300])
	}
	return fmt.Appendf(nil, `<xml><ToUserName><![CDATA[gh_0123456789ab]]></ToUserName><FromUserName><![CDATA[%s]]></FromUserName><CreateTime>%d</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe_msg_popup_event]]></Event><SubscribeMsgPopupEvent><List><TemplateId><![CDATA[%s]]></TemplateId><SubscribeStatusString><![CDATA[accept]]></SubscribeStatusString><PopupScene>0</PopupScene></List></SubscribeMsgPopupEvent><padding><![CDATA[%s]]></padding></xml>`,
		openid, at, benchTemplate, padding[:80])
}

// padding brings a push to 1 KB sealed, whatever its format.
var padding = strings.Repeat("0123456789", 40)

// sendRequests are signed sends, each to another user. `try` reserves without asking for a credit the measurement would
// have to grant first; it costs the same commands.
func sendRequests(people []string, host string) []request {
	out := make([]request, len(people))
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(benchWhsec, "whsec_"))
	if err != nil {
		panic(err) // a constant of ours
	}
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	for i := range out {
		body := sendBody(people[i])
		id := "bench-" + rand.Text()
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
		out[i] = post(host, "/v1/partners/bench/messages", map[string]string{"Content-Type": "application/json", "User-Agent": "orders/1.0", "Accept": "*/*", "webhook-id": id,
			"webhook-timestamp": stamp, "webhook-signature": "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))}, body)
	}
	return out
}

func sendBody(openid string) []byte {
	raw, err := json.Marshal(map[string]any{"app": benchApp, "to": map[string]string{"openid": openid}, "template_id": benchTemplate,
		"page": "pages/order?id=1", "data": map[string]any{"thing1": map[string]string{"value": "一杯咖啡"}, "amount2": "¥18"}, "no_credit": "try"})
	if err != nil {
		panic(err) // strings and maps always encode
	}
	return raw
}

// profile takes a CPU profile of the process while the load runs, when that is asked for.
func profile(o options, p *process, name string, d time.Duration) <-chan error {
	done := make(chan error, 1)
	if o.profile == "" {
		done <- nil
		return done
	}
	go func() {
		res, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.addr, max(int(d.Seconds())-1, 1)))
		if err != nil {
			done <- err
			return
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		if err == nil {
			err = os.WriteFile(filepath.Join(o.profile, strings.NewReplacer(" ", "_", ",", "").Replace(name)+".pprof"), raw, 0o644)
		}
		done <- err
	}()
	return done
}
