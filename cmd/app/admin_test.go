package app

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

func basic(name, password string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))}}
}

// What the config says about people: who may come in, who changes something, and what is written down about it.
func TestAdminUsers(t *testing.T) {
	w := newWorld(t, "embedded://")
	w.adminExtra = ", users: [{name: ann, password: ann-has-a-password}, {name: vic, password: vic-has-a-password, role: viewer}]"
	a := w.start()
	replay := "http://" + a.AdminAddr() + "/api/deliveries/dlv_none/replay"
	do := func(method, url, name, password string) int {
		h := basic(name, password)
		h.Set("Content-Type", "application/json")
		status, _ := ask(t, method, url, h, []byte("{}"))
		return status
	}
	if s := do(http.MethodPost, replay, "vic", "vic-has-a-password"); s != http.StatusForbidden {
		t.Errorf("a viewer's change: %d", s)
	}
	if s := do(http.MethodPost, replay, "ann", "ann-has-a-password"); s != http.StatusNotFound {
		t.Errorf("an operator's change: %d", s)
	}
	if s := do(http.MethodGet, "http://"+a.AdminAddr()+"/", "vic", "vic-has-a-password"); s != http.StatusOK {
		t.Errorf("a viewer looks: %d", s)
	}
	for range 10 {
		if s := do(http.MethodGet, "http://"+a.AdminAddr()+"/", "ann", "guess"); s != http.StatusUnauthorized {
			t.Fatalf("a guess: %d", s)
		}
	}
	if s := do(http.MethodGet, "http://"+a.AdminAddr()+"/", "ann", "ann-has-a-password"); s != http.StatusTooManyRequests {
		t.Errorf("after ten guesses: %d", s)
	}
	if err := a.Reload(a.config.Load()); err != nil { // a reload is no way round it
		t.Fatal(err)
	}
	if s := do(http.MethodGet, "http://"+a.AdminAddr()+"/", "ann", "ann-has-a-password"); s != http.StatusTooManyRequests {
		t.Errorf("after a reload: %d", s)
	}
	for what, line := range map[string]string{
		"the viewer's try":   `"log":"audit","msg":"change","user":"vic","client":"127.0.0.1","method":"POST","path":"/api/deliveries/dlv_none/replay","status":403`,
		"the operator's":     `"log":"audit","msg":"change","user":"ann","client":"127.0.0.1","method":"POST","path":"/api/deliveries/dlv_none/replay","status":404`,
		"the first guess":    `"wrong_tries":1,`,
		"the tenth":          `"wrong_tries":10,`,
		"at the right level": `"msg":"wrong password at the admin address","client":"127.0.0.1"`,
	} {
		eventually(t, what, func() bool { return w.log.has(line) })
	}
	for _, never := range []string{"guess\"", "has-a-password", `"wrong_tries":2,`} {
		if w.log.has(never) {
			t.Errorf("the log has %s", never)
		}
	}
}

// A refused signature is counted and written down with its cause; durations in the log are numbers.
func TestRefusedSignaturesAreSeen(t *testing.T) {
	w := newWorld(t, "embedded://")
	a := w.start()
	if s, _ := ask(t, http.MethodGet, "http://"+a.PublicAddr()+"/v1/partners/nobody/messages", nil, nil); s != http.StatusUnauthorized {
		t.Fatalf("%d", s)
	}
	if s, _ := ask(t, http.MethodGet, "http://"+a.PublicAddr()+"/v1/partners/orders/messages", http.Header{"Webhook-Id": {"a"}, "Webhook-Timestamp": {"1"}, "Webhook-Signature": {"v1," + strings.Repeat("A", 44)}}, nil); s != http.StatusUnauthorized {
		t.Fatalf("%d", s)
	}
	eventually(t, "the line", func() bool {
		return w.log.has(`"msg":"signature refused","partner":"nobody","cause":"headers","clock_skew_seconds":0,"client":"127.0.0.1"`) &&
			w.log.has(`"partner":"orders","cause":"skew","clock_skew_seconds":-31622400,`)
	})
	_, page := get(t, a.AdminAddr(), "/metrics")
	for _, want := range []string{`wxrelay_signatures_refused_total{cause="headers",partner="unknown"} 1`, `wxrelay_signatures_refused_total{cause="skew",partner="orders"} 1`} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s", want)
		}
	}
	w.close(a)
	if !w.log.has(`"msg":"stopping","grace":5}`) {
		t.Error("a duration is not a number of seconds")
	}
}
