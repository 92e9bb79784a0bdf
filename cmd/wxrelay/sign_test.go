package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/config"
	"github.com/wxrelay/wxrelay/scripts/slow"
)

// piped runs a command line with something on standard input.
func piped(t *testing.T, in string, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	p := &program{ctx: t.Context(), stdin: strings.NewReader(in), stdout: &out, stderr: &errs}
	code := p.run(args)
	return ran{code, out.String(), errs.String()}
}

// TestSignedIsVerified, with the known vector of Standard Webhooks, and every reason why something does not hold.
func TestSignedIsVerified(t *testing.T) {
	const secret, id, at = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330"
	const body, signature = `{"test": 2432232314}`, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	got := piped(t, body, "sign", "-secret", secret, "-id", id, "-timestamp", at)
	if want := "webhook-id: " + id + "\nwebhook-timestamp: " + at + "\nwebhook-signature: " + signature + "\n"; got.code != 0 || got.out != want {
		t.Errorf("%d %s%s", got.code, got.out, got.errors)
	}
	target := []string{"-method", "GET", "-target", "/v1/partners/orders/messages?limit=5"}
	signed := func(in string, args ...string) string {
		got := piped(t, in, append([]string{"sign", "-secret", secret, "-id", id, "-timestamp", at}, args...)...)
		_, sig, ok := strings.Cut(strings.TrimSpace(got.out), "webhook-signature: ")
		if !ok {
			t.Fatalf("%+v", got)
		}
		return sig
	}
	verify := func(in string, args ...string) ran {
		base := []string{"verify", "-secret", secret, "-id", id, "-timestamp", at, "-now", at, "-signature", signature}
		return piped(t, in, append(base, args...)...)
	}
	for name, c := range map[string]struct {
		got  ran
		want string // the beginning; ok = exit 0
	}{
		"holds":              {verify(body), "ok"},
		"of two secrets":     {verify(body, "-secret", "whsec_"+strings.Repeat("A", 32)+","+secret), "ok"},
		"over a target":      {verify("", append(target, "-signature", signed("", target...))...), "ok"},
		"any clock":          {verify(body, "-now", "1", "-tolerance", "0"), "ok"},
		"late":               {verify(body, "-now", "1614265931"), "skew: the timestamp is -10m1s from now, at most 5m0s"},
		"milliseconds":       {verify(body, "-timestamp", at+"000"), "skew: "},
		"no number":          {verify(body, "-timestamp", "now"), "skew: the timestamp"},
		"id":                 {verify(body, "-id", "a.b"), "id: "},
		"without v1":         {verify(body, "-signature", signature[3:]), "headers: the signature is right, but for v1,"},
		"the body alone":     {verify(body, target...), "payload: signed over something else: the body alone"},
		"a line end":         {verify(body + "\n"), "payload: signed over something else: the body without the line end"},
		"no line end":        {verify(body, "-signature", signed(body+"\n")), "payload: signed over something else: the body with a line end more"},
		"another body":       {verify(body + "x"), "secret: made with another secret, or over another payload"},
		"another secret":     {verify(body, "-secret", "whsec_"+strings.Repeat("A", 32)), "secret: made with another"},
		"text of the secret": {verify(body, "-signature", "v1,jdY57oHRtPMnF1YKJkHYGNhKkMCFkQBQXYaPVxUgFZ4="), "secret: "},
	} {
		if !strings.HasPrefix(c.got.out, c.want) || (c.got.code == 0) != (c.want == "ok") || c.got.code == 2 {
			t.Errorf("%s: exit %d, %s%s; want %s", name, c.got.code, c.got.out, c.got.errors, c.want)
		}
		if strings.Contains(c.got.out+c.got.errors, secret[6:]) {
			t.Errorf("%s: the secret is shown", name)
		}
	}
	file := file(t, "secret", "\ufeff"+secret+"\r\n")
	if got := piped(t, body, "sign", "-secret-file", file, "-id", id, "-timestamp", at); !strings.Contains(got.out, signature) {
		t.Errorf("%+v", got)
	}
}

// TestHealth asks the admin address: alive, ready, or neither.
func TestHealth(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, "said", r.URL.Path)
	}))
	at := strings.TrimPrefix(gateway.URL, "http://")
	path := file(t, "c.yml", string(config.Example()))
	ask := func(args ...string) ran {
		return wxrelay(t, []string{"WXRELAY_ADMIN_LISTEN=" + at}, append([]string{"health", "-c", path}, args...)...)
	}
	if got := ask(); got.code != 0 || got.out != "said /healthz\n" {
		t.Errorf("%+v", got)
	}
	if got := ask("--ready"); got.code != 1 || got.out != "said /readyz\n" {
		t.Errorf("%+v", got)
	}
	gateway.Close()
	began := time.Now()
	if got := ask(); got.code != 1 || got.errors == "" {
		t.Errorf("%+v", got)
	}
	slow.Within(t, began, 5*time.Second)
}
