package wechat

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// BenchmarkSend compares one send with what a bare net/http client needs for the same bytes over the same transport.
// Run both with -bench Send -count 5: the ratio counts, not the absolute numbers.
func BenchmarkSend(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == pathStable {
			_, _ = io.WriteString(w, `{"access_token":"TOKEN","expires_in":7200}`)
			return
		}
		_, _ = io.WriteString(w, `{"errcode":0,"errmsg":"ok","msgid":1988810812324364291}`)
	}))
	defer s.Close()
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer rdb.Close()
	c := newTestClient(b, rdb, s.URL)
	body := json.RawMessage(`{"touser":"oABCDEFGHIJKLMNOPQRSTUVWXYZ12","template_id":"T","page":"pages/order?id=1","data":{"thing1":{"value":"hello"},"amount2":{"value":"¥100"}}}`)
	b.Run("bare", func(b *testing.B) {
		client := &http.Client{Transport: c.transport}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				resp, err := client.Post(s.URL+sendPaths[ChannelSubscribe]+"?access_token=TOKEN", "application/json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				var a struct {
					ErrCode int         `json:"errcode"`
					MsgID   json.Number `json:"msgid"`
				}
				err = json.NewDecoder(resp.Body).Decode(&a)
				_ = resp.Body.Close()
				if err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("Send", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := c.Send(b.Context(), "shop", ChannelSubscribe, body); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
