package wechatsim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// BenchmarkSend is one accepted subscribe/send at the API handler, without a network: what a load test pays for the
// platform itself. Sends of different users run side by side.
func BenchmarkSend(b *testing.B) {
	s := New(Options{Calm: true, Keep: -1})
	defer s.Close()
	app := s.Apps()[0]
	w := httptest.NewRecorder()
	form, err := json.Marshal(map[string]string{"grant_type": "client_credential", "appid": app.AppID, "secret": app.Secret})
	if err != nil {
		b.Fatal(err)
	}
	s.ServeHTTP(w, httptest.NewRequest("POST", "/cgi-bin/stable_token", bytes.NewReader(form)))
	var tok tokenAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &tok); err != nil {
		b.Fatal(err)
	}
	s.SetApp(app.Name, func(a *App) { a.Limits = map[string]Limit{"/cgi-bin/message/subscribe/send": {}} })
	target := "/cgi-bin/message/subscribe/send?access_token=" + tok.AccessToken
	const users = 512
	bodies := make([][]byte, users)
	for i := range bodies {
		openid := s.User(app.Name, fmt.Sprint("u", i))
		s.Grant(openid, app.Templates[0].ID, 1<<40)
		bodies[i] = fmt.Appendf(nil, `{"touser":%q,"template_id":%q,"page":"pages/a","data":{"thing1":{"value":"x"},"amount2":{"value":"1"},"time3":{"value":"15:01"}}}`,
			openid, app.Templates[0].ID)
	}
	var n atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		body := bodies[n.Add(1)%users] // a user each: two sends to one at once would be 43108
		for pb.Next() {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("POST", target, bytes.NewReader(body)))
			if w.Code != http.StatusOK {
				b.Error(w.Code)
			}
		}
	})
	b.StopTimer()
	if got := s.Count("received"); got != int64(b.N) {
		b.Errorf("%d of %d accepted: %v", got, b.N, s.Counts())
	}
}
