package app_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxrelay/wxrelay/cmd/wxsim/partnersim"
)

// hook is a partner's second receiver: it answers with a status and remembers what came.
type hook struct {
	*httptest.Server
	status atomic.Int32
	mu     sync.Mutex
	got    []heard
}

type heard struct {
	id, typ string
	status  int
	header  http.Header
	query   url.Values
	body    []byte
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.status.Store(http.StatusOK)
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var event struct{ Type string }
		_ = json.Unmarshal(body, &event)
		status := int(h.status.Load())
		h.mu.Lock()
		h.got = append(h.got, heard{r.Header.Get("Webhook-Id"), event.Type, status, r.Header.Clone(), r.URL.Query(), body})
		h.mu.Unlock()
		w.Header().Set("X-Answered-By", "the hook")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "thanks")
	}))
	t.Cleanup(h.Close)
	return h
}

// heard are the posts that were answered with a status; 0 = all.
func (h *hook) heard(status int) (out []heard) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, x := range h.got {
		if status == 0 || x.status == status {
			out = append(out, x)
		}
	}
	return out
}

func (h *hook) ids(status int) (out []string) {
	for _, x := range h.heard(status) {
		out = append(out, x.id)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

type endpointView struct {
	ID, State     string
	URL           string
	Reason        *string
	ManagedBy     string `json:"managed_by"`
	Pending, Held int
	Secrets       []string
	Events        []string
	Since         *time.Time
	Rotating      *time.Time `json:"rotating_until"`
}

type deliveryView struct {
	ID, State, Type, Endpoint string
	WebhookID                 string `json:"webhook_id"`
	Reason                    *string
	NextAt                    *time.Time `json:"next_at"`
	Attempts                  []struct {
		Status          *int
		TookMS          float64           `json:"took_ms"`
		RequestHeaders  map[string]string `json:"request_headers"`
		ResponseHeaders map[string]string `json:"response_headers"`
		ResponseBody    *string           `json:"response_body"`
	}
}

// do makes a partner's request and reads the answer.
func (w *world) do(status int, method, path string, body, into any) *partnersim.Answer {
	w.t.Helper()
	a, err := w.client.Do(w.ctx, method, path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if a.Status != status {
		w.t.Fatalf("%s %s: %d %s, want %d", method, path, a.Status, a.Body, status)
	}
	if into != nil {
		if err := a.Into(into); err != nil {
			w.t.Fatal(err)
		}
	}
	return a
}

func (w *world) endpoint(id string) (e endpointView) {
	w.t.Helper()
	a, err := w.client.Get(w.ctx, "endpoints/"+id, nil)
	if err != nil || a.Status != 200 {
		w.t.Fatalf("%v %+v", err, a)
	}
	if err := a.Into(&e); err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) deliveries(query url.Values) (list []deliveryView) {
	w.t.Helper()
	for {
		var page struct {
			Items []deliveryView
			Next  *string `json:"next_cursor"`
		}
		a, err := w.client.Get(w.ctx, "deliveries", query)
		if err != nil || a.Status != 200 || a.Into(&page) != nil {
			w.t.Fatalf("%v %+v", err, a)
		}
		list = append(list, page.Items...)
		if page.Next == nil {
			return list
		}
		query = url.Values{"cursor": {*page.Next}}
		w.t.Fatal("more than a page")
	}
}

func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	if err := w.until(holds); err != nil {
		w.t.Fatalf("never happened: %s", what)
	}
}

// putHook makes an endpoint of the API for a hook.
func (w *world) putHook(id string, h *hook, over map[string]any) (e endpointView) {
	w.t.Helper()
	body := map[string]any{"url": h.URL + "/" + id, "events": []string{"subscription.*", "user.*"}}
	for k, v := range over {
		body[k] = v
	}
	w.do(201, "PUT", "endpoints/"+id, body, &e)
	return e
}

// taps makes n events.
func (w *world) taps(n int) {
	for range n {
		w.accept(w.sim.User("shop", "ann"), tOrder)
	}
}

// An endpoint that answers 410 is disabled; what was for it waits, the delivery that met it too, and goes on as the one who
// enables it says.
func TestAnEndpointComesBackAfter410(t *testing.T) {
	t.Parallel()
	for plan, want := range map[string]int{"all": 3, "drop": 0, "since": 1} {
		t.Run(plan, func(t *testing.T) {
			t.Parallel()
			w, h := newWorld(t, wish{}), newHook(t)
			w.putHook("gone", h, nil)
			h.status.Store(http.StatusGone)
			w.taps(1)
			var told struct {
				Partner, Endpoint, State string
				Reason                   *string
				Status                   *int
			}
			if err := w.told("endpoint.disabled", nil).Into(&told); err != nil || told.Partner != "orders" || told.Endpoint != "gone" || told.State != "disabled" || told.Status == nil || *told.Status != 410 {
				t.Errorf("%+v %v", told, err)
			}
			w.eventually("the delivery that met 410 is held", func() bool {
				list := w.deliveries(url.Values{"endpoint": {"gone"}, "state": {"held"}})
				return len(list) == 1 && len(list[0].Attempts) == 1 && *list[0].Attempts[0].Status == 410
			})
			w.taps(1)
			w.eventually("the next is held without an attempt", func() bool {
				list := w.deliveries(url.Values{"endpoint": {"gone"}, "state": {"held"}})
				return len(list) == 2 && len(list[0].Attempts) == 0
			})
			since := time.Now()
			w.taps(1)
			w.eventually("three are held", func() bool { return len(w.deliveries(url.Values{"endpoint": {"gone"}, "state": {"held"}})) == 3 })
			if e := w.endpoint("gone"); e.State != "disabled" || e.Reason == nil || e.Since == nil {
				t.Errorf("%+v", e)
			}
			w.later(time.Hour) // nothing changes by waiting
			if n := len(h.heard(0)); n != 1 {
				t.Errorf("asked %d times", n)
			}
			h.status.Store(http.StatusOK)
			body := map[string]any{"deliveries": plan}
			if plan == "since" {
				body["since"] = since.UTC().Format(time.RFC3339Nano)
			}
			var e endpointView
			w.do(200, "POST", "endpoints/gone/enable", body, &e)
			if e.State != "healthy" {
				t.Errorf("%+v", e)
			}
			w.told("endpoint.recovered", nil)
			w.eventually("nothing is held", func() bool {
				return len(w.deliveries(url.Values{"endpoint": {"gone"}, "state": {"held"}})) == 0 && len(w.deliveries(url.Values{"endpoint": {"gone"}, "state": {"pending"}})) == 0
			})
			delivered, cancelled := w.deliveries(url.Values{"endpoint": {"gone"}, "state": {"delivered"}}), w.deliveries(url.Values{"endpoint": {"gone"}, "state": {"cancelled"}})
			if len(delivered) != want || len(cancelled) != 3-want || len(h.heard(200)) != want {
				t.Errorf("%d delivered, %d cancelled, %d heard", len(delivered), len(cancelled), len(h.heard(200)))
			}
			w.taps(1)
			w.eventually("events come again", func() bool { return len(h.heard(200)) == want+1 })
		})
	}
}

// Another URL is another address: it enables by itself and takes along what waited for the old one. A removed endpoint's
// deliveries end.
func TestAChangedURLTakesTheBacklogAlong(t *testing.T) {
	t.Parallel()
	w, old, fresh := newWorld(t, wish{}), newHook(t), newHook(t)
	w.putHook("moved", old, nil)
	old.status.Store(http.StatusGone)
	w.taps(2)
	w.eventually("two are held", func() bool { return len(w.deliveries(url.Values{"endpoint": {"moved"}, "state": {"held"}})) == 2 })
	w.do(200, "PUT", "endpoints/moved", map[string]any{"url": fresh.URL, "events": []string{"subscription.*"}}, nil)
	w.eventually("both went to the new address", func() bool { return len(w.deliveries(url.Values{"endpoint": {"moved"}, "state": {"delivered"}})) == 2 })
	if n := len(fresh.ids(200)); n != 2 {
		t.Errorf("%d", n)
	}
	if e := w.endpoint("moved"); e.State != "healthy" {
		t.Errorf("%+v", e)
	}

	fresh.status.Store(http.StatusInternalServerError)
	w.taps(1)
	id := ""
	w.eventually("one waits for its retry", func() bool {
		list := w.deliveries(url.Values{"endpoint": {"moved"}, "state": {"pending"}})
		if len(list) == 1 && len(list[0].Attempts) == 1 {
			id = list[0].ID
		}
		return id != ""
	})
	w.do(200, "DELETE", "endpoints/moved", nil, nil)
	w.eventually("it is cancelled", func() bool {
		var d deliveryView
		w.do(200, "GET", "deliveries/"+id, nil, &d)
		return d.State == "cancelled" && d.Reason != nil && *d.Reason == "endpoint_removed"
	})
	w.do(404, "GET", "endpoints/moved", nil, nil)
}

// A benched endpoint is left alone; a probe looks at once. Its backlog spends no attempts meanwhile.
func TestAProbeEndsABench(t *testing.T) {
	t.Parallel()
	w, h := newWorld(t, wish{}), newHook(t)
	w.putHook("slow", h, nil)
	h.status.Store(http.StatusServiceUnavailable)
	w.taps(12)
	w.told("endpoint.benched", nil)
	w.eventually("it is benched", func() bool { return w.endpoint("slow").State == "benched" })
	before := 0
	for _, d := range w.deliveries(url.Values{"endpoint": {"slow"}}) {
		before += len(d.Attempts)
	}
	w.taps(2)
	w.eventually("all are there", func() bool { return len(w.deliveries(url.Values{"endpoint": {"slow"}})) == 14 })
	for range 3 { // a bench, and the probe at its end
		w.later(11 * time.Minute)
		w.eventually("a probe failed", func() bool { return w.endpoint("slow").State == "benched" })
	}
	h.status.Store(http.StatusOK)
	w.do(200, "POST", "endpoints/slow/enable", nil, nil)
	w.eventually("all are delivered", func() bool { return len(w.deliveries(url.Values{"endpoint": {"slow"}, "state": {"delivered"}})) == 14 })
}

// Endpoints over the API: what may be said, who may change what, secrets that are shown once.
func TestEndpointsAreMadeOverTheAPI(t *testing.T) {
	t.Parallel()
	w, h := newWorld(t, wish{}), newHook(t)
	for _, route := range []struct{ method, path string }{{"PUT", "endpoints/main"}, {"DELETE", "endpoints/main"}, {"POST", "endpoints/main/rotate"}} {
		var body any
		if route.method == "PUT" {
			body = map[string]any{"url": h.URL, "events": []string{"*"}}
		}
		if a := w.do(409, route.method, route.path, body, nil); a.Code() != "managed_by_config" {
			t.Errorf("%s %s: %s", route.method, route.path, a.Body)
		}
	}
	if e := w.endpoint("main"); e.ManagedBy != "config" || e.State != "healthy" || e.Secrets != nil {
		t.Errorf("%+v", e)
	}
	for field, body := range map[string]map[string]any{
		"url":           {"url": "ftp://example.com/x"},
		"events[0]":     {"events": []string{"mesage.sent"}},
		"kind":          {"kind": "fax"},
		"order":         {"order": "random"},
		"timeout":       {"timeout": "31s"},
		"in_flight":     {"in_flight": 0},
		"rate":          {"rate": -1},
		"headers":       {"headers": map[string]string{"Webhook-Id": "x"}},
		"filter.app[0]": {"filter": map[string]any{"app": []string{"foreign"}}},
		"secrets[0]":    {"secrets": []string{"whsec_short"}},
		"wechat.token":  {"kind": "wechat"},
		"wechat":        {"wechat": map[string]any{"token": "t"}},
	} {
		req := map[string]any{"url": h.URL, "events": []string{"*"}}
		for k, v := range body {
			req[k] = v
		}
		a := w.do(422, "PUT", "endpoints/bad", req, nil)
		if !strings.Contains(string(a.Body), `"field":"`+field+`"`) {
			t.Errorf("%s: %s", field, a.Body)
		}
	}
	a := w.do(422, "PUT", "endpoints/bad", map[string]any{"url": "https://10.0.0.1/x", "events": []string{"*"}}, nil)
	if strings.Contains(string(a.Body), "10.0.0.1") {
		t.Errorf("%s", a.Body)
	}
	w.do(404, "GET", "endpoints/bad", nil, nil)

	made := w.putHook("mine", h, map[string]any{"headers": map[string]string{"X-Key": "hunter2"}})
	if len(made.Secrets) != 1 || !strings.HasPrefix(made.Secrets[0], "whsec_") || made.ManagedBy != "api" {
		t.Fatalf("%+v", made)
	}
	var changed endpointView
	w.do(200, "PUT", "endpoints/mine", map[string]any{"url": h.URL, "events": []string{"subscription.accepted"}, "headers": map[string]string{"X-Key": "***"}}, &changed)
	if changed.Secrets != nil {
		t.Errorf("a secret is shown again: %v", changed.Secrets)
	}
	w.taps(1)
	w.eventually("it is delivered", func() bool { return len(h.heard(200)) == 1 })
	post := h.heard(200)[0]
	if post.header.Get("X-Key") != "hunter2" || !signedWith(t, post, made.Secrets[0]) {
		t.Errorf("%v", post.header)
	}
	var d deliveryView
	w.eventually("it is noted", func() bool {
		list := w.deliveries(url.Values{"endpoint": {"mine"}, "state": {"delivered"}})
		if len(list) == 1 {
			d = list[0]
		}
		return len(list) == 1
	})
	at := d.Attempts[0]
	if at.RequestHeaders["X-Key"] != "***" || at.RequestHeaders["Webhook-Id"] != post.id || at.RequestHeaders["Webhook-Signature"] != post.header.Get("Webhook-Signature") ||
		at.ResponseHeaders["X-Answered-By"] != "the hook" || at.ResponseBody == nil || *at.ResponseBody != "thanks" {
		t.Errorf("%+v", at)
	}

	var rotated endpointView
	w.do(200, "POST", "endpoints/mine/rotate", nil, &rotated)
	if len(rotated.Secrets) != 1 || rotated.Secrets[0] == made.Secrets[0] || rotated.Rotating == nil {
		t.Fatalf("%+v", rotated)
	}
	w.taps(1)
	w.eventually("it is delivered", func() bool { return len(h.heard(200)) == 2 })
	if post := h.heard(200)[1]; !signedWith(t, post, made.Secrets[0]) || !signedWith(t, post, rotated.Secrets[0]) {
		t.Errorf("not signed with both: %v", post.header)
	}
	for _, key := range w.redis.Keys() { // sealed, and nothing remembers the answers
		for _, secret := range []string{made.Secrets[0], rotated.Secrets[0]} {
			if w.redis.Type(key) == "string" {
				if v, _ := w.redis.Get(key); strings.Contains(v, secret) {
					t.Errorf("%s holds a secret", key)
				}
			}
		}
	}
	var test deliveryView
	w.do(202, "POST", "endpoints/mine/test", nil, &test)
	w.eventually("the test event came", func() bool {
		return slices.ContainsFunc(h.heard(200), func(x heard) bool { return x.typ == "endpoint.test" })
	})

	var disabled endpointView
	w.do(200, "POST", "endpoints/mine/disable", nil, &disabled)
	if disabled.State != "disabled" {
		t.Errorf("%+v", disabled)
	}
	var list struct{ Items []endpointView }
	w.do(200, "GET", "endpoints", nil, &list)
	if len(list.Items) != 2 || list.Items[0].ID != "main" || list.Items[1].ID != "mine" {
		t.Errorf("%+v", list)
	}
}

// signedWith holds a post against Standard Webhooks' own formula.
func signedWith(t *testing.T, post heard, secret string) bool {
	t.Helper()
	return verifies(t, post.header, post.body, secret)
}

// Two replicas see one change: what one made, the other delivers to and shows.
func TestReplicasSeeEachOthersEndpoints(t *testing.T) {
	t.Parallel()
	w, h := newWorld(t, wish{}), newHook(t)
	first := w.client
	a := w.app
	w.app = nil
	w.start() // a second gateway over the same Redis
	t.Cleanup(func() { _ = a.Close(t.Context()) })
	w.putHook("both", h, nil) // made at the second
	w.eventually("the first knows it", func() bool {
		got, err := first.Get(w.ctx, "endpoints/both", nil)
		return err == nil && got.Status == 200
	})
	w.do(200, "POST", "endpoints/both/disable", nil, nil)
	w.eventually("the first sees that it is disabled", func() bool {
		var e endpointView
		got, err := first.Get(w.ctx, "endpoints/both", nil)
		return err == nil && got.Into(&e) == nil && e.State == "disabled"
	})
}

// A filter narrows the events by what they are about; a field that an event lacks is not filtered on.
func TestFilters(t *testing.T) {
	t.Parallel()
	w, h := newWorld(t, wish{}), newHook(t)
	ann := w.sim.User("shop", "ann")
	for id, filter := range map[string]map[string]any{
		"ann":      {"openid": []string{ann}},
		"order":    {"template_id": []string{tOrder}},
		"popups":   {"event": []string{"subscribe_msg_popup_event"}},
		"other":    {"app": []string{"shop"}, "template_id": []string{tOther}, "openid": []string{ann}},
		"somebody": {"openid": []string{"oNobody"}},
	} {
		w.putHook(id, h, map[string]any{"events": []string{"*"}, "filter": filter})
	}
	w.accept(ann, tOrder)
	w.accept(w.sim.User("shop", "bob"), tOther)
	types := func(id string) string {
		var out []string
		for _, d := range w.deliveries(url.Values{"endpoint": {id}}) {
			out = append(out, d.Type)
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	const push, sub = "push.received", "subscription.accepted"
	w.eventually("all is told", func() bool { return types("popups") == push+" "+push+" "+sub+" "+sub })
	for id, want := range map[string]string{"ann": push + " " + sub, "order": push + " " + sub, "other": "", "somebody": ""} {
		if got := types(id); got != want {
			t.Errorf("%s: %s", id, got)
		}
	}
}
