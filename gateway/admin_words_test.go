package gateway

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
)

// TestAdminSpeaksOfItself: an operator who mistyped a password is told of a password, not of a partner's signature.
func TestAdminSpeaksOfItself(t *testing.T) {
	for name, c := range map[string]struct{ password, host, title, code string }{
		"password":  {"correct horse", "ops.example.com", "The password is missing or wrong", "unauthorized"},
		"host name": {"", "evil.example.com", "Not under this host name", "not_allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := httptest.NewRequest("GET", "/metrics", nil), httptest.NewRecorder()
			r.Host = c.host
			r.SetBasicAuth("anyone", "wrong")
			o := AdminOptions{Metrics: say("metrics")}
			if c.password != "" {
				o.Users = []AdminUser{{Password: c.password}}
			}
			Admin(o).ServeHTTP(w, r)
			var p Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Title != c.title || string(p.Code) != c.code || p.Detail == "" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}
