package app_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/silenceper/wechat/v2/cache"
	offConfig "github.com/silenceper/wechat/v2/officialaccount/config"
	offContext "github.com/silenceper/wechat/v2/officialaccount/context"
	"github.com/silenceper/wechat/v2/officialaccount/message"
	"github.com/silenceper/wechat/v2/officialaccount/server"
)

// Order: one delivery per user at a time, the next after the first has got through; other users are not held up.
func TestOrderPerUser(t *testing.T) {
	t.Parallel()
	w, h := newWorld(t, wish{}), newHook(t)
	w.putHook("ordered", h, map[string]any{"order": "user", "events": []string{"subscription.*"}})
	ann, bob := w.sim.User("shop", "ann"), w.sim.User("shop", "bob")
	h.status.Store(http.StatusInternalServerError)
	w.accept(ann, tOrder)
	w.eventually("ann's first failed once", func() bool { return len(h.heard(500)) == 1 })
	h.status.Store(http.StatusOK)
	w.accept(ann, tOther)
	w.accept(ann, tLong)
	w.accept(bob, tOrder)
	w.eventually("bob's came", func() bool { return len(h.heard(200)) == 1 })
	w.eventually("ann's others wait behind her first", func() bool {
		list := w.deliveries(url.Values{"endpoint": {"ordered"}, "state": {"pending"}})
		return len(list) == 3
	})
	if n := len(h.heard(0)); n != 2 {
		t.Fatalf("%d posts while ann's first waits for its retry", n)
	}
	w.later(6 * time.Second)
	w.eventually("all came", func() bool { return len(h.heard(200)) == 4 })
	var templates []string
	for _, x := range h.heard(200)[1:] {
		var e struct {
			Data struct {
				TemplateID string `json:"template_id"`
			}
		}
		_ = json.Unmarshal(x.body, &e)
		templates = append(templates, e.Data.TemplateID)
	}
	if want := []string{tOrder, tOther, tLong}; !slices.Equal(templates, want) {
		t.Errorf("%v, want %v", templates, want)
	}
}

// Rate: no more attempts a second than asked for, and everything arrives.
func TestRatePerEndpoint(t *testing.T) {
	t.Parallel()
	w, h := newWorld(t, wish{}), newHook(t)
	w.putHook("slow", h, map[string]any{"rate": 5, "events": []string{"subscription.*"}})
	start := time.Now()
	w.taps(8)
	w.eventually("all came", func() bool { return len(h.heard(200)) == 8 })
	if took := time.Since(start); took < 1200*time.Millisecond { // seven intervals of 200 ms
		t.Errorf("8 at 5 a second took %v", took)
	}
}

// A test event goes to a disabled endpoint too, is tried once, and changes nothing.
func TestATestEventIsTriedOnce(t *testing.T) {
	t.Parallel()
	w, h := newWorld(t, wish{}), newHook(t)
	w.putHook("quiet", h, nil)
	w.do(200, "POST", "endpoints/quiet/disable", nil, nil)
	h.status.Store(http.StatusTeapot)
	var d deliveryView
	w.do(202, "POST", "endpoints/quiet/test", nil, &d)
	w.eventually("it is given up", func() bool {
		w.do(200, "GET", "deliveries/"+d.ID, nil, &d)
		return d.State == "buried"
	})
	if len(h.heard(0)) != 1 || w.endpoint("quiet").State != "disabled" {
		t.Errorf("%d posts", len(h.heard(0)))
	}
}

// The deliveries of an event and of a message are found by its id; one that waits can be cancelled.
func TestDeliveriesAreFound(t *testing.T) {
	t.Parallel()
	w, h := newWorld(t, wish{}), newHook(t)
	w.putHook("all", h, map[string]any{"events": []string{"message.*", "subscription.*"}})
	ann := w.sim.User("shop", "ann")
	w.accept(ann, tOrder)
	w.wantLine(ann, tOrder, 1, 0, "accepted")
	m := w.send(202, order(ann, nil)).Message()
	w.toldOf(m.ID, "message.delivered")
	var list []deliveryView
	w.eventually("both of its events are delivered", func() bool {
		list = w.deliveries(url.Values{"message": {m.ID}, "endpoint": {"all"}, "state": {"delivered"}})
		return len(list) == 2
	})
	for query, n := range map[string]int{"type=message.sent": 1, "type=message.*": 2, "type=subscription.*": 0, "until=2020-01-01T00:00:00Z": 0,
		"since=2020-01-01T00:00:00Z": 2, "state=buried": 0, "limit=100": 2} {
		q, _ := url.ParseQuery(query + "&endpoint=all&message=" + m.ID)
		if got := w.deliveries(q); len(got) != n {
			t.Errorf("%s: %d, want %d", query, len(got), n)
		}
	}
	var e struct {
		ID         string `json:"webhook_id"`
		Type       string
		Data       struct{ ID string }
		Deliveries []deliveryView
	}
	w.do(200, "GET", "events/"+list[0].WebhookID, nil, &e)
	if e.ID != list[0].WebhookID || e.Data.ID != m.ID || len(e.Deliveries) != 2 { // main and all
		t.Errorf("%+v", e)
	}
	if got := w.deliveries(url.Values{"webhook_id": {e.ID}, "endpoint": {"main"}}); len(got) != 1 || got[0].Endpoint != "main" {
		t.Errorf("%+v", got)
	}
	w.do(404, "GET", "events/evt_00nothing", nil, nil)
	h.status.Store(http.StatusInternalServerError)
	w.accept(ann, tOther)
	id := ""
	w.eventually("one waits", func() bool {
		for _, d := range w.deliveries(url.Values{"endpoint": {"all"}, "state": {"pending"}}) {
			if len(d.Attempts) == 1 && d.NextAt != nil {
				id = d.ID
			}
		}
		return id != ""
	})
	var d deliveryView
	w.do(200, "POST", "deliveries/"+id+"/cancel", nil, &d)
	if d.State != "cancelled" || d.Reason == nil {
		t.Errorf("%+v", d)
	}
	if a := w.do(409, "POST", "deliveries/"+id+"/cancel", nil, nil); a.Code() != "too_late" {
		t.Errorf("%s", a.Body)
	}
	h.status.Store(http.StatusOK)
	before := len(h.heard(200))
	w.do(200, "POST", "deliveries/"+id+"/replay", nil, nil)
	w.eventually("it came", func() bool { return len(h.heard(200)) == before+1 })
	if last := h.heard(200)[before]; last.header.Get("Webhook-Replay") != "1" {
		t.Errorf("%v", last.header)
	}
}

// Many are replayed in the background under their webhook-ids; a gateway that stops in the middle goes on after it.
func TestManyAreReplayed(t *testing.T) {
	t.Parallel()
	w, h := newWorld(t, wish{}), newHook(t)
	w.putHook("many", h, map[string]any{"events": []string{"subscription.*"}})
	const n = 120
	w.taps(n)
	w.eventually("all came", func() bool {
		return len(w.deliveries(url.Values{"endpoint": {"many"}, "state": {"pending"}})) == 0 && len(h.ids(200)) == n
	})
	ids := h.ids(200)
	type replay struct {
		ID, State         string
		Matched, Replayed int
	}
	var dry, r replay
	w.do(202, "POST", "replays", map[string]any{"endpoint": "many", "dry_run": true}, &dry)
	if dry.Matched != n || dry.Replayed != 0 {
		t.Errorf("%+v", dry)
	}
	w.do(202, "POST", "replays", map[string]any{"endpoint": "many", "type": "subscription.accepted", "state": "delivered"}, &r)
	if r.Matched != n || r.State != "running" {
		t.Errorf("%+v", r)
	}
	w.eventually("it has begun", func() bool { return len(h.heard(200)) > n })
	w.stop()
	w.start()
	w.eventually("it is done", func() bool {
		w.do(200, "GET", "replays/"+r.ID, nil, &r)
		return r.State == "done"
	})
	w.eventually("all came again", func() bool { return len(h.heard(200)) >= 2*n })
	if r.Replayed != n || !slices.Equal(h.ids(200), ids) {
		t.Errorf("%+v, %d ids", r, len(h.ids(200)))
	}
	if extra := len(h.heard(200)) - 2*n; extra > 50 { // what one step may repeat
		t.Errorf("%d came more than twice", extra)
	}
	var stopped replay
	w.do(202, "POST", "replays", map[string]any{"endpoint": "many"}, &stopped)
	w.do(200, "DELETE", "replays/"+stopped.ID, nil, &stopped)
	if stopped.State != "stopped" {
		t.Errorf("%+v", stopped)
	}
}

// sdk is a handler written with a WeChat SDK, as it would stand behind WeChat itself.
type sdk struct {
	*httptest.Server
	mu  sync.Mutex
	got []message.MixMessage
}

func newSDK(t *testing.T, appID, token, key string, json bool) *sdk {
	s := &sdk{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &offContext.Context{Config: &offConfig.Config{AppID: appID, Token: token, EncodingAESKey: key, Cache: cache.NewMemory()}}
		srv := server.NewServer(c)
		srv.Request, srv.Writer = r, w
		srv.SkipValidate(false)
		srv.SetMessageHandler(func(m *message.MixMessage) *message.Reply {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.got = append(s.got, *m)
			return nil
		})
		if err := srv.Serve(); err != nil {
			t.Errorf("the SDK: %v", err)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if err := srv.Send(); err != nil {
			t.Errorf("the SDK: %v", err)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// A handler written with a WeChat SDK stands behind an endpoint of kind wechat unchanged, in each mode.
func TestAnSDKStandsBehindAWeChatEndpoint(t *testing.T) {
	t.Parallel()
	const token, key = "subscriber", "SUBSCRIBERabcdefghijklmnopqrstuvwxyz0123456"
	for _, mode := range []string{"secure", "compat", "plain"} {
		for _, format := range []string{"xml", "json"} {
			t.Run(mode+" "+format, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, wish{})
				s := newSDK(t, w.sim.App("shop").AppID, token, key, format == "json")
				made := endpointView{}
				w.do(201, "PUT", "endpoints/sdk", map[string]any{"url": s.URL, "events": []string{"*"}, "kind": "wechat",
					"wechat": map[string]any{"token": token, "encoding_aes_key": key, "mode": mode, "format": format}}, &made)
				ann := w.sim.User("shop", "ann")
				w.accept(ann, tOrder)
				w.eventually("the SDK has it", func() bool {
					s.mu.Lock()
					defer s.mu.Unlock()
					return len(s.got) == 1
				})
				m := s.got[0]
				if string(m.FromUserName) != ann || string(m.Event) != "subscribe_msg_popup_event" || string(m.MsgType) != "event" {
					t.Errorf("%+v", m)
				}
				w.eventually("it counts as delivered", func() bool {
					return len(w.deliveries(url.Values{"endpoint": {"sdk"}, "state": {"delivered"}})) == 1
				})
				list := w.deliveries(url.Values{"endpoint": {"sdk"}})
				if len(list) != 1 || list[0].Type != "push.received" {
					t.Errorf("%+v", list)
				}
				var d deliveryView
				w.do(202, "POST", "endpoints/sdk/test", nil, &d)
				w.eventually("a test event is taken", func() bool {
					w.do(200, "GET", "deliveries/"+d.ID, nil, &d)
					return d.State == "delivered"
				})
			})
		}
	}
}
