package partnersim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	older  = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// The published vector of https://github.com/standard-webhooks/standard-webhooks/tree/main/libraries
func TestSignPublishedVector(t *testing.T) {
	key, err := parseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	got := sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSecrets(t *testing.T) {
	for _, bad := range []string{"", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_!!", "whsec_AAAA"} {
		if _, err := New(Options{Secrets: []string{bad}}); err == nil {
			t.Errorf("took %q", bad)
		} else if len(bad) > 8 && strings.Contains(err.Error(), bad) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("took no secret at all")
	}
}

// desk is a partner behind a server and a sender that signs as a gateway would.
type desk struct {
	*Partner
	t   *testing.T
	url string
}

func newDesk(t *testing.T) *desk {
	p, err := New(Options{Secrets: []string{secret, older}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	return &desk{Partner: p, t: t, url: srv.URL}
}

func event(kind string) string {
	return `{"type":"` + kind + `","timestamp":"2026-01-02T03:04:05Z","data":{"n":1}}`
}

func (d *desk) deliver(id, body string, spoil func(*http.Request)) (*http.Response, error) {
	d.t.Helper()
	key, err := parseSecret(older)
	if err != nil {
		d.t.Fatal(err)
	}
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	req, err := http.NewRequestWithContext(within(d.t), "POST", d.url+"/hook", strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", stamp)
	req.Header.Set("webhook-signature", "v1,bm9uZQ== v2,x "+sign(key, id, stamp, []byte(body)))
	if spoil != nil {
		spoil(req)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err == nil {
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	return res, err
}

func (d *desk) status(id, body string, spoil func(*http.Request)) int {
	d.t.Helper()
	res, err := d.deliver(id, body, spoil)
	if err != nil {
		return 0
	}
	return res.StatusCode
}

func TestTakesWhatIsGenuineOnce(t *testing.T) {
	d := newDesk(t)
	if got := d.status("e1", event("message.sent"), nil); got != 200 {
		t.Fatal(got)
	}
	if got := d.status("e1", event("message.sent"), nil); got != 200 {
		t.Fatal(got)
	}
	d.status("e1", event("message.delivered"), nil)
	all, log := d.Events(), d.Deliveries()
	if len(all) != 1 || all[0].ID != "e1" || all[0].Type != "message.sent" || all[0].Deliveries != 3 || string(all[0].Payload) != event("message.sent") {
		t.Errorf("%+v", all)
	}
	if len(log) != 3 || log[0].Repeat || !log[1].Repeat || log[1].Edited || !log[2].Edited || log[0].Path != "/hook" {
		t.Errorf("%+v", log)
	}
	var data struct{ N int }
	if err := all[0].Into(&data); err != nil || data.N != 1 {
		t.Errorf("%v %+v", err, data)
	}
	d.Forget()
	if len(d.Events())+len(d.Deliveries()) != 0 {
		t.Error("not forgotten")
	}
}

func TestRefusesWhatIsNot(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct {
		what   string
		status int
		body   string
		spoil  func(*http.Request)
	}{
		{"no signature", 401, event("a.b"), func(r *http.Request) { r.Header.Del("webhook-signature") }},
		{"a flipped byte", 401, event("a.b"), func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(event("a.c"))) }},
		{"another id", 401, event("a.b"), func(r *http.Request) { r.Header.Set("webhook-id", "x") }},
		{"a dot in the id", 401, event("a.b"), func(r *http.Request) { r.Header.Set("webhook-id", "e1.2") }},
		{"no timestamp", 401, event("a.b"), func(r *http.Request) { r.Header.Del("webhook-timestamp") }},
		{"stale", 401, event("a.b"), func(r *http.Request) {
			r.Header.Set("webhook-timestamp", strconv.FormatInt(time.Now().Add(-6*time.Minute).Unix(), 10))
		}},
		{"not an event", 400, `{"hello":1}`, nil},
		{"not JSON", 400, `hello`, nil},
	} {
		if got := d.status("e1", c.body, c.spoil); got != c.status {
			t.Errorf("%s: %d, want %d", c.what, got, c.status)
		}
	}
	if len(d.Events()) != 0 {
		t.Errorf("took %+v", d.Events())
	}
	for _, l := range d.Deliveries() {
		if l.Fault == "" {
			t.Errorf("%+v", l)
		}
	}
}

func TestMisbehaves(t *testing.T) {
	d := newDesk(t)
	d.Misbehave(Behaviour{Status: 500, Times: 3})
	d.Misbehave(Behaviour{Status: 429, RetryAfter: "7"})
	d.Misbehave(Behaviour{Status: 302, Location: "/elsewhere", Type: "user.*"})
	d.Misbehave(Behaviour{Close: true})
	d.Misbehave(Behaviour{Late: true})
	d.Misbehave(Behaviour{Status: 410})
	for i, want := range []int{500, 500, 500, 429} {
		res, err := d.deliver(fmt.Sprint("e", i), event("message.sent"), nil)
		if err != nil || res.StatusCode != want || want == 429 && res.Header.Get("Retry-After") != "7" {
			t.Errorf("%d: %v %v", i, res, err)
		}
	}
	if res, err := d.deliver("u", event("user.bound"), nil); err != nil || res.StatusCode != 302 || res.Header.Get("Location") != "/elsewhere" {
		t.Errorf("%v %v", res, err)
	}
	if len(d.Events()) != 0 {
		t.Error("an error answer is no taking")
	}
	if res, err := d.deliver("c", event("message.sent"), nil); err == nil {
		t.Errorf("closed: %v", res)
	}
	if res, err := d.deliver("l", event("message.sent"), nil); err == nil {
		t.Errorf("late: %v", res)
	}
	if all := d.Events(); len(all) != 1 || all[0].ID != "l" {
		t.Errorf("late takes the event: %+v", all)
	}
	if got := d.status("g", event("message.sent"), nil); got != 410 {
		t.Error(got)
	}
	if got := d.status("e0", event("message.sent"), nil); got != 200 {
		t.Error(got)
	}
	d.Misbehave(Behaviour{Status: 500, Times: -1})
	for range 3 {
		if got := d.status("z", event("message.sent"), nil); got != 500 {
			t.Error(got)
		}
	}
	d.Behave()
	if got := d.status("z", event("message.sent"), nil); got != 200 {
		t.Error(got)
	}
	d.Misbehave(Behaviour{Delay: time.Hour})
	ctx, leave := context.WithCancel(within(t))
	_, err := d.deliver("s", event("message.sent"), func(r *http.Request) { *r = *r.WithContext(ctx); leave() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("slow: %v", err)
	}
}

func TestAwait(t *testing.T) {
	d := newDesk(t)
	type found struct {
		e   Event
		err error
	}
	got := make(chan found)
	go func() {
		e, err := d.Await(within(t), func(e Event) bool { return e.Type == "message.delivered" })
		got <- found{e, err}
	}()
	d.status("e1", event("message.sent"), nil)
	d.status("e2", event("message.delivered"), nil)
	if f := <-got; f.err != nil || f.e.ID != "e2" {
		t.Errorf("%+v", f)
	}
	if e, err := d.Await(within(t), func(e Event) bool { return e.Type == "message.sent" }); err != nil || e.ID != "e1" {
		t.Errorf("what is past is found too: %+v %v", e, err)
	}
	if err := d.AwaitDeliveries(within(t), func(all []Delivery) bool { return len(all) == 2 }); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.Await(ctx, func(Event) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestClientSignsWhatTheContractSays: messages over the raw body, everything else over METHOD SP target LF body.
func TestClientSignsWhatTheContractSays(t *testing.T) {
	key, err := parseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	var proven []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		raw := verify([][]byte{key}, r.Header, body, time.Now(), time.Minute) == nil
		target := verify([][]byte{key}, r.Header, []byte(r.Method+" "+r.RequestURI+"\n"+string(body)), time.Now(), time.Minute) == nil
		proven = append(proven, fmt.Sprint(r.Method, " ", r.RequestURI, " raw=", raw, " target=", target, " ", string(body)))
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(409)
		_, _ = io.WriteString(w, `{"code":"no_credit","id":"msg_1","state":"queued"}`)
	}))
	defer srv.Close()
	c := &Client{Base: srv.URL + "/", Partner: "orders", Secret: secret}
	a, err := c.Send(within(t), "id1", map[string]any{"page": "a?b=1&c=2"})
	if err != nil || a.ID != "id1" || a.Code() != "no_credit" || a.Message().ID != "msg_1" {
		t.Fatalf("%+v %v", a, err)
	}
	for _, do := range []func() (*Answer, error){
		func() (*Answer, error) { return c.SendBatch(within(t), "", []any{1}) },
		func() (*Answer, error) { return c.Get(within(t), "messages/msg_1", nil) },
		func() (*Answer, error) {
			return c.Get(within(t), "subscriptions", url.Values{"app": {"shop"}, "user": {"张三"}})
		},
		func() (*Answer, error) {
			return c.Do(within(t), "PUT", "bindings/shop/u1", map[string]string{"openid": "o1"})
		},
	} {
		if a, err := do(); err != nil || a.Status != 409 || a.ID == "" {
			t.Errorf("%+v %v", a, err)
		}
	}
	want := []string{
		`POST /v1/partners/orders/messages raw=true target=false {"page":"a?b=1&c=2"}`,
		`POST /v1/partners/orders/messages/batch raw=true target=false {"messages":[1]}`,
		`GET /v1/partners/orders/messages/msg_1 raw=false target=true `,
		`GET /v1/partners/orders/subscriptions?app=shop&user=%E5%BC%A0%E4%B8%89 raw=false target=true `,
		`PUT /v1/partners/orders/bindings/shop/u1 raw=false target=true {"openid":"o1"}`,
	}
	if strings.Join(proven, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(proven, "\n"), strings.Join(want, "\n"))
	}
}
