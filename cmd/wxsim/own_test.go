package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
)

// TestOwnGateway: WeChat pushes to somebody's own gateway, which is verified first. One that is not there, or takes nothing,
// is exit 1.
func TestOwnGateway(t *testing.T) {
	var mu sync.Mutex
	var pushed string
	own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte(r.URL.Query().Get("echostr")))
			return
		}
		mu.Lock()
		pushed = r.URL.Query().Get("msg_signature")
		mu.Unlock()
		_, _ = w.Write([]byte("success"))
	}))
	defer own.Close()
	var out, faults bytes.Buffer
	if code := run(within(t), []string{"-once", "-calm", "-callback", own.URL + "/callback/shop"}, &out, &faults); code != 0 {
		t.Fatalf("exit %d\n%s\n%s", code, out.String(), faults.String())
	}
	mu.Lock()
	defer mu.Unlock()
	if pushed == "" || !strings.Contains(out.String(), "appid, secret") || !strings.Contains(out.String(), "it was taken") {
		t.Errorf("pushed %q\n%s", pushed, out.String())
	}
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte(r.URL.Query().Get("echostr")))
			return
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer refusing.Close()
	out.Reset()
	if code := run(within(t), []string{"-once", "-calm", "-quiet", "-callback", refusing.URL}, &out, &faults); code != 1 || !strings.Contains(faults.String(), "the push was") {
		t.Errorf("exit %d %s", code, faults.String())
	}
}

// TestOwnReceiver is told what the simulated partner is told, signed with its own secret, in the tour too.
func TestOwnReceiver(t *testing.T) {
	const secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	own, err := partnersim.New(partnersim.Options{Secrets: []string{secret}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(own)
	defer server.Close()
	ctx, stop := context.WithCancel(within(t))
	defer stop()
	var out, faults bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"-calm", "-quiet", "-addr", "127.0.0.1:0", "-hook", server.URL + "/hook", "-secret", secret}, &out, &faults)
	}()
	if _, err := own.Await(ctx, func(e partnersim.Event) bool { return e.Type == "message.delivered" }); err != nil {
		t.Errorf("it was not told: %v", err)
	}
	stop()
	<-ended
}

func TestOwnIsChecked(t *testing.T) {
	for _, args := range [][]string{
		{"-callback", "localhost"}, {"-hook", "ftp://h/x", "-secret", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}, {"-hook", "http://h/x"},
		{"-secret", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}, {"-hook", "http://h/x", "-secret", "x"},
		{"-callback", "http://h/x", "-hook", "http://h/x", "-secret", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},
	} {
		var out, faults bytes.Buffer
		if code := run(within(t), args, &out, &faults); code != 2 || faults.Len() == 0 {
			t.Errorf("%v: exit %d %s", args, code, faults.String())
		}
	}
}
