package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/cmd/app"
	"github.com/wxrelay/wxrelay/config"
)

// BenchmarkThroughTheGateway compares a call of WeChat's API through the gateway with a direct one in the same run: the added
// median, and the CPU of the whole process per 100,000 calls. WeChat is a handler that answers at once.
func BenchmarkThroughTheGateway(b *testing.B) {
	wx := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "token"):
			_, _ = io.WriteString(w, `{"access_token":"WECHATS","expires_in":7200}`)
		case strings.HasSuffix(r.URL.Path, "gettemplate"):
			_, _ = io.WriteString(w, `{"errcode":0,"errmsg":"ok","data":[]}`)
		default:
			_, _ = io.WriteString(w, `{"errcode":0,"errmsg":"ok","result":{"suggest":"pass"}}`)
		}
	}))
	defer wx.Close()
	gateway, token := benchGateway(b, wx.URL)
	for _, c := range []struct{ name, url string }{
		{"direct", wx.URL + "/wxa/msg_sec_check?access_token=WECHATS"},
		{"compat", gateway + "/wxa/msg_sec_check?access_token=" + token},
	} {
		b.Run(c.name, func(b *testing.B) {
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DialContext: (&net.Dialer{}).DialContext}}
			took := make([]time.Duration, b.N)
			var wg sync.WaitGroup
			next := make(chan int)
			before := cpu()
			b.ResetTimer()
			for range 8 {
				wg.Go(func() {
					for n := range next {
						began := time.Now()
						res, err := client.Post(c.url, "application/json", strings.NewReader(`{"content":"hello","version":2,"scene":1}`))
						if err != nil {
							b.Error(err)
							continue
						}
						body, _ := io.ReadAll(res.Body)
						_ = res.Body.Close()
						if !strings.Contains(string(body), "pass") {
							b.Errorf("%s", body)
						}
						took[n] = time.Since(began)
					}
				})
			}
			for n := range b.N {
				next <- n
			}
			close(next)
			wg.Wait()
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric((cpu()-before).Seconds()/float64(b.N)*100_000, "cpu-s/100k")
		})
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(fmt.Sprint(err))
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchGateway is a gateway over an in-process Redis, and a token of its compatible face.
func benchGateway(b *testing.B, wechat string) (base, token string) {
	b.Helper()
	c, err := config.Parse(fmt.Appendf(nil, `
listen: "127.0.0.1:0"
admin: {listen: "127.0.0.1:0"}
redis: {url: "embedded://"}
wechat: {base_url: %q}
apps:
  - {id: shop, appid: wx0123456789abcdef, secret: appsecret, push: {token: AAAAA, encoding_aes_key: abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG}}
partners:
  - {id: orders, secrets: [%s], apps: [shop], allow: [wechat_api], wechat_secret: %s, rate: {per_second: 1000000, burst: 1000000}}
`, wechat, whsec, wxSecret), b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	a, err := app.Start(b.Context(), c, app.Options{Log: zap.NewNop(), Version: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = a.Close(context.Background()) })
	<-a.Ready()
	base = "http://" + a.PublicAddr()
	res, err := http.Get(base + "/cgi-bin/token?grant_type=client_credential&appid=wx0123456789abcdef&secret=" + wxSecret)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	var t wxToken
	if err := json.NewDecoder(res.Body).Decode(&t); err != nil || t.AccessToken == "" {
		b.Fatal(t, err)
	}
	return base, t.AccessToken
}
